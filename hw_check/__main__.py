"""`python -m hw_check SHEET FOLDER`: grades what a student has handed in, function by function."""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from hw_check.sheets import NAMES
from hw_common.commands import cli
from hw_common.commands.cli import add_flag
from hw_common.runs.errors import UserError

_DESCRIPTION = f"""\
Grades the files that a student has handed in, with the sheet's points. SHEET is one of (the first is the default):
  {", ".join(NAMES)}

  python -m hw_check eecs545-w20-hw4 submissions/student_17              grades one student
  python -m hw_check ist-2023-24-hw2 hw2-q3.ipynb                        grades a single notebook or file
  python -m hw_check eecs545-w20-hw4 submissions --all --out grades      grades every folder in submissions
  python -m hw_check                                                     grades our own files: full points
  python -m hw_numpy.check FOLDER                                        the old name for eecs545-w20-hw4

Every function is called with random shapes and numbers, and its results are compared with ours. What the sheet asks for
gets points; what came with the course's files is checked without points. A mistake costs points in one function only:
functions that call the faulty one are tested with ours in its place. docs/grading.md explains the points.

Derivations, figures and training are for a person to grade. The files run in separate processes with limits on time and
memory, in a copy of their folder; these processes hold neither our answers nor the path to them. If you are root on
Linux, they also run as a user without rights, without network and without access to our files; other systems (macOS,
Windows) have fewer limits. The report says which limits were in effect. They do not protect you completely: use a
container for code of people whom you do not trust at all.
Exit status: 0 for full points, 1 for less, 2 for wrong use; with --all, 0 once all students are graded.
"""


def parser() -> cli.Parser:
    """All flags."""
    flags = cli.Parser("python -m hw_check", _DESCRIPTION, usage="%(prog)s [SHEET] [FOLDER] [flags]")
    flags.add_argument(
        "places", nargs="*", metavar="[SHEET] [FOLDER]", help="the sheet, and the folder, file or notebook"
    )
    add_flag(flags, "seed", type=cli.non_negative_int, default=0, help="seed of the shapes and numbers (default: 0)")
    add_flag(flags, "seconds", type=cli.positive_float, default=10.0, help="time limit for each function (default: 10)")
    add_flag(flags, "json", action="store_true", help="print one JSON object instead of the table")
    cli.add_place(flags, "html", type=Path, default=None, help="also write a page for the student into this file")
    text = "NAME=FILE.py:CLASS or NAME=FILE.ipynb:CLASS: a class or function that the student has renamed; repeatable"
    add_flag(flags, "class", type=_place, action="append", default=[], help=text)
    add_flag(flags, "all", action="store_true", help="FOLDER holds a folder or a file for each student")
    text = "with --all: folder for the results (default: grades/SHEET)"
    cli.add_place(flags, "out", type=Path, default=None, help=text)
    add_flag(flags, "jobs", type=cli.positive_int, default=2, help="with --all: students graded at a time (default: 2)")
    return flags


def _place(text: str) -> tuple[str, str]:
    name, separator, place = text.replace(".ipynb:", ".py:").partition("=")  # definitions.py makes the .py file
    if not (name and separator and ".py:" in place):
        raise argparse.ArgumentTypeError(f"expected NAME=FILE.py:CLASS, got {text!r}")
    return name, place


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the report; returns the exit status."""
    flags = parser()
    arguments = flags.parse_args(argv)
    name, folder = _places(flags, arguments.places)
    if arguments.all:
        if folder is None or arguments.json or arguments.html:
            flags.error("--all needs FOLDER, and writes JSON and HTML by itself")
        from hw_check.many import grade_all

        return grade_all(
            name, folder, arguments.out or Path("grades", name), arguments.seed, arguments.seconds, arguments.jobs
        )
    if arguments.out:
        flags.error("--out is for --all; a single report is printed, and --html writes its page")
    names = dict(vars(arguments)["class"])
    return _grade_one(name, folder, names, arguments.seed, arguments.seconds, arguments.json, arguments.html)


def _places(flags: cli.Parser, places: Sequence[str]) -> tuple[str, Path | None]:
    """The sheet and the folder, either of which may be left out."""
    if len(places) > 2:
        flags.error(f"too many arguments: {' '.join(places)}; expected SHEET and FOLDER")
    name, *rest = places if places and places[0] in NAMES else (NAMES[0], *places)
    if len(rest) > 1:
        raise UserError(f"there is no sheet {rest[0]}; expected one of {', '.join(NAMES)}")
    return name, Path(rest[0]) if rest else None


def _grade_one(
    name: str, folder: Path | None, names: Mapping[str, str], seed: int, seconds: float, as_json: bool,
    html: Path | None,
) -> int:  # fmt: skip
    """Grades one student and prints the report line by line."""
    from hw_check import report  # slow: imports NumPy
    from hw_check.rows import is_complete
    from hw_check.sandbox import Sandbox
    from hw_check.sheets import sheet
    from hw_check.submission import copied, find
    from hw_common.runs import files

    graded = sheet(name)
    folder = folder or graded.example
    if folder is None:
        raise UserError(f"{name} needs FOLDER: the student's folder, .py file or notebook")
    found, rows, above = find(folder, graded.files, graded.anywhere), [], ""
    if not as_json:
        print(report.HEADER)
    with Sandbox(graded.runner, graded.preload) as sandbox, copied(found) as copy:
        for row in graded.grade(copy, seed, seconds, sandbox, names):
            rows.append(row)
            if as_json:
                continue
            place = str(found if found.is_file() else found / row.file) if row.file else "in no file"
            if place != above:
                above = place
                print(place)
            print(report.line(row), flush=True)
        limits = sandbox.limits
    if as_json:
        print(json.dumps(report.as_json(rows, graded, seed, limits), indent=2, ensure_ascii=False))
    else:
        print(report.ran_with(limits), report.total(rows, graded), sep="\n")
    if html:
        files.write_text(html, report.page(rows, graded, folder.resolve().name, seed))
    return 0 if is_complete(rows) else 1


if __name__ == "__main__":
    cli.run_command(main)
