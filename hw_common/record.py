"""`python -m hw_common.record RUN…`: copies numbers, curves and figures of finished runs into folders kept in git."""

import argparse
import re
import shlex
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hw_common.commands import cli
from hw_common.commands.cli import add_flag
from hw_common.runs import files
from hw_common.runs.config import git_revision
from hw_common.runs.errors import UserError
from hw_common.runs.roles import Role
from hw_common.runs.run_folder import CONFIG, METRICS, SUMMARY, TABLE, Run

_DESCRIPTION = """\
Writes results/record/<homework>-<name>/ for each finished run, comparison or sweep:

  summary.json      the results; for a comparison, mean, standard deviation and the value of each seed
  config.json       arguments, the command line, data hashes, versions and git revision, without paths of this machine
  metrics.csv       metrics of every epoch
  *.pdf, *.json     the figures, and JSON files that commands added to the run
  table.md          the table of a comparison
  runs/<row>-seed<seed>/   the same files for each training run of a comparison; only the first seed has figures

  python -m hw_common.record results/hw_cnn/fashion results/hw_cnn/cifar-best
  python -m hw_common.record results/hw_cnn/cifar-best --remark "the best of 12 settings on the validation data"
"""
RUNS = "runs"  # subfolder of a comparison's record with its training runs
_LEFT_OUT = {CONFIG, SUMMARY, "vocabulary.json"}  # JSON files that are not copied as they are
_KEPT = ("command", "data", "versions", "git", "host", "started")  # parts of config.json that are copied as they are
_LARGEST_FIGURE, _LARGEST_TOTAL = 500_000, 15_000_000  # bytes


def parser() -> cli.Parser:
    """All flags."""
    flags = cli.Parser("python -m hw_common.record", _DESCRIPTION, usage="%(prog)s RUN [RUN …] [flags]")
    flags.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folders of finished runs or comparisons")
    text = "folder of the records (default: results/record)"
    cli.add_place(flags, "into", default=Path("results/record"), help=text)
    text = "what a reader must know, such as how many settings were compared; config.json keeps it among its remarks"
    add_flag(flags, "remark", help=text)
    text = "name of the data in the record, if the name of the data folder is unclear; figures keep the folder's name"
    add_flag(flags, "data", metavar="NAME", help=text)
    text = "leave the figures out, for runs of which only the numbers are shown"
    add_flag(flags, "no_figures", action="store_true", role=Role.CALL, help=text)
    add_flag(flags, "overwrite", action="store_true", role=Role.CALL, help="replace records of the same name")
    return flags


def main(argv: Sequence[str] | None = None) -> None:
    """Writes a record for each run."""
    arguments = parser().parse_args(argv)
    arguments.into.mkdir(parents=True, exist_ok=True)
    for folder in arguments.runs:
        path = record(
            folder,
            arguments.into,
            arguments.remark,
            overwrite=arguments.overwrite,
            figures=not arguments.no_figures,
            data=arguments.data,
        )
        print("\n  ".join([str(path), *files.read_json(path / CONFIG)["remarks"]]))


def record(
    folder: Path,
    into: Path,
    remark: str | None = None,
    *,
    overwrite: bool = False,
    figures: bool = True,
    data: str | None = None,
) -> Path:
    """Writes the record of the run or comparison in `folder`, whole or not at all, and returns its path.

    `remark` is kept in the record's config.json, beside the remarks on the measured code. Without `figures`, only the
    numbers are recorded. `data` replaces the name of the data in summaries and tables.

    Raises:
        UserError: `folder` is not a finished run, its record exists, or the record is too large.
    """
    run = Run.open(folder)
    path = into / f"{run.config['homework']}-{folder.resolve().name}"
    if path.exists() and not overwrite:
        raise UserError(f"{path} exists; replace it with --overwrite")
    with files.new_folder(path, "free disk space or choose another place with --into") as new:
        _write(run, new, remark, figures)
        if data:
            _rename_data(new, data)
        _check_total(new, [entry for entry in into.iterdir() if entry != path and entry.name[0] != "."])
    return path


def _write(run: Run, into: Path, remark: str | None, figures: bool) -> None:
    """Writes the record of `run` into the folder `into`; see `record` for the other arguments."""
    trained = {name: Run.open(run.folder.with_name(folder), run.config["homework"])
               for name, folder in _trained(run).items()}  # fmt: skip
    remarks = [*_remarks([run, *trained.values()]), *([remark] if remark else [])]
    config = {**_public_config(run), "command_line": command_line(run), "remarks": remarks}
    _write_run(run, config, into, _figures_and_files(run.folder, figures))
    first = min((one.arguments["seed"] for one in trained.values()), default=None)
    for name, one in trained.items():
        more = _figures_and_files(one.folder, figures) if one.arguments["seed"] == first else ()
        _write_run(one, _public_config(one), into / RUNS / name, more)


