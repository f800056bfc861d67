"""`python -m hw_check [FOLDER]`: grades the layers and networks in a folder, function by function (eecs545-w20-hw4)."""

import json
from collections.abc import Sequence
from pathlib import Path

from hw_common.commands import cli
from hw_common.commands.cli import add_flag

_OURS = Path(__file__).resolve().parents[1] / "hw_numpy"
_DESCRIPTION = """\
Grades layers.py, softmax.py, cnn.py, rnn_layers.py and rnn.py in FOLDER (default: our own) with the sheet's points.

  python -m hw_check                          grades our own files: full points
  python -m hw_check submissions/student_17   grades a student's files
  python -m hw_numpy.check                    the command's old name

Every function is called with random shapes and numbers. The results are compared with ours, and the gradients with
centred differences of the student's own function.
Full points: everything is right. Three quarters: the numbers are right, but an argument is changed in place or float32
does not stay float32. Half: only special cases are wrong. A function that fails only because it uses a wrong function
gets full points and a note.

The files run in separate processes with limits on time and memory. If a function crashes or never ends, only that
function fails. This is no sandbox; if you do not trust the code, check it in a container.
Exit status: 0 if everything passed, 1 if something failed, 2 for wrong use.
"""


def parser() -> cli.Parser:
    """All flags."""
    flags = cli.Parser("python -m hw_check", _DESCRIPTION, usage="%(prog)s [FOLDER] [flags]")
    flags.add_argument(
        "folder", type=Path, nargs="?", default=_OURS, metavar="FOLDER", help="folder with the files to grade"
    )
    add_flag(flags, "seed", type=cli.non_negative_int, default=0, help="seed of the shapes and numbers (default: 0)")
    add_flag(flags, "seconds", type=cli.positive_float, default=10.0, help="time limit for each function (default: 10)")
    add_flag(flags, "json", action="store_true", help="print one JSON object instead of the table")
    return flags


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the report; returns the exit status."""
    arguments = parser().parse_args(argv)
    from hw_check import report  # slow: imports NumPy
    from hw_check.grading import grade

    rows, file = [], ""
    if not arguments.json:
        print(report.HEADER)
    for row in grade(arguments.folder, arguments.seed, arguments.seconds):
        rows.append(row)
        if arguments.json:
            continue
        if row.file != file:
            file = row.file
            print(arguments.folder / file)
        print(report.line(row), flush=True)
    if arguments.json:
        print(json.dumps(report.as_json(rows, arguments.seed), indent=2, ensure_ascii=False))
    else:
        print(report.total(rows))
    return 0 if report.is_complete(rows) else 1


if __name__ == "__main__":
    cli.run_command(main)
