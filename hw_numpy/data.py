"""Handwritten digits as arrays of raw pixels: MNIST, or scikit-learn's small digits as a sample that needs no files."""

from pathlib import Path

import numpy as np
from numpy import ndarray

from hw_common.data import digits
from hw_common.data.digits import Arrays, Digits

SIDE = 28  # height and width of an image, in pixels


def load(dataset: str, data_dir: Path) -> Digits[Arrays]:
    """Reads images X (N, 1, 28, 28) uint8 and labels y (N,) int64 for each part; MNIST is downloaded on first use.

    Args:
        dataset: "mnist" (with the course's split) or "sample".
        data_dir: folder that holds MNIST, as in `digits.mnist`.

    Raises:
        UserError: a file cannot be downloaded, or is damaged.
    """
    if dataset == "mnist":
        return digits.mnist(data_dir, SIDE).convert(lambda part: (part[0][:, None], part[1]))
    return digits.sample().convert(lambda part: (_enlarged(part[0]), part[1]))


def _enlarged(images: ndarray) -> ndarray:
    """Enlarges images (N, 8, 8) with values from 0 to 1 to MNIST's size and range, (N, 1, 28, 28) from 0 to 255."""
    enlarge = _interpolation(images.shape[1], SIDE)
    return (enlarge @ images @ enlarge.T * 255).round().astype(np.uint8)[:, None]


def _interpolation(before: int, after: int) -> ndarray:
    """The matrix (after, before) that enlarges a row of pixels by linear interpolation between the pixels' centres."""
    positions = np.clip((np.arange(after) + 0.5) * before / after - 0.5, 0, before - 1)
    return np.maximum(0, 1 - np.abs(positions[:, None] - np.arange(before)))
