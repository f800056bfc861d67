"""Finished runs, opened again: for predictions, explanations and comparisons."""

import argparse
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from hw_cnn import data, train
from hw_cnn.data import ImageData
from hw_cnn.experiment import build_model, weights_metadata
from hw_cnn.presets import HOMEWORK, NETWORKS, Network
from hw_common.runs import checkpoints
from hw_common.runs.errors import UserError
from hw_common.runs.run_folder import BEST, Run


@dataclass(frozen=True)
class Finished:
    """A finished run with its best weights.

    Attributes:
        run: the folder.
        arguments: of the command that trained it.
        network: what the model takes.
        model: in eval mode.
        classes: names of the outputs.
    """

    run: Run
    arguments: argparse.Namespace
    network: Network
    model: nn.Module
    classes: tuple[str, ...]

    @property
    def title(self) -> str:
        """What the run was trained on, for figures."""
        return f"{self.run.summary()['data']}, {self.network.source}"

    def probabilities(self, images: Tensor) -> Tensor:
        """(N, C, H, W) uint8 to the probabilities (N, classes)."""
        with torch.inference_mode():
            chunks = [self.model.scores(data.to_input(chunk, self.network)) for chunk in images.split(1000)]
            return torch.cat(chunks).softmax(dim=1)

    def load_images(self, data_dir: Path | None) -> ImageData:
        """The run's data set.

        Args:
            data_dir: where it is now; None for where it was.

        Raises:
            UserError: it cannot be read, or has other classes.
        """
        where = data_dir or self.arguments.data_dir
        images = data.load(self.arguments.dataset, where, self.network, self.arguments.seed)
        if images.classes != self.classes:
            raise UserError(f"the data in {where} have other classes than those that {self.run.folder} was trained on")
        return images


def open_finished(folder: Path) -> Finished:
    """Opens a run folder for use.

    Raises:
        UserError: it is not one, is unfinished or damaged, or its weights belong to another network.
    """
    run = Run.open(folder, HOMEWORK)
    arguments = train.COMMAND.parse_saved(run)
    classes = run.summary().get("classes")
    if not isinstance(classes, list) or not 2 <= len(classes) <= 10_000:
        raise UserError(f"{folder} is damaged: its summary names no classes")
    model = build_model(arguments, len(classes))
    path = run.folder / BEST
    checkpoints.load_into(model, checkpoints.load_weights(path, weights_metadata(arguments)), path)
    return Finished(run, arguments, NETWORKS[arguments.network], model.eval(), tuple(map(str, classes)))
