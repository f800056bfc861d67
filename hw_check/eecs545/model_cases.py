"""Test cases for the networks of softmax.py, cnn.py and rnn.py (eecs545-w20-hw4 Q2b, Q3b and Q4c)."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy import ndarray
from numpy.random import Generator

from hw_check.eecs545 import model_draws
from hw_check.eecs545.cases import Case, as_type, describe_type, smallest_probability
from hw_check.eecs545.model_draws import Drawn
from hw_check.sandbox import Job
from hw_numpy import rnn_layers
from hw_numpy.cnn import ConvNet
from hw_numpy.rnn import CaptioningRNN
from hw_numpy.softmax import SoftmaxClassifier

_GRADIENT = "gradient of "
BY_INPUTS = -1.0
"""Stands for a standard deviation that depends on the number of inputs, as in Xavier or He initialization."""
ALIKE, COPIED, SEEDED, SHARED = 1.0, 2.0, 3.0, 4.0
"""What is wrong with the numbers of a weight: many are equal, they are those of another weight, they never change, or
a second network overwrites them."""


@dataclass(frozen=True)
class Network:
    """One method of a network's class; draws the cases for it."""

    ours: type  # our class, which gives the right answers
    method: str  # "__init__", "loss" or "sample"
    draw: Callable[[Generator], Iterator[Drawn]]
    has_dtype: bool = True  # whether the class has an argument dtype; a class without one computes in float64

    def job(self, name: str, cases: Sequence[Case]) -> Job:
        """The request to run `cases` on the function `name`."""
        request = {
            "class": self.ours.__name__,
            "needs": [self.ours.__name__],
            "again": self.method == "__init__",
            "cases": [dict(case.request) for case in cases],
        }
        return Job(name, request)

    def cases(self, name: str, rng: Generator) -> list[Case]:
        """The cases for the function `name`, drawn from `rng`."""
        make = self._initial_case if self.method == "__init__" else self._case
        return [make(rng, drawn) for drawn in self.draw(rng)]

    def read(self, answer: Mapping[str, Any], case: Case) -> dict[str, Any] | str:
        """The values in the child's answer by name; if the answer has the wrong form, a message that says so."""
        params, returned = answer.get("params"), answer.get("returned")
        if not isinstance(params, dict) or not isinstance(returned, list):
            return f"params is {describe_type(params)}, expected a dictionary of arrays"
        if self.method == "__init__":
            return _statistics(params, answer.get("again"), answer.get("after_again"), case)
        if self.method == "sample":
            return {"captions": _up_to_end(returned[0], case) if returned else None}
        values: dict[str, Any] = {}
        if "scores" in case.right and returned:
            values["scores"], *returned = returned
        result = returned[0] if returned else None
        if not isinstance(result, list) or len(result) != 2 or not isinstance(result[1], dict):
            given = f"{len(result)} values" if isinstance(result, list) else describe_type(result)
            return f"loss with labels returns {given}, expected the loss and a dictionary of gradients"
        return {**values, "loss": result[0], **{_GRADIENT + name: value for name, value in result[1].items()}}

    def sent(self, case: Case) -> list[tuple[str, ndarray]]:
        """The arrays, with their names, that the method gets and must not change."""
        names = ("features", "captions") if self.ours is CaptioningRNN else ("X", "y")
        given = [pair for _, arguments in case.request["calls"] for pair in zip(names, arguments, strict=False)]
        return [(name, value) for name, value in given if isinstance(value, ndarray)]

    def combine(self, shares: Mapping[str, float]) -> float:
        """The share of the points, from the share of each output. Wrong statistics cost at most half the points."""
        if self.method != "__init__":
            return sum(shares.values()) / len(shares)
        return min(max(share, 0.5) if " of " in name else share for name, share in shares.items())

    def _case(self, rng: Generator, drawn: Drawn) -> Case:
        options, given = drawn.options, drawn.given
        dtype = options.get("dtype", "float64")
        exact = [as_type(value, "float64") for value in given]
        model = self._model({**options, "dtype": "float64"})
        while True:
            params = {
                name: as_type(_parameter(rng, value.shape), dtype, drawn.scales.get(name, 1.0))
                for name, value in model.params.items()
            }
            if self.method == "loss" and self.ours is not CaptioningRNN:
                _calm(model, params, exact[0])
            model.params = {name: as_type(value, "float64") for name, value in params.items()}
            if _shows_mistakes(self.method, model, exact):
                break
        calls: list[Any] = [[self.method, list(given)]]
        slack: Mapping[str, float] = {}
        alternatives: tuple[Mapping[str, ndarray], ...] = ()
        if self.method == "sample":
            right = {"captions": model.sample(*exact)}
        else:
            right = self._answers(model, exact)
            if self.ours is CaptioningRNN:
                scores, words = _caption_scores(model, *exact), exact[1][:, 1:]
                slack = {"loss": smallest_probability(scores, words, (words != model._null) / len(words))[0]}
            else:
                calls.insert(0, ["loss", [given[0]]])
                equal = np.full(len(exact[1]), 1 / len(exact[1]))
                slack = {"loss": smallest_probability(right["scores"], exact[1], equal)[0]}
            if self.ours is ConvNet:
                alternatives = (self._channels_last(model, exact),)
        request = {"options": self._options(options), "params": params, "calls": calls}
        sizes = {"N": len(given[0])} | ({"T": given[1].shape[1] - 1} if getattr(given[-1], "ndim", 0) == 2 else {})
        inputs = (options, params, *exact)
        return Case(drawn.title, drawn.cost, right, request, inputs, sizes, dtype, alternatives, slack=slack)

    def _answers(self, model: Any, exact: Sequence[Any]) -> dict[str, ndarray]:
        loss, gradients = model.loss(*exact)
        right = {"loss": np.asarray(loss), **{_GRADIENT + name: value for name, value in gradients.items()}}
        return right if self.ours is CaptioningRNN else {"scores": model.loss(exact[0]), **right}

    def _channels_last(self, model: Any, exact: Sequence[Any]) -> dict[str, ndarray]:
        """The answers of a ConvNet that flattens the pooled maps in the order height, width, channel."""
        given = dict(model.params)
        filters, side = len(given["W1"]), given["W1"].shape[2]
        height, width = ((size - side + 1) // 2 for size in exact[0].shape[2:])
        hidden = given["W2"].shape[1]
        ours = given["W2"].reshape(height, width, filters, hidden).transpose(2, 0, 1, 3).reshape(-1, hidden)
        model.params = {**given, "W2": ours}
        right = self._answers(model, exact)
        model.params = given
        gradient = right[_GRADIENT + "W2"].reshape(filters, height, width, hidden).transpose(1, 2, 0, 3)
        return {**right, _GRADIENT + "W2": gradient.reshape(-1, hidden)}

    def _initial_case(self, rng: Generator, drawn: Drawn) -> Case:
        options = drawn.options
        model = self._model(options)
        right: dict[str, ndarray] = {"count": np.asarray(float(len(model.params)))}
        for name, value in model.params.items():
            right[name] = np.zeros(value.shape)
            if name.startswith("W"):
                right[f"mean of {name}"] = np.asarray(0.0)
                right[f"standard deviation of {name}"] = np.asarray(options["weight_scale"])
                right[f"numbers of {name}"] = np.asarray(0.0)
        request = {"options": self._options(options), "params": {}, "calls": []}
        return Case(drawn.title, drawn.cost, right, request, (options,), dtype=options.get("dtype", "float64"))

    def _options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options without dtype, if the class in the course's files has no such argument."""
        return {name: value for name, value in options.items() if name != "dtype" or self.has_dtype}

    def _model(self, options: Mapping[str, Any]) -> Any:
        """Our network with these options."""
        return self.ours(**{**options, "dtype": options.get("dtype", "float64"), "seed": 0})


def _parameter(rng: Generator, shape: tuple[int, ...]) -> ndarray:
    return rng.normal(scale=max(0.5, shape[0] ** -0.5), size=shape)


def _calm(model: Any, params: dict[str, ndarray], x: ndarray) -> None:
    """Scales the last layer of a classifier so that no class has a probability near 0 or 1."""
    model.params = {name: as_type(value, "float64") for name, value in params.items()}
    last = max(params)[1:]  # W2 or W3
    factor = 1 / max(1.0, float(model.loss(x).std()))
    for name in (f"W{last}", f"b{last}"):
        params[name] = as_type(params[name], params[name].dtype.name, factor)


def _caption_scores(model: CaptioningRNN, features: ndarray, captions: ndarray) -> ndarray:
    """(N, T, V) scores of the next words."""
    p = model.params
    forward = rnn_layers.rnn_forward if model.cell_type == "rnn" else rnn_layers.lstm_forward
    h0, vectors = features @ p["W_proj"] + p["b_proj"], p["W_embed"][captions[:, :-1].T]
    h: ndarray = forward(vectors, h0, p["Wx"], p["Wh"], p["b"])[0]
    return h.transpose(1, 0, 2) @ p["W_vocab"] + p["b_vocab"]


def _shows_mistakes(method: str, model: Any, exact: Sequence[Any]) -> bool:
    """Whether mistakes would show: `sample` writes several different words, or no gradient of `loss` is zero."""
    if method == "sample":
        captions: ndarray = model.sample(*exact)
        return len(np.unique(captions)) >= min(captions.shape[1], 4)
    return all(gradient.any() for gradient in model.loss(*exact)[1].values())


def _statistics(params: Mapping[str, Any], again: Any, after_again: Any, case: Case) -> dict[str, Any]:
    """Shapes, means and standard deviations of the weights; differences that chance explains are set to zero."""
    found: dict[str, Any] = {"count": np.asarray(float(len(params)))}
    seen: list[ndarray] = []
    for name, value in params.items():
        found[name] = value
        if not isinstance(value, ndarray) or not name.startswith("W") or not value.size:
            continue
        found[name] = value * value.dtype.type(0)  # zeros of this shape and type; NaN and infinity stay
        scale = float(case.right.get(f"standard deviation of {name}", np.asarray(1.0)))
        mean, deviation = float(value.mean()), float(value.std())
        found[f"mean of {name}"] = np.asarray(0.0 if abs(mean) < 0.3 * max(scale, deviation) else mean)
        close = 0.8 < deviation / scale < 1.25
        inputs = value[0].size if value.ndim == 4 else len(value)
        if close:
            deviation = scale
        elif any(0.9 < deviation / (gain / inputs) ** 0.5 < 1.1 for gain in (1, 2)):
            deviation = BY_INPUTS
        elif 0.8 < deviation < 1.25:
            deviation = 1.0
        found[f"standard deviation of {name}"] = np.asarray(deviation)
        other, later = (values.get(name) if isinstance(values, dict) else None for values in (again, after_again))
        fault = _fault(value, other, seen)
        if not fault and isinstance(later, ndarray) and not np.array_equal(value, later, equal_nan=True):
            fault = SHARED
        found[f"numbers of {name}"] = np.asarray(fault)
        seen.append(value.ravel())
    return found


def _fault(value: ndarray, again: Any, seen: Sequence[ndarray]) -> float:
    """What is wrong with the numbers of a weight, or 0; `again` is the weight of a second network."""
    flat = value.ravel()
    if len(np.unique(flat)) < 0.9 * flat.size:
        return ALIKE
    if any(np.allclose(flat[: other.size], other[: flat.size], rtol=1e-3, atol=0) for other in seen):
        return COPIED
    return SEEDED if isinstance(again, ndarray) and np.array_equal(value, again) else 0.0


def _up_to_end(captions: Any, case: Case) -> Any:
    """Captions with <NULL> after the first <END>: the sheet leaves open which words follow it.

    If the array is shorter than ours because all of its captions have ended, it is filled up with <NULL>.
    """
    if not isinstance(captions, ndarray) or captions.ndim != 2 or captions.dtype.kind not in "iuf":
        return captions
    words, (count, length) = case.inputs[0]["word_to_idx"], case.right["captions"].shape
    if captions.shape[0] == count and captions.shape[1] < length and (captions == words["<END>"]).any(axis=1).all():
        filling = np.full((count, length - captions.shape[1]), words["<NULL>"], captions.dtype)
        captions = np.concatenate([captions, filling], axis=1)
    ended = np.cumsum(captions == words["<END>"], axis=1) - (captions == words["<END>"]) > 0
    return np.where(ended, words["<NULL>"], captions)


SOFTMAX_INIT = Network(SoftmaxClassifier, "__init__", model_draws.draw_softmax_init, has_dtype=False)
SOFTMAX_LOSS = Network(SoftmaxClassifier, "loss", model_draws.draw_softmax_loss, has_dtype=False)
CNN_INIT = Network(ConvNet, "__init__", model_draws.draw_cnn_init)
CNN_LOSS = Network(ConvNet, "loss", model_draws.draw_cnn_loss)
CAPTION_LOSS, LSTM_LOSS = (
    Network(CaptioningRNN, "loss", partial(model_draws.draw_caption_loss, cell=cell)) for cell in ("rnn", "lstm")
)
CAPTION_SAMPLE, LSTM_SAMPLE = (
    Network(CaptioningRNN, "sample", partial(model_draws.draw_caption_sample, cell=cell)) for cell in ("rnn", "lstm")
)
