"""Compares a student's answer to one case with what is right, and with centred differences of the student's own.

Only here do the two meet: in a process in which none of the student's code runs.
"""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy import ndarray

from hw_check import hints
from hw_check.cases import NUDGE, Case, describe_type
from hw_check.process import explain
from hw_check.sheet import Function

_NUMERIC_TOLERANCE = 1e-5


@dataclass
class Result:
    """What came out of one case.

    Args:
        case: it.
        problem: an error that was raised, or an answer of the wrong form; then nothing below is filled in.
        stub: the function is not written yet.
        right: the right numbers, of several the nearest.
        values: the student's arrays by name.
        odd: of what should have been an array and is not: what it is.
        errors: relative to the largest right number.
        wrong: names of what is wrong.
        lost_type: names of what is not of the input's type.
        changed: names of arguments that were changed in place.
        numeric: of each gradient, its error against centred differences.
        unused: gradients of arguments that make no difference to the student's forward function.
    """

    case: Case
    problem: str = ""
    stub: bool = False
    right: Mapping[str, ndarray] = field(default_factory=dict)
    values: dict[str, ndarray] = field(default_factory=dict)
    odd: dict[str, str] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    lost_type: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    numeric: dict[str, float] = field(default_factory=dict)
    unused: set[str] = field(default_factory=set)


def compare(function: Function, case: Case, answer: Mapping[str, Any]) -> Result:
    """Compares one answer with what is right."""
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
            result.odd[name] = f"is {kind}, expected {f'an array of shape {right.shape}' if right.ndim else 'a number'}"
            result.wrong.append(name)
            continue
        result.errors[name] = hints.error(value, right, hints.FLOOR[case.dtype])
        if not result.errors[name] < hints.TOLERANCE[case.dtype]:
            result.wrong.append(name)
        if right.ndim and right.dtype.kind == "f" and value.dtype != case.dtype:
            result.lost_type.append(name)
    result.changed = _changed(function, case, answer.get("after"))
    _differentiate(result, answer.get("nudged"))
    return result


def _errors(values: Mapping[str, ndarray], right: Mapping[str, ndarray]) -> Iterator[float]:
    for name in right:
        yield hints.error(values[name], right[name]) if name in values else float("inf")


def _changed(function: Function, case: Case, after: Any) -> list[str]:
    """Names of the arguments that are not what they were."""
    sent = function.spec.sent(case)
    if not isinstance(after, list) or len(after) != len(sent):
        return [name for name, _ in sent]
    pairs = zip(sent, after, strict=True)
    names = [name for (name, before), now in pairs if not isinstance(now, ndarray) or not np.array_equal(before, now)]
    return list(dict.fromkeys(names))


def _differentiate(result: Result, nudged: Any) -> None:
    """Fills in, for each gradient, its error against centred differences of the student's own forward function."""
    weights = result.case.request.get("douts") or [np.asarray(1.0)]
    if not isinstance(nudged, list) or len(nudged) != len(result.case.nudges):
        return
    for (name, direction), pair in zip(result.case.nudges, nudged, strict=True):
        gradient, slope = result.values.get(name), _slope(pair, weights)
        if slope is None or gradient is None or gradient.shape != direction.shape:
            continue
        terms = gradient * direction
        scale = max(float(np.abs(terms).sum()), abs(slope), 1e-3)
        result.numeric[name] = float(abs(terms.sum() - slope) / scale)
        if slope == 0:
            result.unused.add(name)


def _slope(pair: Any, weights: Sequence[ndarray]) -> float | None:
    """How fast the loss changes between the two outcomes in `pair`; None if they are not what they should be."""
    if not isinstance(pair, list) or len(pair) != 2:
        return None
    total = 0.0
    for number, weight in enumerate(weights):
        ends = [end[number] if isinstance(end, list) and len(end) > number else None for end in pair]
        if not all(isinstance(end, ndarray) and end.shape == weight.shape for end in ends):
            return None
        total += float((weight * (ends[0].astype(float) - ends[1])).sum()) / (2 * NUDGE)
    return total if np.isfinite(total) else None


def right_for_own_forward(results: Sequence[Result]) -> set[str]:
    """Wrong gradients that are the derivatives of the student's own forward function all the same.

    If all others are, those of arguments that the forward function forgot to use count as well: nothing can be said.
    """
    smooth = [result for result in results if result.case.nudges]
    wrong = {name for result in results for name in result.wrong}
    agreeing, forgotten = set(), set()
    for name in wrong:
        errors = [result.numeric.get(name, 1.0) for result in smooth]
        if errors and max(errors) < _NUMERIC_TOLERANCE and any(result.values[name].any() for result in smooth):
            agreeing.add(name)
        elif errors and all(name in result.unused for result in smooth):
            forgotten.add(name)
    return wrong if agreeing and agreeing | forgotten == wrong else agreeing


def against_differences(results: Sequence[Result]) -> str:
    """Names of the gradients that most cases find wrong by differences (one may have met a kink by chance)."""
    names = dict.fromkeys(name for result in results for name in result.numeric)
    medians = {n: statistics.median(r.numeric[n] for r in results if n in r.numeric) for n in names}
    return ", ".join(name for name, error in medians.items() if not error < _NUMERIC_TOLERANCE)
