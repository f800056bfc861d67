"""Metrics against hand-computed examples, other libraries, and slow implementations of their papers."""

import itertools
import math
import string
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw_caption import metrics

WORDS = list(string.ascii_lowercase[:4])
captions = st.lists(st.sampled_from(WORDS), min_size=1, max_size=7)
corpora = st.lists(st.tuples(captions, st.lists(captions, min_size=1, max_size=3)), min_size=1, max_size=4)


def words(text):
    return text.split()


def unzip(corpus):
    return [references for _, references in corpus], [caption for caption, _ in corpus]


CAT = words("the cat sat on the mat")


# BLEU


def test_corpus_bleu_by_hand():
    references = [[words("a b c d e"), words("a b x y")], [words("a a b")]]
    generated = [words("a b c x y"), words("a a a b")]
    # 1-grams 5/5 and 3/4; 2-grams 3/4 (ab bc xy) and 2/3 (aa once, ab); 3-grams 1/3 and 1/2; 4-grams 0/2 and 0/1.
    # Lengths 5 + 4 against 5 + 3: no penalty.
    bleu = metrics.corpus_bleu(references, generated)
    assert bleu[0] == pytest.approx(8 / 9)
    assert bleu[1] == pytest.approx((8 / 9 * 5 / 7) ** (1 / 2))
    assert bleu[2] == pytest.approx((8 / 9 * 5 / 7 * 2 / 5) ** (1 / 3))
    assert bleu[3] == 0


def test_short_captions_are_punished():
    assert metrics.corpus_bleu([[CAT]], [CAT[:4]]) == pytest.approx([math.exp(1 - 6 / 4)] * 4)


def test_of_two_closest_lengths_the_shorter_one_counts():
    references = [[words("a b c d e f"), words("a b c d")]]
    assert metrics.corpus_bleu(references, [words("a b c d e")])[0] == pytest.approx(1.0)


@settings(max_examples=30, deadline=None)
@given(corpora)
def test_corpus_bleu_is_sacrebleus(corpus):
    import sacrebleu

    references, generated = unzip(corpus)
    columns = [[" ".join(ref) if ref else None for ref in row] for row in itertools.zip_longest(*references)]
    for n, ours in enumerate(metrics.corpus_bleu(references, generated), 1):
        bleu = sacrebleu.BLEU(tokenize="none", smooth_method="none", max_ngram_order=n)
        theirs = bleu.corpus_score([" ".join(caption) for caption in generated], columns).score / 100
        assert ours == pytest.approx(theirs, abs=1e-9)


