"""The progress of a training run: its part of last.pt, the bar on the terminal and the events for TensorBoard."""

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from hw_common.runs.errors import UserError
from hw_common.runs.run_folder import Run
from hw_common.training import distributed

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

Row = dict[str, float]


@dataclass
class Progress:
    """The position in a training run and its numbers so far, stored in last.pt."""

    epoch: int = 0  # index of the current epoch, counted from 0
    step: int = 0  # number of finished steps of the current epoch; if all are finished, only its validation is missing
    sums: dict[str, float] = field(default_factory=dict)  # sums over the examples of the current epoch so far
    seconds: float = 0.0  # training time of the finished epochs
    epoch_seconds: float = 0.0  # training time of the current epoch
    rows: list[Row] = field(default_factory=list)  # metrics of the finished epochs
    best_epoch: int = 0  # number of the best epoch, counted from 1; 0 before the first epoch is finished
    best_value: float = -math.inf  # monitored metric of the best epoch

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "Progress":
        """Reads the progress in a training state.

        Raises:
            TypeError: a name is unknown.
            ValueError: a value has a wrong type.
        """
        progress = cls(**state)
        for name, value in vars(cls()).items():
            if not isinstance(getattr(progress, name), (int, float) if isinstance(value, float) else type(value)):
                raise ValueError(f"its {name} is {getattr(progress, name)!r}")
        return progress


def progress_bar(title: str, total: int, done: int) -> "tqdm[Any]":
    """Makes a progress bar. It is shown by the main process only, and only on a terminal."""
    disable = None if distributed.is_main() and sys.stderr is not None else True
    return tqdm(desc=title, total=total, initial=done, disable=disable, leave=False, unit="step")


def tensorboard_writer(run: Run) -> "SummaryWriter":
    """Opens the TensorBoard events of a run.

    Raises:
        UserError: TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter  # an extra, and slow to import
    except ImportError as error:
        raise UserError("--tensorboard needs the package tensorboard: pip install tensorboard") from error
    try:
        return SummaryWriter(str(run.folder / "tensorboard"))
    except UnicodeEncodeError as error:
        raise UserError(f"--tensorboard: TensorBoard cannot write to {run.folder}, whose path is not UTF-8") from error
