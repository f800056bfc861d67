"""Guesses at the mistake that explains wrong numbers (see hints.py), for the three networks."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy import ndarray

from hw_check.eecs545.hints import Guess, known
from hw_check.eecs545.model_cases import ALIKE, BY_INPUTS, COPIED, SEEDED, SHARED
from hw_numpy import layers, rnn_layers
from hw_numpy.rnn import CaptioningRNN

Values = Mapping[str, ndarray]
_NO_FEATURES = "the features do not reach the first hidden state"
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
    for divisor in (255, 256):
        yield from _guesses(f"the input is divided by {divisor}", names, _classifier, params, x / divisor, y)
    scores = _classifier(params, x, y)["scores"]
    shifted = np.exp(scores - scores.max(axis=1, keepdims=True))
    probabilities = shifted / shifted.sum(axis=1, keepdims=True)
    yield "scores", "probabilities: without labels, loss returns the scores before the softmax", known(probabilities)
    yield "scores", "logarithms of probabilities, expected the scores before the softmax", known(np.log(probabilities))


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


def _captioned(
    options: Mapping[str, Any], params: Values, features: ndarray, words_in: ndarray, words_out: ndarray, mask: ndarray,
    rectified: bool = False,
) -> Values:  # fmt: skip
    """Loss and gradients for any input words, right words and mask; if `rectified`, with a ReLU on the first state."""
    p, cell = params, options["cell_type"]
    forward, backward = (getattr(rnn_layers, f"{cell}_{way}") for way in ("forward", "backward"))
    h0, fc_cache = layers.fc_forward(features, p["W_proj"], p["b_proj"])
    vectors, embedding_cache = rnn_layers.word_embedding_forward(words_in.T, p["W_embed"])
    h, rnn_cache = forward(vectors, np.maximum(h0, 0) if rectified else h0, p["Wx"], p["Wh"], p["b"])
    scores, vocab_cache = rnn_layers.temporal_fc_forward(h.transpose(1, 0, 2), p["W_vocab"], p["b_vocab"])
    loss, dscores = rnn_layers.temporal_softmax_loss(scores, words_out, mask)
    g: dict[str, ndarray] = {}
    dh, g["W_vocab"], g["b_vocab"] = rnn_layers.temporal_fc_backward(dscores, vocab_cache)
    dvectors, dh0, g["Wx"], g["Wh"], g["b"] = backward(dh.transpose(1, 0, 2), rnn_cache)
    g["W_embed"] = rnn_layers.word_embedding_backward(dvectors, embedding_cache)
    _, g["W_proj"], g["b_proj"] = layers.fc_backward(dh0, fc_cache)
    return _outputs(loss, g)


def _caption_loss(options: Mapping[str, Any], params: Values, features: ndarray, captions: ndarray) -> Iterator[Guess]:
    first, last, null = captions[:, :-1], captions[:, 1:], options["word_to_idx"]["<NULL>"]
    names = ["loss", *(f"gradient of {name}" for name in params)]

    def run(text: str, p: Values, *words: ndarray, rectified: bool = False) -> Iterator[Guess]:
        return _guesses(text, names, _captioned, options, p, features, *words, rectified)

    mask = last != null
    yield from run("the mask is ignored: <NULL> must not count", params, first, last, np.ones(last.shape, bool))
    yield from run(
        "the mask is made from the input words, expected from the right words", params, first, last, first != null
    )
    yield from run("the mask is inverted: it keeps only <NULL>", params, first, last, ~mask)
    yield from run("input words and right words are exchanged", params, last, first, first != null)
    text = "the right words are the input words, expected the words after them"
    yield from run(text, params, first, first, mask)
    yield from run(text, params, first, first, first != null)
    yield from run("a ReLU is applied to the first hidden state", params, first, last, mask, rectified=True)
    for name in ("b_proj", "b_vocab", "b"):
        yield from run(f"{name} is not added", _without(params, name), first, last, mask)
    yield from run(_NO_FEATURES, _without(params, "W_proj", "b_proj"), first, last, mask)


def _caption_sample(options: Mapping[str, Any], params: Values, features: ndarray, max_length: int) -> Iterator[Guess]:
    words = options["word_to_idx"]

    def run(params: Values, start: str = "<START>") -> ndarray:
        model = _captioner(options, params)
        model._start = words[start]
        return model.sample(features, max_length)

    def after_start() -> ndarray:
        return np.concatenate([np.full((len(features), 1), words["<START>"]), run(params)[:, :-1]], axis=1)

    yield "captions", "the first word is <START>: expected the first sampled word", after_start
    yield "captions", "begins with <NULL>: expected <START> as the first input word", lambda: run(params, "<NULL>")
    text = "every input word is <START>: expected the word sampled last"
    only_start = np.tile(params["W_embed"][words["<START>"]], (len(params["W_embed"]), 1))
    yield "captions", text, lambda: run({**params, "W_embed": only_start})
    for name in ("b_proj", "b_vocab", "b"):
        yield "captions", f"{name} is not added", partial(run, _without(params, name))
    yield "captions", _NO_FEATURES, lambda: run(_without(params, "W_proj", "b_proj"))
    opposite = {**params, "W_vocab": -params["W_vocab"], "b_vocab": -params["b_vocab"]}
    yield "captions", "the word with the lowest score is chosen, expected the highest", lambda: run(opposite)
    if options["cell_type"] == "rnn":
        text = "the hidden state is not passed on: every step begins with the first one"
        yield "captions", text, lambda: _sampled_from_first(options, params, features, max_length)


def _sampled_from_first(options: Mapping[str, Any], params: Values, features: ndarray, max_length: int) -> ndarray:
    """Captions filled up with <NULL>; each word is sampled from the first hidden state and the previous word."""
    p, words = params, options["word_to_idx"]
    captions = np.full((len(features), max_length), words["<NULL>"])
    h0 = features @ p["W_proj"] + p["b_proj"]
    word, going = np.full(len(features), words["<START>"]), np.ones(len(features), bool)
    for t in range(max_length):
        h = np.tanh(p["W_embed"][word] @ p["Wx"] + h0 @ p["Wh"] + p["b"])
        word = (h @ p["W_vocab"] + p["b_vocab"]).argmax(axis=1)
        captions[going, t] = word[going]
        going &= word != words["<END>"]
    return captions


def _init(options: Mapping[str, Any]) -> Iterator[Guess]:
    for name in ("W1", "W2", "W3"):
        for fault, text in (
            (ALIKE, "many numbers are equal: every weight needs a random number of its own"),
            (COPIED, "the same numbers as in another weight: the generator is seeded again in __init__"),
            (SEEDED, "every network gets the same numbers: the generator is seeded in __init__"),
            (SHARED, "a second network overwrites them: params must belong to one network, not to the class"),
        ):
            yield f"numbers of {name}", text, known(np.asarray(fault))
        text = "the weights are not multiplied by weight_scale"
        yield f"standard deviation of {name}", text, known(np.asarray(1.0))
        text = "1/√inputs or √(2/inputs), expected weight_scale"
        yield f"standard deviation of {name}", text, known(np.asarray(BY_INPUTS))


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
