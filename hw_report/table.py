"""`python -m hw_report table`: the tables of README.md and docs/measured.md, from the index and the records."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from hw_attention_theory import scaling_report
from hw_common.commands.over_seeds import markdown
from hw_common.runs import files
from hw_common.runs.errors import UserError
from hw_common.runs.run_folder import SUMMARY, TABLE
from hw_report.collect import NotThere, read_record
from hw_report.index import INDEX, Answer, Number
from hw_report.published import PUBLISHED
from hw_report.sheets import RECORDS, REPOSITORY

Index = Mapping[str, Sequence[Answer]]
FILES = (REPOSITORY / "README.md", REPOSITORY / "docs" / "measured.md")
_END = "<!-- end of the table -->"
_PLACE = re.compile(rf"(<!-- table: (\S+) -->\n).*?({_END})", re.DOTALL)


def index_table(index: Index = INDEX, records: Path = RECORDS) -> str:
    """Every question with its code and its command."""
    rows = [
        (f"{sheet} {answer.question}", answer.asked, _links(answer), f"`python -m {answer.command}`")
        for sheet, answers in index.items()
        for answer in answers
    ]
    return markdown(("sheet and question", "what is asked", "code", "command"), rows)


def main_table(index: Index = INDEX, records: Path = RECORDS) -> str:
    """The main number of each homework beside the published one; see `measured` for the errors."""
    rows = [(question, *measured(a, number, records)) for question, a, number in _numbers(index) if number.main]
    return markdown(("sheet and question", "number", "ours", "published"), rows)


def every_table(index: Index = INDEX, records: Path = RECORDS) -> str:
    """Every number with its command and the published number; see `measured` for the errors."""
    rows = [
        (question, f"`python -m {number.command or answer.command}`", ", ".join(answer.figures),
         *measured(answer, number, records))
        for question, answer, number in _numbers(index)
    ]  # fmt: skip
    return markdown(("sheet and question", "command", "figures", "number", "ours", "published"), rows)


def record_table(name: str, records: Path = RECORDS) -> str:
    """The table of the comparison in the record `name`, as its command wrote it.

    Raises:
        UserError: there is no such record, or it has no table.
    """
    try:
        return f"\n{(records / name / TABLE).read_text(encoding='utf-8').strip()}\n\n"
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"no table «{name}»: expected one of {', '.join(TABLES)}, or a record that has a {TABLE}; "
            f"python -m hw_common.record COMPARISON writes one ({error})"
        ) from error


def scaling_table(records: Path = RECORDS) -> str:
    """How time and memory of attention with 16 features grow with the length, and where linear attention is faster.

    Raises:
        UserError: the record is missing, damaged or of an earlier version.
    """
    path = records / "hw_attention_theory-scaling"
    try:
        summary = read_record(path)[SUMMARY]
        chosen = {name: [row for row in summary[name] if row["D"] == 16] for name in ("fits", "crossovers")}
        return "\n" + scaling_report.markdown(chosen) + "\n"
    except NotThere as error:
        raise UserError(f"{error}; this command makes RUN: python -m hw_attention_theory.scaling") from error
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} does not hold exponents and intervals ({type(error).__name__}: {error}); make it again with: "
            "python -m hw_common.record RUN (the run folder made by: python -m hw_attention_theory.scaling)"
        ) from error


TABLES: Mapping[str, Callable[[], str]] = {
    "index": index_table,
    "main": main_table,
    "every": every_table,
    "scaling": scaling_table,
}


def _content(name: str) -> str:
    return TABLES[name]() if name in TABLES else record_table(name)


def _numbers(index: Index) -> Iterator[tuple[str, Answer, Number]]:
    for sheet, answers in index.items():
        for answer in answers:
            yield from ((f"{sheet} {answer.question}", answer, number) for number in answer.numbers)


def _links(answer: Answer) -> str:
    """The code that answers a question: a link to each file, followed by the names in it."""
    names: dict[str, list[str]] = {}
    for path, name in answer.code():
        names.setdefault(path, []).append(f"`{name}`")
    return "; ".join(f"[{path}]({path}): {', '.join(found)}" for path, found in names.items())


def measured(answer: Answer, number: Number, records: Path = RECORDS) -> tuple[str, str, str]:
    """Title with the number of seeds, our number, and the published one.

    Raises:
        UserError: the record is missing, damaged, or does not hold the number; the message says how to make it.
    """
    published = PUBLISHED[number.published] if number.published else ""
    if not number.record:
        return number.title, "not measured", published
    path, command = records / number.record, f"python -m {number.command or answer.command}"
    try:
        summary = read_record(path)[SUMMARY]
        seeds = len(summary.get("seeds", [0]))
        return number.title + (f", {seeds} seeds" if seeds > 1 else ""), number.read(summary), published
    except NotThere as error:
        raise UserError(f"{error}; this command makes RUN: {command}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} does not hold the number of question {answer.question}, {number.title} ({type(error).__name__}: "
            f"{error}); make it again with: python -m hw_common.record RUN (the run folder made by: {command})"
        ) from error


def write(path: Path) -> bool:
    """Renews the tables between their markers in a Markdown file; returns whether any table changed.

    Raises:
        UserError: the file cannot be read or has no markers, or `measured` raises an error.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    new, count = _PLACE.subn(lambda found: found[1] + _content(found[2]) + found[3], text)
    if not count:
        places = " or ".join(f"«<!-- table: {name} -->»" for name in TABLES)
        raise UserError(f"{path} has no place for a table: put a line {places} and, below it, a line «{_END}» there")
    if new != text:
        files.write_bytes(path, new.encode())
    return new != text
