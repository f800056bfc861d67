"""Interprets what was observed of a network: its layers, and networks of ours with the same weights."""

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor, nn

from hw_check.networks.checks import Finding
from hw_check.networks.observe import drawn

Answer = Mapping[str, Any]
LOG_PROBABILITIES = "returns log-probabilities; the loss for scores applies the softmax once more"
_MOST_NUMBERS = 2**25  # parameters; the sheets' networks have at most a million
_drawn = functools.lru_cache(maxsize=2)(drawn)  # several judges ask for the weights of one network
_TOLERANCE = 1e-4  # relative to the largest number; the outputs are in single precision


def same(value: Any, right: ndarray | Tensor) -> bool:
    """Whether an answer has the right numbers, up to rounding."""
    right = np.asarray(right.detach() if isinstance(right, Tensor) else right)
    if not isinstance(value, ndarray) or value.shape != right.shape or not np.isfinite(value).all():
        return False
    return bool(np.abs(value - right).max(initial=0) <= _TOLERANCE * max(1e-3, float(np.abs(right).max(initial=0))))


def observation(seed: int, runs: Sequence[Mapping[str, Any]], **more: Any) -> dict[str, Any]:
    """A request to `observe.py`: the network of `options` or `arguments`, with weights drawn from `seed`."""
    return {"probe": "observe", "seed": seed, "options": {}, "runs": list(runs), **more}


def a_run(*forms: Sequence[Any], mode: str = "eval", **more: Any) -> dict[str, Any]:
    """The request for a run of the network, on the first of the `forms` of inputs that the network accepts."""
    return {"mode": mode, "forms": [list(form) for form in forms], **more}


def output(answer: Answer, number: int = 0) -> Any:
    """The first output of a run."""
    return answer["runs"][number]["outputs"][0]


@dataclass(frozen=True)
class Layer:
    """A convolution or an affine transformation."""

    weight: Tensor
    bias: Tensor | None


@dataclass(frozen=True)
class Weight:
    """A parameter of the student's network."""

    numbers: Tensor
    of_norm: bool  # whether it belongs to a layer such as LayerNorm, whose parameters may have the shape of a bias

    @property
    def kind(self) -> tuple[bool, tuple[int, ...]]:
        """Whether it is of a norm layer, and its shape; its numbers fit only such parameters of ours."""
        return self.of_norm, tuple(self.numbers.shape)


def weights_of(answer: Answer, flat_biases: bool = False) -> list[Weight]:
    """All parameters of the student's network in their order.

    The projections of nn.MultiheadAttention, which are one matrix, become three. With `flat_biases`, parameters with
    a single axis longer than 1 become vectors: they are biases.
    """
    weights: list[Weight] = []
    shapes = tuple(tuple(map(int, shape)) for shape in answer["shapes"])
    if sum(math.prod(shape) for shape in shapes) > _MOST_NUMBERS:
        raise ValueError("too many parameters")
    for name, numbers, of_norm in zip(answer["names"], _drawn(shapes, answer["seed"]), answer["norms"], strict=True):
        tensor = torch.from_numpy(numbers)
        tensor = tensor.flatten() if flat_biases and max(tensor.shape, default=0) == tensor.numel() else tensor
        parts = tensor.chunk(3) if "in_proj_" in str(name) else (tensor,)
        weights += [Weight(part, bool(of_norm)) for part in parts]
    return weights


def layers_of(answer: Answer) -> list[Layer]:
    """The layers with weights, convolutions first; a vector after a weight is its bias if the sizes fit."""
    layers: list[Layer] = []
    weights = [weight.numbers for weight in weights_of(answer, flat_biases=True)]
    for weight, following in itertools.zip_longest(weights, weights[1:]):
        if weight.ndim in (2, 4):
            has_bias = following is not None and following.shape == weight.shape[:1]
            layers.append(Layer(weight, following if has_bias else None))
    return sorted(layers, key=lambda layer: layer.weight.ndim == 2)


def fitted(model: nn.Module, weights: Sequence[Weight], order: Sequence[str] = ()) -> bool:
    """Copies weights into the parameters of `model`, each into the next one of its kind; returns whether all fit.

    Args:
        model: our network.
        weights: the student's weights in the order of the student's layers.
        order: the first parts of the names of our parameters in the student's order; empty for our own order.
    """
    parameters = list(model.named_parameters())
    if order:
        parameters.sort(key=lambda item: order.index(item[0].partition(".")[0]))
    left = list(weights)
    with torch.no_grad():
        for name, parameter in parameters:
            owner = model.get_submodule(name.rpartition(".")[0])
            kind = (isinstance(owner, nn.LayerNorm), tuple(parameter.shape))
            place = next((i for i, weight in enumerate(left) if weight.kind == kind), None)
            if place is None:
                return False
            parameter.copy_(left.pop(place).numbers)
    return not left


def explained(value: Any, right: Tensor | None, guesses: Iterator[tuple[str, Tensor]]) -> str:
    """The mistake in an output, empty if it is right; `right` is None if no output is right with these layers."""
    if right is not None and same(value, right):
        return ""
    if not isinstance(value, ndarray):
        return f"returns {value}, expected a tensor"
    if value.size and not np.isfinite(value).all():
        return "returns NaN or infinity"
    found = next((text for text, guess in guesses if same(value, guess)), "")
    if found or right is None:
        return found
    if value.shape != tuple(right.shape):
        return f"returns shape {value.shape}, expected {tuple(right.shape)}"
    return "returns other numbers than expected"


def gradients(answer: Answer) -> Finding:
    """Judges whether all parameters get a gradient in the first run that asks for gradients."""
    if not answer["names"]:
        return Finding("has no parameters")
    without = next(one["without"] for one in answer["runs"] if "without" in one)
    names = ", ".join(str(name) for name in without[:3])
    return Finding(f"no gradient reaches {names}" if without else "")


def judged(judge: Callable[[Answer], str]) -> Callable[[Answer], Finding]:
    """Turns a judge that returns the mistake as text into one that returns a finding."""
    return lambda answer: Finding(judge(answer))
