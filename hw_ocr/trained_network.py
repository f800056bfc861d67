"""Opens the networks of finished runs, to read images and to measure feature maps."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from hw_common.commands.trained import open_trained as open_run
from hw_common.runs.errors import UserError
from hw_ocr import train
from hw_ocr.data import ALPHABET
from hw_ocr.experiment import as_word_network, build_model, decode, weights_metadata
from hw_ocr.models import WithCRF
from hw_ocr.presets import CITATION, Settings


@dataclass(frozen=True)
class TrainedNetwork:
    """A finished run with the weights of its best epoch."""

    folder: Path  # the run folder
    settings: Settings  # the settings of the training
    data_dir: Path  # folder of all data sets, as in the training
    data: str  # name of the data set in figures and tables
    network: nn.Module  # computes scores (B, T, 26) from images (B, T, 16, 8) and a mask (B, T); in eval mode

    @property
    def title(self) -> str:
        """Network and data set, for figures."""
        return f"{self.settings.title}, {self.data}, {CITATION}"

    @torch.inference_mode()
    def read(self, letters: Tensor) -> tuple[str, Tensor]:
        """Reads the letters of one word.

        Args:
            letters: (T, 16, 8), 1 for ink and 0 for paper.

        Returns:
            The predicted text of T characters, and the probability of each, (T,).
        """
        mask = torch.ones(1, len(letters), dtype=torch.bool)
        scores = self.network(letters[None].float(), mask)
        labels = decode(self.network, scores, mask)
        if isinstance(self.network, WithCRF):
            probabilities = self.network.crf.marginals(scores, mask)
        else:
            probabilities = scores.softmax(2)
        text = "".join(ALPHABET[label] for label in labels[0].tolist())
        return text, probabilities.gather(2, labels[:, :, None])[0, :, 0]


def open_trained(folder: Path, kernels: str = "fast") -> TrainedNetwork:
    """Opens the run in `folder`.

    Args:
        folder: a finished run.
        kernels: "plain" for the CRF of `crf.py`, "fast" for a faster computation of the same numbers.

    Raises:
        UserError: the folder is not a run of hw_ocr, is unfinished or damaged, or has the weights of another network.
    """
    trained = open_run(train.COMMAND, folder)
    settings = dataclasses.replace(Settings.from_arguments(trained.arguments), kernels=kernels)
    data = trained.summary.get("data")
    if not isinstance(data, str):
        raise UserError(f"{folder} is damaged: its summary names no data set")
    network = as_word_network(trained.load(build_model(settings), weights_metadata(settings)))
    return TrainedNetwork(trained.run.folder, settings, trained.arguments.data_dir, data, network)
