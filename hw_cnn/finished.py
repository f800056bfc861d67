"""Finished runs, opened again for predictions, explanations and comparisons."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from hw_cnn import data, train
from hw_cnn.data import ImageData
from hw_cnn.experiment import build_model, probabilities, weights_metadata
from hw_cnn.images import decode_all
from hw_cnn.models import SheetCNN
from hw_cnn.presets import NETWORKS, Network, Settings
from hw_common.commands.trained import open_trained
from hw_common.data.class_folders import ImageFile
from hw_common.runs import figures, files
from hw_common.runs.errors import UserError
from hw_common.runs.run_folder import Run


@dataclass(frozen=True)
class Finished:
    """A finished run with its best weights."""

    run: Run  # run folder
    settings: Settings  # settings of the training
    data_dir: Path  # folder of the data sets at the time of the training
    network: Network  # facts about the network, such as its input size
    model: SheetCNN  # network, in eval mode
    classes: tuple[str, ...]  # names of the classes, one for each output

    @property
    def title(self) -> str:
        """Title of figures: the data set and the sheet."""
        return f"{self.run.summary()['data']}, {self.network.citation}"

    def probabilities(self, images: Tensor) -> Tensor:
        """Returns the probabilities (N, classes) of the classes for images (N, C, H, W) uint8."""
        return probabilities(self.model, images, self.network)

    def classify(self, files: Sequence[ImageFile]) -> tuple[Tensor, Tensor]:
        """Returns image files at the network's input size, (N, C, H, W) uint8, and `probabilities` of these images.

        Raises:
            UserError: a file is not an image.
        """
        pixels = torch.from_numpy(decode_all(files, self.network.channels, self.network.size, "reading images"))
        images = pixels.permute(0, 3, 1, 2)
        return images, self.probabilities(images)

    def add_figure(self, stem: str, figure: Figure, numbers: Mapping[str, Any] | None = None) -> list[Path]:
        """Writes a figure, and `numbers` as JSON, into the run folder; returns the paths of the new files.

        No file is replaced, even if several processes draw at the same time: a second figure is called `stem-2`.
        """
        folder = self.run.folder
        with self.run.free_stem(stem) as free:
            paths = figures.save(figure, folder, free)
            if numbers is not None:
                paths.append(folder / f"{free}.json")
                files.write_json(paths[-1], numbers)
        return paths

    def load_images(self, data_dir: Path | None) -> ImageData:
        """Loads the run's data set from `data_dir`; None stands for the folder that the training used.

        Raises:
            UserError: the data set cannot be read, or its classes are not those of the training.
        """
        where = data_dir or self.data_dir
        images = data.load(self.settings.dataset, where, self.network, self.settings.seed, self.settings.medmnist_flag)
        if images.classes != self.classes:
            raise UserError(
                f"the classes of the data in {where} differ from those of the training in {self.run.folder}"
            )
        return images


def open_finished(folder: Path) -> Finished:
    """Opens a finished run with its best weights.

    Raises:
        UserError: `folder` is not a run folder, is unfinished or damaged, or has the weights of another network.
    """
    trained = open_trained(train.COMMAND, folder)
    classes = trained.summary.get("classes")
    if not isinstance(classes, list) or not 2 <= len(classes) <= 10_000:
        raise UserError(f"{folder} is damaged: its summary.json has no list of classes")
    settings = Settings.from_arguments(trained.arguments)
    plain = replace(settings, kernels="plain")  # explanations need the layers in the sheet's order
    model = trained.load(build_model(plain, len(classes)), weights_metadata(settings))
    network = NETWORKS[settings.network]
    return Finished(trained.run, settings, trained.arguments.data_dir, network, model, tuple(map(str, classes)))
