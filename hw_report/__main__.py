"""`python -m hw_report`: the answers to every sheet as a PDF, as a zip to turn in, and as the README's tables."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from hw_common.commands import cli
from hw_common.commands.cli import add_flag
from hw_common.runs.errors import UserError
from hw_common.runs.roles import Role
from hw_report import document, table
from hw_report.build import Settings, build, duration
from hw_report.sheets import SHEETS, choose
from hw_report.sources import EXPERIMENTS
from hw_report.submission import submit

_PROG = "python -m hw_report"
_DESCRIPTION = """\
The answers to the five homework sheets.

  python -m hw_report list                                        the sheets, and which PDFs are there
  python -m hw_report build                                       all PDFs, on built-in samples
  python -m hw_report build dsl-2019-hw3 --profile full --data_dir data   one, on the sheet's own data
  python -m hw_report submission dsl-2019-hw3 --group NAME        the zip to turn in: PDF and code
  python -m hw_report table                                       the index, and measured beside published numbers
"""
_BUILD = """\
Runs what is missing of the sheets' experiments, each an ordinary run folder, and writes their PDFs into
RESULTS_DIR/reports. Before it begins, it says what it will run and about how long that takes. What is finished is not
done again, and what was interrupted goes on.

  python -m hw_report build                                 all sheets on the built-in samples
  python -m hw_report build ist-2021-22-hw2 --profile full --data_dir data
  python -m hw_report build convnets-2024-a2 --profile full --use cifar=results/hw_cnn/my-sweep
"""

_SUBMISSION = """\
Writes RESULTS_DIR/submissions/<sheet>/NAME.zip: the PDF of runs that are there (see build) with the group's name, the
notebook with its outputs where the sheet wants one, and the code behind them, which runs on its own after unpacking.

  python -m hw_report submission dsl-2019-hw3 --group group12 --profile full
"""
_TABLE = """\
The tables of README.md and docs/measured.md: every question with its code and command, and our numbers beside the
published ones. Our numbers come from the records in results/record, which python -m hw_common.record writes.

  python -m hw_report table                     prints the tables
  python -m hw_report table --write             renews them in README.md and docs/measured.md
  python -m hw_report table --write README.md   renews them in this file alone
"""


def parser() -> cli.Parser:
    """All subcommands and their flags."""
    flags = cli.Parser(_PROG, _DESCRIPTION, usage="%(prog)s {list,build,submission,table} …")
    commands = flags.add_subparsers(dest="what", required=True, metavar="WHAT", prog=_PROG)
    shown = commands.add_parser("list", description="Shows the sheets.", usage="%(prog)s [flags]", help="the sheets")
    builds = commands.add_parser("build", description=_BUILD, usage="%(prog)s [SHEET …] [flags]", help="their PDFs")
    submits = commands.add_parser(
        "submission", description=_SUBMISSION, usage="%(prog)s SHEET --group NAME [flags]", help="the zip to turn in"
    )
    tables = commands.add_parser("table", description=_TABLE, usage="%(prog)s [flags]", help="of the README")
    builds.add_argument("sheets", nargs="*", metavar="SHEET", help="default: all")
    submits.add_argument("sheet", metavar="SHEET", help="to turn in")
    add_flag(submits, "group", type=cli.run_name, required=True, help="name of the zip and of the folder in it")
    add_flag(
        submits, "data_dir", role=Role.PLACE, help="where a notebook finds its data (default: where its run found them)"
    )
    for command in (shown, builds, submits):
        cli.add_results_dir_flag(command)
    for command in (builds, submits):
        _add_choice_of_runs(command)
    _add_build_flags(builds)
    add_flag(
        tables,
        "write",
        role=Role.PLACE,
        type=Path,
        nargs="*",
        metavar="FILE",
        help="renew the tables in these Markdown files",
    )
    return flags


def _add_build_flags(command: argparse.ArgumentParser) -> None:
    add_flag(
        command, "data_dir", role=Role.PLACE, help="of --profile full: where the data sets are or will be downloaded to"
    )
    add_flag(
        command,
        "captions_dir",
        role=Role.PLACE,
        help="of --profile full: caption files for eecs545 Question 4 (hw_numpy.coco_build)",
    )
    add_flag(
        command, "weights", role=Role.INPUT, help="of --profile full: pretrained weights, imagenet (default) or a path"
    )
    add_flag(command, "jobs", type=cli.positive_int, help="trainings side by side (default: 2)")


def _add_choice_of_runs(command: argparse.ArgumentParser) -> None:
    add_flag(command, "profile", choices=("sample", "full"), default="sample", help="default: sample")
    add_flag(
        command,
        "use",
        type=_use,
        nargs="+",
        default=[],
        metavar="EXPERIMENT=FOLDER",
        help="take these run folders of your own: FOLDER and those whose names begin with its name "
        f"(experiments: {', '.join(EXPERIMENTS)})",
    )


def _use(text: str) -> tuple[str, Path]:
    name, equals, folder = text.partition("=")
    if not equals or not folder or name not in EXPERIMENTS:
        raise argparse.ArgumentTypeError(
            f"expected EXPERIMENT=FOLDER with one of {', '.join(EXPERIMENTS)}, got {text!r}"
        )
    return name, Path(folder)


def main(argv: Sequence[str] | None = None) -> None:
    """Does what the command line asks for.

    Raises:
        UserError: as the subcommands.
    """
    arguments = parser().parse_args(argv)
    commands: Mapping[str, Callable[[argparse.Namespace], None]] = {
        "list": _list,
        "build": _build,
        "submission": _submission,
        "table": _table,
    }
    commands[arguments.what](arguments)


def _list(arguments: argparse.Namespace) -> None:
    for sheet in SHEETS.values():
        path = document.path_of(sheet, arguments.results_dir)
        print(f"{sheet.name}: {sheet.course}, {sheet.title}")
        print(f"  code: {', '.join(sheet.packages)}")
        for experiment in sheet.its_experiments():
            sample, full = (duration(experiment.command.minutes[profile]) for profile in ("sample", "full"))
            print(f"  {experiment.name}: {experiment.title}; on the sample {sample}, in full {full}")
        print(f"  {path}" if path.is_file() else f"  no PDF yet: {_PROG} build {sheet.name}")


def _build(arguments: argparse.Namespace) -> None:
    names = ("data_dir", "captions_dir", "weights", "jobs")
    options = {name: str(getattr(arguments, name)) for name in names if getattr(arguments, name) is not None}
    sheets = choose(arguments.sheets)
    if arguments.profile == "sample" and (given := {"captions_dir", "weights"} & options.keys()):
        raise UserError(f"--{sorted(given)[0]} belongs to --profile full; the sample needs no files")
    build(sheets, Settings(arguments.profile, arguments.results_dir, options, dict(arguments.use)))


def _submission(arguments: argparse.Namespace) -> None:
    [sheet] = choose([arguments.sheet])
    options = {"data_dir": arguments.data_dir}
    settings = Settings(arguments.profile, arguments.results_dir, options, dict(arguments.use))
    print(submit(sheet, arguments.group, settings))
    if any(numbers.sample for found in settings.collect_all(sheet).values() for numbers in found.numbers.values()):
        print("its PDF tells about runs on built-in samples; --profile full takes those on the sheet's data")


def _table(arguments: argparse.Namespace) -> None:
    if arguments.write is None:
        print("\n".join(make() for make in table.TABLES.values()), end="")
        return
    for path in arguments.write or table.FILES:
        print(f"{path}: {'the tables were renewed' if table.write(path) else 'the tables are up to date'}")


if __name__ == "__main__":
    cli.run_command(main)
