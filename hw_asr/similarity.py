"""How like two texts are: the course's three similarities of lists of character ids (Q3.4), and error rates."""

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence

from rapidfuzz.distance import OSA, Levenshtein

Ids = Sequence[Hashable]


def jaccard(one: Ids, other: Ids) -> float:
    """Elements in both over elements in either, each as often as it occurs; 1 if both are empty.

    The order does not count: an anagram is as good as the text itself.
    """
    counts, others = Counter(one), Counter(other)
    either = (counts | others).total()
    return (counts & others).total() / either if either else 1.0


def cosine(one: Ids, other: Ids) -> float:
    """Elements in both over the geometric mean of the lengths (Ochiai), as the course's library has it.

    The order does not count; what is in one list only costs less than in `jaccard`.
    """
    if not one or not other:
        return float(len(one) == len(other))
    return (Counter(one) & Counter(other)).total() / math.sqrt(len(one) * len(other))


def damerau_levenshtein(one: Ids, other: Ids) -> float:
    """1 less the insertions, deletions, substitutions and swaps of neighbours that it takes, over the longer length.

    The restricted distance, as in the course: no part is edited twice.
    """
    return OSA.normalized_similarity(one, other)


SIMILARITIES = {"jaccard": jaccard, "cosine": cosine, "damerau_levenshtein": damerau_levenshtein}


def error_rate(pairs: Iterable[tuple[Ids, Ids]]) -> float:
    """Insertions, deletions and substitutions that turn predictions into truths, over the length of all truths.

    Of characters it is the CER, of words the WER; it can be above 1.

    Args:
        pairs: a truth and a prediction each; the truths are not all empty.
    """
    edits = length = 0
    for truth, prediction in pairs:
        edits += Levenshtein.distance(truth, prediction)
        length += len(truth)
    return edits / length
