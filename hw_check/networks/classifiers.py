"""Classifiers of convolutions and affine layers: what a sheet asks for, and the outputs of typical mistakes."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy import ndarray
from numpy.random import Generator
from torch import Tensor, nn

from hw_check.networks.checks import Finding, Probe
from hw_check.networks.judges import same
from hw_check.networks.observed import (
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
    weights_of,
)  # fmt: skip

_PADDINGS, _STRIDES = (0, 1, 2, 3), (1, 2)
_ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh, "sigmoid": torch.sigmoid, "leaky ReLU": F.leaky_relu, "GELU": F.gelu,
}  # fmt: skip
_ENDINGS: Mapping[str, tuple[str, Callable[[Tensor], Tensor]]] = {
    "scores": ("returns scores: the LogSoftmax is missing", lambda x: x),
    "log-probabilities": ("returns log-probabilities, expected scores", lambda x: x.log_softmax(dim=1)),
    "softmax": ("returns probabilities: a softmax", lambda x: x.softmax(dim=1)),
    "batch": ("the LogSoftmax runs over the batch, expected over the classes", lambda x: x.log_softmax(dim=0)),
    "softmax over the batch": ("a softmax over the batch", lambda x: x.softmax(dim=0)),
    "twice": ("a softmax stands before the LogSoftmax", lambda x: x.softmax(dim=1).log_softmax(dim=1)),
    "relu": ("a ReLU stands before the output", lambda x: x.relu().log_softmax(dim=1)),
    "relu alone": ("a ReLU stands on the output", lambda x: x.relu()),
}


@dataclass(frozen=True)
class Plan:
    """A network: convolutions, each with ReLU and perhaps pooling, then affine layers with ReLU between them."""

    paddings: tuple[int, ...]
    strides: tuple[int, ...]
    pools: tuple[bool, ...]  # whether max-pooling of size 2 follows the convolution
    ending: str  # a key of _ENDINGS
    linear: int  # the number of affine layers
    average: bool = False  # whether the pooling takes averages
    without_relu: int | None = None  # index of the layer whose ReLU is missing
    activation: Callable[[Tensor], Tensor] = F.relu
    zero: int | None = None  # index of the affine layer whose input is 0, as after dropout with probability 1


def computed(plan: Plan, layers: Sequence[Layer], images: Tensor) -> Tensor:
    """The output of a planned network. Raises RuntimeError if the layers do not fit together."""
    x, count = images, len(plan.paddings)
    pool = F.avg_pool2d if plan.average else F.max_pool2d
    for i, layer in enumerate(layers[:count]):
        x = F.conv2d(x, layer.weight, layer.bias, plan.strides[i], plan.paddings[i])
        x = x if plan.without_relu == i else plan.activation(x)
        x = pool(x, 2) if plan.pools[i] else x
    x = x.flatten(1)
    for i, layer in enumerate(layers[count:]):
        x = F.linear(torch.zeros_like(x) if plan.zero == i else x, layer.weight, layer.bias)
        if i < plan.linear - 1 and plan.without_relu != count + i:
            x = plan.activation(x)
    x = torch.zeros_like(x) if plan.zero == plan.linear else x
    return _ENDINGS[plan.ending][1](x)


@dataclass(frozen=True)
class Classifier:
    """What a sheet asks for."""

    plan: Plan
    ours: Callable[[], nn.Module]
    titles: tuple[str, ...]  # what the sheet calls the layers
    shapes: tuple[tuple[int, ...], ...]  # the shapes of their weights
    options: Mapping[str, Any]  # arguments of the student's class
    images: Callable[[Generator], ndarray]
    forms: Callable[[ndarray], list[list[Any]]]  # the forms of the images that the student's forward may take
    dropout: int | None = None  # index of the affine layer whose input goes through dropout; None: there is no dropout
    other_plans: tuple[tuple[str, Plan], ...] = ()  # other networks that are right, with a remark each
    arguments: tuple[Any, ...] = ()  # arguments by position, for a class that names them otherwise


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
    train = {**request, "options": with_dropout, "dropout": 1.0, "runs": [plain, once, {**once, "seed": 3}]}

    def outputs(answer: Answer) -> Finding:
        return _judge_outputs(what, answer, images)

    probes = [
        Probe("layers", request, judged(lambda answer: _wrong_layers(what, layers_of(answer), answer)), 0.4),
        Probe("outputs with the same weights as ours", request, outputs, 0.4),
        Probe("gradients", gradient, gradients, 0.1 if what.dropout is not None else 0.2),
    ]
    if what.dropout is not None:
        probes.append(Probe("dropout", train, lambda answer: _judge_dropout(what, answer, images), 0.1))
    return probes


def _wrong_layers(what: Classifier, layers: Sequence[Layer], answer: Answer) -> str:
    """The first layer that has other weights than the sheet asks for."""
    shapes = [tuple(layer.weight.shape) for layer in layers]
    kinds = [sum(len(shape) == axes for shape in shapes) for axes in (4, 2)]
    expected = [sum(len(shape) == axes for shape in what.shapes) for axes in (4, 2)]
    if kinds != expected:
        return (
            f"has {kinds[0]} convolutions and {kinds[1]} affine layers, expected {expected[0]} and {expected[1]}"
            if shapes
            else "has no parameters"
        )
    texts = []
    for title, shape, right in zip(what.titles, shapes, what.shapes, strict=True):
        if shape != right:
            texts.append(f"the {title} has weights of shape {shape}, expected {right}")
    if texts:
        return "; ".join(texts[:2])
    bare = [title for title, layer in zip(what.titles, layers, strict=True) if layer.bias is None]
    if bare:
        return f"the {bare[0]} has no bias"
    count = sum(layer.weight.numel() + (0 if layer.bias is None else layer.bias.numel()) for layer in layers)
    more = sum(weight.numbers.numel() for weight in weights_of(answer)) - count
    return f"has {more} parameters more than expected: are there layers that are not asked for?" if more else ""


def _judge_outputs(what: Classifier, answer: Answer, images: Tensor) -> Finding:
    first, second = output(answer, 0), output(answer, 1)
    if not answer["kept"]:
        return Finding("forward changes the parameters")
    model = what.ours().eval()
    with torch.no_grad():
        right = model(images) if fitted(model, weights_of(answer)) else None
        if right is not None and same(first, right):
            return Finding()
        layers = layers_of(answer)
        for remark, plan in what.other_plans:
            if same(first, _safely(plan, layers, images)):
                return Finding(remark=remark)
        if not same(second, torch.from_numpy(first) if isinstance(first, ndarray) else images):
            return Finding("two runs in eval mode differ: dropout is active there, too")
        mistake = explained(first, right, _wrong_outputs(what, layers, images))
    if not mistake and right is None and not _fits(what, layers, images, first):
        return Finding("not compared with ours, because its layers differ")
    return Finding(mistake)


def _safely(plan: Plan, layers: Sequence[Layer], images: Tensor) -> Tensor:
    try:
        return computed(plan, layers, images)
    except RuntimeError:
        return images.new_empty(0)


def _fits(what: Classifier, layers: Sequence[Layer], images: Tensor, value: Any) -> bool:
    """Whether the output is right except for the sizes of the layers, which are a mistake by themselves."""
    return same(value, _safely(what.plan, layers, images))


def _wrong_outputs(what: Classifier, layers: Sequence[Layer], images: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Yields typical mistakes and the outputs that they give with the student's weights."""
    plan = what.plan
    if sum(layer.weight.ndim == 4 for layer in layers) != len(plan.paddings):
        return

    def output_of(**changes: Any) -> Tensor:
        return _safely(dataclasses.replace(plan, **changes), layers, images)

    for ending, (text, _) in _ENDINGS.items():
        yield text, output_of(ending=ending)
    names = [*(f"after the {title}" for title in what.titles)]
    for i, name in enumerate(names[:-1]):
        yield f"the ReLU {name} is missing", output_of(without_relu=i)
    for name, activation in _ACTIVATIONS.items():
        yield f"the activation function is {name}, expected ReLU", output_of(activation=activation)
    yield "average pooling, expected max-pooling", output_of(average=True)
    convolutions = range(len(plan.paddings))
    for i, padding in itertools.product(convolutions, _PADDINGS):
        yield _has(what, i, "padding", padding, plan.paddings), output_of(paddings=_put(plan.paddings, i, padding))
    for i, stride in itertools.product(convolutions, _STRIDES):
        yield _has(what, i, "stride", stride, plan.strides), output_of(strides=_put(plan.strides, i, stride))
    for i in convolutions:
        lacks = "misses" if plan.pools[i] else "is followed by"
        text = f"the {what.titles[i]} {lacks} max-pooling"
        yield text, output_of(pools=_put(plan.pools, i, not plan.pools[i]))
    for paddings in itertools.product(_PADDINGS[:3], repeat=len(plan.paddings)):
        yield f"the paddings are {paddings}, expected {plan.paddings}", output_of(paddings=paddings)


