"""What the sheets with networks share: random weights, comparisons of outputs, and probes for classifiers."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy import ndarray
from numpy.random import Generator
from torch import Tensor, nn

from hw_check.networks.checks import Finding, Probe

LOG_PROBABILITIES = "returns log-probabilities, which fit nn.NLLLoss; nn.CrossEntropyLoss expects scores"
"""A remark for sheets that leave the loss, and with it the form of the output, to the student."""

_TOLERANCE = 1e-4  # relative to the largest number; the outputs are in single precision


def draw_weights(model: nn.Module, rng: Generator) -> dict[str, ndarray]:
    """Draws random parameters, copies them into `model` and returns them."""
    weights = {}
    for name, parameter in model.named_parameters():
        scale = max(parameter[0].numel(), 1) ** -0.5 if parameter.ndim > 1 else 0.3
        weights[name] = rng.normal(scale=1.5 * scale, size=parameter.shape).astype(np.float32)
        parameter.data = torch.from_numpy(weights[name].copy())
    return weights


def same(value: Any, right: ndarray | Tensor) -> bool:
    """Whether an answer has the right numbers, up to rounding."""
    right = np.asarray(right.detach() if isinstance(right, Tensor) else right)
    if not isinstance(value, ndarray) or value.shape != right.shape or not np.isfinite(value).all():
        return False
    return bool(np.abs(value - right).max(initial=0) <= _TOLERANCE * max(1e-3, float(np.abs(right).max(initial=0))))


def explain_output(value: Any, right: Tensor, guesses: Mapping[str, Tensor]) -> str:
    """The mistake in an output; empty if it is right."""
    if same(value, right):
        return ""
    if not isinstance(value, ndarray):
        return "does not return a tensor"
    if value.shape != tuple(right.shape):
        return f"returns shape {value.shape}, expected {tuple(right.shape)}"
    if not np.isfinite(value).all():
        return "returns NaN or infinity"
    return next((text for text, guess in guesses.items() if same(value, guess)), "returns other numbers than expected")


def shape_probes(request: Mapping[str, Any], layers: Mapping[str, Sequence[int]], cost: float) -> list[Probe]:
    """A probe for the weight of every layer; together they cost `cost`."""

    def probe(name: str, shape: Sequence[int]) -> Probe:
        def judge(answer: Mapping[str, Any]) -> Finding:
            found = [list(map(int, other)) for other in answer["shapes"]]
            if list(shape) in found:
                return Finding()
            like = [other for other in found if len(other) == len(shape) and other[0] == shape[0]]
            instead = f", but {tuple(like[0])}" if like else ""
            return Finding(f"the {name} needs weights of shape {tuple(shape)}; there are none{instead}")

        return Probe(name, request, judge, cost / len(layers))

    return [probe(name, shape) for name, shape in layers.items()]


def output_judge(
    right: Tensor, guesses: Mapping[str, Tensor], scores: Tensor | None
) -> Callable[[Mapping[str, Any]], Finding]:
    """Judges the first output in eval mode; where `scores` are expected, log-probabilities are right as well."""

    def judge(answer: Mapping[str, Any]) -> Finding:
        if not answer["loaded"]:
            return Finding("not compared with ours, because its parameters have other shapes")
        if not answer["kept"]:
            return Finding("forward changes the parameters")
        if scores is not None and same(answer["eval"][0], scores.log_softmax(dim=1)):
            return Finding(remark=LOG_PROBABILITIES)
        return Finding(explain_output(answer["eval"][0], right, guesses))

    return judge


def dropout_judge(answer: Mapping[str, Any]) -> Finding:
    """Judges whether dropout is active in training mode, and only there."""
    first, second = (run[0] for run in answer["train"])
    if np.array_equal(first, second):
        return Finding("dropout has no effect in training mode")
    return Finding()


def gradient_judge(answer: Mapping[str, Any]) -> Finding:
    """Judges whether every parameter gets a gradient."""
    if not answer["count"]:
        return Finding("the network has no parameters")
    without = [str(name) for name in answer["without"]]
    return Finding(f"{', '.join(without[:3])} gets no gradient" if without else "")


def classifier_probes(
    model: nn.Module,
    rng: Generator,
    options: Mapping[str, Any],
    inputs: Sequence[Sequence[ndarray]],
    layers: Mapping[str, Sequence[int]],
    guesses: Callable[[nn.Module, Tensor], Mapping[str, Tensor]],
    has_dropout: bool = True,
) -> list[Probe]:
    """Probes of a network of classes: its layers, its outputs with copied weights, dropout and gradients.

    Args:
        model: our network.
        rng: draws the weights.
        options: arguments for the student's class.
        inputs: the same images in every form that a student's forward may take; ours takes the last one.
        layers: shape of the weight of every layer, by what the sheet calls it.
        guesses: makes the outputs of typical mistakes from our network and the images.
        has_dropout: whether the sheet asks for dropout, and for log-probabilities.
    """
    weights = draw_weights(model.eval(), rng)
    images = torch.from_numpy(inputs[-1][0])
    with torch.no_grad():
        right, wrong = model(images), dict(guesses(model, images))
    request = {"probe": "forward", "options": options, "weights": weights, "inputs": [list(form) for form in inputs]}
    gradient = {**request, "probe": "gradient"}
    probes = [
        *shape_probes({"probe": "shapes", "options": options}, layers, 0.4),
        Probe("outputs with copied weights", request, output_judge(right, wrong, None if has_dropout else right), 0.4),
        Probe("gradients", gradient, gradient_judge, 0.1),
    ]
    return [*probes, Probe("dropout", request, dropout_judge, 0.1)] if has_dropout else probes
