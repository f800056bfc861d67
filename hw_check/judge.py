"""Decides how many points a function gets, and gives the reason.

| what the cases show                                                  | status  | share of the points |
|----------------------------------------------------------------------|---------|---------------------|
| everything is right                                                  | passed  | 1                   |
| the numbers are right, but an argument or the float type is changed  | failed  | 3/4                 |
| the basic cases are right, a special case is not                     | failed  | 1/2                 |
| a basic case is wrong                                                | failed  | 0                   |
| the function is not in the file, or is not written yet               | missing | 0                   |
| a backward function and its forward function are both wrong          | unclear | 0                   |

A gradient is also right if it is the derivative of the student's own wrong forward function.
"""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hw_check.cases import Case
from hw_check.compare import Result, against_differences, compare, right_for_own_forward
from hw_check.complaints import complaints
from hw_check.process import Outcome
from hw_check.sheet import Function

RIGHT_NUMBERS, RIGHT_BASICS = 0.75, 0.5
"""Shares of the points if the numbers are right but something else is not, and if only the basic cases are right."""

_LONGEST_HINT = 300  # characters


@dataclass(frozen=True)
class Row:
    """A function's line in the report."""

    function: str  # name of the function
    file: str  # name of the student's file
    question: str  # question of the sheet; empty if the sheet does not ask for the function
    points: float  # points reached
    of: float  # most points that can be reached
    status: str  # "passed", "failed", "missing" or "unclear"
    tried: tuple[str, ...] = ()  # the kinds of cases that were tried
    error: float | None = None  # largest relative error in double precision; None if no array was returned
    hint: str = ""  # the mistake; for a function that passed, a note
    # whether all numbers are right and no argument is changed, so that a backward test can use its cache
    sound: bool = False


def missing(function: Function, why: str) -> Row:
    """The row of a function that does not exist."""
    return Row(function.name, function.file, function.question, 0, function.points, "missing", hint=why)


@np.errstate(all="ignore")  # the student's numbers may be anything
def judge(function: Function, cases: Sequence[Case], outcome: Outcome, forward_is_sound: bool) -> Row:
    """The row of a function.

    Args:
        function: the function.
        cases: its test cases.
        outcome: the outcome of running them.
        forward_is_sound: for a backward function, `sound` in its forward function's row; True for other functions.
    """
    if outcome.missing:
        row = missing(function, f"{outcome.missing} is not in {function.file}")
        return row if outcome.missing != function.needs else dataclasses.replace(row, status="unclear")
    if outcome.answers is None:
        row = _row(function, cases, 0, outcome.failure)
        return dataclasses.replace(row, status="unclear") if outcome.untested else row
    results = [compare(function, case, answer) for case, answer in zip(cases, outcome.answers, strict=True)]
    if all(result.stub for result in results):
        return missing(function, "not written yet")
    if not function.points and all(result.problem for result in results):
        return missing(function, f"not asked for, and not working: {results[0].problem}")
    if forward_is_sound:
        return _judge_numbers(function, cases, results)
    return _judge_after_wrong_forward(function, cases, results)


def _judge_numbers(function: Function, cases: Sequence[Case], results: Sequence[Result]) -> Row:
    """The row of a function whose answers can be compared with ours."""
    share, hint = _share(results), "; ".join(complaints(function, results))
    if share == 1 and (disagreeing := against_differences(results)):
        share = RIGHT_BASICS
        hint = f"{disagreeing} does not agree with centred differences of the function itself"
    row = _row(function, cases, share, hint, results)
    sound = share >= RIGHT_NUMBERS and not any(result.changed for result in results)
    return dataclasses.replace(row, sound=sound)


def _judge_after_wrong_forward(function: Function, cases: Sequence[Case], results: Sequence[Result]) -> Row:
    """The row of a backward function whose forward function is wrong, so that its cache may hold wrong values.

    Derivatives of the student's own forward function count as right.
    """
    following = right_for_own_forward(results)
    for result in results:
        result.wrong = [name for name in result.wrong if name not in following]
    share, hint = _share(results), "; ".join(complaints(function, results))
    if share < RIGHT_NUMBERS:
        stopped = hint.startswith(f"{function.needs} ")
        hint = f"not tested: {hint}" if stopped else f"may follow from the mistake in {function.needs}: {hint}"
        return dataclasses.replace(_row(function, cases, 0, hint), status="unclear")
    if share == 1 and following:
        hint = f"right for the student's own {function.needs}, which is itself wrong"
    return _row(function, cases, share, hint, results)


def _row(
    function: Function, cases: Sequence[Case], share: float, hint: str, results: Sequence[Result] = ()
) -> Row:  # fmt: skip
    """A row with `share` of the points; the error is the largest one in `results`."""
    printable = "".join(letter if letter.isprintable() else " " for letter in hint)  # it may quote the student's code
    hint = printable if len(printable) <= _LONGEST_HINT else printable[:_LONGEST_HINT] + "…"
    errors = [error for r in results if r.case.dtype == "float64" for error in r.errors.values()]
    return Row(
        function.name,
        function.file,
        function.question,
        points=share * function.points,
        of=function.points,
        status="passed" if share == 1 else "failed",
        tried=_tried(cases),
        error=max(errors, default=None),
        hint=hint,
    )


def _tried(cases: Sequence[Case]) -> tuple[str, ...]:
    counts = Counter(case.title for case in cases)
    tried = [f"{count} × {title}" if count > 1 else title for title, count in counts.items()]
    return tuple(tried + ["centred differences"] * any(case.directions for case in cases))


def _share(results: Sequence[Result]) -> float:
    """The share of the points."""
    if any(r.problem or r.wrong for r in results if r.case.basic):
        return 0
    if any(r.problem or r.wrong for r in results):
        return RIGHT_BASICS
    return RIGHT_NUMBERS if any(r.wrong_type or r.changed for r in results) else 1
