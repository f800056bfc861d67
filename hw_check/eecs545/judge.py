"""Decides how many points a function gets, and gives the reason.

Each output of a function counts alike, for example dx, dw and db of a backward function:

| what the cases show                                    | share of the output's points                       |
|--------------------------------------------------------|----------------------------------------------------|
| everything is right                                    | 1                                                  |
| the main cases are right, some special kinds are not   | 1 less the costs of these kinds, but at least 1/2  |
| a main case is wrong                                   | 0                                                  |

From the mean of these shares, a little is taken off for inputs that are changed in place and for ties in max-pooling,
and half for a `loss` that changes the network's parameters. A wrong floating-point type costs nothing. For an
`__init__`, the smallest share is used instead of the mean.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hw_check.eecs545 import compare as comparison
from hw_check.eecs545.cases import Case, kinds
from hw_check.eecs545.compare import Result, compare
from hw_check.eecs545.complaints import complaints, remarks
from hw_check.eecs545.differences import right_for_own_forward
from hw_check.eecs545.functions import Function
from hw_check.rows import Row, printable
from hw_check.sandbox import Outcome

LEAST, LITTLE, HALF = 0.5, 0.1, 0.5
"""Least share if the main cases are right; costs of a small fault; cost of changing the parameters."""


def missing(function: Function, why: str) -> Row:
    """The row of a function that does not exist."""
    return Row(function.name, function.file, function.question, 0, function.points, "missing", hint=why)


@np.errstate(all="ignore")  # the student's numbers may be anything
def judge(function: Function, cases: Sequence[Case], outcome: Outcome) -> Row:
    """The row of a function, from the outcome of running its test cases."""
    if outcome.missing:
        row = missing(function, f"{outcome.missing} is not in {function.file}")
        return row if outcome.missing != function.needs else dataclasses.replace(row, status="unclear")
    if outcome.answers is None:
        row = _row(function, (), 0, outcome.failure)
        return dataclasses.replace(row, status="unclear") if outcome.untested else row
    results = [compare(function, case, answer) for case, answer in zip(cases, outcome.answers, strict=True)]
    if all(result.stub for result in results):
        return missing(function, "not written yet")
    return _judge_results(function, cases, results)


@np.errstate(all="ignore")
def judge_for_own_forward(function: Function, cases: Sequence[Case], outcome: Outcome) -> Row | None:
    """The row of a backward function that is right for the student's own, wrong forward function; else None."""
    answers: Sequence[Mapping[str, Any]] = outcome.answers or []
    results = [compare(function, case, answer) for case, answer in zip(cases, answers, strict=bool(answers))]
    following = right_for_own_forward(results, answers) if results else set()
    if not following:
        return None
    for result in results:
        result.wrong = [name for name in result.wrong if name not in following]
    row = _judge_results(function, cases, results)
    note = f"right for the student's own {function.needs}, which is itself wrong"
    return dataclasses.replace(row, hint=f"{row.hint}; {note}" if row.hint else note)


def _judge_results(function: Function, cases: Sequence[Case], results: Sequence[Result]) -> Row:
    share = function.spec.combine({name: _share(name, results) for name in cases[0].right})
    ties = any(comparison.TIES in result.remarks for result in results)
    changed = any(not name.startswith("d") for result in results for name in result.changed)
    params = any(result.changed_params for result in results)
    share = max(0.0, share - LITTLE * ties - LITTLE * changed - HALF * params)
    return _row(function, cases, share, "; ".join(complaints(function, results)), results)


def _share(name: str, results: Sequence[Result]) -> float:
    """The share of the points of the output `name`."""
    failing = {result.case.title: result.case.cost for result in results if result.failed(name)}
    costs = [cost for cost in failing.values() if cost is not None]
    if len(costs) < len(failing):
        return 0.0
    return max(LEAST, 1 - sum(costs)) if costs else 1.0


def _row(
    function: Function, cases: Sequence[Case], share: float, hint: str, results: Sequence[Result] = ()
) -> Row:  # fmt: skip
    """A row with `share` of the points; the error is the largest one in `results`."""
    errors = [error for r in results if r.case.dtype == "float64" for error in r.errors.values()]
    return Row(
        function.name,
        function.file,
        function.question,
        points=round(share * function.points, 2),
        of=function.points,
        status="passed" if share == 1 else "partly" if share else "failed",
        tried=tuple(kinds(cases)),
        error=max(errors, default=None),
        hint=printable(hint),
        remarks=tuple(printable(remark) for remark in remarks(results)),
    )
