"""Comparisons: training runs of one command in several rows and with several seeds, in one table and one figure."""

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from hw_common.commands import cli
from hw_common.commands.train_all import TrainingsFailed, default_jobs, train_all
from hw_common.commands.training_command import ResumableCommand
from hw_common.runs import files
from hw_common.runs.config import check_same_arguments, describe
from hw_common.runs.errors import Stopped, UserError, signal_of
from hw_common.runs.roles import Role
from hw_common.runs.run_folder import CONFIG, TABLE, Run

# A comparison sets these arguments of its training runs by itself.
_SET_FOR_EACH_TRAINING = ("seed", "resume", "name", "threads")


@dataclass(frozen=True)
class Comparison:
    """A comparison with checked arguments."""

    command: ResumableCommand  # the command that trains
    rows: Mapping[str, Sequence[str]]  # the flags of each row's training runs, by the row's name
    # Writes table, figures and summary, and returns the summary. Its arguments are the comparison's folder, the
    # finished runs of each row (one per seed), and the seeds.
    report: Callable[[Run, Mapping[str, Sequence[Run]], Sequence[int]], dict[str, Any]]
    seeds: Sequence[int]  # seeds of the training runs of each row
    jobs: int  # number of training runs at a time
    name: str  # name of the comparison's folder
    trainings: str  # first part of the names of the run folders: <trainings>-<row>-seed<seed>
    flags: Sequence[str]  # flags that all training runs share
    common: Mapping[str, Any]  # arguments that all runs share; must not differ when the comparison is continued
    results_dir: Path  # folder of all run folders
    # Arguments, besides `seeds` and `jobs`, that may differ when the comparison is continued.
    may_change: Mapping[str, Any] = field(default_factory=dict)
    kind: str = "comparison"  # "comparison" or "sweep", for messages
    module: str = "compare"  # python -m <homework>.<module> runs the comparison
    reports_partly: bool = False  # whether the finished runs are reported if others have failed
    own_roles: Mapping[str, Role] = field(default_factory=dict)  # roles of its own arguments; see `Role`

    @classmethod
    def of(
        cls,
        command: ResumableCommand,
        own: argparse.Namespace,
        flags: Sequence[str],
        arguments: argparse.Namespace,
        of_a_row: Iterable[str],
        *,
        name: str,
        common: Mapping[str, Any] = MappingProxyType({}),
        **others: Any,
    ) -> Self:
        """Makes a comparison from the arguments on the command line.

        Args:
            command: the command that trains.
            own: the comparison's own arguments, see `parse`.
            flags: the flags of all training runs, see `parse`.
            arguments: the arguments of the training runs.
            of_a_row: arguments in which the rows differ.
            name: name of the comparison's folder; names of run folders begin with it unless `others` has `trainings`.
            common: arguments of the comparison that must not differ when it is continued.
            others: the other attributes.
        """
        # All runs share these settings, inputs and the device; a continued comparison must have the same ones.
        kept = {name for name, role in command.roles.items() if role.decides_result or role == Role.RUNNING}
        kept -= {*of_a_row, *_SET_FOR_EACH_TRAINING}
        shared = {**{name: value for name, value in vars(arguments).items() if name in kept}, **common}
        places = {"name": name, "trainings": name, "results_dir": arguments.results_dir}
        return cls(command=command, seeds=own.seeds, jobs=own.jobs, flags=flags, common=shared, **places | others)

    @property
    def folder(self) -> Path:
        """The folder of its table and figures."""
        return self.results_dir / self.command.homework / self.name

    def run_name(self, row: str, seed: int) -> str:
        """The name of the run folder of a row and a seed."""
        return f"{self.trainings}-{row}-seed{seed}"

    def run(self) -> dict[str, Any]:
        """Trains what is missing, calls `report` and returns the summary.

        Raises:
            UserError: another process is running it, a folder was made with other flags, or training runs failed.
            Stopped: on Ctrl-C or SIGTERM, after all active runs have saved.
        """
        folder = self._open_folder()
        try:
            return self.train_and_report(folder)
        except (KeyboardInterrupt, Stopped) as stop:
            number = stop.signal_number if isinstance(stop, Stopped) else signal_of(stop)
            message = f"the {self.kind} {self.name} was stopped; the same command resumes it"
            raise Stopped(number, message) from None
        finally:
            folder.close()

    def _open_folder(self) -> Run:
        """Creates the comparison's folder, or opens the existing one if it was made with the same `common`."""
        homework, made_by = self.command.homework, f"{self.command.homework}.{self.module}"
        roles, arguments = {**self.command.roles, **self.own_roles}, {**self.common, "name": self.name}
        changing = {"seeds": self.seeds, "jobs": self.jobs, **self.may_change}
        trained = {f"{row}-seed{seed}": self.run_name(row, seed) for row in self.rows for seed in self.seeds}
        config = {**describe(homework, made_by, {**arguments, **changing}, roles, {}, {}), "trained": trained}
        if not (self.folder / CONFIG).is_file():
            return Run.create(self.results_dir, config, self.name, overwrite=True)
        run = Run.reopen(self.folder, homework)
        try:
            if run.config.get("command") != made_by:
                raise UserError(f"{self.folder} is not a {self.kind}; choose another --name")
            defaults = cli.defaults_of(self.command.parser())
            check_same_arguments(run, arguments, roles, defaults, may_have_moved=False)
            files.write_json(self.folder / CONFIG, config)
        except UserError as error:
            run.close()
            raise UserError(f"{error}; a {self.kind} with other flags needs another --name") from error
        return run

    def train_and_report(self, folder: Run) -> dict[str, Any]:
        """Trains what is missing, calls `report`, which writes into `folder`, and returns the summary."""
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


