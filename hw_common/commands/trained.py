"""Opens finished runs and loads their best weights.

trained = open_trained(train.COMMAND, folder)
settings = Settings.from_arguments(trained.arguments)
model = trained.load(build_model(settings), weights_metadata(settings))
"""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from hw_common.commands.training_command import ResumableCommand
from hw_common.runs.run_folder import BEST, Run

if TYPE_CHECKING:
    from torch import nn

Model = TypeVar("Model", bound="nn.Module")


@dataclass(frozen=True)
class Trained:
    """A finished run."""

    run: Run
    arguments: argparse.Namespace  # checked arguments of the training
    summary: Mapping[str, Any]  # content of summary.json

    def load(self, model: Model, metadata: Mapping[str, str]) -> Model:
        """Loads the weights of the best epoch into `model`, sets it to eval mode and returns it.

        Args:
            model: a model of the run's architecture.
            metadata: metadata that the weights file must have.

        Raises:
            UserError: the weights file is missing or damaged, or holds the weights of another model.
        """
        from hw_common.runs import checkpoints  # imports torch

        path = self.run.folder / BEST
        checkpoints.load_into(model, checkpoints.load_weights(path, metadata), path)
        return model.eval()


def open_trained(command: ResumableCommand, folder: Path) -> Trained:
    """Opens a finished run of `command`.

    Raises:
        UserError: `folder` is not a run of that command, or is unfinished or damaged.
    """
    run = Run.open(folder, command.homework)
    return Trained(run, command.parse_saved(run), run.summary())
