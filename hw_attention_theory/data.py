"""Images of digits as sequences of pixels, row by row: MNIST, or scikit-learn's small digits as a sample."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hw_attention_theory.presets import SIDES
from hw_common.data import digits
from hw_common.data.digits import Digits
from hw_common.training.batches import Batches, Tensors


@dataclass(frozen=True)
class Sequences:
    """Images that are read pixel by pixel.

    Attributes:
        pixels: (N, L) uint8, 0 for paper and 255 for ink.
        labels: (N,) int64.
    """

    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


def load(dataset: str, data_dir: Path, side: int) -> Digits[Sequences]:
    """Reads `dataset` in parts of `Sequences`; MNIST is downloaded on first use.

    Args:
        dataset: "mnist" or "sample".
        data_dir: see `digits.mnist`.
        side: height and width that images are brought to, as means of square blocks of pixels; one of SIDES.

    Raises:
        UserError: a file is missing and cannot be downloaded, is damaged, or does not hold what it should.
    """
    if dataset == "mnist":
        return digits.mnist(data_dir, SIDES["mnist"][0]).convert(lambda part: _read_pixels(*part, side))
    return digits.sample().convert(lambda part: _read_pixels((255 * part[0]).round().astype(np.uint8), part[1], side))


def _read_pixels(images: np.ndarray, labels: np.ndarray, side: int) -> Sequences:
    """(N, H, H) uint8 to sequences of side² pixels."""
    block = images.shape[1] // side
    means = images.reshape(-1, side, block, side, block).mean((2, 4), dtype=np.float32).round().astype(np.uint8)
    return Sequences(torch.from_numpy(means.reshape(len(images), -1)), torch.from_numpy(labels))


def batches(
    sequences: Sequences, batch_size: int, device: torch.device, seed: int = 0, shuffle: bool = False
) -> Batches:
    """Mini-batches (pixels (B, L) float from 0 to 1, labels (B,)) of `sequences`.

    Args:
        sequences: moved to `device` whole: the data set is small.
        batch_size: over all processes.
        device: where the batches are to be.
        seed: with the epoch, fixes the order.
        shuffle: for training.
    """

    def prepare(rows: Tensors, generator: torch.Generator) -> Tensors:
        pixels, labels = rows
        return pixels.float() / 255, labels

    return Batches((sequences.pixels.to(device), sequences.labels.to(device)), batch_size, seed, prepare, shuffle)
