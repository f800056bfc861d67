"""Comparisons: several trainings of one command, each with every seed, and one folder with their table and figures."""

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hw_common.commands import cli
from hw_common.commands.cli import add_flag
from hw_common.commands.train_all import TrainingsFailed, train_all
from hw_common.commands.training_command import ResumableCommand
from hw_common.runs import files
from hw_common.runs.config import check_same_arguments, describe
from hw_common.runs.errors import Stopped, UserError, signal_of
from hw_common.runs.roles import Role
from hw_common.runs.run_folder import CONFIG, Run

# A comparison sets these arguments of its trainings by itself, together with those in which its rows differ.
_SET_FOR_EACH_TRAINING = ("seed", "resume", "name", "threads")


@dataclass(frozen=True)
class Comparison:
    """A comparison with checked arguments.

    Attributes:
        command: the command that trains.
        rows: the flags of each row's trainings, by the row's name.
        report: writes table, figures and summary, and returns the summary. Its arguments are the comparison's folder,
            the finished runs of each row (one per seed), and the seeds.
        seeds: seeds of the trainings of each row.
        jobs: number of trainings at a time.
        name: name of the comparison's folder.
        trainings: first part of the names of the trainings' folders: <trainings>-<row>-seed<seed>.
        flags: further flags of all trainings, as given.
        common: arguments that all trainings share. With other values, a comparison needs another name.
        results_dir: folder of all run folders.
        may_change: arguments that may differ when the same comparison is continued, besides `seeds` and `jobs`.
        kind: the word for it in messages.
        module: name of the file with its command line.
        reports_partly: whether a report is written of the finished trainings if others have failed.
        own_roles: roles of those arguments in `may_change` that `command` does not have.
    """

    command: ResumableCommand
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
    kind: str = "comparison"
    module: str = "compare"
    reports_partly: bool = False
    own_roles: Mapping[str, Role] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """The folder of its table and figures."""
        return self.results_dir / self.command.homework / self.name

    def run_name(self, row: str, seed: int) -> str:
        """The name of a training's run folder."""
        return f"{self.trainings}-{row}-seed{seed}"

    def run(self) -> dict[str, Any]:
        """Trains what is missing, writes the report and returns its summary.

        Raises:
            UserError: another process is running it, a folder was made with other flags, or trainings failed.
            Stopped: on Ctrl-C or SIGTERM, after the running trainings have saved.
        """
        made_by = f"{self.command.homework}.{self.module}"
        may_change = {"seeds": self.seeds, "jobs": self.jobs, **self.may_change}
        common = {**self.common, "name": self.name}
        folder = open_folder(self.folder, self.kind, made_by, self.command, common, may_change, self.own_roles)
        try:
            return self.train_and_report(folder)
        except (KeyboardInterrupt, Stopped) as stop:
            number = stop.signal_number if isinstance(stop, Stopped) else signal_of(stop)
            message = f"the {self.kind} {self.name} was stopped; the same command goes on where it was"
            raise Stopped(number, message) from None
        finally:
            folder.close()

    def train_and_report(self, folder: Run) -> dict[str, Any]:
        """Trains what is missing, writes the report into `folder`, which is open, and returns its summary."""
        wanted = {  # seed by seed, so that an interrupted comparison has all rows with the first seeds
            self.run_name(row, seed): [*self.flags, *flags, "--seed", str(seed)]
            for seed in self.seeds
            for row, flags in self.rows.items()
        }
        try:
            trained = train_all(self.command, wanted, self.results_dir, self.jobs, folder.folder)
        except TrainingsFailed as failed:
            if self.reports_partly and failed.finished:
                self._report(folder, failed.finished)
            raise
        return self._report(folder, trained)

    def _report(self, folder: Run, trained: Mapping[str, Run]) -> dict[str, Any]:
        names = {row: [self.run_name(row, seed) for seed in self.seeds] for row in self.rows}
        by_row = {row: [trained[name] for name in names[row] if name in trained] for row in self.rows}
        return self.report(folder, by_row, self.seeds)


def add_flags(parser: argparse.ArgumentParser, name: str) -> None:
    """Adds the flags of every comparison: --seeds, --jobs and --name; `name` is the help text of --name."""
    add_flag(parser, "seeds", type=cli.non_negative_int, nargs="+", default=[42], help="seeds (default: 42)")
    add_flag(
        parser,
        "jobs",
        role=Role.RUNNING,
        type=cli.positive_int,
        default=1,
        help="number of trainings at a time; they share the cores",
    )
    add_flag(parser, "name", role=Role.RUNNING, type=cli.run_name, help=name)


def parse(
    parser: cli.Parser, command: ResumableCommand, argv: Sequence[str] | None, of_a_row: Iterable[str]
) -> tuple[argparse.Namespace, list[str], argparse.Namespace]:
    """Parses the comparison's own flags; all others are flags of the trainings.

    Args:
        parser: parser of the comparison's own flags, those of `add_flags` included.
        command: the command that trains.
        argv: the command line; None for that of this process.
        of_a_row: arguments in which the rows differ.

    Returns:
        The comparison's own arguments, in which each seed occurs once; the flags of all trainings; and the arguments
        that `command` parses from these, before it fills in the defaults that depend on others.

    Raises:
        UserError: a flag is wrong, or the comparison sets it by itself.
    """
    own, flags = parser.parse_known_args(sys.argv[1:] if argv is None else list(argv))
    own.seeds = sorted(set(own.seeds))
    arguments, given = cli.parse(command.parser(), flags)
    calls = (name for name, role in command.roles.items() if role == Role.CALL)
    for name in (*of_a_row, "seed", "resume", *calls):
        if name in given:
            raise UserError(f"--{name} belongs to a single training; the comparison sets it itself")
    return own, flags, arguments


def common_arguments(
    command: ResumableCommand, arguments: argparse.Namespace, of_a_row: Iterable[str]
) -> dict[str, Any]:
    """Returns the arguments that decide the result of every training."""
    kept = {name for name, role in command.roles.items() if role.decides_result or role == Role.RUNNING}
    kept -= {*of_a_row, *_SET_FOR_EACH_TRAINING}
    return {name: value for name, value in vars(arguments).items() if name in kept}


def open_folder(
    path: Path,
    kind: str,
    made_by: str,
    command: ResumableCommand,
    arguments: Mapping[str, Any],
    may_change: Mapping[str, Any],
    own_roles: Mapping[str, Role],
) -> Run:
    """Opens the folder of something that consists of several trainings: a new folder, or the one at `path`.

    Args:
        path: <results_dir>/<homework>/<name>.
        kind: "comparison" or "sweep", for messages.
        made_by: module that `python -m` runs to make the folder.
        command: the command that trains.
        arguments: arguments that must be the same as those of an existing folder.
        may_change: further arguments, which may differ from those of an existing folder.
        own_roles: roles of arguments that `command` does not have.

    Raises:
        UserError: another process uses the folder, or it was made by another command or with other arguments.
    """
    homework, roles = command.homework, {**command.roles, **own_roles}
    config = describe(homework, made_by, {**arguments, **may_change}, roles, {}, {})
    if not (path / CONFIG).is_file():
        return Run.create(path.parent.parent, config, path.name, overwrite=True)
    run = Run.reopen(path, homework)
    try:
        if run.config.get("command") != made_by:
            raise UserError(f"{path} is not a {kind}; choose another --name")
        check_same_arguments(run, arguments, roles, cli.defaults_of(command.parser()))
        files.write_json(path / CONFIG, config)
    except UserError as error:
        run.close()
        raise UserError(f"{error}; a {kind} with other flags needs another --name") from error
    return run
