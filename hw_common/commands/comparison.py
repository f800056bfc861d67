"""Comparisons: several trainings of one command, each with every seed, and one folder for what they say together."""

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hw_common.commands import cli
from hw_common.commands.cli import add_flag
from hw_common.commands.train_all import train_all
from hw_common.commands.training_command import TrainingCommand
from hw_common.runs import files, run_folder
from hw_common.runs.errors import Stopped, UserError, signal_of
from hw_common.runs.run_folder import CONFIG, Run

_OF_A_RUN = ("seed", "resume", "overwrite", "dry_run")
_NOT_OF_THE_RESULT = ("threads", "data_dir", "results_dir", "name", "tensorboard")


@dataclass(frozen=True)
class Comparison:
    """A checked comparison.

    Attributes:
        command: trains.
        rows: what is compared: by name, the flags that train it.
        report: writes table, figures and summary and returns the last; gets the comparison's folder, the finished
            runs of each row, one per seed, and the seeds.
        seeds: for each row.
        jobs: trainings side by side.
        name: of its folder.
        trainings: how the names of the trainings' folders begin: <trainings>-<row>-seed<seed>.
        flags: further flags of `command`, as given.
        common: what all trainings have in common; a comparison with something else needs another name.
        results_dir: where run folders are.
        may_change: arguments that may change from call to call, beside `seeds` and `jobs`.
    """

    command: TrainingCommand
    rows: Mapping[str, Sequence[str]]
    report: Callable[[Run, Mapping[str, Sequence[Run]], Sequence[int]], dict[str, Any]]
    seeds: Sequence[int]
    jobs: int
    name: str
    trainings: str
    flags: Sequence[str]
    common: Mapping[str, Any]
    results_dir: Path
    may_change: Mapping[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where its table and figures go."""
        return self.results_dir / self.command.homework / self.name

    def run_name(self, row: str, seed: int) -> str:
        """The name of a training's run folder."""
        return f"{self.trainings}-{row}-seed{seed}"

    def run(self) -> dict[str, Any]:
        """Trains what is missing, then reports; returns the summary.

        Raises:
            UserError: another process runs it here, a folder belongs to other flags, or trainings failed.
            Stopped: on Ctrl-C or SIGTERM, after the running trainings have saved.
        """
        again = {"seeds": self.seeds, "jobs": self.jobs, **self.may_change}
        by = f"{self.command.homework}.compare"
        folder = open_folder(self.folder, "comparison", by, {**self.common, "name": self.name}, again)
        try:
            wanted = {  # seed by seed, so that an interrupted comparison has all rows with the first seeds
                self.run_name(row, seed): [*self.flags, *flags, "--seed", str(seed)]
                for seed in self.seeds
                for row, flags in self.rows.items()
            }
            trained = train_all(self.command, wanted, self.results_dir, self.jobs, folder.folder)
            by_row = {row: [trained[self.run_name(row, seed)] for seed in self.seeds] for row in self.rows}
            return self.report(folder, by_row, self.seeds)
        except (KeyboardInterrupt, Stopped) as stop:
            number = stop.signal_number if isinstance(stop, Stopped) else signal_of(stop)
            raise Stopped(number, "the comparison was stopped; the same command goes on where it was") from None
        finally:
            folder.close()


def add_flags(parser: argparse.ArgumentParser, name: str) -> None:
    """The flags of every comparison: --seeds, --jobs and --name, with `name` as the help of the last."""
    add_flag(parser, "seeds", type=cli.non_negative_int, nargs="+", default=[42], help="seeds (default: 42)")
    add_flag(parser, "jobs", type=cli.positive_int, default=1, help="trainings side by side; they share the cores")
    add_flag(parser, "name", type=cli.run_name, help=name)


def parse(
    parser: cli.Parser, command: TrainingCommand, argv: Sequence[str] | None, of_a_row: Iterable[str]
) -> tuple[argparse.Namespace, list[str], argparse.Namespace]:
    """Parses the comparison's own flags, and what it does not know as flags of the trainings.

    Args:
        parser: of the former, `add_flags` among them.
        command: trains.
        argv: the command line; None for this process's.
        of_a_row: arguments in which the rows differ.

    Returns:
        The comparison's arguments, each seed once; the flags of all trainings; and what `command` makes of these before
        it fills in the defaults that depend on others.

    Raises:
        UserError: a flag is wrong, or is one that the comparison sets itself.
    """
    own, flags = parser.parse_known_args(sys.argv[1:] if argv is None else list(argv))
    own.seeds = sorted(set(own.seeds))
    arguments, given = cli.parse(command.parser(), flags)
    for name in (*of_a_row, *_OF_A_RUN):
        if name in given:
            raise UserError(f"--{name} belongs to a single training; the comparison sets it itself")
    return own, flags, arguments


def common_arguments(arguments: argparse.Namespace, of_a_row: Iterable[str]) -> dict[str, Any]:
    """Those of `arguments` that decide about the result of every training."""
    ignored = {*of_a_row, *_OF_A_RUN, *_NOT_OF_THE_RESULT}
    return {name: value for name, value in vars(arguments).items() if name not in ignored}


def open_folder(path: Path, what: str, by: str, arguments: Mapping[str, Any], may_change: Mapping[str, Any]) -> Run:
    """The folder of something that consists of several trainings: a new one, or the one that is there already.

    Args:
        path: <results_dir>/<homework>/<name>.
        what: "comparison" or "sweep".
        by: the command.
        arguments: must be those of the folder that is there.
        may_change: further arguments, which may be others than there.

    Raises:
        UserError: another process uses it, another command made it, or with other arguments.
    """
    homework = path.parent.name
    config = run_folder.describe(homework, by, {**arguments, **may_change}, {}, {})
    if not (path / CONFIG).is_file():
        return Run.create(path.parent.parent, config, path.name, overwrite=True)
    run = Run.reopen(path, homework)
    try:
        if run.config.get("command") != by:
            raise UserError(f"{path} is not a {what}; choose another --name")
        run_folder.check_same_arguments(run, arguments)
        files.write_json(path / CONFIG, config)
    except UserError as error:
        run.close()
        raise UserError(f"{error}; a {what} with other flags needs another --name") from error
    return run
