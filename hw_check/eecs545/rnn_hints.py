"""Guesses at the mistake that explains wrong numbers (see hints.py), for the functions of rnn_layers.py."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy import ndarray

from hw_check.eecs545.hints import Guess, known
from hw_check.eecs545.layer_hints import NO_BIAS, fc_forward, softmax_guesses
from hw_numpy import rnn_layers

_STEP = ("dx", "dprev_h", "dWx", "dWh", "db")
_WHOLE = ("dx", "dh0", "dWx", "dWh", "db")


def _rnn_step_forward(x: ndarray, h: ndarray, Wx: ndarray, Wh: ndarray, b: ndarray) -> Iterator[Guess]:
    a = x @ Wx + h @ Wh + b
    yield "next_h", "tanh is missing", lambda: a
    yield "next_h", NO_BIAS, lambda: np.tanh(a - b)
    yield "next_h", "prev_h Wh is missing", lambda: np.tanh(x @ Wx + b)
    yield "next_h", "x Wx is missing", lambda: np.tanh(h @ Wh + b)
    yield "next_h", "Wh is transposed", lambda: np.tanh(x @ Wx + h @ Wh.T + b)


def _step_gradients(da: ndarray, x: ndarray, h: ndarray, Wx: ndarray, Wh: ndarray) -> dict[str, Callable[[], ndarray]]:
    """Gradients of a step, from the gradient `da` of the sum before tanh."""
    values = (lambda: da @ Wx.T, lambda: da @ Wh.T, lambda: x.T @ da, lambda: h.T @ da, lambda: da.sum(axis=0))
    return dict(zip(_STEP, values, strict=True))


def _rnn_step_backward(
    x: ndarray, h: ndarray, Wx: ndarray, Wh: ndarray, b: ndarray, dnext_h: ndarray
) -> Iterator[Guess]:
    a = x @ Wx + h @ Wh + b
    derivatives = {
        "the derivative of tanh, 1 − next_h², is missing": 1.0,
        "the derivative of tanh is 1 − next_h², not 1 − next_h": 1 - np.tanh(a),
        "the derivative of tanh is 1 − next_h², not next_h²": np.tanh(a) ** 2,
        "the derivative of tanh is 1 − next_h², not that of the logistic function": np.tanh(a) * (1 - np.tanh(a)),
    }
    for text, derivative in derivatives.items():
        for name, value in _step_gradients(dnext_h * derivative, x, h, Wx, Wh).items():
            yield name, text, value
    da = dnext_h * (1 - np.tanh(a) ** 2)
    yield "dprev_h", "Wh is used where its transpose was meant", lambda: da @ Wh
    yield "dx", "Wx is used where its transpose was meant", lambda: da @ Wx
    yield "dWh", "transposed", lambda: da.T @ h


def _rnn_forward(x: ndarray, h0: ndarray, Wx: ndarray, Wh: ndarray, b: ndarray) -> Iterator[Guess]:
    def run(x: ndarray = x, h0: ndarray = h0, b: ndarray = b) -> ndarray:
        return rnn_layers.rnn_forward(x, h0, Wx, Wh, b)[0]

    yield "h", "h0 is ignored: the first step begins with zeros", lambda: run(h0=np.zeros_like(h0))
    text = "every step begins with h0: the hidden state is not passed on"
    yield "h", text, lambda: np.stack([rnn_layers.rnn_step_forward(step, h0, Wx, Wh, b)[0] for step in x])
    yield "h", NO_BIAS, lambda: run(b=np.zeros_like(b))


def _rnn_backward(x: ndarray, h0: ndarray, Wx: ndarray, Wh: ndarray, b: ndarray, dh: ndarray) -> Iterator[Guess]:
    h = rnn_layers.rnn_forward(x, h0, Wx, Wh, b)[0]
    states = np.concatenate([h0[None], h[:-1]])

    def by_step(da: ndarray) -> list[tuple[ndarray, ...]]:
        return [
            (d @ Wx.T, d @ Wh.T, step.T @ d, prev.T @ d, d.sum(axis=0))
            for d, step, prev in zip(da, x, states, strict=True)
        ]

    da, carried = np.empty_like(h), np.zeros_like(h0)
    for t in reversed(range(len(x))):
        da[t] = (dh[t] + carried) * (1 - h[t] ** 2)
        carried = da[t] @ Wh.T
    dx, dprev, dWx, dWh, db = zip(*by_step(dh * (1 - h**2)), strict=True)
    for name, value in zip(_WHOLE, (np.stack(dx), dprev[0], sum(dWx), sum(dWh), sum(db)), strict=True):
        yield name, "the gradient from later steps (dprev_h) is not added to dh", known(value)
    steps = by_step(da)
    for number, name in ((2, "dWx"), (3, "dWh"), (4, "db")):
        for t, which in ((0, "first"), (-1, "last")):
            text = f"only the {which} step's part (= where += was meant): expected the sum over the steps"
            yield name, text, known(steps[t][number])
    yield "dh0", "the derivative at the first step is missing", lambda: dh[0] @ Wh.T


def _word_embedding_forward(x: ndarray, W: ndarray) -> Iterator[Guess]:
    yield "out", "the embedding of word number x − 1, expected x", lambda: W[x - 1]


def _word_embedding_backward(x: ndarray, W: ndarray, dout: ndarray) -> Iterator[Guess]:
    def assigned(order: int) -> ndarray:
        dW = np.zeros_like(W)
        dW[x.ravel()[::order]] = dout.reshape(-1, W.shape[1])[::order]
        return dW

    text = "a word that occurs several times counts once (dW[x] = or += dout): use np.add.at"
    yield "dW", text, lambda: assigned(1)
    yield "dW", text, lambda: assigned(-1)


def _temporal_fc_backward(x: ndarray, w: ndarray, b: ndarray, dout: ndarray) -> Iterator[Guess]:
    yield "dx", "w is used where its transpose was meant", lambda: dout @ w
    yield "db", "not summed over the batch", lambda: dout.sum(axis=1)
    yield "db", "summed over the batch alone: expected over the steps as well", lambda: dout.sum(axis=0)
    for t, which in ((0, "first"), (-1, "last")):
        left, text = (slice(1, None) if t == 0 else slice(-1)), f"the {which} step is left out"
        yield "dw", text, known(np.einsum("ntd,ntm->dm", x[:, left], dout[:, left]))
        yield "db", text, known(dout[:, left].sum(axis=(0, 1)))
        text = f"only the {which} step's part: expected the sum over the steps"
        yield "dw", text, known(x[:, t].T @ dout[:, t])
        yield "db", text, known(dout[:, t].sum(axis=0))


def _temporal_softmax_loss(x: ndarray, y: ndarray, mask: ndarray) -> Iterator[Guess]:
    N, T = y.shape
    everything = np.ones((N, T), bool)
    for text, weights in (
        ("the mask is ignored", everything / N),
        ("the mask is inverted", ~mask / N),
        ("averaged over all unmasked steps: expected the sum over time, averaged over the batch", mask / mask.sum()),
        ("averaged over time as well: expected the sum over time", mask / (N * T)),
        ("each caption is averaged over its own length", mask / (N * np.maximum(mask.sum(axis=1, keepdims=True), 1))),
        ("it lacks the factor 1/N: expected the average over the batch", mask.astype(float)),
        ("divided by the number of steps T, expected by the batch size N", mask / T),
    ):
        loss, dx = _cross_entropy(x, y, weights)
        yield "loss", text, known(loss)
        yield "dx", text, known(dx)
    text = "the mask multiplies the scores, expected the losses of the steps"
    loss, dx = _cross_entropy(x * mask[:, :, None], y, everything / N)
    yield "loss", text, known(loss)
    yield "dx", text, known(dx)
    yield from softmax_guesses(x, y, mask / N)


def _cross_entropy(x: ndarray, y: ndarray, weights: ndarray) -> tuple[ndarray, ndarray]:
    """Loss and its gradient; `weights` (N, T) are the weights of the steps."""
    shifted = x - x.max(axis=2, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(axis=2, keepdims=True))
    one_hot = np.eye(x.shape[2])[y]
    return -(weights[..., None] * one_hot * logs).sum(), weights[..., None] * (np.exp(logs) - one_hot)


GUESSES: dict[str, Callable[..., Iterator[Guess]]] = {
    "rnn_step_forward": _rnn_step_forward,
    "rnn_step_backward": _rnn_step_backward,
    "rnn_forward": _rnn_forward,
    "rnn_backward": _rnn_backward,
    "word_embedding_forward": _word_embedding_forward,
    "word_embedding_backward": _word_embedding_backward,
    "temporal_fc_forward": fc_forward,
    "temporal_fc_backward": _temporal_fc_backward,
    "temporal_softmax_loss": _temporal_softmax_loss,
}
