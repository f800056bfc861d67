"""Networks of convolutions and affine layers: what a sheet asks for, and what networks with other settings compute."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from numpy import ndarray
from numpy.random import Generator
from torch import Tensor, nn

from hw_check.networks.observed import Layer

ENDINGS: Mapping[str, tuple[str, Callable[[Tensor], Tensor]]] = {
    "scores": ("returns scores: the LogSoftmax is missing", lambda x: x),
    "log": ("returns log-probabilities, expected scores", lambda x: x.log_softmax(dim=1)),
    "softmax": ("returns probabilities: a softmax", lambda x: x.softmax(dim=1)),
    "batch": ("the LogSoftmax runs over the batch, expected over the classes", lambda x: x.log_softmax(dim=0)),
    "softmax over the batch": ("a softmax over the batch", lambda x: x.softmax(dim=0)),
    "twice": ("a softmax comes before the LogSoftmax", lambda x: x.softmax(dim=1).log_softmax(dim=1)),
    "relu": ("a ReLU precedes the LogSoftmax", lambda x: x.relu().log_softmax(dim=1)),
    "relu alone": ("a ReLU is applied to the output", lambda x: x.relu()),
}


@dataclass(frozen=True)
class Plan:
    """A network: convolutions, each with ReLU and perhaps pooling, then affine layers with ReLU between them."""

    paddings: tuple[int, ...]
    strides: tuple[int, ...]
    pools: tuple[bool, ...]  # whether max-pooling of size 2 follows the convolution
    ending: str  # a key of ENDINGS
    linear: int  # the number of affine layers
    average: bool = False  # whether the pooling takes averages
    without_relu: int | None = None  # index of the layer whose ReLU is missing
    activation: Callable[[Tensor], Tensor] = F.relu
    channels_last: bool = False  # whether the maps are flattened with the channels last
    zero: int | None = None  # index of the affine layer whose input is 0; if it equals `linear`, the output is 0


def computed(plan: Plan, layers: Sequence[Layer], images: Tensor) -> Tensor:
    """The output of a planned network. Raises RuntimeError if the layers do not fit together."""
    x, count = images, len(plan.paddings)
    pool = F.avg_pool2d if plan.average else F.max_pool2d
    for i, layer in enumerate(layers[:count]):
        x = F.conv2d(x, layer.weight, layer.bias, plan.strides[i], plan.paddings[i])
        x = x if plan.without_relu == i else plan.activation(x)
        x = pool(x, 2) if plan.pools[i] else x
    x = (x.permute(0, 2, 3, 1) if plan.channels_last else x).flatten(1)
    for i, layer in enumerate(layers[count:]):
        x = F.linear(torch.zeros_like(x) if plan.zero == i else x, layer.weight, layer.bias)
        if i < plan.linear - 1 and plan.without_relu != count + i:
            x = plan.activation(x)
    x = torch.zeros_like(x) if plan.zero == plan.linear else x
    return ENDINGS[plan.ending][1](x)


@dataclass(frozen=True)
class Design:
    """A correct network."""

    plan: Plan
    ours: Callable[[], nn.Module]
    titles: tuple[str, ...]  # what the sheet calls the layers
    shapes: tuple[tuple[int, ...], ...]  # the shapes of the layers' weights
    remark: str = ""  # what is unusual about it


@dataclass(frozen=True)
class Classifier:
    """What a sheet asks for."""

    designs: tuple[Design, ...]  # the sheet's comes first
    options: Mapping[str, Any]  # arguments of the student's class
    images: Callable[[Generator], ndarray]
    forms: Callable[[ndarray], list[list[Any]]]  # the forms of the images that the student's forward may take
    dropout: int | None = None  # index of the affine layer whose input goes through dropout; None: there is no dropout
    arguments: tuple[Any, ...] = ()  # options by position, for a class with other names; the probability is first
    # Whether log-probabilities are as good as scores, because the loss applies the softmax once more without effect.
    or_log_probabilities: bool = False
    is_slow: bool = False  # whether all checks share one run, because the layers are slow loops over pixels
    # Maps each mistake in the order of the pixels, as text, to a function that makes this mistake with the images.
    wrong_images: Mapping[str, Callable[[Tensor], Tensor]] = field(default_factory=dict)

    def arrange(self, layers: Sequence[Layer]) -> tuple[Design, Sequence[Layer]]:
        """The design with these layers, and the layers in its order; or the sheet's design if none fits.

        A constructor may make the layers in another order than forward uses them, except for layers of the same shape.
        """
        for design in self.designs:
            if sorted(_shapes(layers)) == sorted(design.shapes):
                left = list(layers)
                return design, [left.pop(_shapes(left).index(shape)) for shape in design.shapes]
        return self.designs[0], layers


def _shapes(layers: Sequence[Layer]) -> list[tuple[int, ...]]:
    return [tuple(layer.weight.shape) for layer in layers]
