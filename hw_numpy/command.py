"""Code shared by hw_numpy's training commands. They work like the other homeworks' commands, but without torch."""

import argparse
import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hw_common.commands.training_command import ResumableCommand
from hw_common.runs.config import check_same_data, check_same_host, describe
from hw_common.runs.errors import Stopped, UserError, signal_of
from hw_common.runs.run_folder import Run

OpenRun = Callable[[Mapping[str, str], Mapping[str, Any]], contextlib.AbstractContextManager[Run]]
"""Opens the run folder; the arguments are the hashes of the data files and facts about the host."""


@dataclass(frozen=True)
class NumpyCommand(ResumableCommand):
    """`python -m hw_numpy.<module>`."""

    module: str  # name of the file with the command line
    run: Callable[[argparse.Namespace], None]  # trains; imports NumPy only when called, after the arguments are checked

    @property
    def name(self) -> str:
        """The module that `python -m` runs."""
        return f"{self.homework}.{self.module}"

    def train(self, arguments: argparse.Namespace) -> None:
        """Trains with checked arguments."""
        self.run(arguments)


def refuse_torch_flags(arguments: argparse.Namespace) -> None:
    """Refuses the shared flags that have no meaning without torch.

    Raises:
        UserError: such a flag is set.
    """
    if arguments.device == "cuda":
        raise UserError("--device cuda: the NumPy networks run on the CPU only")
    if arguments.tensorboard:
        raise UserError("--tensorboard: the NumPy networks write no TensorBoard logs; their metrics are in metrics.csv")


def limit_threads(threads: int) -> None:
    """Limits NumPy's matrix products to `threads` threads."""
    from threadpoolctl import threadpool_limits

    threadpool_limits(threads)


@contextlib.contextmanager
def open_run(
    command: NumpyCommand, arguments: argparse.Namespace, hashes: Mapping[str, str], host: Mapping[str, Any]
) -> Iterator[Run]:
    """Opens a new run folder or, with --resume, an old one.

    A new folder is removed again if an error occurs before any weights (*.safetensors) are saved.

    Raises:
        UserError: the folder cannot be used, the run to resume had other data or another host, or training diverged.
        Stopped: on SIGINT or SIGTERM during the training.
    """
    if arguments.resume is None:
        config = describe(command.homework, command.name, vars(arguments), command.roles, hashes, host)
        run = Run.create(arguments.results_dir, config, arguments.name, overwrite=arguments.overwrite)
    else:
        run = Run.reopen(arguments.resume, command.homework)

    def something_is_saved() -> bool:
        return any(run.folder.glob("*.safetensors"))

    try:
        check_same_data(run, hashes)
        check_same_host(run, host)
        yield run
    except KeyboardInterrupt as interrupt:
        how = f"the finished epochs are saved. Resume with: {run.resume_command}"
        message = f"stopped; {how}" if something_is_saved() else "stopped before anything was saved"
        raise Stopped(signal_of(interrupt), message) from None
    except FloatingPointError as error:
        raise UserError(f"{error}, for example --lr {arguments.lr / 10:g}") from error
    finally:
        if arguments.resume is None and not something_is_saved():
            run.discard_if_empty()
        run.close()
