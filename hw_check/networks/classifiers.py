"""Judges classifiers of convolutions and affine layers, and recognizes typical mistakes by their outputs."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy import ndarray
from numpy.random import Generator
from torch import Tensor

from hw_check.networks.checks import Finding, Probe
from hw_check.networks.observed import (
    LOG_PROBABILITIES,
    Answer,
    Layer,
    a_run,
    explained,
    fitted,
    gradients,
    judged,
    layers_of,
    observation,
    output,
    same,
    weights_of,
)  # fmt: skip
from hw_check.networks.plans import ENDINGS, Classifier, Design, Plan, computed

_PADDINGS, _STRIDES = (0, 1, 2, 3), (1, 2)
_ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh, "sigmoid": torch.sigmoid, "leaky ReLU": F.leaky_relu, "GELU": F.gelu,
}  # fmt: skip


def classifier_probes(what: Classifier, rng: Generator) -> list[Probe]:
    """The probes of one network: layers, outputs, dropout and gradients."""
    array = what.images(rng)
    images, forms, seed = torch.from_numpy(array), what.forms(array), int(rng.integers(2**31))
    options = {name: value for name, value in what.options.items() if "dropout" not in name}
    probabilities = [name for name in what.options if "dropout" in name]
    with_dropout = {**options, **dict.fromkeys(probabilities, 1.0)}
    plain, once = a_run(*forms), a_run(*forms, mode="train", seed=2)
    request = observation(
        seed, [plain, {**plain, "seed": 1}], options=dict(what.options), arguments=list(what.arguments)
    )
    gradient = {**request, "runs": [a_run(*forms, gradient=True)]}
    request = gradient if what.is_slow else request
    layers = {**request, "runs": [], "lazy": plain}  # alone, so that they are judged even if forward raises an error
    train = {**request, "options": with_dropout, "dropout": 1.0, "runs": [plain, once, {**once, "seed": 3}]}
    if probabilities and what.arguments:
        train["arguments"] = [1.0, *what.arguments[1:]]

    def outputs(answer: Answer) -> Finding:
        return _judge_outputs(what, answer, images)

    probes = [
        Probe("layers", layers, judged(lambda answer: _wrong_layers(what, layers_of(answer), answer)), 0.4),
        Probe("outputs with the same weights as ours", request, outputs, 0.4),
        Probe("gradients", gradient, gradients, 0.1 if what.dropout is not None else 0.2),
    ]
    if what.dropout is not None:
        probes.append(Probe("dropout", train, lambda answer: _judge_dropout(what, answer, images), 0.1))
    return probes


def _wrong_layers(what: Classifier, layers: Sequence[Layer], answer: Answer) -> str:
    """Describes the layers whose weights differ from what the sheet asks for; empty if none do."""
    design, layers = what.arrange(layers)
    rights, titles = design.shapes, design.titles
    shapes = [tuple(layer.weight.shape) for layer in layers]
    kinds, expected = ([sum(len(shape) == axes for shape in found) for axes in (4, 2)] for found in (shapes, rights))
    if not shapes:
        return "has no layers with weights: the constructor must make them"
    if kinds != expected:
        return f"has {kinds[0]} convolutions and {kinds[1]} affine layers, expected {expected[0]} and {expected[1]}"
    texts = [
        f"the {title} has weights of shape {shape}, expected {right}"
        for title, shape, right in zip(titles, shapes, rights, strict=True)
        if shape != right
    ]
    if texts:
        return "; ".join(texts[:2])
    bare = [title for title, layer in zip(titles, layers, strict=True) if layer.bias is None]
    if bare:
        return f"the {bare[0]} has no bias"
    count = sum(layer.weight.numel() + (0 if layer.bias is None else layer.bias.numel()) for layer in layers)
    more = sum(weight.numbers.numel() for weight in weights_of(answer)) - count
    return f"has {more} more parameters than expected: are there layers that are not asked for?" if more else ""


def _judge_outputs(what: Classifier, answer: Answer, images: Tensor) -> Finding:
    first, second = output(answer, 0), output(answer, -1)
    if not answer["kept"]:
        return Finding("forward changes the parameters")
    design, layers = what.arrange(layers_of(answer))
    model = design.ours().eval()
    with torch.no_grad():
        right = model(images) if fitted(model, weights_of(answer, flat_biases=True)) else None
        if right is not None and same(first, right):
            return Finding(remark=design.remark)
        unusual = dict(_right_outputs(what, design, layers, images, is_fitted=right is not None))
        remark = next((text for text, other in unusual.items() if same(first, other)), None)
        if remark is not None:
            return Finding(remark=remark)
        is_finite = isinstance(first, ndarray) and bool(np.isfinite(first).all())
        if is_finite and not same(second, first):
            return Finding("two runs in eval mode differ: dropout is active there, too")
        mistake = explained(first, right, _wrong_outputs(what, layers, images))
    return Finding(mistake or "not compared with ours, because its layers differ")


def _right_outputs(
    what: Classifier, design: Design, layers: Sequence[Layer], images: Tensor, is_fitted: bool
) -> Iterator[tuple[str, Tensor]]:
    """Yields outputs that cost nothing, each with a remark."""
    plan = design.plan
    if what.or_log_probabilities:
        yield LOG_PROBABILITIES, _safely(_with(plan, ending="log"), layers, images)
    yield from _equivalent_outputs(plan, layers, images)
    if not is_fitted:  # wrong sizes of layers cost points already; these mistakes may be the reason
        for text, changes in _changed_convolutions(design):
            yield text, _safely(_with(plan, **changes), layers, images)
        yield "", _safely(plan, layers, images)


def _equivalent_outputs(plan: Plan, layers: Sequence[Layer], images: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Yields outputs of networks that can learn the same as ours, because only the order of some weights differs."""
    yield "flattens the maps with the channels last", _safely(_with(plan, channels_last=True), layers, images)
    yield "reads the images with rows and columns swapped", _safely(plan, layers, images.transpose(2, 3))


