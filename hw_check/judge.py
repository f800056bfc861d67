"""Decides what a student's answers are worth."""

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

MANNERS, PLAIN = 0.75, 0.5
"""Share of the points if only an argument is changed or float32 lost, and if only plain cases are right."""

_LONGEST_HINT = 300


@dataclass(frozen=True)
class Row:
    """A function's line in the report.

    Args:
        function: its name.
        file: the student's file.
        question: of the sheet; empty where the sheet does not ask for it.
        points: reached.
        of: that can be reached.
        status: "passed", "failed", "missing", or "unclear": a backward function that cannot be told from its forward
            function's mistake.
        tried: what was tried.
        error: largest error in double precision, relative to the largest right number; None where there is none.
        hint: what is wrong; of a function that passed, what to know.
        sound: a backward function can build on it: all numbers are right and all arguments left alone.
    """

    function: str
    file: str
    question: str
    points: float
    of: float
    status: str
    tried: tuple[str, ...] = ()
    error: float | None = None
    hint: str = ""
    sound: bool = False


def missing(function: Function, why: str) -> Row:
    """The line of a function that is not there."""
    return Row(function.name, function.file, function.question, 0, function.points, "missing", hint=why)


@np.errstate(all="ignore")  # the student's numbers may be anything
def judge(function: Function, cases: Sequence[Case], outcome: Outcome, forward_is_right: bool) -> Row:
    """The line of a function.

    Args:
        function: it.
        cases: what it was asked.
        outcome: what came of it.
        forward_is_right: the forward function that belongs to it is sound, or there is none.
    """
    if outcome.missing:
        row = missing(function, f"{outcome.missing} is not in {function.file}")
        return row if outcome.missing != function.needs else dataclasses.replace(row, status="unclear")
    tried = _tried(cases)
    if outcome.answers is None:
        row = _row(function, 0, tried, None, outcome.failure)
        return dataclasses.replace(row, status="unclear") if outcome.untested else row
    results = [compare(function, case, answer) for case, answer in zip(cases, outcome.answers, strict=True)]
    if all(result.stub for result in results):
        return missing(function, "not written yet")
    if not function.points and all(result.problem for result in results):
        return missing(function, f"not asked for, and not working: {results[0].problem}")
    follows = set() if forward_is_right else right_for_own_forward(results)
    for result in results:
        result.wrong = [name for name in result.wrong if name not in follows]
    share, hint = _share(results), "; ".join(complaints(function, results))
    if share == 1 and forward_is_right and (disagreeing := against_differences(results)):
        share = PLAIN
        hint = f"{disagreeing} does not agree with centred differences of the function itself"
    elif share == 1 and follows:
        hint = f"right for the student's own {function.needs}, whose mistake it follows"
    elif share < MANNERS and not forward_is_right:
        stopped = hint.startswith(f"{function.needs} ")
        hint = f"not tested: {hint}" if stopped else f"cannot be told from the mistake in {function.needs}: {hint}"
        return dataclasses.replace(_row(function, 0, tried, None, hint), status="unclear")
    errors = [error for r in results if r.case.dtype == "float64" for error in r.errors.values()]
    row = _row(function, share, tried, max(errors, default=None), hint)
    return dataclasses.replace(row, sound=share >= MANNERS and not any(result.changed for result in results))


def _row(function: Function, share: float, tried: tuple[str, ...], error: float | None, hint: str) -> Row:
    printable = "".join(letter if letter.isprintable() else " " for letter in hint)  # it may quote the student's code
    hint = printable if len(printable) <= _LONGEST_HINT else printable[:_LONGEST_HINT] + "…"
    status = "passed" if share == 1 else "failed"
    points = share * function.points
    return Row(function.name, function.file, function.question, points, function.points, status, tried, error, hint)


def _tried(cases: Sequence[Case]) -> tuple[str, ...]:
    counts = Counter(case.title for case in cases)
    tried = [f"{count} × {title}" if count > 1 else title for title, count in counts.items()]
    return tuple(tried + ["centred differences"] * any(case.nudges for case in cases))


def _share(results: Sequence[Result]) -> float:
    if any(r.problem or r.wrong for r in results if r.case.plain):
        return 0
    if any(r.problem or r.wrong for r in results):
        return PLAIN
    return MANNERS if any(r.lost_type or r.changed for r in results) else 1