def test_the_courses_bleu_is_the_mean_of_nltks_and_silent():
    from nltk.translate.bleu_score import sentence_bleu

    references = [[CAT, words("a cat sat on a mat")], [CAT], [CAT]]
    generated = [words("the cat sat on mats here"), CAT, words("dogs do not bark here")]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        value = metrics.course_bleu(references, generated)
    first = (4 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** 0.25
    assert sentence_bleu(references[0], generated[0]) == pytest.approx(first)
    assert value == pytest.approx((first + 1 + 0) / 3)


def test_the_courses_bleu_survives_empty_captions():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert metrics.course_bleu([[CAT], [CAT]], [[], CAT]) == pytest.approx(0.5)


def test_other_warnings_are_still_heard(monkeypatch):
    import nltk.translate.bleu_score

    def warn(*_):
        warnings.warn("something else", UserWarning, stacklevel=1)
        return 1.0

    monkeypatch.setattr(nltk.translate.bleu_score, "sentence_bleu", warn)
    with pytest.warns(UserWarning, match="something else"):
        metrics.course_bleu([[CAT]], [CAT])


# ROUGE-L


def test_rouge_l_by_hand():
    # The longest common subsequence of «police killed the gunman» and «police kill the gunman» has 3 of 4 words.
    value = metrics.rouge_l([[words("police killed the gunman")]], [words("police kill the gunman")])
    assert value == pytest.approx(3 / 4)
    # Precision 3/3 with the first, recall 2/2 with the second reference.
    references = [[words("a b x y c"), words("a b")], [words("a")]]
    assert metrics.rouge_l(references, [words("a b c"), words("b")]) == pytest.approx((1 + 0) / 2)
    p, r = 2 / 4, 2 / 3
    expected = (1 + 1.44) * p * r / (r + 1.44 * p)
    assert metrics.rouge_l([[words("a b c")]], [words("a x b y")]) == pytest.approx(expected)


@settings(max_examples=60, deadline=None)
@given(captions, captions)
def test_the_longest_common_subsequence_is_the_longest_of_all(one, other):
    def subsequences(caption):
        return {tuple(itertools.compress(caption, mask)) for mask in itertools.product((0, 1), repeat=len(caption))}

    longest = max(map(len, subsequences(one) & subsequences(other)))
    assert metrics.longest_common_subsequence(one, other) == longest


# CIDEr-D


def dense_cider_d(references, generated):
    """CIDEr-D with vectors over all occurring n-grams, for one caption and one reference at a time."""
    scores = []
    for caption, refs in zip(generated, references, strict=True):
        total = 0.0
        for n in range(1, 5):
            space = [" ".join(gram) for gram in itertools.product(WORDS, repeat=n)]

            def count(caption, n=n, space=space):
                grams = [" ".join(caption[i : i + n]) for i in range(len(caption) - n + 1)]
                return np.array([grams.count(gram) for gram in space])

            images_with = sum(np.minimum(1, sum(count(ref) for ref in of_image)) for of_image in references)
            rarity = np.log(len(references)) - np.log(np.maximum(1, images_with))
            for ref in refs:
                own, theirs = count(caption) * rarity, count(ref) * rarity
                sizes = np.linalg.norm(own) * np.linalg.norm(theirs)
                cosine = np.minimum(own, theirs) @ theirs / sizes if sizes else 0.0
                total += cosine * np.exp(-((len(caption) - len(ref)) ** 2) / 72) / len(refs)
        scores.append(10 * total / 4)
    return np.mean(scores)


@settings(max_examples=40, deadline=None)
@given(corpora)
def test_cider_d_is_what_the_dense_vectors_say(corpus):
    references, generated = unzip(corpus)
    assert metrics.cider_d(references, generated) == pytest.approx(dense_cider_d(references, generated), abs=1e-9)


def test_cider_d_by_hand():
    references = [[words("a b c d")], [words("a x y z")]]
    assert metrics.cider_d(references, [words("a b c d"), words("a x y z")]) == pytest.approx(10)
    # «a» is in every image and weighs nothing. «b c»: words b, c of b, c, d; pairs bc of ab, bc, cd; nothing longer.
    cosines = 2 / math.sqrt(2 * 3) + 1 / math.sqrt(1 * 3)
    one = 10 * math.exp(-((2 - 4) ** 2) / 72) * cosines / 4
    assert metrics.cider_d(references, [words("b c"), words("a")]) == pytest.approx(one / 2)
    # Repeating what is right does not help: «b b c» has two b where the reference has one.
    clipped = (1 * 1 + 1 * 1) / math.sqrt((4 + 1) * 3) + 1 / math.sqrt(2 * 3)
    one = 10 * math.exp(-((3 - 4) ** 2) / 72) * clipped / 4
    assert metrics.cider_d(references, [words("b b c"), words("a")]) == pytest.approx(one / 2)


# All together


@settings(max_examples=30, deadline=None)
@given(corpora)
def test_all_metrics_keep_to_their_scale(corpus):
    references, generated = unzip(corpus)
    for name, value in metrics.evaluate(references, generated).items():
        assert 0 <= value <= (10 if name == "cider_d" else 1) + 1e-9, name


def test_perfect_captions_get_everything():
    references = [[CAT, words("other words are here as well")], [words("nothing at all like it here")]]
    values = metrics.evaluate(references, [refs[0] for refs in references])
    assert values.pop("cider_d") == pytest.approx((10 / 2 + 10) / 2, rel=0.05)  # the other reference shares nothing
    assert list(values) == ["bleu4", "corpus_bleu1", "corpus_bleu2", "corpus_bleu3", "corpus_bleu4", "rouge_l"]
    assert all(value == pytest.approx(1) for value in values.values())


def test_empty_captions_get_nothing():
    assert set(metrics.evaluate([[CAT], [CAT[:3]]], [[], []]).values()) == {0}


@pytest.mark.parametrize(("references", "generated"), [([[CAT]], []), ([], []), ([[]], [CAT]), ([[CAT]], [CAT, CAT])])
def test_captions_without_references_are_refused(references, generated):
    with pytest.raises(ValueError, match="a list of references for each caption"):
        metrics.evaluate(references, generated)
