"""Handwritten digits as arrays of raw pixels: MNIST, or scikit-learn's small ones as a sample that needs no files."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy import ndarray

from hw_common import digits, idx

SIDE = 28  # height and width of an image, in pixels
CLASSES = 10

Part = tuple[ndarray, ndarray]  # X (N, 1, 28, 28) uint8, y (N,) int64


@dataclass(frozen=True)
class Digits:
    """A data set.

    Attributes:
        name: what people call it.
        train: for training.
        val: for choosing.
        test: for reporting.
        hashes: SHA-256 of each data file (of the pixels and labels, for the sample).
    """

    name: str
    train: Part
    val: Part
    test: Part
    hashes: Mapping[str, str]


def load(dataset: str, data_dir: Path) -> Digits:
    """Reads `dataset`; MNIST is downloaded on first use.

    Args:
        dataset: "mnist" or "sample".
        data_dir: has MNIST/raw with the four files, gzipped or not, as torchvision leaves them.

    Raises:
        UserError: a file is missing and cannot be downloaded, is damaged, or does not hold what it should.
    """
    return _load_mnist(data_dir) if dataset == "mnist" else _load_sample()


def _load_mnist(data_dir: Path) -> Digits:
    source = idx.load("MNIST", data_dir, side=SIDE)
    idx.check_labels(source, CLASSES)
    (X, y), test = ((images[:, None], labels) for images, labels in (source.train, source.test))
    kept = len(y) - max(1, len(y) // 12)  # the course's 55 000 of 60 000; the last 5 000 validate
    return Digits("MNIST", (X[:kept], y[:kept]), (X[kept:], y[kept:]), test, source.hashes)


def _load_sample() -> Digits:
    """scikit-learn's digits of 8×8 pixels, enlarged to 28×28 between 0 and 255, as MNIST's are."""
    parts, digest = [], hashlib.sha256()
    for images, y in digits.load():
        enlarge = _interpolation(images.shape[1], SIDE)
        X = (enlarge @ images @ enlarge.T * 255).round().astype(np.uint8)[:, None]
        digest.update(X.tobytes() + y.tobytes())
        parts.append((X, y))
    return Digits("sample digits", *parts, {"digits": digest.hexdigest()})


def _interpolation(before: int, after: int) -> ndarray:
    """The matrix (after, before) that enlarges a row of pixels linearly; its edges are those of the row before."""
    places = np.clip((np.arange(after) + 0.5) * before / after - 0.5, 0, before - 1)
    return np.maximum(0, 1 - np.abs(places[:, None] - np.arange(before)))
