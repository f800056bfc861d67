"""Test cases for the networks of softmax.py, cnn.py and rnn.py (eecs545-w20-hw4 Q2b, Q3b and Q4c)."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy import ndarray
from numpy.random import Generator

from hw_check.cases import STEP, Case, Directions, as_type, describe_type
from hw_check.process import Job
from hw_numpy.cnn import ConvNet
from hw_numpy.rnn import CaptioningRNN
from hw_numpy.softmax import SoftmaxClassifier

_GRADIENT = "gradient of "
_WORDS = ("<NULL>", "<START>", "<END>", "a", "red", "boat", "on", "the", "sea")
Drawn = tuple[str, bool, dict[str, Any], tuple[Any, ...]]
"""Title of a case, whether it is basic, options of the class, and arguments of the method."""


@dataclass(frozen=True)
class Network:
    """One method of a network's class; draws the cases for it."""

    ours: type  # our class, which gives the right answers
    method: str  # "__init__", "loss" or "sample"
    draw: Callable[[Generator], Iterator[Drawn]]  # draws the cases from a random generator
    has_dtype: bool = True  # whether the class has an argument dtype; a class without one computes in float64

    def job(self, name: str, cases: Sequence[Case]) -> Job:
        """The request to run `cases` on the function `name`."""
        request = {
            "class": self.ours.__name__,
            "needs": [self.ours.__name__],
            "replace": [],
            "cases": [dict(case.request) for case in cases],
        }
        return Job(name, request)

    def cases(self, name: str, rng: Generator) -> list[Case]:
        """The cases for the function `name`, drawn from `rng`."""
        make = self._initial_case if self.method == "__init__" else self._case
        return [make(rng, *drawn) for drawn in self.draw(rng)]

    def read(self, answer: Mapping[str, Any], case: Case) -> dict[str, Any] | str:
        """The values in the child's answer by name; if the answer has the wrong form, a message that says so."""
        params, returned = answer.get("params"), answer.get("returned")
        if not isinstance(params, dict) or not isinstance(returned, list):
            return f"params is {describe_type(params)}, expected a dictionary of arrays"
        if self.method == "__init__":
            return _statistics(params, case)
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

    def _case(
        self, rng: Generator, title: str, basic: bool, options: dict[str, Any], given: tuple[Any, ...]
    ) -> Case:  # fmt: skip
        dtype = options.get("dtype", "float64")
        exact = [as_type(value, "float64") for value in given]
        model = self._model({**options, "dtype": "float64"})
        while True:
            params = {name: _parameter(rng, value.shape, dtype) for name, value in model.params.items()}
            model.params = {name: as_type(value, "float64") for name, value in params.items()}
            if self.method != "sample" or _is_varied(model.sample(*exact)):
                break
        calls: list[Any] = [[self.method, list(given)]]
        directions, moved = Directions(), list[Any]()
        if self.method == "sample":
            right = {"captions": model.sample(*exact)}
        else:
            loss, gradients = model.loss(*exact)
            right = {"loss": np.asarray(loss), **{_GRADIENT + name: value for name, value in gradients.items()}}
            if self.ours is not CaptioningRNN:
                right = {"scores": model.loss(exact[0]), **right}
                calls.insert(0, ["loss", [given[0]]])
            if dtype == "float64":
                directions, moved = _move(params, rng)
        request = {"options": self._options(options), "params": params, "calls": calls, "moved": moved}
        sizes = {"N": len(given[0])} | ({"T": given[1].shape[1] - 1} if getattr(given[-1], "ndim", 0) == 2 else {})
        inputs = (options, params, *exact)
        return Case(title, basic, right, request, inputs, sizes, dtype, directions=directions)

    def _initial_case(
        self, rng: Generator, title: str, basic: bool, options: dict[str, Any], given: tuple[Any, ...]
    ) -> Case:  # fmt: skip
        model = self._model(options)
        right: dict[str, ndarray] = {"number of parameters": np.asarray(float(len(model.params)))}
        for name, value in model.params.items():
            right[name] = np.zeros(value.shape)
            if name.startswith("W"):
                right[f"mean of {name}"] = np.asarray(0.0)
                right[f"standard deviation of {name}"] = np.asarray(options["weight_scale"])
        request = {"options": self._options(options), "params": {}, "calls": [], "moved": []}
        return Case(title, basic, right, request, (options,), dtype=options.get("dtype", "float64"))

    def _options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options without dtype, if the class in the course's files has no such argument."""
        return {name: value for name, value in options.items() if name != "dtype" or self.has_dtype}

    def _model(self, options: Mapping[str, Any]) -> Any:
        """Our network with these options."""
        return self.ours(**{**options, "dtype": options.get("dtype", "float64"), "seed": 0})


