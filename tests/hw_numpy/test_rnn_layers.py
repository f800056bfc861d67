"""Recurrent layers against torch's own in float64, at random sizes; wrong arguments are refused."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hw_numpy import rnn_layers

SIZES = st.integers(1, 4)
SEEDS = st.integers(0, 10**6)
# Forward and backward function, and the columns of the weights for each hidden unit.
CELLS = {"rnn": (rnn_layers.rnn_forward, rnn_layers.rnn_backward, 1),
         "lstm": (rnn_layers.lstm_forward, rnn_layers.lstm_backward, 4)}  # fmt: skip
few = settings(max_examples=25, deadline=None)


def normal(seed, *shapes, scale=1.0):
    generator = np.random.default_rng(seed)
    return [scale * generator.standard_normal(shape) for shape in shapes]


def cell_arrays(seed, T, N, D, H, gates):
    return normal(seed, (T, N, D), (N, H), (D, gates * H), (H, gates * H), (gates * H,))


def close(ours, theirs, tolerance):
    for own, their in zip(ours, theirs, strict=True):
        their = np.asarray(their)
        assert own.shape == their.shape and own.dtype == their.dtype
        np.testing.assert_allclose(own, their, rtol=0, atol=tolerance)


def torch_order(array):
    """Columns i, f, o, g as torch has them: i, f, g, o."""
    i, f, o, g = np.split(array, 4, axis=-1)
    return np.concatenate((i, f, g, o), axis=-1)


def torch_cell(kind, x, h0, Wx, Wh, b, dh):
    """Results of torch.nn.RNN or LSTM from the same arrays: h, and the gradients of x, h0, Wx, Wh, b."""
    network = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM}[kind](x.shape[2], h0.shape[1], dtype=torch.float64)
    reorder = torch_order if kind == "lstm" else np.asarray
    with torch.no_grad():
        network.weight_ih_l0.copy_(torch.from_numpy(reorder(Wx).T))
        network.weight_hh_l0.copy_(torch.from_numpy(reorder(Wh).T))
        network.bias_ih_l0.copy_(torch.from_numpy(reorder(b)))
        network.bias_hh_l0.zero_()
    inputs, first = (torch.from_numpy(array.copy()).requires_grad_() for array in (x, h0))
    state = (first[None], torch.zeros_like(first)[None]) if kind == "lstm" else first[None]
    h, _ = network(inputs, state)
    h.backward(torch.from_numpy(dh))
    # Undoing the swap of the last two gates is the same swap again.
    weights = [reorder(p.grad.numpy().T) for p in (network.weight_ih_l0, network.weight_hh_l0, network.bias_ih_l0)]
    return h.detach().numpy(), [inputs.grad.numpy(), first.grad.numpy(), *weights]


@pytest.mark.parametrize("kind", CELLS)
@given(T=SIZES, N=SIZES, D=SIZES, H=SIZES, seed=SEEDS)
@few
def test_sequences_agree_with_torch(kind, T, N, D, H, seed):
    forward, backward, gates = CELLS[kind]
    arrays = cell_arrays(seed, T, N, D, H, gates)
    [dh] = normal(seed + 1, (T, N, H))
    h, gradients = torch_cell(kind, *arrays, dh)
    own, cache = forward(*arrays)
    close([own], [h], 1e-10)
    close(backward(dh, cache), gradients, 1e-9)


@pytest.mark.parametrize("kind", CELLS)
@given(T=SIZES, N=SIZES, D=SIZES, H=SIZES, seed=SEEDS)
@few
def test_steps_in_a_row_are_the_sequence(kind, T, N, D, H, seed):
    """Single steps, forward and then backward in time, give the results of the function for sequences."""
    forward, backward, gates = CELLS[kind]
    x, h0, *weights = cell_arrays(seed, T, N, D, H, gates)
    [dh] = normal(seed + 1, (T, N, H))
    state, caches = (h0, np.zeros_like(h0))[: 2 if kind == "lstm" else 1], []
    step_forward, step_backward = (
        getattr(rnn_layers, f"{kind}_step_forward"),
        getattr(rnn_layers, f"{kind}_step_backward"),
    )
    states = []
    for t in range(T):
        *state, cache = step_forward(x[t], *state, *weights)
        states.append(state[0])
        caches.append(cache)
    own, cache = forward(x, h0, *weights)
    close([own], [np.stack(states)], 1e-12)
    from_later, dx = [np.zeros_like(part) for part in state], np.empty_like(x)
    sums = [np.zeros_like(array) for array in weights]
    for t in reversed(range(T)):
        from_later[0] = from_later[0] + dh[t]
        dx[t], *rest = step_backward(*from_later, caches[t])
        from_later, parts = rest[: len(state)], rest[len(state) :]
        sums = [total + part for total, part in zip(sums, parts, strict=True)]
    close(backward(dh, cache), [dx, from_later[0], *sums], 1e-12)


@given(N=SIZES, D=SIZES, H=SIZES, seed=SEEDS)
@few
def test_an_lstm_step_agrees_with_torch_in_both_states(N, D, H, seed):
    x, h, c, Wx, Wh, b = normal(seed, (N, D), (N, H), (N, H), (D, 4 * H), (H, 4 * H), (4 * H,))
    dh, dc = normal(seed + 1, (N, H), (N, H))
    tensors = [torch.from_numpy(array).requires_grad_() for array in (x, h, c, Wx, Wh, b)]
    i, f, o, g = (tensors[0] @ tensors[3] + tensors[1] @ tensors[4] + tensors[5]).chunk(4, dim=1)
    next_c = f.sigmoid() * tensors[2] + i.sigmoid() * g.tanh()
    next_h = o.sigmoid() * next_c.tanh()
    torch.autograd.backward([next_h, next_c], [torch.from_numpy(dh), torch.from_numpy(dc)])
    own_h, own_c, cache = rnn_layers.lstm_step_forward(x, h, c, Wx, Wh, b)
    close([own_h, own_c], [next_h.detach(), next_c.detach()], 1e-10)
    close(rnn_layers.lstm_step_backward(dh, dc, cache), [tensor.grad for tensor in tensors], 1e-9)


@given(N=SIZES, T=SIZES, V=SIZES, D=SIZES, seed=SEEDS)
@few
def test_word_embedding_agrees_with_torch(N, T, V, D, seed):
    W, dout = normal(seed, (V, D), (N, T, D))
    x = np.random.default_rng(seed).integers(0, V, (N, T))  # with few words, some stand several times
    weights = torch.from_numpy(W.copy()).requires_grad_()
    out = torch.nn.functional.embedding(torch.from_numpy(x), weights)
    out.backward(torch.from_numpy(dout))
    own, cache = rnn_layers.word_embedding_forward(x, W)
    close([own], [out.detach()], 0)
    close([rnn_layers.word_embedding_backward(dout, cache)], [weights.grad], 1e-9)


@given(N=SIZES, T=SIZES, D=SIZES, M=SIZES, seed=SEEDS)
@few
def test_temporal_fc_agrees_with_torch(N, T, D, M, seed):
    arrays = normal(seed, (N, T, D), (D, M), (M,))
    [dout] = normal(seed + 1, (N, T, M))
    x, w, b = (torch.from_numpy(array).requires_grad_() for array in arrays)
    out = torch.nn.functional.linear(x, w.T, b)
    out.backward(torch.from_numpy(dout))
    own, cache = rnn_layers.temporal_fc_forward(*arrays)
    close([own], [out.detach()], 1e-10)
    close(rnn_layers.temporal_fc_backward(dout, cache), [x.grad, w.grad, b.grad], 1e-9)


@given(N=SIZES, T=SIZES, V=SIZES, seed=SEEDS, scale=st.sampled_from([1, 1000]))
@few
def test_temporal_softmax_loss_agrees_with_torch(N, T, V, seed, scale):
    """Covers masks of length one, empty and full masks, and scores for which exp would overflow."""
    [x] = normal(seed, (N, T, V), scale=scale)
    generator = np.random.default_rng(seed)
    y, mask = generator.integers(0, V, (N, T)), generator.random((N, T)) < generator.random()
    scores = torch.from_numpy(x).requires_grad_()
    targets = torch.from_numpy(np.where(mask, y, -100))  # torch's way to ignore
    theirs = torch.nn.functional.cross_entropy(scores.flatten(0, 1), targets.flatten(), reduction="sum") / N
    theirs.backward()
    y[~mask] = -100  # what stands under the mask must not matter
    loss, dx = rnn_layers.temporal_softmax_loss(x, y, mask)
    assert loss == pytest.approx(theirs.item(), abs=1e-10, rel=1e-13)
    close([dx], [scores.grad], 1e-9)


def test_temporal_softmax_loss_of_equal_scores_is_known():
    """If all V words are equally probable, the loss is log V for every unmasked step, averaged over the batch."""
    mask = np.array([[True, True, False], [True, False, False]])
    loss, _ = rnn_layers.temporal_softmax_loss(np.zeros((2, 3, 7)), np.zeros((2, 3), int), mask)
    assert loss == pytest.approx(3 * np.log(7) / 2)


def _pair(name):
    return getattr(rnn_layers, f"{name}_forward"), getattr(rnn_layers, f"{name}_backward")


WORDS = np.array([[0, 2, 2], [1, 0, 2]])
# Every pair of functions with arguments for the first and gradients for the second.
CALLS = {
    "rnn": (cell_arrays(0, 3, 2, 4, 5, gates=1), normal(1, (3, 2, 5))),
    "lstm": (cell_arrays(0, 3, 2, 4, 5, gates=4), normal(1, (3, 2, 5))),
    "rnn_step": (normal(0, (2, 4), (2, 5), (4, 5), (5, 5), (5,)), normal(1, (2, 5))),
    "lstm_step": (normal(0, (2, 4), (2, 5), (2, 5), (4, 20), (5, 20), (20,)), normal(1, (2, 5), (2, 5))),
    "word_embedding": ([WORDS, *normal(0, (3, 4))], normal(1, (2, 3, 4))),
    "temporal_fc": (normal(0, (2, 3, 4), (4, 5), (5,)), normal(1, (2, 3, 5))),
}


@pytest.mark.parametrize("name", CALLS)
def test_arrays_keep_their_type_and_their_content(name):
    """float32 stays float32, no argument is changed, and strided views give the results of contiguous arrays."""
    forward, backward = _pair(name)
    arrays, upstream = CALLS[name]
    single = [array.astype(np.float32) if array.dtype.kind == "f" else array for array in (*arrays, *upstream)]
    before = [array.copy() for array in single]
    inputs, gradients = single[: len(arrays)], single[len(arrays) :]
    *out, cache = forward(*inputs)
    results = [*out, *_tuple(backward(*gradients, cache))]
    assert all(result.dtype == np.float32 for result in results)
    for array, old in zip(single, before, strict=True):
        np.testing.assert_array_equal(array, old)
    *out, cache = forward(*(strided(array) for array in inputs))
    again = [*out, *_tuple(backward(*(strided(array) for array in gradients), cache))]
    for result, other in zip(results, again, strict=True):
        np.testing.assert_allclose(result, other, rtol=1e-5, atol=1e-6)


def _tuple(value):
    return value if isinstance(value, tuple) else (value,)


def strided(array):
    """The same numbers as a view of every second element of a larger array in Fortran order."""
    large = np.full([2 * size for size in array.shape], 99, dtype=array.dtype, order="F")
    view = large[tuple(slice(None, None, 2) for _ in array.shape)]
    view[...] = array
    return view


def test_loss_keeps_type_and_content():
    x = np.ones((2, 3, 4), np.float32)
    y, mask = np.array([[0, 1, 2], [3, 2, 1]]), np.array([[1, 1, 0], [1, 0, 0]])
    copies = x.copy(), y.copy(), mask.copy()
    loss, dx = rnn_layers.temporal_softmax_loss(x, y, mask)
    assert isinstance(loss, float) and dx.dtype == np.float32
    for array, old in zip((x, y, mask), copies, strict=True):
        np.testing.assert_array_equal(array, old)


WRONG = {
    "x and Wx": (lambda: rnn_layers.rnn_step_forward(*_changed(0, (2, 3))), r"Wx has shape \(4, 5\), expected \(3, "),
    "batch": (lambda: rnn_layers.rnn_step_forward(*_changed(1, (1, 5))), r"h has shape \(1, 5\), expected \(2, 5\)"),
    "Wh": (lambda: rnn_layers.rnn_step_forward(*_changed(3, (5, 1))), r"Wh has shape \(5, 1\), expected \(5, 5\)"),
    "b": (lambda: rnn_layers.rnn_step_forward(*_changed(4, (1,))), r"b has shape \(1,\), expected \(5,\)"),
    "a sequence": (lambda: rnn_layers.rnn_step_forward(*_changed(0, (1, 2, 4))), r"expected \(N, D\) and \(N, H\)"),
    "a step": (lambda: rnn_layers.rnn_forward(*_changed(0, (2, 4))), r"expected \(T, N, D\) and \(N, H\)"),
    "gates": (lambda: rnn_layers.lstm_forward(*_changed(0, (1, 2, 4))), r"Wx has shape \(4, 5\), expected \(4, 20\)"),
    "cell": (
        lambda: rnn_layers.lstm_step_forward(*normal(0, (2, 4), (2, 1), (1, 1), (4, 4), (1, 4), (4,))),
        r"prev_c has shape \(1, 1\), expected that of prev_h, \(2, 1\)",
    ),
    "words": (lambda: rnn_layers.word_embedding_forward(np.array([[0, -1]]), np.ones((3, 2))), "word -1 in x is out"),
    "more words": (lambda: rnn_layers.word_embedding_forward(np.array([[3]]), np.ones((3, 2))), "expected 0 to 2"),
    "floats": (lambda: rnn_layers.word_embedding_forward(np.ones((1, 1)), np.ones((3, 2))), "x holds float64"),
    "fc": (lambda: rnn_layers.temporal_fc_forward(*normal(0, (2, 3, 4), (3, 5), (5,))), r"x of shape \(2, 3, 4\), w "),
    "mask": (
        lambda: rnn_layers.temporal_softmax_loss(np.ones((2, 3, 4)), np.zeros((2, 3), int), np.ones((2, 1))),
        r"mask of shape \(2, 1\) do not fit",
    ),
    "label": (
        lambda: rnn_layers.temporal_softmax_loss(np.ones((1, 2, 4)), np.array([[4, 0]]), np.ones((1, 2))),
        "word 4 in y is out of range, expected 0 to 3",
    ),
    "gradient": (
        lambda: rnn_layers.temporal_fc_backward(np.ones((2, 5)), (np.ones((2, 3, 4)), np.ones((4, 5)), np.ones(5))),
        r"the gradient has shape \(2, 5\), expected that of the output, \(2, 3, 5\)",
    ),
}  # fmt: skip


def _changed(position, shape):
    """Right arguments of rnn_step_forward, except one."""
    arrays = normal(0, (2, 4), (2, 5), (4, 5), (5, 5), (5,))
    arrays[position] = np.ones(shape)
    return arrays


@pytest.mark.parametrize(("call", "message"), WRONG.values(), ids=WRONG)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