def _safely(plan: Plan, layers: Sequence[Layer], images: Tensor) -> Tensor:
    try:
        return computed(plan, layers, images)
    except RuntimeError:
        return images.new_empty(0)


def _wrong_outputs(what: Classifier, layers: Sequence[Layer], images: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Yields typical mistakes and the outputs that they give with the student's weights."""
    design, layers = what.arrange(layers)
    plan = design.plan
    if sum(layer.weight.ndim == 4 for layer in layers) != len(plan.paddings):
        return
    for text, turned in what.wrong_images.items():
        yield text, _safely(plan, layers, turned(images))
    for text, changes in itertools.chain(_changed_functions(design), _changed_convolutions(design)):
        yield text, _safely(_with(plan, **changes), layers, images)


def _changed_functions(design: Design) -> Iterator[tuple[str, dict[str, Any]]]:
    """Mistakes at the output, in the activation functions and in the pooling, as changes of a plan."""
    for ending, (text, _) in ENDINGS.items():
        if ending != design.plan.ending:
            yield text, {"ending": ending}
    yield "the activation functions are missing, expected ReLU", {"activation": lambda x: x}
    for i, title in enumerate(design.titles[:-1]):
        yield f"the ReLU after the {title} is missing", {"without_relu": i}
    for name, activation in _ACTIVATIONS.items():
        yield f"the activation function is {name}, expected ReLU", {"activation": activation}
    yield "average pooling, expected max-pooling", {"average": True}


def _changed_convolutions(design: Design) -> Iterator[tuple[str, dict[str, Any]]]:
    """Mistakes in the paddings, strides and pooling of the convolutions, as changes of a plan."""
    plan = design.plan
    for i in range(len(plan.paddings)):
        for padding in {*_PADDINGS} - {plan.paddings[i]}:
            yield _has(design, i, "padding", padding, plan.paddings), {"paddings": _put(plan.paddings, i, padding)}
        for stride in {*_STRIDES} - {plan.strides[i]}:
            yield _has(design, i, "stride", stride, plan.strides), {"strides": _put(plan.strides, i, stride)}
        lacks = "lacks" if plan.pools[i] else "is followed by"
        yield f"the {design.titles[i]} {lacks} max-pooling", {"pools": _put(plan.pools, i, not plan.pools[i])}
    for strides in itertools.product(_STRIDES, repeat=len(plan.strides)):
        if strides != plan.strides:
            yield f"the strides are {strides}, expected {plan.strides}", {"strides": strides}
    for paddings in itertools.product(_PADDINGS[:3], repeat=len(plan.paddings)):
        if paddings != plan.paddings:
            yield f"the paddings are {paddings}, expected {plan.paddings}", {"paddings": paddings}


def _has(design: Design, i: int, name: str, value: int, right: Sequence[int]) -> str:
    return f"the {design.titles[i]} has {name} {value}, expected {right[i]}"


def _put(values: tuple[Any, ...], place: int, value: Any) -> tuple[Any, ...]:
    return (*values[:place], value, *values[place + 1 :])


def _judge_dropout(what: Classifier, answer: Answer, images: Tensor) -> Finding:
    """Judges the network with dropout of probability 1 in training mode, which sets the input of one layer to 0."""
    evaluated, first, second = (output(answer, number) for number in range(3))
    design, layers = what.arrange(layers_of(answer))
    plan = design.plan
    ending = next((e for e in ENDINGS if same(evaluated, _safely(_with(plan, ending=e), layers, images))), plan.ending)
    if answer["dropouts"] and max(answer["dropouts"]) == 0:
        return Finding("dropout gets 1 - p, where p is the probability of dropping: nothing is dropped for p = 1")
    # A class may give the probability any name except those of the other options.
    has_argument = any("dropout" in name or name not in what.options for name in map(str, answer["taken"]))
    no_argument = "the class has no argument for the probability of dropout"
    hard_coded, remark = [p for p in answer["dropouts"] if p != 1.0], ""
    if hard_coded:
        ignored = f"ignores its argument: dropout always has the probability {hard_coded[0]:g}"
        remark = ignored if has_argument else f"{no_argument}, which is {hard_coded[0]:g}"

    def zero(place: int) -> Tensor:
        return _safely(_with(plan, ending=ending, zero=place), layers, images)

    assert what.dropout is not None
    if same(first, zero(what.dropout)):
        return Finding(remark=remark)
    if not isinstance(first, ndarray) or not np.isfinite(first).all():
        return Finding()  # the outputs cost points in another probe
    if np.array_equal(first, evaluated):
        return Finding("dropout has no effect in training mode")
    titles = design.titles[len(plan.paddings) :]
    for place in range(plan.linear + 1):
        if same(first, zero(place)):
            where = f"after the {titles[place - 1]}" if place else "before the affine transformations"
            return Finding(f"dropout comes {where}, expected after the {titles[what.dropout - 1]}")
    if not np.array_equal(first, second):
        return Finding(remark="dropout does not depend on the argument of the class" if has_argument else no_argument)
    return Finding()


def _with(plan: Plan, **changes: Any) -> Plan:
    return dataclasses.replace(plan, **changes)
