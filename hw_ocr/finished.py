"""Finished runs, opened again: to read images and to look into the network."""

import argparse
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from hw_common.runs import checkpoints
from hw_common.runs.errors import UserError
from hw_common.runs.run_folder import BEST, Run
from hw_ocr import train
from hw_ocr.experiment import build_model, decode, on_words, title, weights_metadata
from hw_ocr.models import WithCRF
from hw_ocr.presets import HOMEWORK, SOURCE


@dataclass(frozen=True)
class Finished:
    """A finished run with its best weights.

    Attributes:
        run: the folder.
        arguments: of the command that trained it.
        data: name of the data set.
        network: in eval mode; of words, whatever it was trained on.
    """

    run: Run
    arguments: argparse.Namespace
    data: str
    network: nn.Module

    @property
    def title(self) -> str:
        """The network and what it was trained on, for figures."""
        return f"{title(self.arguments)}, {self.data}, {SOURCE}"

    @torch.inference_mode()
    def read(self, letters: Tensor) -> tuple[Tensor, Tensor]:
        """Reads the letters of one word.

        Args:
            letters: (T, 16, 8), 1 for ink and 0 for paper.

        Returns:
            Their labels, (T,) int64, and the probability of each, (T,).
        """
        mask = torch.ones(1, len(letters), dtype=torch.bool)
        scores = self.network(letters[None].float(), mask)
        labels = decode(self.network, scores, mask)
        is_crf = isinstance(self.network, WithCRF)
        probabilities = self.network.crf.marginals(scores, mask) if is_crf else scores.softmax(2)
        return labels[0], probabilities.gather(2, labels[:, :, None])[0, :, 0]


def open_finished(folder: Path, kernels: str = "fast") -> Finished:
    """Opens a run folder for use, with --kernels as given.

    Raises:
        UserError: it is not one, is unfinished or damaged, or its weights belong to another network.
    """
    run = Run.open(folder, HOMEWORK)
    arguments = train.COMMAND.parse_saved(run)
    data = run.summary().get("data")
    if not isinstance(data, str):
        raise UserError(f"{folder} is damaged: its summary names no data set")
    arguments.kernels = kernels
    model = build_model(arguments)
    path = run.folder / BEST
    checkpoints.load_into(model, checkpoints.load_weights(path, weights_metadata(arguments)), path)
    return Finished(run, arguments, data, on_words(model.eval()))
