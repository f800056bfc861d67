"""Metrics of generated captions: the course's BLEU-4, corpus BLEU, ROUGE-L and CIDEr-D.

In all functions, `captions` holds the words of one generated caption for each image, and `references` holds, for each
image, the words of its reference captions. Words may be text or ids. CIDEr-D lies between 0 and 10,
all other metrics between 0 and 1.
"""

import math
import warnings
from collections import Counter
from collections.abc import Hashable, Sequence

Caption = Sequence[Hashable]
References = Sequence[Sequence[Caption]]
Ngram = tuple[Hashable, ...]
MAX_N = 4  # words in the longest n-grams


def evaluate(references: References, captions: Sequence[Caption]) -> dict[str, float]:
    """All metrics by name; "bleu4" is the course's metric, which also chooses the best epoch.

    Raises:
        ValueError: the numbers of captions and reference lists differ, or there are no captions or no references.
    """
    if len(references) != len(captions) or not captions or not all(references):
        raise ValueError(
            f"expected a list of references for each caption, got {len(references)} lists, {len(captions)} captions"
        )
    corpus = corpus_bleu(references, captions)
    return {
        "bleu4": course_bleu(references, captions),
        **{f"corpus_bleu{n}": value for n, value in enumerate(corpus, 1)},
        "rouge_l": rouge_l(references, captions),
        "cider_d": cider_d(references, captions),
    }


def course_bleu(references: References, captions: Sequence[Caption]) -> float:
    """BLEU-4 as the course computes it: the mean over images of NLTK's sentence_bleu, without smoothing.

    A caption that shares no 4-gram with its references scores (nearly) 0, however good its words are.
    """
    scores = image_bleus(references, captions)
    return float(sum(scores) / len(scores))


def image_bleus(references: References, captions: Sequence[Caption]) -> list[float]:
    """The course's BLEU-4 of each image, see `course_bleu`."""
    from nltk.translate.bleu_score import sentence_bleu  # slow to import

    with warnings.catch_warnings():  # NLTK warns about every caption that scores 0
        warnings.filterwarnings("ignore", r"\s*The hypothesis contains 0 counts", UserWarning)
        return [sentence_bleu(refs, list(caption)) for refs, caption in zip(references, captions, strict=True)]


def count_ngrams(caption: Caption, n: int) -> Counter[Ngram]:
    """Counts the occurrences of each sequence of `n` words in `caption`."""
    return Counter(zip(*(caption[start:] for start in range(n)), strict=False))


def max_ngram_counts(references: Sequence[Caption], n: int) -> Counter[Ngram]:
    """For each sequence of `n` words, the maximum over `references` of its number of occurrences."""
    most: Counter[Ngram] = Counter()
    for reference in references:
        most |= count_ngrams(reference, n)
    return most


def corpus_bleu(references: References, captions: Sequence[Caption]) -> tuple[float, ...]:
    """Corpus BLEU-1 to BLEU-4 without smoothing (Papineni et al. 2002).

    Matches and n-grams are summed over all captions before the division. The brevity penalty compares the captions'
    length with the length of the closest reference, or the shorter one if two are equally close.
    """
    found, possible = [0] * MAX_N, [0] * MAX_N
    length = reference_length = 0
    for refs, caption in zip(references, captions, strict=True):
        length += len(caption)
        reference_length += min((abs(len(ref) - len(caption)), len(ref)) for ref in refs)[1]
        for n in range(1, MAX_N + 1):
            counts = count_ngrams(caption, n)
            found[n - 1] += (counts & max_ngram_counts(refs, n)).total()
            possible[n - 1] += counts.total()
    brevity_penalty = math.exp(min(0.0, 1 - reference_length / length)) if length else 0.0
    precisions = [a / b if b else 0.0 for a, b in zip(found, possible, strict=True)]
    return tuple(brevity_penalty * math.prod(precisions[:n]) ** (1 / n) for n in range(1, MAX_N + 1))


def rouge_l(references: References, captions: Sequence[Caption]) -> float:
    """The mean over images of ROUGE-L (Lin 2004) in the form that captioning uses.

    ROUGE-L is the F-measure, with beta = 1.2, of the longest common subsequence. Precision and recall are each the
    maximum over the references.
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
    """Length of the longest sequence of words that occurs in both in this order, possibly with gaps."""
    row = [0] * (len(other) + 1)  # row[j]: the length for the words of `one` so far and the first j words of `other`
    for word in one:
        diagonal = 0
        for j, candidate in enumerate(other, 1):
            diagonal, row[j] = row[j], diagonal + 1 if word == candidate else max(row[j], row[j - 1])
    return row[-1]


def cider_d(references: References, captions: Sequence[Caption]) -> float:
    """The mean over images of CIDEr-D (Vedantam et al. 2015), from 0 to 10.

    A caption and a reference are compared by the cosine of their vectors of n-gram counts, weighted by the inverse
    document frequency of the n-gram in the references of all images. Counts above the reference's are clipped, and a
    difference in length is penalized. The mean over the references and over n from 1 to 4 is multiplied by 10. With a
    single image, every inverse document frequency is 0, and so is CIDEr-D.
    """
    totals = [0.0] * len(captions)
    for n in range(1, MAX_N + 1):
        counts = [[count_ngrams(ref, n) for ref in refs] for refs in references]
        images_with = Counter(ngram for of_image in counts for ngram in set().union(*of_image))

        def weigh(ngrams: Counter[Ngram], images_with: Counter[Ngram] = images_with) -> dict[Ngram, float]:
            return {g: count * math.log(len(captions) / max(1, images_with[g])) for g, count in ngrams.items()}

        for image, caption in enumerate(captions):
            own = weigh(count_ngrams(caption, n))
            for ref, ref_counts in zip(references[image], counts[image], strict=True):
                length_penalty = math.exp(-((len(caption) - len(ref)) ** 2) / (2 * 6**2))
                totals[image] += length_penalty * _clipped_cosine(own, weigh(ref_counts)) / len(references[image])
    return 10 * sum(totals) / (MAX_N * len(captions))


def _clipped_cosine(own: dict[Ngram, float], ref: dict[Ngram, float]) -> float:
    """The cosine of two vectors, with `own` clipped at `ref` in the dot product but not in its norm."""
    product = sum(min(own[ngram], weight) * weight for ngram, weight in ref.items() if ngram in own)
    norms = math.sqrt(sum(w * w for w in own.values()) * sum(w * w for w in ref.values()))
    return product / norms if norms else 0.0
