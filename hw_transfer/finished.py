"""Finished runs, opened again to classify pictures."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from hw_common.commands.trained import open_trained
from hw_common.data.class_folders import ImageFile
from hw_common.runs.errors import UserError
from hw_transfer import train
from hw_transfer.data import Split, evaluation_batches
from hw_transfer.experiment import weights_metadata
from hw_transfer.images import decode
from hw_transfer.models import OtherNetwork, ResNet18
from hw_transfer.presets import DATASETS, Settings
from hw_transfer.transfer_learning import finetune, predict


@dataclass(frozen=True)
class Finished:
    """A finished run with its best weights."""

    settings: Settings  # settings of the training
    model: ResNet18 | OtherNetwork  # network, in eval mode
    classes: tuple[str, ...]  # names of the classes, one for each output

    def classify(self, file: ImageFile) -> tuple[Tensor, Tensor]:
        """The middle of a picture at the network's input size, (3, H, W) uint8, and the probabilities of the classes.

        Raises:
            UserError: the file is not a picture; see `decode`.
        """
        picture = Split([decode(file)], torch.zeros(1, dtype=torch.long))  # the label is not used
        batches = evaluation_batches(picture, DATASETS[self.settings.dataset].size)
        return batches.tensors[0][0], predict(self.model, batches)[0]


def open_finished(folder: Path) -> Finished:
    """Opens a finished run with its best weights.

    Raises:
        UserError: `folder` is not a finished run, is damaged, or has the weights of another network.
    """
    trained = open_trained(train.COMMAND, folder)
    classes = trained.summary.get("classes")
    if not isinstance(classes, list) or len(classes) < 2:
        raise UserError(f"{folder} is damaged: its summary.json has no list of classes")
    settings = Settings.from_arguments(trained.arguments)
    model = trained.load(finetune(None, len(classes), settings.backbone), weights_metadata(settings))
    return Finished(settings, model, tuple(map(str, classes)))
