"""Finished runs, opened again for predictions, explanations and comparisons."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from hw_cnn import data, train
from hw_cnn.data import ImageData
from hw_cnn.experiment import build_model, weights_metadata
from hw_cnn.models import SheetCNN
from hw_cnn.presets import HOMEWORK, NETWORKS, Network, Settings
from hw_common.runs import checkpoints
from hw_common.runs.errors import UserError
from hw_common.runs.run_folder import BEST, Run


@dataclass(frozen=True)
class Finished:
    """A finished run with its best weights.

    Attributes:
        run: run folder.
        settings: settings of the training.
        data_dir: folder of the data sets at the time of the training.
        network: input of the network.
        model: network, in eval mode.
        classes: names of the outputs.
    """

    run: Run
    settings: Settings
    data_dir: Path
    network: Network
    model: SheetCNN
    classes: tuple[str, ...]

    @property
    def title(self) -> str:
        """Names the data and the sheet, for figures."""
        return f"{self.run.summary()['data']}, {self.network.citation}"

    def probabilities(self, images: Tensor) -> Tensor:
        """Returns the probabilities (N, classes) of the classes for images (N, C, H, W) uint8."""
        with torch.inference_mode():
            chunks = [self.model.scores(data.to_input(chunk, self.network)) for chunk in images.split(1000)]
            return torch.cat(chunks).softmax(dim=1)

    def load_images(self, data_dir: Path | None) -> ImageData:
        """Loads the data set that the run was trained on.

        Args:
            data_dir: folder of the data sets; None for the one at the time of the training.

        Raises:
            UserError: the data set cannot be read, or has other classes.
        """
        where = data_dir or self.data_dir
        images = data.load(self.settings.dataset, where, self.network, self.settings.seed)
        if images.classes != self.classes:
            raise UserError(f"the data in {where} have other classes than those that {self.run.folder} was trained on")
        return images


def open_finished(folder: Path) -> Finished:
    """Opens a finished run with its best weights.

    Raises:
        UserError: `folder` is no run folder, is unfinished or damaged, or holds the weights of another network.
    """
    run = Run.open(folder, HOMEWORK)
    arguments = train.COMMAND.parse_saved(run)
    classes = run.summary().get("classes")
    if not isinstance(classes, list) or not 2 <= len(classes) <= 10_000:
        raise UserError(f"{folder} is damaged: its summary names no classes")
    settings = Settings.from_arguments(arguments)
    model = build_model(settings, len(classes))
    path = run.folder / BEST
    checkpoints.load_into(model, checkpoints.load_weights(path, weights_metadata(settings)), path)
    return Finished(
        run, settings, arguments.data_dir, NETWORKS[settings.network], model.eval(), tuple(map(str, classes))
    )