def _parameter(rng: Generator, shape: tuple[int, ...], dtype: str) -> ndarray:
    return rng.normal(scale=max(0.5, shape[0] ** -0.5), size=shape).astype(dtype)


def _is_varied(captions: ndarray) -> bool:
    """Whether captions have at least min(4, length) different words, so that mistakes would change them."""
    return len(np.unique(captions)) >= min(captions.shape[1], 4)


def _move(params: Mapping[str, ndarray], rng: Generator) -> tuple[Directions, list[Any]]:
    """For each parameter: a random direction, and all parameters after a ±STEP move of this one along it."""
    directions, moved = [], []
    for name, value in params.items():
        direction = rng.normal(size=value.shape)
        directions.append((_GRADIENT + name, direction))
        moved.append([{**params, name: value + sign * STEP * direction} for sign in (1, -1)])
    return tuple(directions), moved


def _statistics(params: Mapping[str, Any], case: Case) -> dict[str, Any]:
    """Shapes, means and standard deviations of the weights; differences that chance explains are set to zero."""
    found: dict[str, Any] = {"number of parameters": np.asarray(float(len(params)))}
    for name, value in params.items():
        found[name] = value
        if not isinstance(value, ndarray) or not name.startswith("W") or not value.size:
            continue
        found[name] = value * value.dtype.type(0)  # zeros of this shape and type; NaN and infinity stay
        scale = float(case.right.get(f"standard deviation of {name}", np.asarray(1.0)))
        mean, deviation = float(value.mean()), float(value.std())
        found[f"mean of {name}"] = np.asarray(0.0 if abs(mean) < 0.3 * max(scale, deviation) else mean)
        close = 0.8 < deviation / scale < 1.25
        found[f"standard deviation of {name}"] = np.asarray(scale if close else deviation)
    return found


def _up_to_end(captions: Any, case: Case) -> Any:
    """Captions with <NULL> after the first <END>: the sheet leaves open which words follow it."""
    if not isinstance(captions, ndarray) or captions.ndim != 2:
        return captions
    words = case.inputs[0]["word_to_idx"]
    ended = np.cumsum(captions == words["<END>"], axis=1) - (captions == words["<END>"]) > 0
    return np.where(ended, words["<NULL>"], captions)


def _distinct(rng: Generator, count: int, low: int, high: int) -> list[int]:
    return rng.choice(np.arange(low, high + 1), count, replace=False).tolist()


def _draw_softmax_init(rng: Generator) -> Iterator[Drawn]:
    for scale in (1e-3, 0.1, 2.0):
        D, H, C = _distinct(rng, 3, 20, 60)
        options = {"input_dim": D, "hidden_dim": H, "num_classes": C, "weight_scale": scale}
        yield "random sizes and scales", True, options, ()


def _draw_softmax_loss(rng: Generator) -> Iterator[Drawn]:
    for title, count in (("random shapes", 0), ("random shapes", 0), ("batch of one", 1)):
        N, D, H, C = _distinct(rng, 4, 2, 8)
        options = {"input_dim": D, "hidden_dim": H, "num_classes": C, "weight_scale": 0.1}
        N = count or N
        yield title, not count, options, (rng.normal(size=(N, D)), rng.integers(0, C, N))


def _cnn_options(rng: Generator, dtype: str) -> dict[str, Any]:
    channels, filters, hidden, classes = _distinct(rng, 4, 2, 7)
    size = int(rng.integers(2, 5))
    # After the convolution, an even number of pixels is left to pool.
    height, width = (2 * side + size - 1 for side in _distinct(rng, 2, 2, 4))
    return {
        "input_dim": [channels, height, width], "num_filters": filters, "filter_size": size, "hidden_dim": hidden,
        "num_classes": classes, "weight_scale": 0.1, "dtype": dtype,
    }  # fmt: skip


