"""Compares a student's answer to a case with the right answer.

This happens in the checker's own process, where none of the student's code runs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy import ndarray

from hw_check.eecs545 import hints
from hw_check.eecs545.cases import Case, describe_type
from hw_check.eecs545.functions import Function
from hw_check.sandbox import explain

SINGLE = 2e-5
"""Largest relative error that counts as rounding to single precision although the inputs have double precision."""

ROUNDED = "accurate to single precision only, although the inputs have double precision (costs nothing)"
KEPT = "not of the input's type: float32 should stay float32, and float64 should stay float64 (costs nothing)"
SHAPE = "has an additional axis of length 1 (costs nothing)"
LIST = "is a list, expected an array (costs nothing)"
TIES = "every one of several equal maxima gets the whole gradient: it must be shared or go to one (costs a little)"


@dataclass
class Result:
    """The result of one case. If `problem` is set, the fields after `stub` are empty."""

    case: Case
    problem: str = ""  # the error that was raised, or a message that the answer has the wrong form
    stub: bool = False  # whether the function is not written yet
    right: Mapping[str, ndarray] = field(
        default_factory=dict
    )  # right answer by name, or the one of several that fits best
    values: dict[str, ndarray] = field(default_factory=dict)  # the student's arrays by name
    not_arrays: dict[str, str] = field(default_factory=dict)  # messages about values that are not arrays, by name
    # Largest error of each array, divided by the largest element of the right array.
    errors: dict[str, float] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)  # names of the wrong values
    remarks: dict[str, list[str]] = field(default_factory=dict)  # remark → names of the values that it is about
    changed: list[str] = field(default_factory=list)  # names of the arguments that were changed in place
    changed_params: list[str] = field(default_factory=list)  # names of the parameters that a network's method changed

    def failed(self, name: str) -> bool:
        """Whether the output `name` is wrong."""
        return bool(self.problem) or name in self.wrong

    def remark(self, text: str, name: str) -> None:
        """Adds a remark about the output `name`."""
        self.remarks.setdefault(text, []).append(name)


def compare(function: Function, case: Case, answer: Mapping[str, Any]) -> Result:
    """Compares one answer with the right one."""
    if "raised" in answer:
        stage, raised = str(answer.get("stage")), str(answer["raised"])
        doing = "" if stage in ("", function.name.partition(" ")[0]) else f"{stage} "
        return Result(case, f"{doing}{explain(answer)}", stub=raised == "NotImplementedError")
    values, made = function.spec.read(answer, case), answer.get("params")
    is_stub = _is_nothing(answer.get("returned")) and not (isinstance(made, dict) and made)
    if isinstance(values, str):
        return Result(case, values, stub=is_stub)
    result = Result(case, stub=is_stub)
    _read_values(result, values)
    _choose_right(result)
    for name in result.right:
        _compare_value(result, name)
    result.changed = _changed(function, case, answer.get("after"))
    result.changed_params = _changed_params(case, answer.get("kept"))
    return result


def _is_nothing(returned: Any) -> bool:
    """Whether a function returns what the course's skeleton does: None, or values that are None, zero or empty."""
    if isinstance(returned, list):
        return all(_is_nothing(value) or isinstance(value, ndarray) and not value.any() for value in returned)
    return describe_type(returned) == "None" or isinstance(returned, dict) and not returned


def _read_values(result: Result, values: Mapping[str, Any]) -> None:
    """Fills in `values` and `not_arrays`; accepts lists, and additional axes of length 1."""
    for name, right in result.case.right.items():
        value = values.get(name)
        array = _as_array(value)
        if array is None:
            kind = "missing" if name not in values else describe_type(value)
            expected = f"an array of shape {right.shape}" if right.ndim else "a number"
            result.not_arrays[name] = f"is {kind}, expected {expected}"
            result.wrong.append(name)
            continue
        if isinstance(value, list):
            result.remark(LIST, name)
        if array.shape != right.shape and _is_like(array.shape, right.shape):
            if right.ndim:
                result.remark(SHAPE, name)
            array = array.reshape(right.shape)
        result.values[name] = array


