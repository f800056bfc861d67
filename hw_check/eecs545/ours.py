"""Our layers for a student's networks. The student's process sends arguments, and gets numbers back (see inside.py)."""

from types import MappingProxyType
from typing import Any

import numpy as np
from numpy import ndarray

from hw_check.eecs545 import layer_cases, rnn_cases
from hw_check.eecs545.cases import Layer
from hw_check.sandbox import Ours

_LAYERS: dict[str, tuple[Layer, ...]] = {"layers": layer_cases.LAYERS, "rnn_layers": rnn_cases.LAYERS}
_LARGEST, _LARGEST_PRODUCT = 2**14, 2**24
"""Largest size of an argument, in elements; largest product of two such sizes, which limits the work of a call."""


def _signatures() -> dict[str, dict[str, Any]]:
    """For every module and function, the names of its arguments, and whether it returns a cache."""
    modules: dict[str, dict[str, Any]] = {}
    for module, layers in _LAYERS.items():
        found = modules.setdefault(module, {})
        for layer in layers:
            found[layer.forward] = [list(layer.inputs), layer.backward is not None]
            if layer.backward:
                found[layer.backward] = [[*(f"d{name}" for name in layer.outputs), "cache"], False]
    return modules


def _compute(name: str, arguments: list[Any]) -> Any:
    """The outputs of a forward function without the cache, or the gradients of a backward function.

    In place of a cache, the forward function's arguments are given.
    """
    module, _, function = name.partition(".")
    for layer in _LAYERS.get(module, ()):
        if function in (layer.forward, layer.backward):
            break
    else:
        raise ValueError(f"there is no function {name}")
    douts: list[Any] = []
    if function == layer.backward:
        *douts, cache = arguments
        arguments = cache if isinstance(cache, list) and len(layer.inputs) > 1 else [cache]
    sizes = sorted(value.size for value in [*arguments, *douts] if isinstance(value, ndarray))
    if sizes and (sizes[-1] > _LARGEST or np.prod(sizes[-2:], dtype=float) > _LARGEST_PRODUCT):
        raise ValueError("the arrays are larger than the check allows")
    returned = getattr(layer.module, layer.forward)(*map(_plain, arguments))
    if douts:
        assert layer.backward
        result = getattr(layer.module, layer.backward)(*douts, returned[-1])
        return list(result) if isinstance(result, tuple) else result
    if layer.backward is None:
        return [np.asarray(value) for value in returned]
    return returned[0] if len(returned) == 2 else list(returned[:-1])


def _plain(value: Any) -> Any:
    """The values of pool_param as whole numbers; other arguments unchanged."""
    return {key: int(number) for key, number in value.items()} if isinstance(value, dict) else value


OURS = Ours(MappingProxyType(_signatures()), _compute)