def _draw_cnn_init(rng: Generator) -> Iterator[Drawn]:
    for title, scale, dtype in (
        ("random sizes and scales", 1e-3, "float64"),
        ("random sizes and scales", 0.3, "float64"),
        ("float32", 0.1, "float32"),
    ):
        larger = {"num_filters": int(rng.integers(8, 12)), "hidden_dim": int(rng.integers(30, 40))}
        options = {**_cnn_options(rng, dtype), **larger, "num_classes": 12, "weight_scale": scale}
        yield title, dtype == "float64", options, ()


def _draw_cnn_loss(rng: Generator) -> Iterator[Drawn]:
    for title, dtype, count in (
        ("random shapes", "float64", 0),
        ("random shapes", "float64", 0),
        ("batch of one", "float64", 1),
        ("float32", "float32", 0),
    ):
        options, N = _cnn_options(rng, dtype), count or int(rng.integers(2, 7))
        x = rng.normal(size=(N, *options["input_dim"])).astype(dtype)
        yield title, title == "random shapes", options, (x, rng.integers(0, options["num_classes"], N))


def _caption_options(rng: Generator, cell: str, dtype: str, *, shuffled: bool = False) -> dict[str, Any]:
    D, W, H = _distinct(rng, 3, 3, 8)
    first = int(rng.integers(1, len(_WORDS))) if shuffled else 0  # number of <NULL>
    numbers = {word: (first + number) % len(_WORDS) for number, word in enumerate(_WORDS)}
    return {
        "word_to_idx": numbers, "input_dim": D, "wordvec_dim": W, "hidden_dim": H, "cell_type": cell, "dtype": dtype
    }  # fmt: skip


def _captions(rng: Generator, words: Mapping[str, int], N: int, length: int) -> ndarray:
    """(N, length + 2) word numbers: <START>, up to `length` words, <END>, then <NULL>."""
    others = [number for word, number in words.items() if not word.startswith("<")]
    captions = np.full((N, length + 2), words["<NULL>"])
    captions[:, 0] = words["<START>"]
    for row, count in zip(captions, [length, *rng.integers(1, length + 1, N - 1)], strict=True):
        row[1 : count + 1] = rng.choice(others, count)
        row[count + 1] = words["<END>"]
    return captions


def _draw_caption_loss(rng: Generator, cell: str) -> Iterator[Drawn]:
    for title, N, length in (
        ("random shapes", 4, 5),
        ("random shapes", 3, 6),
        ("batch of one", 1, 4),
        ("captions of one word", 3, 1),
        ("other numbers for <NULL>, <START> and <END>", 4, 3),
        ("float32", 3, 4),
    ):
        dtype = "float32" if title == "float32" else "float64"
        options = _caption_options(rng, cell, dtype, shuffled=title.startswith("other"))
        features = rng.normal(size=(N, options["input_dim"])).astype(dtype)
        captions = _captions(rng, options["word_to_idx"], N, length)
        yield title, title == "random shapes", options, (features, captions)


def _draw_caption_sample(rng: Generator, cell: str) -> Iterator[Drawn]:
    for title, N, length in (
        ("random shapes", 6, 7),
        ("random shapes", 5, 9),
        ("batch of one", 1, 8),
        ("at most one word", 4, 1),
        ("other numbers for <NULL>, <START> and <END>", 6, 6),
    ):
        options = _caption_options(rng, cell, "float64", shuffled=title.startswith("other"))
        yield title, title == "random shapes", options, (rng.normal(size=(N, options["input_dim"])), length)


SOFTMAX_INIT = Network(SoftmaxClassifier, "__init__", _draw_softmax_init, has_dtype=False)
SOFTMAX_LOSS = Network(SoftmaxClassifier, "loss", _draw_softmax_loss, has_dtype=False)
CNN_INIT = Network(ConvNet, "__init__", _draw_cnn_init)
CNN_LOSS = Network(ConvNet, "loss", _draw_cnn_loss)
CAPTION_LOSS, LSTM_LOSS = (
    Network(CaptioningRNN, "loss", partial(_draw_caption_loss, cell=cell)) for cell in ("rnn", "lstm")
)
CAPTION_SAMPLE, LSTM_SAMPLE = (
    Network(CaptioningRNN, "sample", partial(_draw_caption_sample, cell=cell)) for cell in ("rnn", "lstm")
)
