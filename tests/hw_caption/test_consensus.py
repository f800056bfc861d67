"""Consensus decoding: its expected BLEU against NLTK and scikit-learn, and its file."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from sklearn.kernel_ridge import KernelRidge

from hw_caption import consensus, metrics
from hw_caption.consensus import Consensus
from hw_caption.vocabulary import PAD, START, UNKNOWN
from hw_common.runs import checkpoints
from hw_common.runs.errors import UserError

WORDS = 9
captions = st.lists(st.integers(UNKNOWN, WORDS - 1), max_size=8).map(tuple)
of_images = st.lists(st.lists(captions, min_size=1, max_size=4), min_size=1, max_size=5)


def descriptors(count, seed=0):
    return torch.randn(count, 3, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=60, deadline=None)
@given(of_images, captions)
def test_bleu_is_nltks_against_all_other_references(references, caption):
    judge = Consensus(descriptors(len(references)), references)
    for found, of_image in zip(judge._bleu(caption), references, strict=True):
        others = list(of_image)
        if caption in others:
            others.remove(caption)
        expected = metrics.course_bleu([others], [caption]) if others else 0
        assert found == pytest.approx(expected, abs=1e-9)


def test_the_weights_are_those_of_kernel_ridge_regression():
    train, new = descriptors(12).double(), descriptors(4, seed=1).double()
    targets = np.random.default_rng(2).random((12, 5))
    judge = Consensus(train.float(), [[(4, 5)]] * 12)
    weights = judge._weights(judge._kernel(new.float())).numpy()
    directions = [(x - train.mean(0)) / train.std(0, correction=0) for x in (train, new)]
    known, asked = ((x / x.norm(dim=1, keepdim=True)).numpy() for x in directions)
    oracle = KernelRidge(kernel="rbf", gamma=1.0, alpha=consensus._RIDGE).fit(known, targets - targets.mean(0))
    assert weights @ targets == pytest.approx(oracle.predict(asked) + targets.mean(0), abs=1e-4)


def test_it_agrees_with_the_captions_of_similar_images():
    harbours, fields = [[(4, 5, 6, 7), (4, 5, 6, 8)]] * 4, [[(8, 7, 6, 5), (8, 7, 6, 4)]] * 4
    places = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).repeat_interleave(4, dim=0) + 0.1 * descriptors(8)[:, :2]
    judge = Consensus(places, [*harbours, *fields])
    candidates = [(4, 5, 6, 7), (8, 7, 6, 5)]
    first, second = judge.choose(torch.tensor([[1.0, 0.1], [0.1, 1.0]]), [candidates, candidates])
    assert first in harbours[0] and second in fields[0]


def test_captions_of_similar_images_are_candidates_unless_words_are_unknown():
    judge = Consensus(descriptors(2), [[(4, 5, 6, 7, 8), (4, 5, 6, 7, 4)], [(4, 5, 6, 7, UNKNOWN)]])
    assert judge.choose(descriptors(1), [[(8,)]])[0] in {(4, 5, 6, 7, 8), (4, 5, 6, 7, 4)}


def test_only_the_nearest_images_captions_are_candidates(monkeypatch):
    monkeypatch.setattr(consensus, "_NEAREST", 1)
    judge = Consensus(torch.tensor([[0.0, 1.0], [1.0, 0.0]]), [[(4, 5, 6, 7)], [(8, 7, 6, 5)]])
    assert judge.choose(torch.tensor([[0.1, 1.0]]), [[(4,)]]) in ([(4, 5, 6, 7)], [(4,)])
    assert judge.choose(torch.tensor([[1.0, 0.1]]), [[(4,)]]) in ([(8, 7, 6, 5)], [(4,)])


def test_one_image_is_enough_and_too_many_are_refused(monkeypatch):
    assert Consensus(descriptors(1), [[(4, 5)]]).choose(descriptors(1, 1), [[]]) == [(4, 5)]
    monkeypatch.setattr(consensus, "_MAX_IMAGES", 2)
    with pytest.raises(UserError, match="expected 1 to 2 training images, got 3; choose beam"):
        Consensus(descriptors(3), [[(4,)]] * 3)


# The file


METADATA = {"homework": "hw_caption", "vocabulary": "a hash"}


@pytest.fixture
def saved(tmp_path):
    Consensus(descriptors(3), [[(4, 5), ()], [(6, 7, 8)], [(8, UNKNOWN)]]).save(tmp_path / "c.safetensors", METADATA)
    return tmp_path / "c.safetensors"


def test_what_is_saved_comes_back(saved):
    found = Consensus.load(saved, METADATA, WORDS, 3)
    assert found.references == [[(4, 5), ()], [(6, 7, 8)], [(8, UNKNOWN)]]
    assert torch.equal(found.descriptors, descriptors(3))


def change(name, value):
    def damage(path):
        tensors = load_file(path)
        tensors[name] = value(tensors[name])
        checkpoints.save_weights(path, tensors, METADATA)

    return damage


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda path: path.unlink(), "cannot read weights"),
        (lambda path: path.write_bytes(path.read_bytes()[:100]), "damaged or not a safetensors file"),
        (lambda path: save_file(load_file(path), path), "holds weights for homework None, expected 'hw_caption'"),
        (change("words", lambda words: words + 1), "do not fit its"),
        (change("words", lambda words: torch.where(words == PAD, START, words).int()), "do not fit its images or the"),
        (change("words", lambda words: words[:-1]), "do not fit its"),
        (change("words", torch.Tensor.float), "expected descriptors"),
        (change("captions_of_image", lambda counts: counts - 1), "do not fit its"),
        (change("captions_of_image", lambda counts: counts[:2]), "do not fit its"),
        (
            change("captions_of_image", lambda counts: torch.tensor([-1, 2, 3], dtype=torch.int32)),
            "do not fit its images",
        ),
        (change("descriptors", lambda values: values * torch.inf), "expected descriptors"),
        (change("descriptors", lambda values: values[:, :2]), "do not fit its"),
        (change("another", lambda none: none), "another"),
    ],
)
def test_a_damaged_file_is_one_line(saved, damage, says):
    if says == "another":
        checkpoints.save_weights(saved, {**load_file(saved), "another": torch.zeros(1)}, METADATA)
        says = "expected descriptors"
    else:
        damage(saved)
    with pytest.raises(UserError, match=says) as caught:
        Consensus.load(saved, METADATA, WORDS, 3)
    assert "\n" not in str(caught.value) and str(saved) in str(caught.value)