def _has(what: Classifier, i: int, name: str, value: int, right: Sequence[int]) -> str:
    return f"the {what.titles[i]} has {name} {value}, expected {right[i]}"


def _put(values: tuple[Any, ...], place: int, value: Any) -> tuple[Any, ...]:
    return (*values[:place], value, *values[place + 1 :])


def _judge_dropout(what: Classifier, answer: Answer, images: Tensor) -> Finding:
    """Judges the network with dropout of probability 1 in training mode, which sets the input of one layer to 0."""
    evaluated, first, second = (output(answer, number) for number in range(3))
    layers = layers_of(answer)
    plan = next((p for p in (what.plan, *(p for _, p in what.other_plans))
                 if same(evaluated, _safely(p, layers, images))), what.plan)  # fmt: skip
    ending = next((e for e in _ENDINGS if same(evaluated, _safely(_with(plan, ending=e), layers, images))), plan.ending)
    hard_coded = [p for p in answer["dropouts"] if p != 1.0]
    remark = f"ignores its argument: dropout always has the probability {hard_coded[0]:g}" if hard_coded else ""

    def zero(place: int) -> Tensor:
        return _safely(_with(plan, ending=ending, zero=place), layers, images)

    assert what.dropout is not None
    if same(first, zero(what.dropout)):
        return Finding(remark=remark)
    if isinstance(first, ndarray) and np.array_equal(first, evaluated, equal_nan=True):
        return Finding("dropout has no effect in training mode")
    titles = what.titles[len(plan.paddings) :]
    for place in range(plan.linear + 1):
        if same(first, zero(place)):
            where = f"after the {titles[place - 1]}" if place else "before the affine transformations"
            return Finding(f"dropout stands {where}, expected after the {titles[what.dropout - 1]}")
    if isinstance(first, ndarray) and not np.array_equal(first, second, equal_nan=True):
        return Finding(remark="dropout does not depend on the argument of the class")
    return Finding()


def _with(plan: Plan, **changes: Any) -> Plan:
    return dataclasses.replace(plan, **changes)
