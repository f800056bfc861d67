"""How good captions are: the course's metric, corpus BLEU, ROUGE-L and CIDEr-D.

Everywhere, `captions` has the words of one generated caption for each image, and `references` has, for each image, the
words of its reference captions. All metrics go from 0 to 1; CIDEr-D, as is usual, from 0 to 10.
"""

import math
import warnings
from collections import Counter
from collections.abc import Sequence

Caption = Sequence[str]
References = Sequence[Sequence[Caption]]
LONGEST = 4  # words of an n-gram


def evaluate(references: References, captions: Sequence[Caption]) -> dict[str, float]:
    """All metrics by name; "bleu4" is the course's, by which epochs are chosen.

    Raises:
        ValueError: there is not one non-empty list of references for each caption.
    """
    if len(references) != len(captions) or not captions or not all(references):
        raise ValueError(f"{len(captions)} captions with {len(references)} lists of references, one of each is needed")
    corpus = corpus_bleu(references, captions)
    return {
        "bleu4": course_bleu(references, captions),
        **{f"corpus_bleu{n}": value for n, value in enumerate(corpus, 1)},
        "rouge_l": rouge_l(references, captions),
        "cider_d": cider_d(references, captions),
    }


def course_bleu(references: References, captions: Sequence[Caption]) -> float:
    """BLEU-4 as the course computes it: the mean over images of NLTK's sentence_bleu, without smoothing.

    A caption without any 4-gram of its references counts as (nearly) 0, however good its words are.
    """
    from nltk.translate.bleu_score import sentence_bleu  # slow to import

    with warnings.catch_warnings():  # NLTK's, that such a caption counts as 0
        warnings.filterwarnings("ignore", r"\s*The hypothesis contains 0 counts", UserWarning)
        scores = [sentence_bleu(refs, list(caption)) for refs, caption in zip(references, captions, strict=True)]
    return sum(scores) / len(scores)


def count_ngrams(caption: Caption, n: int) -> Counter[tuple[str, ...]]:
    """How often each sequence of `n` words occurs in `caption`."""
    return Counter(zip(*(caption[start:] for start in range(n)), strict=False))


def most_ngrams(references: Sequence[Caption], n: int) -> Counter[tuple[str, ...]]:
    """How often each sequence of `n` words occurs in that of `references` where it occurs most."""
    most: Counter[tuple[str, ...]] = Counter()
    for reference in references:
        most |= count_ngrams(reference, n)
    return most


def corpus_bleu(references: References, captions: Sequence[Caption]) -> tuple[float, ...]:
    """Corpus BLEU-1 to BLEU-4 without smoothing (Papineni et al. 2002).

    Counts are summed over all captions before they are divided; the brevity penalty compares the captions with the
    references of the closest length, the shorter ones of equals.
    """
    found, possible = [0] * LONGEST, [0] * LONGEST
    length = reference_length = 0
    for refs, caption in zip(references, captions, strict=True):
        length += len(caption)
        reference_length += min((abs(len(ref) - len(caption)), len(ref)) for ref in refs)[1]
        for n in range(1, LONGEST + 1):
            counts = count_ngrams(caption, n)
            found[n - 1] += (counts & most_ngrams(refs, n)).total()
            possible[n - 1] += counts.total()
    brevity_penalty = math.exp(min(0.0, 1 - reference_length / length)) if length else 0.0
    precisions = [a / b if b else 0.0 for a, b in zip(found, possible, strict=True)]
    return tuple(brevity_penalty * math.prod(precisions[:n]) ** (1 / n) for n in range(1, LONGEST + 1))


def rouge_l(references: References, captions: Sequence[Caption]) -> float:
    """The mean over images of ROUGE-L (Lin 2004), as captioning uses it.

    That is: the F-measure of the longest common subsequence, with beta = 1.2; of several references the best precision
    and the best recall count.
    """
    beta = 1.2
    scores = []
    for refs, caption in zip(references, captions, strict=True):
        common = [longest_common_subsequence(ref, caption) for ref in refs]
        precision = max(common) / len(caption) if caption else 0.0
        recall = max(length / len(ref) for length, ref in zip(common, refs, strict=True))
        weighted = recall + beta**2 * precision
        scores.append((1 + beta**2) * precision * recall / weighted if weighted else 0.0)
    return sum(scores) / len(scores)


def longest_common_subsequence(one: Caption, other: Caption) -> int:
    """Length of the longest sequence of words that both contain in this order, with gaps."""
    row = [0] * (len(other) + 1)  # row[j]: of the words of `one` so far and the first j of `other`
    for word in one:
        diagonal = 0
        for j, candidate in enumerate(other, 1):
            diagonal, row[j] = row[j], diagonal + 1 if word == candidate else max(row[j], row[j - 1])
    return row[-1]


def cider_d(references: References, captions: Sequence[Caption]) -> float:
    """The mean over images of CIDEr-D (Vedantam et al. 2015), from 0 to 10.

    A caption and a reference are compared as vectors of n-gram counts, weighed by how rare an n-gram is among the
    references of all images; counts above the reference's do not help, and other lengths than its are punished. The
    mean over the references and over n from 1 to 4 is multiplied by 10. With one image, no n-gram is rare: 0.
    """
    totals = [0.0] * len(captions)
    for n in range(1, LONGEST + 1):
        counts = [[count_ngrams(ref, n) for ref in refs] for refs in references]
        images_with = Counter(ngram for of_image in counts for ngram in set().union(*of_image))

        def weigh(ngrams: Counter, images_with: Counter = images_with) -> dict[tuple[str, ...], float]:
            return {g: count * math.log(len(captions) / max(1, images_with[g])) for g, count in ngrams.items()}

        for image, caption in enumerate(captions):
            own = weigh(count_ngrams(caption, n))
            for ref, ref_counts in zip(references[image], counts[image], strict=True):
                shape = math.exp(-((len(caption) - len(ref)) ** 2) / (2 * 6**2))
                totals[image] += shape * _clipped_cosine(own, weigh(ref_counts)) / len(references[image])
    return 10 * sum(totals) / (LONGEST * len(captions))


def _clipped_cosine(own: dict[tuple[str, ...], float], ref: dict[tuple[str, ...], float]) -> float:
    """The cosine of two vectors, with `own` cut off at `ref` in the product but not in its length."""
    product = sum(min(own[ngram], weight) * weight for ngram, weight in ref.items() if ngram in own)
    lengths = math.sqrt(sum(w * w for w in own.values()) * sum(w * w for w in ref.values()))
    return product / lengths if lengths else 0.0
