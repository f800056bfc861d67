"""Guesses at the mistake that explains wrong numbers (see hints.py), for the three networks."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy import ndarray

from hw_check.eecs545.hints import Guess, known
from hw_check.eecs545.model_cases import ALIKE, COPIED, SEEDED
from hw_numpy import layers
from hw_numpy.rnn import CaptioningRNN

Values = Mapping[str, ndarray]
_POOL = {"pool_height": 2, "pool_width": 2, "stride": 2}


def _guesses(text: str, names: Sequence[str], compute: Callable[..., Values], *arguments: Any) -> Iterator[Guess]:
    """Yields the mistake `text` for each output in `names`. `compute` returns all outputs by name."""

    def one(name: str) -> ndarray:
        return compute(*arguments)[name]

    for name in names:
        yield name, text, partial(one, name)


def _outputs(loss: float, gradients: Values) -> dict[str, ndarray]:
    return {"loss": np.asarray(loss), **{f"gradient of {name}": value for name, value in gradients.items()}}


def _without(params: Values, *names: str) -> Values:
    """The parameters with zeros in place of those called `names`."""
    return {name: np.zeros_like(value) if name in names else value for name, value in params.items()}


def _classifier_loss(options: Mapping[str, Any], params: Values, x: ndarray, y: ndarray) -> Iterator[Guess]:
    names = ["scores", "loss", *(f"gradient of {name}" for name in params)]
    texts = {"hidden": "the ReLU"}
    if "W3" in params:
        texts = {"conv": "the ReLU after the convolution", "hidden": "the ReLU after the first fully connected layer"}
        flipped = {**params, "W1": params["W1"][:, :, ::-1, ::-1]}
        yield from _guesses("the kernels are flipped", names, _classifier, flipped, x, y)
    for relu, text in texts.items():
        yield from _guesses(f"{text} is missing", names, _classifier, params, x, y, relu)
        yield from _guesses(f"the backward pass skips {text}", names, _classifier, params, x, y, f"{relu}, backward")
    for name in params:
        if name.startswith("b"):
            yield from _guesses(f"{name} is not added", names, _classifier, _without(params, name), x, y)


def _classifier(params: Values, x: ndarray, y: ndarray, skipped: str = "") -> Values:
    """Scores, loss and gradients of SoftmaxClassifier or, if there is a W3, of ConvNet; without the ReLU `skipped`."""

    def relu(x: ndarray, name: str) -> tuple[ndarray, ndarray]:
        return layers.relu_forward(x) if skipped != name else (x, x)

    def relu_back(d: ndarray, cache: ndarray, name: str) -> ndarray:
        return d if skipped in (name, f"{name}, backward") else layers.relu_backward(d, cache)

    convolves, gradients = "W3" in params, {}
    first, second = "23" if convolves else "12"  # numbers of the fully connected layers' parameters
    if convolves:
        maps, conv_cache = layers.conv_forward(x, params["W1"])
        maps, conv_relu_cache = relu(maps, "conv")
        x, pool_cache = layers.max_pool_forward(maps, _POOL)
    hidden, fc1_cache = layers.fc_forward(x, params[f"W{first}"], params[f"b{first}"])
    hidden, relu_cache = relu(hidden, "hidden")
    scores, fc2_cache = layers.fc_forward(hidden, params[f"W{second}"], params[f"b{second}"])
    loss, dscores = layers.softmax_loss(scores, y)
    d, gradients[f"W{second}"], gradients[f"b{second}"] = layers.fc_backward(dscores, fc2_cache)
    d = relu_back(d, relu_cache, "hidden")
    d, gradients[f"W{first}"], gradients[f"b{first}"] = layers.fc_backward(d, fc1_cache)
    if convolves:
        d = relu_back(layers.max_pool_backward(d, pool_cache), conv_relu_cache, "conv")
        gradients["W1"] = layers.conv_backward_w(d, conv_cache)
    return {"scores": scores, **_outputs(loss, gradients)}


def _captioner(options: Mapping[str, Any], params: Values) -> CaptioningRNN:
    model = CaptioningRNN(**{**options, "dtype": "float64"})
    model.params = dict(params)
    return model


def _caption_loss(options: Mapping[str, Any], params: Values, features: ndarray, captions: ndarray) -> Iterator[Guess]:
    def run(params: Values, mask: bool = True) -> Values:
        model = _captioner(options, params)
        if not mask:
            model._null = -1
        return _outputs(*model.loss(features, captions))

    names = ["loss", *(f"gradient of {name}" for name in params)]
    yield from _guesses("the mask is ignored: <NULL> must not count", names, run, params, False)
    for name in ("b_proj", "b_vocab", "b"):
        yield from _guesses(f"{name} is not added", names, run, _without(params, name))
    text = "the features do not reach the first hidden state"
    yield from _guesses(text, names, run, _without(params, "W_proj", "b_proj"))


def _caption_sample(options: Mapping[str, Any], params: Values, features: ndarray, max_length: int) -> Iterator[Guess]:
    words = options["word_to_idx"]

    def run(params: Values, start: str = "<START>") -> ndarray:
        model = _captioner(options, params)
        model._start = words[start]
        return model.sample(features, max_length)

    def after_start() -> ndarray:
        return np.concatenate([np.full((len(features), 1), words["<START>"]), run(params)[:, :-1]], axis=1)

    yield "captions", "<START> stands first: expected the first sampled word", after_start
    yield "captions", "begins with <NULL>: expected <START> as the first input word", lambda: run(params, "<NULL>")
    text = "every input word is <START>: expected the word sampled last"
    only_start = np.tile(params["W_embed"][words["<START>"]], (len(params["W_embed"]), 1))
    yield "captions", text, lambda: run({**params, "W_embed": only_start})
    for name in ("b_proj", "b_vocab", "b"):
        yield "captions", f"{name} is not added", partial(run, _without(params, name))


def _init(options: Mapping[str, Any]) -> Iterator[Guess]:
    for name in ("W1", "W2", "W3"):
        for fault, text in (
            (ALIKE, "many numbers are equal: every weight needs a random number of its own"),
            (COPIED, "the same numbers as in another weight: the generator is seeded again in __init__"),
            (SEEDED, "every network gets the same numbers: the generator is seeded in __init__"),
        ):
            yield f"numbers of {name}", text, known(np.asarray(fault))
        text = "the weights are not multiplied by weight_scale"
        yield f"standard deviation of {name}", text, known(np.asarray(1.0))


GUESSES: dict[str, Callable[..., Iterator[Guess]]] = {
    "SoftmaxClassifier.__init__": _init,
    "ConvNet.__init__": _init,
    "SoftmaxClassifier.loss": _classifier_loss,
    "ConvNet.loss": _classifier_loss,
    "CaptioningRNN.loss": _caption_loss,
    "CaptioningRNN.sample": _caption_sample,
    "CaptioningRNN.loss (lstm)": _caption_loss,
    "CaptioningRNN.sample (lstm)": _caption_sample,
}