def summarize(
    folder: Run, trained: Mapping[str, Sequence[Run]], seeds: Sequence[int], table: Sequence[Any], *keys: str
) -> dict[str, Any]:
    """Returns the part of summary.json that all comparisons have.

    The first three arguments are those of `report`; `table` is the table of results. `keys` are further keys of the
    training runs' summaries; their values must be the same in all runs.
    """
    first = next(iter(trained.values()))[0].summary()
    return {
        "name": folder.folder.name,
        **{key: first[key] for key in ("homework", "dataset", "data", *keys)},
        "data_hashes": {name: one for runs in trained.values() for name, one in runs[0].config["data"].items()},
        "seeds": list(seeds),
        "table": table,
    }


def write_results(folder: Run, text: str, summary: Mapping[str, Any]) -> None:
    """Writes `summary` into a comparison's folder, and its table as CSV and as the Markdown `text`; prints `text`."""
    files.write_csv(folder.folder / "table.csv", summary["table"])
    files.write_bytes(folder.folder / TABLE, text.encode())
    folder.write_summary(summary)
    print(f"\n{text}\nall results are in {folder.folder}")


def add_flags(parser: argparse.ArgumentParser, name: str) -> None:
    """Adds the flags of every comparison: --seeds, --jobs and --name; `name` is the help text of --name."""
    cli.add_flag(parser, "seeds", type=cli.non_negative_int, nargs="+", default=[42], help="seeds (default: 42)")
    add_jobs_flag(parser)
    cli.add_running(parser, "name", type=cli.run_name, help=name)


def add_jobs_flag(parser: argparse._ActionsContainer) -> None:
    """Adds the flag --jobs."""
    text = "number of training runs at a time; they share the cores (default: one for each core and 6 GB of memory)"
    cli.add_running(parser, "jobs", type=cli.positive_int, default=default_jobs(), help=text)


def parse(
    parser: cli.Parser, command: ResumableCommand, argv: Sequence[str] | None, of_a_row: Iterable[str]
) -> tuple[argparse.Namespace, list[str], argparse.Namespace]:
    """Parses the comparison's own flags; all others are flags of the training command.

    Args:
        parser: parser of the comparison's own flags, including those of `add_flags`.
        command: the command that trains.
        argv: the command line; None for that of this process.
        of_a_row: arguments in which the rows differ.

    Returns:
        The comparison's own arguments, in which each seed occurs once; the flags of all training runs; and the parsed
        arguments of these runs, in which defaults that depend on other arguments are not filled in yet.

    Raises:
        UserError: a flag is wrong, or the comparison sets it by itself.
    """
    own, flags = parser.parse_known_args(sys.argv[1:] if argv is None else list(argv))
    own.seeds = sorted(set(own.seeds))
    arguments, given = cli.parse(command.parser(), flags)
    calls = (name for name, role in command.roles.items() if role == Role.CALL)
    for name in (*of_a_row, "seed", "resume", *calls):
        if name in given:
            raise UserError(f"--{name} is a flag of single training runs; a comparison does not accept it")
    return own, flags, arguments
