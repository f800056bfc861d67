"""The course's three string similarities, computed on lists of token ids (ist-2023-24-hw2 Q3.4), and error rates.

Let |a| and |b| be the lengths of the lists, and c the number of tokens that they share in any order: a token that
occurs m times in one list and n times in the other counts min(m, n) times.

    Jaccard              c / (|a| + |b| - c)         the share of all tokens that is common to both lists
    cosine               c / sqrt(|a| |b|)           the common tokens relative to the geometric mean of the lengths
    Damerau-Levenshtein  1 - edits / max(|a|, |b|)   the share of the longer list that need not be edited

Each is 1 for equal lists and 0 for lists without common tokens. They differ because they evaluate different things:

- Jaccard and cosine ignore the order of the tokens. An anagram gets 1, and a bad transcript still gets a high value,
  because any two English texts of similar length share most of their letters.
- Cosine is never below Jaccard: |a| + |b| - c ≥ max(|a|, |b|) ≥ sqrt(|a| |b|), because c is at most the smaller length.
  For lists of equal length, cosine = 2 Jaccard / (1 + Jaccard), so it is the same measure on another scale.
- Damerau-Levenshtein depends on the order. It measures how much of a transcript has to be corrected, so it is the
  lowest of the three for bad transcripts. The longer list has max(|a|, |b|) - c tokens that the other one lacks, and
  each of them costs an edit. So this similarity is at most c / max(|a|, |b|), which is never above cosine.
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
    """1 - edits / length of the longer list; an edit inserts, deletes or replaces an element, or swaps two neighbours.

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
