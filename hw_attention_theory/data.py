"""Images of digits as sequences of pixels, row by row: MNIST, or the small digits of scikit-learn as a sample."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hw_common.data import digits
from hw_common.data.digits import Digits
from hw_common.training.batches import Batches, Tensors


@dataclass(frozen=True)
class Sequences:
    """Images as sequences of pixels."""

    pixels: Tensor  # (N, L) uint8, 0 for paper and 255 for ink
    labels: Tensor  # (N,) int64

    def __len__(self) -> int:
        return len(self.labels)


def load(dataset: str, data_dir: Path, side: int) -> Digits[Sequences]:
    """Reads `dataset` as sequences of pixels; MNIST is downloaded on first use.

    Args:
        dataset: "mnist" or "sample".
        data_dir: see `digits.mnist`.
        side: height and width of the images, one of presets.SIDES; each pixel is the mean of a square block.

    Raises:
        UserError: see `digits.mnist`.
    """
    if dataset == "mnist":
        return digits.mnist(data_dir).convert(lambda part: _average(*part, side))
    return digits.sample().convert(lambda part: _average((255 * part[0]).round().astype(np.uint8), part[1], side))


def _average(images: np.ndarray, labels: np.ndarray, side: int) -> Sequences:
    """Sequences of side² pixels from images (N, H, H) uint8."""
    block = images.shape[1] // side
    means = images.reshape(-1, side, block, side, block).mean((2, 4), dtype=np.float32).round().astype(np.uint8)
    return Sequences(torch.from_numpy(means.reshape(len(images), -1)), torch.from_numpy(labels))


def batches(
    sequences: Sequences, batch_size: int, device: torch.device, seed: int = 0, shuffle: bool = False
) -> Batches:
    """Mini-batches (pixels (B, L) float from 0 to 1, labels (B,)) of `sequences`.

    Args:
        sequences: the data; all of them are moved to `device`, since the data set is small.
        batch_size: images per step, over all processes.
        device: device of the batches.
        seed: together with the epoch, it determines the order.
        shuffle: whether the images come in random order, for training.
    """

    def prepare(rows: Tensors, generator: torch.Generator) -> Tensors:
        pixels, labels = rows
        return pixels.float() / 255, labels

    return Batches((sequences.pixels.to(device), sequences.labels.to(device)), batch_size, seed, prepare, shuffle)
