"""The course's three string similarities, computed on lists of token ids (ist-2023-24-hw2 Q3.4), and error rates.

Texts of the same language use similar letters, so `jaccard` and `cosine`, which ignore the order, are high even for
unlike texts. `damerau_levenshtein` depends on the order and is the strictest. `cosine` is never below `jaccard`, since
the union has at least sqrt(|one| · |other|) elements.
"""

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence

from rapidfuzz.distance import OSA, Levenshtein

Ids = Sequence[Hashable]


def jaccard(one: Ids, other: Ids) -> float:
    """Jaccard similarity of multisets: size of the intersection divided by size of the union; 1 if both are empty.

    It does not depend on the order of the elements: anagrams have similarity 1.
    """
    union = (Counter(one) | Counter(other)).total()
    return (Counter(one) & Counter(other)).total() / union if union else 1.0


def cosine(one: Ids, other: Ids) -> float:
    """Cosine similarity of multisets (Ochiai), as in the course: |intersection| / sqrt(|one| · |other|).

    It does not depend on the order of the elements either. An element that is missing in one list costs less than in
    `jaccard`.
    """
    if not one or not other:
        return float(len(one) == len(other))
    return (Counter(one) & Counter(other)).total() / math.sqrt(len(one) * len(other))


def damerau_levenshtein(one: Ids, other: Ids) -> float:
    """1 - edits / length of the longer list, where an edit inserts, deletes, replaces or swaps neighbouring elements.

    It depends on the order. As in the course, the distance is the restricted one (optimal string alignment): no
    substring is edited twice.
    """
    return OSA.normalized_similarity(one, other)


SIMILARITIES = {"jaccard": jaccard, "cosine": cosine, "damerau_levenshtein": damerau_levenshtein}


def error_rate(pairs: Iterable[tuple[Ids, Ids]]) -> float:
    """Insertions, deletions and substitutions between references and predictions, divided by the references' length.

    It is the CER for characters and the WER for words, and can exceed 1. At least one reference must not be empty.
    """
    edits = length = 0
    for reference, prediction in pairs:
        edits += Levenshtein.distance(reference, prediction)
        length += len(reference)
    return edits / length
