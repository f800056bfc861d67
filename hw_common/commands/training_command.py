"""Training commands: they parse the arguments, start a run, or resume one with the arguments it was started with."""

import argparse
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hw_common.commands import cli
from hw_common.runs import launch
from hw_common.runs.config import check_same_arguments
from hw_common.runs.errors import UserError
from hw_common.runs.roles import Role
from hw_common.runs.run_folder import CONFIG, Run

if TYPE_CHECKING:
    import torch

    from hw_common.training.experiment import Experiment


def fill_in(arguments: argparse.Namespace, defaults: Mapping[str, Any]) -> None:
    """Gives each argument that is None its default from `defaults`."""
    for name, value in defaults.items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)


@dataclass(frozen=True)
class ResumableCommand(ABC):
    """A command that trains into a run folder and resumes an interrupted run."""

    homework: str  # the package, for example "hw_cnn"
    parser: Callable[[], cli.Parser]  # makes the parser of all flags
    # Fills in the defaults that depend on other arguments. Raises UserError for arguments that exclude one another.
    resolve: Callable[[argparse.Namespace], argparse.Namespace]

    @property
    def name(self) -> str:
        """The module that `python -m` runs."""
        return f"{self.homework}.train"

    @property
    def roles(self) -> dict[str, Role]:
        """The role of each argument."""
        return cli.roles_of(self.parser())

    @abstractmethod
    def train(self, arguments: argparse.Namespace) -> None:
        """Trains with checked arguments."""

    def parse(self, argv: Sequence[str] | None = None) -> argparse.Namespace:
        """Returns checked arguments with all defaults filled in. With `--resume`, they come from the run to resume.

        Raises:
            UserError: an argument is wrong, excludes another one, or differs from the run to resume.
        """
        arguments, given = cli.parse(self.parser(), argv)
        if arguments.resume is None:
            return self.resolve(arguments)
        run = Run.open(arguments.resume, self.homework)
        roles = self.roles
        new = {name: value for name, value in given.items() if roles[name].may_change_on_resume}
        fixed = {name: value for name, value in given.items() if name not in new}
        check_same_arguments(run, fixed, roles, cli.defaults_of(self.parser()))
        own = argparse.Namespace(**{**vars(self.parse_saved(run)), **new})
        own.threads = run.config.get("host", {}).get("threads")  # another number would change the rounding
        if own.threads is not None and (not isinstance(own.threads, int) or own.threads < 1):
            raise UserError(f"{run.folder / CONFIG} is damaged: threads {own.threads!r}, expected a whole number")
        return own

    def parse_saved(self, run: Run) -> argparse.Namespace:
        """Returns the arguments that `run` was started with, after the checks of a command line.

        Raises:
            UserError: another command made the run, or its config.json is damaged or of another version.
        """
        if run.config.get("command") != self.name:
            raise UserError(f"{run.folder} was made by {run.config.get('command')}, expected a run of {self.name}")
        try:
            return self.resolve(cli.parse_saved(self.parser(), {**run.arguments, "resume": None}))
        except UserError as error:
            raise UserError(f"{run.folder / CONFIG} is damaged: {error}") from error

    def flags_of(self, run: Run) -> list[str]:
        """Returns the shortest command line that repeats the training of `run` on any machine.

        Raises:
            UserError: `parse_saved` refuses the configuration of the run.
        """
        flags: list[str] = []
        roles = self.roles
        for name, value in vars(self.parse_saved(run)).items():
            if roles[name].decides_result and vars(self.parse(flags))[name] != value:
                flags += cli.flag(self.parser(), name, value)
        return flags

    def main(self, argv: Sequence[str] | None = None) -> None:
        """Trains as the command line says.

        Raises:
            UserError: an argument, the data or the run folder cannot be used, or training diverges.
            Stopped: on SIGINT or SIGTERM, after saving.
        """
        arguments = self.parse(argv)
        if arguments.resume is not None and Run.open(arguments.resume, self.homework).is_finished:
            print(f"{arguments.resume} is finished already")
            return
        self.train(arguments)

    def flags_to_finish(self, flags: Sequence[str], results_dir: Path, name: str) -> list[str]:
        """Returns the command line that trains or resumes the run called `name`; an empty list if it is finished.

        Args:
            flags: flags of the training run, without --results_dir and --name.
            results_dir: folder of all run folders.
            name: name of the run folder.

        Raises:
            UserError: a flag is wrong, or a run folder of that name was made with other flags.
        """
        folder = results_dir / self.homework / name
        flags = [*flags, "--results_dir", str(results_dir), "--name", name]
        arguments = self.parse(flags)
        if not (folder / CONFIG).is_file():
            return [*flags, "--overwrite"]  # removes what is left of a run that was killed as it started
        run = Run.open(folder, self.homework)
        compared = {**vars(arguments), "threads": run.arguments.get("threads")}
        finished = run.is_finished  # the data of a finished run are not read again, so no hashes are compared
        check_same_arguments(run, compared, self.roles, cli.defaults_of(self.parser()), may_have_moved=not finished)
        return [] if finished else self._flags_to_resume(folder, arguments)

    def _flags_to_resume(self, folder: Path, arguments: argparse.Namespace) -> list[str]:
        """Returns the command line that resumes the run in `folder`, with the paths in `arguments`."""
        flags = ["--resume", str(folder)]
        for name, role in self.roles.items():
            if role.may_have_moved and name != "resume":
                flags += cli.flag(self.parser(), name, getattr(arguments, name))
        return flags

    def train_once(self, flags: Sequence[str], results_dir: Path, name: str) -> Run:
        """Returns the finished run called `name`; trains or resumes it first if necessary.

        Arguments and errors are those of `main` and `flags_to_finish`.
        """
        argv = self.flags_to_finish(flags, results_dir, name)
        if argv:
            self.main(argv)
        return Run.open(results_dir / self.homework / name, self.homework)


@dataclass(frozen=True)
class TrainingCommand(ResumableCommand):
    """`python -m <homework>.train` of a homework that trains with PyTorch."""

    # Makes the experiment from the checked arguments and the device that they name. It imports the homework's
    # experiment.py inside the function, so that arguments are checked before torch is imported.
    prepare: Callable[[argparse.Namespace, "torch.device"], "Experiment"]

    def train(self, arguments: argparse.Namespace) -> None:
        """Trains with checked arguments.

        Raises:
            UserError: the batch is smaller than the number of processes, or the training fails for a reason in `main`.
        """
        processes = launch.read().world_size  # reports wrong environment variables before torch is imported
        if arguments.batch_size < processes:
            raise UserError(f"--batch_size {arguments.batch_size} is less than one example for each process")
        from hw_common.training.experiment import RunSettings, run_experiment  # imports torch

        settings = RunSettings.from_arguments(arguments, self.roles)
        run_experiment(self.homework, self.name, settings, partial(self.prepare, arguments))
