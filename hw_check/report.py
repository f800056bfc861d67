"""The report of a check, as a table or as JSON."""

import dataclasses
import textwrap
from collections.abc import Sequence
from typing import Any

from hw_check.judge import Row
from hw_check.sheet import POINTS_ELSEWHERE

_WIDTH, _INDENT = 120, 48  # characters

HEADER = f"{'':3} {'function':28}{'points':>8} {'error':>6} what was found, and what was tried"


def line(row: Row) -> str:
    """The row of the table for a function."""
    points = f"{row.points:g} / {row.of:g}" if row.of else "extra"
    error = "" if row.error is None else f"{row.error:.0e}"
    found = row.status if row.status == "passed" else row.status.upper()
    text = f"{found} {row.hint}" if row.hint else found
    tried = f"; tried: {', '.join(row.tried)}" if row.tried else ""
    head = f"{row.question:3} {row.function:28}{points:>8} {error:>6}"
    return textwrap.fill(f"{head} {text}{tried}", _WIDTH, subsequent_indent=" " * _INDENT)


def is_complete(rows: Sequence[Row]) -> bool:
    """Whether everything passed; functions that the sheet does not ask for may be missing."""
    return all(row.status == "passed" or (row.status == "missing" and not row.of) for row in rows)


def total(rows: Sequence[Row]) -> str:
    """The last line of the table."""
    reached, most = sum(row.points for row in rows), sum(row.of for row in rows)
    return (
        f"{reached:g} of {most:g} points; {POINTS_ELSEWHERE} more are for the training in Q2c, Q3c and Q4d, "
        "and the derivations of Q1 are for a person to read"
    )


def as_json(rows: Sequence[Row], seed: int) -> dict[str, Any]:
    """The report as values that JSON can hold; an infinite error becomes null."""
    functions = []
    for row in rows:
        values = dataclasses.asdict(row)
        del values["sound"]
        error = row.error if row.error is not None and row.error < float("inf") else None
        functions.append({**values, "tried": list(row.tried), "error": error})
    reached, most = sum(row.points for row in rows), sum(row.of for row in rows)
    return {"seed": seed, "points": reached, "of": most, "complete": is_complete(rows), "functions": functions}
