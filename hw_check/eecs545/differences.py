"""Compares the gradients of a backward function with centred differences of the student's own forward function.

A backward function can be the right derivative of the student's forward function even if that function is wrong.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy import ndarray

from hw_check.eecs545.cases import STEP
from hw_check.eecs545.compare import Result

_TOLERANCE = 1e-5


def right_for_own_forward(results: Sequence[Result], answers: Sequence[Mapping[str, Any]]) -> set[str]:
    """Names of the wrong gradients that are right derivatives of the student's own forward function.

    Gradients of arguments that the forward function does not use cannot be compared with anything. They are included if
    there are other wrong gradients and each of these is a derivative of the student's forward function.
    """
    moved = [(r, _errors(r, answer.get("moved"))) for r, answer in zip(results, answers, strict=True)]
    smooth = [(result, errors) for result, errors in moved if result.case.directions]
    wrong = {name for result in results for name in result.wrong}
    agreeing, unused = set(), set()
    for name in wrong:
        found = [errors.get(name, (1.0, False)) for _, errors in smooth]
        if found and max(error for error, _ in found) < _TOLERANCE and any(r.values[name].any() for r, _ in smooth):
            agreeing.add(name)
        elif found and all(is_unused for _, is_unused in found):
            unused.add(name)
    return wrong if agreeing and agreeing | unused == wrong else agreeing


def _errors(result: Result, moved: Any) -> dict[str, tuple[float, bool]]:
    """For each gradient: its error, and whether its argument has no effect on the forward function.

    The gradient's component along the direction, ⟨gradient, direction⟩, must equal (L(x + h·d) − L(x − h·d)) / 2h,
    where the loss L is the sum of all outputs, each multiplied by the gradient that the backward function got for it.
    """
    found: dict[str, tuple[float, bool]] = {}
    if not isinstance(moved, list) or len(moved) != len(result.case.directions):
        return found
    for (name, direction), ends in zip(result.case.directions, moved, strict=True):
        gradient, derivative = result.values.get(name), _derivative(ends, result.case.request["douts"])
        if derivative is None or gradient is None or gradient.shape != direction.shape:
            continue
        terms = gradient * direction
        scale = max(float(np.abs(terms).sum()), abs(derivative), 1e-3)
        found[name] = float(abs(terms.sum() - derivative) / scale), derivative == 0
    return found


def _derivative(ends: Any, weights: Sequence[ndarray]) -> float | None:
    """Centred difference of the loss from the outputs at both `ends`; None if their shapes are wrong."""
    if not isinstance(ends, list) or len(ends) != 2:
        return None
    total = 0.0
    for number, weight in enumerate(weights):
        above, below = (end[number] if isinstance(end, list) and len(end) > number else None for end in ends)
        if not isinstance(above, ndarray) or not isinstance(below, ndarray):
            return None
        if not above.shape == below.shape == weight.shape:
            return None
        total += float((weight * (above.astype(float) - below)).sum()) / (2 * STEP)
    return total if np.isfinite(total) else None
