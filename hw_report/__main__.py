"""`python -m hw_report`: the PDF of every sheet, the zip to turn in, and the tables and figures of the docs."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from hw_common.commands import cli
from hw_common.commands.cli import add_flag
from hw_common.runs.errors import UserError
from hw_report import document, front_page, table
from hw_report.build import Settings, build, duration
from hw_report.experiments import EXPERIMENTS
from hw_report.serve.server import serve
from hw_report.sheets import SHEETS, choose
from hw_report.submission import submit

_PROG = "python -m hw_report"
_PROFILES = ("record", "sample", "full")
_DESCRIPTION = """\
The answers to the five homework sheets.

  python -m hw_report list                                        the sheets, and the PDFs that exist
  python -m hw_report build                                       all PDFs, from the records of measured runs
  python -m hw_report build --profile sample                      all PDFs, after training on built-in samples
  python -m hw_report build dsl-2019-hw3 --profile full --data_dir data   one PDF, on the sheet's own data
  python -m hw_report book                                        all answers as pages for a browser
  python -m hw_report submission dsl-2019-hw3 --group NAME        the zip to turn in: PDF and code
  python -m hw_report serve RUN…                                  the book in a browser, where trained runs can be tried
  python -m hw_report table                                       the index, and our numbers beside the published ones
  python -m hw_report figures                                     the figures of README.md
"""
_BUILD = """\
Writes the PDFs into RESULTS_DIR/reports, by default within seconds from the records of measured runs in results/record.
With the profiles sample and full, it first runs the missing experiments, each in an ordinary run folder. It lists the
commands that it will run and their rough duration, skips finished runs and resumes interrupted ones.

  python -m hw_report build                                 all sheets, from the records
  python -m hw_report build --profile sample                all sheets on the built-in samples
  python -m hw_report build ist-2021-22-hw2 --profile full --data_dir data
  python -m hw_report build convnets-2024-a2 --profile full --use cifar=results/hw_cnn/my-sweep
"""
_BOOK = """\
Writes the answers to all sheets as pages for a browser into RESULTS_DIR/book: the same text, code, numbers and figures
as in the PDFs, from the same finished runs (see build), with search. The pages open from disk and from any web server.

  python -m hw_report book
"""
_SUBMISSION = """\
Writes RESULTS_DIR/submissions/<sheet>/NAME.zip. It contains the PDF of finished runs (see build) with the name of the
group, the notebook with its outputs if the sheet asks for one, and the code, which runs after unpacking.

  python -m hw_report submission dsl-2019-hw3 --group group12 --profile full
