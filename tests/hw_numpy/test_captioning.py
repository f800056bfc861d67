"""The captioning network and its solver: gradients, known values, sampling, and overfitting of a few captions."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hw_numpy.captioning_solver import CaptioningSolver
from hw_numpy.gradient_check import eval_numerical_gradient
from hw_numpy.rnn import CaptioningRNN

WORDS = {word: number for number, word in enumerate(("<NULL>", "<START>", "<END>", "<UNK>", "a", "dog", "cat", "sits"))}
CELLS = ("rnn", "lstm")
SIZES = st.integers(1, 4)


def network(cell, seed=0, dtype=np.float64, D=3, W=4, H=5):
    """A small network whose parameters are all far from zero."""
    model = CaptioningRNN(WORDS, D, W, H, cell, dtype, seed)
    generator = np.random.default_rng(seed)
    model.params = {name: generator.standard_normal(value.shape).astype(dtype) for name, value in model.params.items()}
    return model


def batch(seed, N, T, D=3):
    """Features and captions that end at different places."""
    generator = np.random.default_rng(seed)
    captions = generator.integers(2, len(WORDS), (N, T))
    captions[:, 0] = WORDS["<START>"]
    for caption, length in zip(captions, generator.integers(1, T + 1, N), strict=True):
        caption[length:] = WORDS["<NULL>"]
    return generator.standard_normal((N, D)), captions


def torch_loss(model, features, captions):
    """The same loss computed with torch's own modules, and its gradients under our names."""
    p = {name: torch.from_numpy(value.copy()).requires_grad_() for name, value in model.params.items()}
    h = torch.from_numpy(features) @ p["W_proj"] + p["b_proj"]
    c = torch.zeros_like(h)
    total = torch.zeros((), dtype=torch.float64)
    for before, word in zip(torch.from_numpy(captions).T, torch.from_numpy(captions).T[1:], strict=False):
        a = nn.functional.embedding(before, p["W_embed"]) @ p["Wx"] + h @ p["Wh"] + p["b"]
        if model.cell_type == "rnn":
            h = a.tanh()
        else:
            i, f, o, g = a.chunk(4, dim=1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
        scores = h @ p["W_vocab"] + p["b_vocab"]
        total = total + nn.functional.cross_entropy(scores, word, ignore_index=WORDS["<NULL>"], reduction="sum")
    loss = total / len(features)
    if loss.requires_grad:
        loss.backward()
    return loss.item(), {name: np.zeros(v.shape) if v.grad is None else v.grad.numpy() for name, v in p.items()}


@pytest.mark.parametrize("cell", CELLS)
@given(N=SIZES, T=st.integers(2, 5), D=SIZES, W=SIZES, H=SIZES, seed=st.integers(0, 10**6))
@settings(max_examples=15, deadline=None)
def test_loss_and_gradients_agree_with_torch(cell, N, T, D, W, H, seed):
    model = network(cell, seed, D=D, W=W, H=H)
    features, captions = batch(seed, N, T, D)
    loss, gradients = model.loss(features, captions)
    theirs, their_gradients = torch_loss(model, features, captions)
    assert loss == pytest.approx(theirs, abs=1e-10)
    assert gradients.keys() == model.params.keys()
    for name, gradient in gradients.items():
        np.testing.assert_allclose(gradient, their_gradients[name], rtol=0, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("cell", CELLS)
def test_gradients_agree_with_finite_differences(cell):
    model = network(cell)
    features, captions = batch(1, N=2, T=4)
    _, gradients = model.loss(features, captions)
    for name, value in model.params.items():
        numerical = eval_numerical_gradient(lambda _: model.loss(features, captions)[0], value)
        np.testing.assert_allclose(gradients[name], numerical, rtol=1e-6, atol=1e-8, err_msg=name)


@pytest.mark.parametrize(
    ("cell", "first", "last", "expected"),
    [("rnn", -1.5, 0.3, 9.83235591003), ("lstm", -0.5, 1.7, 9.82445935443)],
)
def test_the_values_that_cs231n_publishes(cell, first, last, expected):
    """Values from the course's notebooks on RNNs and LSTMs, whose word numbers have a gap."""
    N, D, T = 10, 20, 13
    words = {"<NULL>": 0, "cat": 2, "dog": 3}
    model = CaptioningRNN(words, D, 30, 40, cell, np.float64)
    for name, value in model.params.items():
        model.params[name] = np.linspace(-1.4, 1.3, value.size).reshape(value.shape)
    features = np.linspace(first, last, N * D).reshape(N, D)
    captions = (np.arange(N * T) % len(words)).reshape(N, T)
    assert model.loss(features, captions)[0] == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("cell", CELLS)
def test_a_sample_is_the_likeliest_word_again_and_again(cell):
    """Each sampled word has the lowest loss after the words before it; <NULL> follows <END>."""
    model = network(cell, seed=3)
    model.params["b_vocab"][WORDS["<NULL>"]] = -100  # it never counts in a loss, so no loss tells how likely it is
    model.params["b_vocab"][WORDS["<END>"]] = 2
    features = np.random.default_rng(0).standard_normal((6, 3))
    captions = model.sample(features, max_length=6)
    assert captions.shape == (6, 6)
    ended = 0
    for image, caption in zip(features, captions, strict=True):
        before = [WORDS["<START>"]]
        for word in caption:
            if before[-1] in (WORDS["<END>"], WORDS["<NULL>"]):
                ended += 1
                assert word == WORDS["<NULL>"]
            else:
                losses = [model.loss(image[None], np.array([[*before, other]]))[0] for other in range(1, len(WORDS))]
                assert losses[word - 1] == min(losses)
            before.append(word)
    assert 6 < ended < 30  # both kinds of place occurred


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_everything_has_the_dtype_that_was_asked_for(cell, dtype):
    model = CaptioningRNN(WORDS, 3, 4, 5, cell, dtype, seed=0)
    features, captions = batch(0, N=2, T=3)
    gates = 4 if cell == "lstm" else 1
    shapes = {
        "W_embed": (8, 4), "W_proj": (3, 5), "b_proj": (5,), "Wx": (4, 5 * gates), "Wh": (5, 5 * gates),
        "b": (5 * gates,), "W_vocab": (5, 8), "b_vocab": (8,),
    }  # fmt: skip
    assert {name: value.shape for name, value in model.params.items()} == shapes
    _, gradients = model.loss(features, captions)
    assert {array.dtype for array in (*model.params.values(), *gradients.values())} == {np.dtype(dtype)}


def test_weights_come_from_the_seed_or_from_the_global_generator():
    first, second, other = (CaptioningRNN(WORDS, 3, 4, 5, seed=seed).params["Wh"] for seed in (1, 1, 2))
    assert (first == second).all() and (first != other).any()
    both = []
    for _ in range(2):
        np.random.seed(5)
        both.append(CaptioningRNN(WORDS, 3, 4, 5).params["Wh"])
    assert (both[0] == both[1]).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: CaptioningRNN(WORDS, cell_type="gru"), "cell_type is 'gru', expected rnn or lstm"),
        (lambda: CaptioningRNN({"a": 0}), "the vocabulary has no <NULL>"),
        (lambda: CaptioningRNN({"<NULL>": 0}, 3).sample(np.ones((1, 3))), "no <START> or no <END>"),
        (
            lambda: network("rnn").loss(np.ones((2, 3)), np.ones((1, 4), int)),
            r"\(2, 3\) and captions of shape \(1, 4\)",
        ),
        (lambda: network("rnn").loss(np.ones((1, 3)), np.ones((1, 1), int)), "T of 2 or more"),
        (lambda: network("rnn").loss(np.ones((1, 4)), np.ones((1, 2), int)), r"\(1, 4\)"),
        (lambda: network("rnn").loss(np.ones((1, 3)), np.array([[8, 2]])), "word 8 in x is out of range"),
        (lambda: network("rnn").loss(np.ones((1, 3)), np.array([[1, 8]])), "word 8 in y is out of range"),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


# ── the solver ───────────────────────────────────────────────────────────────────────────────────────────────────────


def examples(count=7, images=5):
    """Captions like those of load_coco_data, with many <NULL> after their words."""
    generator = np.random.default_rng(0)
    captions = np.full((count, 25), WORDS["<NULL>"])
    for caption in captions:
        words = generator.integers(3, len(WORDS), generator.integers(1, 5))
        caption[: len(words) + 2] = [WORDS["<START>"], *words, WORDS["<END>"]]
    return {
        "train_captions": captions, "train_image_idxs": np.arange(count) % images,
        "train_features": generator.standard_normal((images, 3)), "word_to_idx": WORDS,
    }  # fmt: skip


def solver(data, cell="rnn", **kwargs):
    settings = {"update_rule": "adam", "optim_config": {"learning_rate": 0.02}, "batch_size": 3, "num_epochs": 4}
    model = CaptioningRNN(WORDS, 3, 6, 16, cell, np.float64, seed=0)
    return CaptioningSolver(model, data, **{**settings, "verbose": False, "seed": 0, **kwargs})


def test_an_epoch_has_every_caption_once_with_its_own_features_and_without_empty_columns():
    data = examples()
    data["train_captions"][:, 1] = np.arange(7) + 1  # tells them apart
    found = []
    for features, captions in solver(data).batches():
        assert (captions != WORDS["<NULL>"]).any(axis=0).all()
        for image, caption in zip(features, captions, strict=True):
            number = caption[1] - 1
            whole = data["train_captions"][number]
            assert (image == data["train_features"][data["train_image_idxs"][number]]).all()
            assert (whole[: len(caption)] == caption).all() and not whole[len(caption) :].any()
            found.append(number)
    assert sorted(found) == list(range(7))


def test_cut_batches_have_the_loss_of_whole_ones():
    data = examples()
    own = solver(data)
    rows = np.array([1, 4, 2])
    whole = data["train_features"][data["train_image_idxs"][rows]], data["train_captions"][rows]
    (loss, gradients), (cut_loss, cut_gradients) = own.model.loss(*whole), own.model.loss(*own.batch(rows))
    assert cut_loss == pytest.approx(loss, rel=1e-12)
    for name, gradient in gradients.items():
        np.testing.assert_allclose(cut_gradients[name], gradient, rtol=0, atol=1e-12)


@pytest.mark.parametrize("cell", CELLS)
def test_captions_of_different_images_are_learned_by_heart(cell):
    data = examples(count=5)
    own = solver(data, cell, num_epochs=150)
    own.train()
    assert len(own.loss_history) == 300 and own.epoch_losses()[-1] < 0.05 < own.loss_history[0]
    assert (own.model.sample(data["train_features"], max_length=24) == data["train_captions"][:, 1:]).all()


def test_an_interrupted_training_goes_on_to_the_same_bits():
    whole = solver(examples(), lr_decay=0.9)
    whole.train()
    first, second = solver(examples(), lr_decay=0.9, num_epochs=2), solver(examples(), lr_decay=0.9)
    first.train()
    second.load_state(first.state())
    second.train()
    assert second.loss_history == whole.loss_history
    for name, value in whole.model.params.items():
        assert (second.model.params[name] == value).all()


def test_a_state_is_not_changed_by_the_steps_that_follow():
    """hw_numpy.caption_experiment keeps the state of the last epoch without copying it."""
    own = solver(examples(), num_epochs=1)
    own.train()
    state = own.state()
    copies = {name: value.copy() for name, value in state.items()}
    own.num_epochs = 2
    own.train()
    assert state.keys() == copies.keys()
    for name, value in state.items():
        np.testing.assert_array_equal(value, copies[name], err_msg=name)


@pytest.mark.parametrize("name", ["learing_rate", "num_epoch"])
def test_unknown_arguments_are_refused_by_name(name):
    with pytest.raises(TypeError, match=name):
        solver(examples(), **{name: 1})
