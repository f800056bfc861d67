"""Guesses at the mistake that explains wrong numbers, for the networks in softmax.py, cnn.py and rnn.py (hints.py)."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy import ndarray

from hw_check.hints import Guess
from hw_numpy import layers
from hw_numpy.rnn import CaptioningRNN

Values = Mapping[str, ndarray]
_POOL = {"pool_height": 2, "pool_width": 2, "stride": 2}


def _guesses(text: str, network: Callable[[], Values], names: list[str]) -> Iterator[Guess]:
    """The guess `text` for each output of a network in `names`; `network` computes them all with the mistake."""

    def one(name: str) -> ndarray:
        return network()[name]

    for name in names:
        yield name, text, partial(one, name)


def _names(params: Values) -> list[str]:
    return ["scores", "loss", *(f"gradient of {name}" for name in params)]


def _softmax_loss(options: Mapping[str, Any], params: Values, x: ndarray, y: ndarray) -> Iterator[Guess]:
    names = _names(params)
    yield from _guesses("the ReLU is missing", lambda: _two_layers(params, x, y, relu=False), names)
    for name in ("b1", "b2"):
        without = {**params, name: np.zeros_like(params[name])}
        yield from _guesses(f"{name} is not added", partial(_two_layers, without, x, y), names)
    wrong = "the backward pass skips the ReLU"
    yield from _guesses(wrong, lambda: _two_layers(params, x, y, relu_back=False), names)


def _two_layers(params: Values, x: ndarray, y: ndarray, relu: bool = True, relu_back: bool = True) -> Values:
    hidden, first = layers.fc_forward(x, params["W1"], params["b1"])
    active, relu_cache = layers.relu_forward(hidden) if relu else (hidden, hidden)
    scores, second = layers.fc_forward(active, params["W2"], params["b2"])
    loss, dscores = layers.softmax_loss(scores, y)
    dactive, dW2, db2 = layers.fc_backward(dscores, second)
    dhidden = layers.relu_backward(dactive, relu_cache) if relu and relu_back else dactive
    _, dW1, db1 = layers.fc_backward(dhidden, first)
    gradients = {"W1": dW1, "b1": db1, "W2": dW2, "b2": db2}
    return {"scores": scores, "loss": np.asarray(loss), **{f"gradient of {n}": g for n, g in gradients.items()}}


def _cnn_loss(options: Mapping[str, Any], params: Values, x: ndarray, y: ndarray) -> Iterator[Guess]:
    names = _names(params)
    for flag, text in (
        ("relu1", "the ReLU after the convolution is missing"),
        ("relu2", "the ReLU after the first fully connected layer is missing"),
        ("relu1_back", "the backward pass skips the ReLU after the convolution"),
        ("relu2_back", "the backward pass skips the ReLU after the first fully connected layer"),
    ):
        yield from _guesses(text, partial(_three_layers, params, x, y, {flag}), names)
    for name in ("b2", "b3"):
        without = {**params, name: np.zeros_like(params[name])}
        yield from _guesses(f"{name} is not added", partial(_three_layers, without, x, y, set()), names)
    flipped = {**params, "W1": params["W1"][:, :, ::-1, ::-1]}
    yield from _guesses("the kernels are flipped", lambda: _three_layers(flipped, x, y, set()), names)


def _three_layers(params: Values, x: ndarray, y: ndarray, without: set[str]) -> Values:
    """ConvNet with the ReLUs in `without` left out: relu1, relu2; relu1_back, relu2_back in the backward pass only."""
    maps, conv = layers.conv_forward(x, params["W1"])
    active, relu1 = layers.relu_forward(maps) if "relu1" not in without else (maps, maps)
    pooled, pool = layers.max_pool_forward(active, _POOL)
    hidden, fc1 = layers.fc_forward(pooled, params["W2"], params["b2"])
    active, relu2 = layers.relu_forward(hidden) if "relu2" not in without else (hidden, hidden)
    scores, fc2 = layers.fc_forward(active, params["W3"], params["b3"])
    loss, dscores = layers.softmax_loss(scores, y)
    d, dW3, db3 = layers.fc_backward(dscores, fc2)
    if not without & {"relu2", "relu2_back"}:
        d = layers.relu_backward(d, relu2)
    d, dW2, db2 = layers.fc_backward(d, fc1)
    d = layers.max_pool_backward(d.reshape(pooled.shape), pool)
    if not without & {"relu1", "relu1_back"}:
        d = layers.relu_backward(d, relu1)
    gradients = {"W1": layers.conv_backward(d, conv)[1], "W2": dW2, "b2": db2, "W3": dW3, "b3": db3}
    return {"scores": scores, "loss": np.asarray(loss), **{f"gradient of {n}": g for n, g in gradients.items()}}


def _caption_loss(options: Mapping[str, Any], params: Values, features: ndarray, captions: ndarray) -> Iterator[Guess]:
    null = options["word_to_idx"]["<NULL>"]

    def run(changed: Values, null: int = null) -> Values:
        model = CaptioningRNN(**{**options, "dtype": "float64"})
        model.params, model._null = {**params, **changed}, null
        loss, gradients = model.loss(features, captions)
        return {"loss": np.asarray(loss), **{f"gradient of {name}": value for name, value in gradients.items()}}

    names = _names(params)[1:]
    yield from _guesses("the mask is ignored: <NULL> must not count", lambda: run({}, null=-1), names)
    for name in ("b_proj", "b_vocab", "b"):
        zeros = {name: np.zeros_like(params[name])}
        yield from _guesses(f"{name} is not added", partial(run, zeros), names)
    no_features = {name: np.zeros_like(params[name]) for name in ("W_proj", "b_proj")}
    yield from _guesses("the features do not reach the first hidden state", lambda: run(no_features), names)


def _caption_sample(options: Mapping[str, Any], params: Values, features: ndarray, max_length: int) -> Iterator[Guess]:
    words = options["word_to_idx"]

    def run(changed: Values, start: str = "<START>") -> ndarray:
        model = CaptioningRNN(**{**options, "dtype": "float64"})
        model.params, model._start = {**params, **changed}, words[start]
        return model.sample(features, max_length)

    def begun() -> ndarray:
        return np.concatenate([np.full((len(features), 1), words["<START>"]), run({})[:, :-1]], axis=1)

    yield "captions", "<START> stands first: expected the first sampled word", begun
    yield "captions", "begins with <NULL>: expected <START> as the first input word", lambda: run({}, "<NULL>")
    yield (
        "captions",
        "every input word is <START>: expected the word sampled last",
        lambda: run({"W_embed": np.tile(params["W_embed"][words["<START>"]], (len(params["W_embed"]), 1))}),
    )
    for name in ("b_proj", "b_vocab", "b"):
        zeros = {name: np.zeros_like(params[name])}
        yield "captions", f"{name} is not added", partial(run, zeros)


GUESSES: dict[str, Callable[..., Iterator[Guess]]] = {
    "SoftmaxClassifier.loss": _softmax_loss,
    "ConvNet.loss": _cnn_loss,
    "CaptioningRNN.loss": _caption_loss,
    "CaptioningRNN.sample": _caption_sample,
    "CaptioningRNN.loss (lstm)": _caption_loss,
    "CaptioningRNN.sample (lstm)": _caption_sample,
}
