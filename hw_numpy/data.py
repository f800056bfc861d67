"""Handwritten digits as arrays of raw pixels: MNIST, or scikit-learn's small ones as a sample that needs no files."""

from pathlib import Path

import numpy as np
from numpy import ndarray

from hw_common.data import digits
from hw_common.data.digits import Digits

SIDE = 28  # height and width of an image, in pixels


def load(dataset: str, data_dir: Path) -> Digits:
    """Reads `dataset` in parts X (N, 1, 28, 28) uint8, y (N,) int64; MNIST is downloaded on first use.

    Args:
        dataset: "mnist" (the course's split) or "sample".
        data_dir: see `digits.mnist`.

    Raises:
        UserError: a file is missing and cannot be downloaded, is damaged, or does not hold what it should.
    """
    if dataset == "mnist":
        return digits.mnist(data_dir, SIDE).convert(lambda images, y: (images[:, None], y))
    return digits.sample().convert(lambda images, y: (_enlarged(images), y))


def _enlarged(images: ndarray) -> ndarray:
    """8×8 numbers to 28×28 pixels between 0 and 255, as MNIST's are."""
    enlarge = _interpolation(images.shape[1], SIDE)
    return (enlarge @ images @ enlarge.T * 255).round().astype(np.uint8)[:, None]


def _interpolation(before: int, after: int) -> ndarray:
    """The matrix (after, before) that enlarges a row of pixels linearly; its edges are those of the row before."""
    places = np.clip((np.arange(after) + 0.5) * before / after - 0.5, 0, before - 1)
    return np.maximum(0, 1 - np.abs(places[:, None] - np.arange(before)))
