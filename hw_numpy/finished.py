"""Finished runs of `hw_numpy.train`, opened again to classify digits."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy import ndarray
from PIL import Image

from hw_common.commands.trained import open_trained
from hw_common.data.class_folders import ImageFile
from hw_common.runs.errors import UserError
from hw_common.runs.run_folder import BEST
from hw_numpy import arrays, train
from hw_numpy.cnn import ConvNet
from hw_numpy.data import SIDE
from hw_numpy.experiment import make_network, weights_metadata
from hw_numpy.presets import DigitSettings
from hw_numpy.softmax import SoftmaxClassifier


@dataclass(frozen=True)
class Finished:
    """A finished run with its chosen network."""

    settings: DigitSettings  # settings of the training
    network: SoftmaxClassifier | ConvNet  # chosen network with its best weights

    def classify(self, file: ImageFile) -> tuple[ndarray, ndarray]:
        """The image at the network's input size, (28, 28) uint8, and the probabilities (10,) of the digits.

        Raises:
            UserError: the file is not an image.
        """
        pixels = np.asarray(file.decode().convert("L").resize((SIDE, SIDE), Image.Resampling.BILINEAR))
        scores = self.network.loss(pixels[None, None])
        assert isinstance(scores, ndarray)  # without labels, `loss` returns scores
        exponentials = np.exp(scores[0] - scores[0].max())
        return pixels, exponentials / exponentials.sum()


def open_finished(folder: Path) -> Finished:
    """Opens a finished run of `hw_numpy.train`.

    Raises:
        UserError: `folder` is not such a run, is unfinished or damaged, or has the weights of another network.
    """
    trained = open_trained(train.COMMAND, folder)
    settings = DigitSettings.from_arguments(trained.arguments)
    try:
        network = make_network(settings, trained.summary["best"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder} is damaged: its summary.json names no chosen network ({error!r})") from error
    weights = arrays.load(folder / BEST, weights_metadata(settings.model))
    shapes = {name: array.shape for name, array in network.params.items()}
    if {name: array.shape for name, array in weights.items()} != shapes:
        raise UserError(f"{folder / BEST} does not belong to this run: expected parameters of the shapes {shapes}")
    network.params = weights
    return Finished(settings, network)