def _as_array(value: Any) -> ndarray | None:
    """The value as an array if it is an array or a list of numbers, perhaps nested; else None."""
    if isinstance(value, ndarray):
        return value
    if not isinstance(value, list) or not value:
        return None
    parts = [_as_array(item) for item in value]
    if any(part is None or part.shape != parts[0].shape for part in parts if parts[0] is not None):
        return None
    return None if parts[0] is None else np.stack([part for part in parts if part is not None])


def _is_like(shape: tuple[int, ...], right: tuple[int, ...]) -> bool:
    """Whether `shape` is `right` with leading axes of length 1, which the course's own tests accept."""
    added = len(shape) - len(right)
    return added > 0 and shape[added:] == right and set(shape[:added]) == {1}


def _choose_right(result: Result) -> None:
    """Chooses one of several right answers, or an answer that costs a little if only that one fits.

    The scores are compared first, then the loss: they show in which order a network flattens its maps, even if its
    gradients are wrong.
    """
    case = result.case

    def misfits(right: Mapping[str, ndarray]) -> set[str]:
        return {name for name in right if name in result.values and _excess(result, name, right[name])}

    def order(right: Mapping[str, ndarray]) -> tuple[bool, bool, int]:
        wrong = misfits(right)
        return "scores" in wrong, "loss" in wrong, len(wrong)

    result.right = min((case.right, *case.alternatives), key=order)
    for nearly in case.tolerated:
        if misfits(result.right) and not misfits(nearly):
            result.right = nearly
            for name in nearly:
                result.remark(TIES, name)


def _excess(result: Result, name: str, right: ndarray, tolerance: float = SINGLE) -> float:
    """The relative error if it is larger than what is tolerated, else 0."""
    value, case = result.values[name], result.case
    if value.shape != right.shape:
        return float("inf")
    scale = max(float(np.abs(right).max(initial=0)), hints.FLOOR[case.dtype])
    limit = max(tolerance, hints.TOLERANCE[case.dtype]) + case.slack.get(name, 0.0) / scale
    error = hints.relative_error(value, right, hints.FLOOR[case.dtype])
    return 0.0 if error <= limit else error


def _compare_value(result: Result, name: str) -> None:
    """Fills in `errors`, `wrong` and the remarks about precision for one output."""
    value, right, case = result.values.get(name), result.right[name], result.case
    if value is None:
        return
    result.errors[name] = hints.relative_error(value, right, hints.FLOOR[case.dtype])
    if _excess(result, name, right):
        result.wrong.append(name)
    elif _excess(result, name, right, 0.0) and not case.slack.get(name):
        result.remark(ROUNDED, name)
    elif right.ndim and right.dtype.kind == "f" and value.dtype.kind == "f" and value.dtype != case.dtype:
        result.remark(KEPT, name)


def _changed(function: Function, case: Case, after: Any) -> list[str]:
    """Names of the arguments whose values after the call, `after`, differ from those before it."""
    sent = function.spec.sent(case)
    if not isinstance(after, list) or len(after) != len(sent):
        return [name for name, _ in sent]
    pairs = zip(sent, after, strict=True)
    names = [name for (name, before), now in pairs if not isinstance(now, ndarray) or not np.array_equal(before, now)]
    return list(dict.fromkeys(names))


def _changed_params(case: Case, kept: Any) -> list[str]:
    """Names of the parameters that have other values after the call of a network's method."""
    given = case.request.get("params", {})
    now = kept if isinstance(kept, dict) else {}
    return [name for name, value in given.items() if not _same(now.get(name), value)]


def _same(now: Any, before: ndarray) -> bool:
    return isinstance(now, ndarray) and now.shape == before.shape and np.allclose(now, before, rtol=1e-6, atol=0)
