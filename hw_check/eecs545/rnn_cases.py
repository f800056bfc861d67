"""Test cases for the functions of rnn_layers.py (eecs545-w20-hw4 Q4)."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy import ndarray
from numpy.random import Generator

from hw_check.eecs545.cases import COMMON, Layer, Special, smallest_probability
from hw_numpy import rnn_layers


def _recurrent(
    rng: Generator, N: int, D: int, H: int, T: int = 0, gates: int = 1, states: int = 1
) -> tuple[Any, ...]:  # fmt: skip
    """Draws the input (of one step if T is 0), `states` initial states, Wx, Wh and b."""
    x = rng.normal(size=(T, N, D) if T else (N, D))
    before = [rng.normal(size=(N, H)) for _ in range(states)]
    shapes = (D, gates * H), (H, gates * H), (gates * H,)
    return x, *before, *(rng.normal(scale=0.5, size=shape) for shape in shapes)


def _embedding(rng: Generator, N: int, T: int, D: int, V: int) -> tuple[Any, ...]:
    return rng.choice(V, (N, T), replace=False), rng.normal(size=(V, D))


def _repeated_words(rng: Generator, N: int, T: int, D: int, V: int) -> tuple[Any, ...]:
    return rng.integers(0, V, (N, T)), rng.normal(size=(V, D))


def _temporal_fc(rng: Generator, N: int, T: int, D: int, M: int) -> tuple[Any, ...]:
    return rng.normal(size=(N, T, D)), rng.normal(size=(D, M)), rng.normal(size=M)


def _temporal_softmax(rng: Generator, N: int, T: int, V: int) -> tuple[Any, ...]:
    mask = rng.random((N, T)) < 0.6
    mask[0, :2] = True, False  # at least one step counts, and at least one does not
    return rng.normal(size=(N, T, V)), rng.integers(0, V, (N, T)), mask


def _mask_of_length_one(rng: Generator, N: int, T: int, V: int) -> tuple[Any, ...]:
    x, y, _ = _temporal_softmax(rng, N, T, V)
    return x, y, np.arange(T) == np.zeros((N, 1), int)


def _nothing_masked(rng: Generator, N: int, T: int, V: int) -> tuple[Any, ...]:
    x, y, _ = _temporal_softmax(rng, N, T, V)
    return x, y, np.ones((N, T), bool)


def _whole_caption_masked(rng: Generator, N: int, T: int, V: int) -> tuple[Any, ...]:
    x, y, mask = _temporal_softmax(rng, N, T, V)
    mask[-1] = False
    return x, y, mask


def _large_scores(rng: Generator, N: int, T: int, V: int) -> tuple[Any, ...]:
    x, y, mask = _temporal_softmax(rng, N, T, V)
    return x + rng.choice([-2000.0, 2000.0], (N, T, 1)), y, mask


def _integer_mask(rng: Generator, N: int, T: int, V: int) -> tuple[Any, ...]:
    x, y, mask = _temporal_softmax(rng, N, T, V)
    return x, y, mask.astype(np.int64)


def _temporal_slack(x: ndarray, y: ndarray, mask: ndarray) -> Mapping[str, float]:
    loss, dx = smallest_probability(x, y, mask / len(y))
    return {"loss": loss, "dx": dx}


_STEP_INPUTS, _STEP_GRADIENTS = ("x", "prev_h", "Wx", "Wh", "b"), ("dx", "dprev_h", "dWx", "dWh", "db")
_INPUTS, _GRADIENTS = ("x", "h0", "Wx", "Wh", "b"), ("dx", "dh0", "dWx", "dWh", "db")
_LSTM_INPUTS = ("x", "prev_h", "prev_c", "Wx", "Wh", "b")
_LSTM_GRADIENTS = ("dx", "dprev_h", "dprev_c", "dWx", "dWh", "db")
_ONE = (Special("one sequence", sizes={"N": 1}), Special("one step", sizes={"T": 1}))
_NDH, _TNDH = (("NDH", 2, 6),), (("TNDH", 2, 6),)

RNN_STEP = Layer(
    rnn_layers, "rnn_step_forward", "rnn_step_backward", _STEP_INPUTS, ("next_h",), _STEP_GRADIENTS, _NDH, _recurrent,
    _ONE[:1], common=COMMON[1:2],
)  # fmt: skip
RNN = Layer(
    rnn_layers, "rnn_forward", "rnn_backward", _INPUTS, ("h",), _GRADIENTS, _TNDH, _recurrent, _ONE, common=COMMON[1:2]
)  # fmt: skip
LSTM_STEP = Layer(
    rnn_layers, "lstm_step_forward", "lstm_step_backward", _LSTM_INPUTS, ("next_h", "next_c"), _LSTM_GRADIENTS, _NDH,
    partial(_recurrent, gates=4, states=2), _ONE[:1], common=COMMON[1:2],
)  # fmt: skip
LSTM = Layer(
    rnn_layers, "lstm_forward", "lstm_backward", _INPUTS, ("h",), _GRADIENTS, _TNDH, partial(_recurrent, gates=4),
    _ONE, common=COMMON[1:2],
)  # fmt: skip
EMBEDDING = Layer(
    rnn_layers, "word_embedding_forward", "word_embedding_backward", ("x", "W"), ("out",), ("dW",),
    (("NTD", 2, 5), ("V", 26, 29)), _embedding,
    (Special("repeated words", _repeated_words, {"V": 3}), _ONE[0]), common=COMMON[1:2],
)  # fmt: skip
TEMPORAL_FC = Layer(
    rnn_layers, "temporal_fc_forward", "temporal_fc_backward", ("x", "w", "b"), ("out",), ("dx", "dw", "db"),
    (("NTDM", 2, 6),), _temporal_fc, _ONE,
    caches=lambda x, w, b, out: [[x, w, b], [x, w], [x, w, b, out], {"x": x, "w": w, "b": b}],
)  # fmt: skip
TEMPORAL_SOFTMAX = Layer(
    rnn_layers, "temporal_softmax_loss", None, ("x", "y", "mask"), ("loss", "dx"), (), (("NTV", 3, 7),),
    _temporal_softmax,
    (
        Special("masks of 0 and 1", _integer_mask),
        Special("masks that keep one step", _mask_of_length_one),
        Special("nothing masked", _nothing_masked),
        Special("a caption that is all masked", _whole_caption_masked),
        Special("large scores", _large_scores),
        Special("one sequence", sizes={"N": 1}),
    ),
    common=COMMON[1:], slack=_temporal_slack,
)  # fmt: skip

LAYERS = (TEMPORAL_FC, TEMPORAL_SOFTMAX, RNN_STEP, RNN, EMBEDDING, LSTM_STEP, LSTM)