def _rename_data(record: Path, data: str) -> None:
    """Puts the name `data` into all summaries and tables of a record."""
    for path in record.rglob(SUMMARY):
        summary = files.read_json(path)
        table = path.with_name(TABLE)
        if table.is_file():
            table.write_text(table.read_text(encoding="utf-8").replace(summary["data"], data), encoding="utf-8")
        files.write_json(path, {**summary, "data": data})


def _trained(run: Run) -> Mapping[str, str]:
    """The folders of a comparison's training runs, by row and seed; empty for other runs."""
    trained = run.config.get("trained", {})
    if "seeds" in run.arguments and not trained:
        raise UserError(
            f"{run.folder} does not list its training runs; run its command again, which adds the list without training"
        )
    try:
        for name in (name for names in trained.items() for name in names):
            cli.run_name(name)
    except (AttributeError, TypeError, argparse.ArgumentTypeError) as error:
        raise UserError(f"{run.folder / CONFIG} is damaged: its list of training runs is invalid ({error})") from error
    return trained


def _public_config(run: Run) -> dict[str, Any]:
    kept = {key: run.config[key] for key in _KEPT if key in run.config}
    own = {"schema": run.config["schema"], "homework": run.config["homework"]}
    return {**own, "arguments": run.public_arguments(), "roles": {}, **kept}


def _remarks(runs: Sequence[Run]) -> Iterator[str]:
    """What a reader must know about the code of the runs."""
    revisions = {str(run.config.get("git")) for run in runs}
    if any(revision.endswith("-dirty") for revision in revisions):
        yield "measured with code that was not committed"
    head = str(git_revision()).removesuffix("-dirty")  # records that were just written make the checkout dirty
    if others := sorted({revision.removesuffix("-dirty") for revision in revisions} - {head}):
        yield f"measured with revision {', '.join(others)}, recorded with {head}"


def command_line(run: Run) -> str:
    """The command line that started the run, without paths of this machine and without the flag --results_dir.

    The path of a folder is replaced by the name of its flag in capitals. Of any other path, only the last part is kept.
    """
    words, name = [], ""
    for word in map(str, run.config.get("argv", ())):
        if re.match("--?[A-Za-z]", word):
            flag, equals, value = word.partition("=")
            name = flag.lstrip("-").replace("-", "_")
            words += [flag] if name != "results_dir" else []
            if not equals:
                continue
            word = value
        if name.endswith("_dir") or run.config.get("roles", {}).get(name) == Role.PLACE.value:
            word = name.upper()
        words += [Path(word).name] if name != "results_dir" else []
    return shlex.join(["python", "-m", str(run.config.get("program", run.config["command"])), *words])


def _write_run(run: Run, config: Mapping[str, Any], into: Path, more: Iterable[Path]) -> None:
    into.mkdir(parents=True, exist_ok=True)
    files.write_json(into / SUMMARY, run.summary())
    files.write_json(into / CONFIG, config)
    if (run.folder / METRICS).is_file():
        shutil.copyfile(run.folder / METRICS, into / METRICS)
    for path in more:
        shutil.copyfile(path, into / path.name)


def _figures_and_files(folder: Path, figures: bool) -> Iterator[Path]:
    """The figures of a run, if wanted, the table of a comparison, and the JSON files that commands added."""
    for path in sorted([*(folder.glob("*.pdf") if figures else ()), *folder.glob("*.json"), *folder.glob(TABLE)]):
        if path.suffix == ".pdf" and (size := path.stat().st_size) > _LARGEST_FIGURE:
            raise UserError(
                f"{path} has {size / 1000:.0f} kB, but a record holds figures of at most "
                f"{_LARGEST_FIGURE / 1000:.0f} kB; draw it with fewer or smaller pictures"
            )
        if path.name not in _LEFT_OUT:
            yield path


def _check_total(new: Path, others: Sequence[Path]) -> None:
    size = {folder: sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
            for folder in [new, *others]}  # fmt: skip
    if sum(size.values()) > _LARGEST_TOTAL:
        largest = max(others, key=lambda folder: size[folder], default=new)
        raise UserError(
            f"with this record of {size[new] / 1e6:.1f} MB, all records together would have "
            f"{sum(size.values()) / 1e6:.1f} MB, over the limit of {_LARGEST_TOTAL / 1e6:.0f} MB; the largest other "
            f"record is {largest}"
        )


if __name__ == "__main__":
    cli.run_command(main)
