"""Compares a student's answer to a case with the right answer and with centred differences of the student's function.

This happens in the checker's own process, where none of the student's code runs.
"""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy import ndarray

from hw_check import hints
from hw_check.cases import STEP, Case, describe_type
from hw_check.process import explain
from hw_check.sheet import Function

_DIFFERENCE_TOLERANCE = 1e-5


@dataclass
class Result:
    """The result of one case. If `problem` is set, the fields after `stub` are empty."""

    case: Case
    problem: str = ""  # the error that was raised, or a message that the answer has the wrong form
    stub: bool = False  # whether the function is not written yet
    right: Mapping[str, ndarray] = field(default_factory=dict)  # right answer by name, or the nearest of several
    values: dict[str, ndarray] = field(default_factory=dict)  # the student's arrays by name
    not_arrays: dict[str, str] = field(default_factory=dict)  # messages about values that are no arrays, by name
    # Largest error of each array, divided by the largest element of the right array.
    errors: dict[str, float] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)  # names of the wrong values
    wrong_type: list[str] = field(default_factory=list)  # names of the arrays whose type is not the inputs' type
    changed: list[str] = field(default_factory=list)  # names of the arguments that were changed in place
    # Error of each gradient against centred differences of the student's forward function.
    difference_errors: dict[str, float] = field(default_factory=dict)
    # Names of the gradients whose argument has no effect on the student's forward function.
    unused: set[str] = field(default_factory=set)


def compare(function: Function, case: Case, answer: Mapping[str, Any]) -> Result:
    """Compares one answer with the right one."""
    if "raised" in answer:
        stage, raised = str(answer.get("stage")), str(answer["raised"])
        doing = "" if stage in ("", function.name.partition(" ")[0]) else f"{stage} "
        return Result(case, f"{doing}{explain(answer)}", stub=raised == "NotImplementedError")
    values = function.spec.read(answer, case)
    if isinstance(values, str):
        return Result(case, values, stub="None" in values)
    result = Result(case)
    result.stub = all(describe_type(values.get(name)) == "None" for name in case.right)
    result.values = {name: value for name, value in values.items() if isinstance(value, ndarray)}
    result.right = min((case.right, *case.alternatives), key=lambda right: sum(_errors(result.values, right)))
    for name, right in result.right.items():
        value = result.values.get(name)
        if value is None:
            kind = "missing" if name not in values else describe_type(values[name])
            expected = f"an array of shape {right.shape}" if right.ndim else "a number"
            result.not_arrays[name] = f"is {kind}, expected {expected}"
            result.wrong.append(name)
            continue
        result.errors[name] = hints.relative_error(value, right, hints.FLOOR[case.dtype])
        if not result.errors[name] < hints.TOLERANCE[case.dtype]:
            result.wrong.append(name)
        if right.ndim and right.dtype.kind == "f" and value.dtype != case.dtype:
            result.wrong_type.append(name)
    result.changed = _changed(function, case, answer.get("after"))
    _compare_with_differences(result, answer.get("moved"))
    return result


def _errors(values: Mapping[str, ndarray], right: Mapping[str, ndarray]) -> Iterator[float]:
    for name in right:
        yield hints.relative_error(values[name], right[name]) if name in values else float("inf")


def _changed(function: Function, case: Case, after: Any) -> list[str]:
    """Names of the arguments whose values after the call, `after`, differ from those before it."""
    sent = function.spec.sent(case)
    if not isinstance(after, list) or len(after) != len(sent):
        return [name for name, _ in sent]
    pairs = zip(sent, after, strict=True)
    names = [name for (name, before), now in pairs if not isinstance(now, ndarray) or not np.array_equal(before, now)]
    return list(dict.fromkeys(names))


def _compare_with_differences(result: Result, moved: Any) -> None:
    """Fills in `difference_errors` and `unused` from the outputs for moved arguments.

    The gradient's component along the direction, ⟨gradient, direction⟩, must equal (L(x + h·d) − L(x − h·d)) / 2h,
    where the loss L is the sum of all outputs, each multiplied by the gradient that the backward function got for it.
    """
    weights = result.case.request.get("douts") or [np.asarray(1.0)]
    if not isinstance(moved, list) or len(moved) != len(result.case.directions):
        return
    for (name, direction), ends in zip(result.case.directions, moved, strict=True):
        gradient, derivative = result.values.get(name), _derivative(ends, weights)
        if derivative is None or gradient is None or gradient.shape != direction.shape:
            continue
        terms = gradient * direction
        scale = max(float(np.abs(terms).sum()), abs(derivative), 1e-3)
        result.difference_errors[name] = float(abs(terms.sum() - derivative) / scale)
        if derivative == 0:
            result.unused.add(name)


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


def right_for_own_forward(results: Sequence[Result]) -> set[str]:
    """Names of the wrong gradients that are right derivatives of the student's own forward function.

    Gradients of arguments that the forward function does not use cannot be compared with anything. They are included if
    there are other wrong gradients and each of these is a derivative of the student's forward function.
    """
    smooth = [result for result in results if result.case.directions]
    wrong = {name for result in results for name in result.wrong}
    agreeing, unused = set(), set()
    for name in wrong:
        errors = [result.difference_errors.get(name, 1.0) for result in smooth]
        if errors and max(errors) < _DIFFERENCE_TOLERANCE and any(result.values[name].any() for result in smooth):
            agreeing.add(name)
        elif errors and all(name in result.unused for result in smooth):
            unused.add(name)
    return wrong if agreeing and agreeing | unused == wrong else agreeing


def against_differences(results: Sequence[Result]) -> str:
    """Names of the gradients that disagree with centred differences in most cases.

    One disagreeing case is no proof, because its centred difference may have crossed a kink of the function.
    """
    names = dict.fromkeys(name for result in results for name in result.difference_errors)
    medians = {
        name: statistics.median(r.difference_errors[name] for r in results if name in r.difference_errors)
        for name in names
    }
    return ", ".join(name for name, error in medians.items() if not error < _DIFFERENCE_TOLERANCE)
