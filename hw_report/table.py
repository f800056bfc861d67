"""`python -m hw_report table`: the README's table of measured and published numbers, from the records."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from hw_common.runs import files
from hw_common.runs.errors import UserError
from hw_common.runs.run_folder import SUMMARY
from hw_report.answers import Answer, answers
from hw_report.collect import NotThere, read_record
from hw_report.published import PUBLISHED
from hw_report.sheets import RECORDS

BEGIN, END = "<!-- python -m hw_report table -->", "<!-- end of the table -->"
_HEAD = ("sheet and question", "command", "figure", "number", "ours", "published")


def table(lines: Iterable[Answer] | None = None, records: Path = RECORDS) -> str:
    """The table in Markdown.

    Args:
        lines: of the table; all answers if None.
        records: the folder of records.

    Raises:
        UserError: a record is missing, damaged, or does not hold its number; the message says how to make it.
    """
    rows = [_HEAD, tuple("-" * 3 for _ in _HEAD), *_rows(answers() if lines is None else lines, records)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _rows(lines: Iterable[Answer], records: Path) -> Iterator[tuple[str, ...]]:
    for line in lines:
        published = PUBLISHED[line.published][0] if line.published else ""
        yield line.question, f"`{line.command}`", line.figure, *_number(line, records), published


def _number(line: Answer, records: Path) -> tuple[str, str]:
    """What was measured, with the number of seeds, and the number."""
    if line.number is None:
        return line.what, "not measured" if line.published else ""
    path = records / f"{line.record}.json"
    try:
        summary = read_record(path)[SUMMARY]
        seeds = len(summary.get("seeds", [0]))
        return line.what + (f", {seeds} seeds" if seeds > 1 else ""), line.number(summary)
    except NotThere as error:
        raise UserError(f"{error}, which this makes: {line.command}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} does not hold the number of {line.question}, {line.what} ({type(error).__name__}: {error}); make "
            f"it anew with: python -m hw_common.record RUN (the run's folder, which this makes: {line.command})"
        ) from error


def replace(readme: Path) -> bool:
    """Puts the table between its markers in a Markdown file; returns whether it was another one before.

    Raises:
        UserError: the file cannot be read, or has no markers; or as `table`.
    """
    try:
        text = readme.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {readme}: {error}") from error
    before, begin, rest = text.partition(f"{BEGIN}\n")
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UserError(
            f"{readme} has no place for the table: put a line «{BEGIN}» and, below it, a line «{END}» there"
        )
    new = f"{before}{begin}{table()}{end}{after}"
    if new != text:
        files.write_bytes(readme, new.encode())
    return new != text
