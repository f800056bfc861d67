"""What every training command does with its arguments: those of a new run, or those of the run to resume.

Nothing here imports torch, so that a wrong argument is answered before the slow imports begin.
"""

import argparse
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from hw_common.commands import cli
from hw_common.runs.errors import UserError
from hw_common.runs.run_folder import CONFIG, Run, check_same_arguments

if TYPE_CHECKING:
    import torch

    from hw_common.training.experiment import Experiment

# Arguments that say where and how a run is made, not what it becomes.
_OF_ONE_MACHINE = {
    "data_dir", "results_dir", "name", "resume", "device", "threads", "tensorboard", "overwrite", "dry_run",
}  # fmt: skip


@dataclass(frozen=True)
class ResumableCommand(ABC):
    """A command that trains into a run folder and resumes an interrupted run.

    Attributes:
        homework: the package, for example "hw_cnn".
        parser: makes the parser of all flags.
        resolve: fills in the defaults that depend on other arguments. Raises UserError for arguments that exclude
            one another.
    """

    homework: str
    parser: Callable[[], cli.Parser]
    resolve: Callable[[argparse.Namespace], argparse.Namespace]

    @property
    def name(self) -> str:
        """The module that `python -m` runs."""
        return f"{self.homework}.train"

    @abstractmethod
    def train(self, arguments: argparse.Namespace) -> None:
        """Trains with checked arguments."""

    def parse(self, argv: Sequence[str] | None = None) -> argparse.Namespace:
        """Checked arguments with every default filled in; those of the run itself where `--resume` names one.

        Raises:
            UserError: an argument is wrong, does not go with another, or differs from those of the run to resume.
        """
        arguments, given = cli.parse(self.parser(), argv)
        if arguments.resume is None:
            return self.resolve(arguments)
        run = Run.open(arguments.resume, self.homework)
        check_same_arguments(run, given)
        own = self.parse_saved(run)
        own.resume = arguments.resume
        for name in ("data_dir", "results_dir", "tensorboard", "dry_run"):
            if name in given:
                setattr(own, name, given[name])
        own.threads = run.config.get("host", {}).get("threads")  # the same bits need the same number
        if own.threads is not None and (not isinstance(own.threads, int) or own.threads < 1):
            raise UserError(f"{run.folder / CONFIG} is damaged: threads {own.threads!r}, expected a whole number")
        return own

    def parse_saved(self, run: Run) -> argparse.Namespace:
        """The arguments that `run` was started with, checked as strictly as those of a command line.

        Raises:
            UserError: another command made it, or its config.json was tampered with or is of another version.
        """
        if run.config.get("command") != self.name:
            raise UserError(f"{run.folder} was made by {run.config.get('command')}; name one of its runs")
        try:
            return self.resolve(cli.parse_saved(self.parser(), {**run.arguments, "resume": None}))
        except UserError as error:
            raise UserError(f"{run.folder / CONFIG} is damaged: {error}") from error

    def flags_of(self, run: Run) -> list[str]:
        """The flags that train the same as `run` on any machine, as few as will do.

        Raises:
            UserError: as `parse_saved`.
        """
        flags: list[str] = []
        for name, value in vars(self.parse_saved(run)).items():
            if name not in _OF_ONE_MACHINE and vars(self.parse(flags))[name] != value:
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

    def train_once(self, flags: Sequence[str], results_dir: Path, name: str) -> Run:
        """The finished run called `name`: found, resumed or trained.

        Args:
            flags: of the training, without --results_dir and --name.
            results_dir: where run folders are.
            name: of the run folder.

        Raises:
            UserError: as `main`, or a run folder of that name has other flags.
        """
        folder = results_dir / self.homework / name
        flags = [*flags, "--results_dir", str(results_dir), "--name", name]
        if (folder / CONFIG).is_file():
            run = Run.open(folder, self.homework)
            arguments = self.parse(flags)
            check_same_arguments(run, vars(arguments))
            if not run.is_finished:
                self.main(flags_to_resume(folder, arguments))
        else:
            self.main([*flags, "--overwrite"])  # of what a kill may have left where it had just begun
        return Run.open(folder, self.homework)


@dataclass(frozen=True)
class TrainingCommand(ResumableCommand):
    """`python -m <homework>.train` of a homework that trains with PyTorch.

    Attributes:
        prepare: makes the experiment from the checked arguments and the device that they name. It imports the
            homework's experiment.py inside the function, so that arguments are checked before torch is imported.
    """

    prepare: Callable[[argparse.Namespace, "torch.device"], "Experiment"]

    def train(self, arguments: argparse.Namespace) -> None:
        """Trains with checked arguments."""
        from hw_common.training.experiment import RunSettings, run_experiment  # imports torch

        settings = RunSettings.from_arguments(arguments)
        run_experiment(self.homework, self.name, settings, partial(self.prepare, arguments))


def flags_to_resume(folder: Path, arguments: argparse.Namespace) -> list[str]:
    """The flags that go on with the run in `folder`; `arguments` say where data and results are now."""
    where = ["--data_dir", str(arguments.data_dir), "--results_dir", str(arguments.results_dir)]
    return ["--resume", str(folder), *where]