"""
_SERVE = """\
Shows the book in a browser on this machine. RUN is a finished run of hw_cnn, hw_ocr, hw_caption, hw_asr, hw_transfer or
hw_numpy.train. The question that the run answers gets a box for trying the trained network: draw a garment, a digit or
a word, choose an image, or record speech. The page /try shows all boxes. Uploads are not stored.

  python -m hw_report serve results/hw_cnn/* results/hw_ocr/ocr-bilstm-plain
  python -m hw_report serve RUN --host 0.0.0.0    for other machines too; they need the address with the printed token
"""
_TABLE = """\
The tables of README.md and docs/measured.md: every question with its code and command, and our numbers beside the
published ones. Our numbers come from the records in results/record, which python -m hw_common.record writes.

  python -m hw_report table                     prints the tables
  python -m hw_report table --write             renews them in README.md and docs/measured.md
  python -m hw_report table --write README.md   renews them only in this file
"""
_FIGURES = """\
Writes the figures of README.md into reports/figures: learning curves on Fashion-MNIST beside the published one, the
attention of the caption decoder on an aerial image, and that of the speech decoder on recordings. They come from the
records in results/record, which python -m hw_common.record writes.

  python -m hw_report figures
"""


def parser() -> cli.Parser:
    """All subcommands and their flags."""
    flags = cli.Parser(_PROG, _DESCRIPTION, usage="%(prog)s {list,build,book,submission,serve,table,figures} …")
    commands = flags.add_subparsers(dest="what", required=True, metavar="WHAT", prog=_PROG)
    shown = commands.add_parser("list", description="Lists the sheets.", usage="%(prog)s [flags]", help="the sheets")
    builds = commands.add_parser("build", description=_BUILD, usage="%(prog)s [SHEET …] [flags]", help="the PDFs")
    books = commands.add_parser("book", description=_BOOK, usage="%(prog)s [flags]", help="the pages for a browser")
    submits = commands.add_parser(
        "submission", description=_SUBMISSION, usage="%(prog)s SHEET --group NAME [flags]", help="the zip to turn in"
    )
    serves = commands.add_parser("serve", description=_SERVE, usage="%(prog)s [RUN …] [flags]", help="the book, served")
    tables = commands.add_parser("table", description=_TABLE, usage="%(prog)s [flags]", help="the tables of the docs")
    commands.add_parser("figures", description=_FIGURES, usage="%(prog)s", help="the figures of README.md")
    builds.add_argument("sheets", nargs="*", metavar="SHEET", help="default: all sheets")
    submits.add_argument("sheet", metavar="SHEET", help="the sheet to turn in")
    add_flag(submits, "group", type=cli.run_name, required=True, help="name of the zip and of the folder in it")
    data_dir = "folder with the data for the notebook (default: the folder that the training used)"
    cli.add_place(submits, "data_dir", type=str, help=data_dir)
    serves.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="folders of finished runs to try")
    cli.add_place(serves, "book", help="folder of the book (default: RESULTS_DIR/book)")
    add_flag(serves, "host", default="127.0.0.1", help="address to listen at (default: 127.0.0.1, only this machine)")
    add_flag(serves, "port", type=cli.port, default=8000, help="port (default: 8000); 0 takes a free one")
    for command in (shown, builds, books, submits, serves):
        cli.add_results_dir_flag(command)
    for command in (builds, books, submits):
        profiles = _PROFILES[1:] if command is submits else _PROFILES
        add_flag(command, "profile", choices=profiles, default=profiles[0], help=f"default: {profiles[0]}")
        add_flag(
            command, "use", type=_use, nargs="+", default=[], metavar="EXPERIMENT=FOLDER",
            help="take an experiment from your own runs: FOLDER, and folders beside it whose names begin with its name "
            f"(experiments: {', '.join(EXPERIMENTS)})",
        )  # fmt: skip
    full = "with --profile full:"
    cli.add_place(builds, "data_dir", type=str, help=f"{full} folder of the data sets; missing ones are downloaded")
    cli.add_place(builds, "captions_dir", type=str, help=f"{full} caption files made by hw_numpy.coco_build")
    cli.add_input(builds, "weights", type=str, help=f"{full} pretrained weights, imagenet (default) or a path")
    add_flag(builds, "jobs", type=cli.positive_int, help="training runs at a time (default: one for each core)")
    cli.add_place(tables, "write", nargs="*", metavar="FILE", help="renew the tables in these files")
    return flags


def _use(text: str) -> tuple[str, Path]:
    name, equals, folder = text.partition("=")
    if not equals or not folder or name not in EXPERIMENTS:
        raise argparse.ArgumentTypeError(
            f"expected EXPERIMENT=FOLDER with one of {', '.join(EXPERIMENTS)}, got {text!r}"
        )
    return name, Path(folder)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the subcommand of the command line.

    Raises:
        UserError: see the subcommands.
    """
    flags = parser().parse_args(argv)
    if flags.what == "list":
        _list(flags.results_dir)
    elif flags.what == "table":
        _table(flags.write)
    elif flags.what == "figures":
        print("\n".join(map(str, front_page.write())))
    elif flags.what == "serve":
        _serve(flags.runs, flags.book, flags.results_dir, flags.host, flags.port)
    elif flags.what == "build":
        options = {name: getattr(flags, name) for name in ("data_dir", "captions_dir", "weights", "jobs")}
        given = {name: str(value) for name, value in options.items() if value is not None}
        _build(flags.sheets, Settings(flags.profile, flags.results_dir, given, dict(flags.use)))
    elif flags.what == "book":
        from hw_report.book.writer import write  # lxml, Pygments and Jinja take a while to import

        print(write(Settings(flags.profile, flags.results_dir, {}, dict(flags.use))))
    else:
        settings = Settings(flags.profile, flags.results_dir, {"data_dir": flags.data_dir}, dict(flags.use))
        _submission(flags.sheet, flags.group, settings)


def _list(results_dir: Path) -> None:
    for sheet in SHEETS.values():
        paths = [document.path_of(sheet, results_dir, profile) for profile in _PROFILES]
        print(f"{sheet.name}: {sheet.course}, {sheet.title}")
        print(f"  code: {', '.join(sheet.packages)}")
        for experiment in sheet.its_experiments():
            sample, full = (duration(experiment.command.minutes[profile]) for profile in ("sample", "full"))
            print(f"  {experiment.name}: {experiment.title}; on the sample {sample}, in full {full}")
        found = [f"  {path}" for path in paths if path.is_file()]
        print("\n".join(found or [f"  no PDF yet: {_PROG} build {sheet.name}"]))


def _build(names: Sequence[str], settings: Settings) -> None:
    sheets = choose(names)
    if settings.profile != "full" and (wrong := {"captions_dir", "weights"} & settings.options.keys()):
        raise UserError(f"--{min(wrong)} needs --profile full; the profile {settings.profile} needs no files")
    build(sheets, settings)


def _submission(name: str, group: str, settings: Settings) -> None:
    [sheet] = choose([name])
    print(submit(sheet, group, settings))
    if any(numbers.sample for found in settings.collect_all(sheet).values() for numbers in found.numbers.values()):
        print("its PDF describes runs on built-in samples; with --profile full it describes runs on the sheet's data")


def _serve(runs: Sequence[Path], book: Path | None, results_dir: Path, host: str, port: int) -> None:
    folder: Path | None = book or results_dir / "book"
    if folder is not None and not (folder / "index.html").is_file():
        if book is not None:
            raise UserError(f"--book {book}: expected the folder of a book, with index.html")
        print(f"there is no book in {folder} yet, so only /try is served; {_PROG} book writes it")
        folder = None
    serve(runs, folder, host, port)


def _table(paths: Sequence[Path] | None) -> None:
    if paths is None:
        print("\n".join(make() for make in table.TABLES.values()), end="")
        return
    for path in paths or table.FILES:
        print(f"{path}: {'the tables were renewed' if table.write(path) else 'the tables are up to date'}")


if __name__ == "__main__":
    cli.run_command(main)
