"""The report of a check: a table for the terminal, JSON, and a page for the student."""

import dataclasses
import html
import textwrap
from collections.abc import Sequence
from typing import Any

from hw_check.rows import Row, Sheet, is_complete

_WIDTH, _INDENT = 120, 48  # characters

HEADER = f"{'':3} {'function':28}{'points':>8} {'error':>6} what was found, and what was tried"


def line(row: Row) -> str:
    """The row of the table for a function."""
    error = "" if row.error is None else f"{row.error:.0e}"
    tried = f"; tried: {', '.join(row.tried)}" if row.tried else ""
    head = f"{row.question:3} {row.function:28}{_points(row):>8} {error:>6}"
    return textwrap.fill(f"{head} {_found(row)}{tried}", _WIDTH, subsequent_indent=" " * _INDENT)


def _points(row: Row) -> str:
    return f"{row.points:g} / {row.of:g}" if row.of else "–"


def _found(row: Row) -> str:
    status = row.status if row.status == "passed" else row.status.upper()
    remarks = "".join(f"; remark: {remark}" for remark in row.remarks)
    return f"{status} {row.hint}{remarks}" if row.hint else f"{status}{remarks}"


def total(rows: Sequence[Row], sheet: Sheet) -> str:
    """The last line of the table."""
    return f"{_reached(rows):g} of {sheet.points:g} points; {sheet.elsewhere}"


def _reached(rows: Sequence[Row]) -> float:
    return round(sum(row.points for row in rows), 2)


def ran_with(limits: Sequence[str]) -> str:
    """A line about the limits under which the files ran."""
    text = f"The files ran with: {', '.join(limits) or 'a time limit only, because this system has no others'}."
    return textwrap.fill(text, _WIDTH)


def as_json(rows: Sequence[Row], sheet: Sheet, seed: int, limits: Sequence[str]) -> dict[str, Any]:
    """The report as values that JSON can hold; an infinite error becomes null."""
    functions = []
    for row in rows:
        error = row.error if row.error is not None and row.error < float("inf") else None
        lists = {"tried": list(row.tried), "remarks": list(row.remarks)}
        functions.append({**dataclasses.asdict(row), **lists, "error": error})
    return {
        "sheet": sheet.name, "seed": seed, "points": _reached(rows), "of": round(sheet.points, 2),
        "complete": bool(rows) and is_complete(rows),
        "limits": list(limits), "functions": functions,
    }  # fmt: skip


_PAGE = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }}
table {{ border-collapse: collapse; width: 100% }}
td, th {{ border-top: 1px solid #ccc; padding: .4rem .6rem; text-align: left; vertical-align: top }}
td {{ overflow-wrap: anywhere }}
td:nth-child(3) {{ white-space: nowrap }}
.passed {{ color: #060 }} .partly {{ color: #850 }} .failed, .missing, .unclear {{ color: #a00 }}
small {{ color: #666 }}
</style>
<h1>{title}</h1>
<p><strong>{reached:g} of {most:g} points.</strong> {elsewhere}.</p>
<p>{note}</p>
<table>
<tr><th>Question<th>Function<th>Points<th>What was found
{rows}
</table>
<p><small>Seed {seed}. Remarks cost nothing unless they say so. A dash means that the sheet gives no points.</small></p>
</html>
"""


def page(rows: Sequence[Row], sheet: Sheet, student: str, seed: int, note: str = "") -> str:
    """An HTML page for the student; `note` says why there are no rows, if there are none."""
    lines = []
    for row in rows:
        notes = "".join(f"<br><small>Remark: {html.escape(remark)}</small>" for remark in row.remarks)
        tried = f"<br><small>Tried: {html.escape(', '.join(row.tried))}</small>" if row.tried else ""
        found = f'<span class="{row.status}">{row.status}</span> {html.escape(row.hint)}{notes}{tried}'
        lines.append(
            f"<tr><td>{row.question}<td><code>{html.escape(row.function)}</code><br><small>{html.escape(row.file)}</small>"
            f"<td>{_points(row)}<td>{found}"
        )
    return _PAGE.format(
        title=html.escape(f"{sheet.name}: {student}"), reached=_reached(rows), most=sheet.points,
        elsewhere=sheet.elsewhere[0].upper() + sheet.elsewhere[1:], note=html.escape(note),
        rows="\n".join(lines), seed=seed,
    )  # fmt: skip
