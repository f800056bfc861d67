"""Handwritten digits in a fixed split: MNIST, or scikit-learn's small digits as a sample that needs no files."""

import hashlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from numpy import ndarray

from hw_common.data import idx

CLASSES = 10
Part = TypeVar("Part")
Converted = TypeVar("Converted")
Arrays = tuple[ndarray, ndarray]  # images (N, H, W) and labels (N,) int64


@dataclass(frozen=True)
class Digits(Generic[Part]):
    """A data set of digits."""

    name: str  # name of the data set, for figures and messages
    train: Part  # part for training
    val: Part  # part for choosing between networks
    test: Part  # part for the final result
    hashes: Mapping[str, str]  # SHA-256 of each data file; for the sample, of the images and labels

    def convert(self, change: Callable[[Part], Converted]) -> "Digits[Converted]":
        """Returns the digits with each of the three parts converted by `change`."""
        return Digits(self.name, change(self.train), change(self.val), change(self.test), self.hashes)


def mnist(data_dir: Path, side: int = 28) -> Digits[Arrays]:
    """Reads MNIST, images (N, side, side) uint8; downloads missing files. The last 5 000 training images are `val`.

    Args:
        data_dir: folder with the four files in MNIST/raw, gzipped or not, as torchvision stores them.
        side: height and width that the images must have, in pixels.

    Raises:
        UserError: a file cannot be downloaded, or is damaged.
    """
    source = idx.load("MNIST", data_dir, side)
    idx.check_labels(source, CLASSES)
    images, labels = source.train
    kept = len(labels) - max(1, len(labels) // 12)
    return Digits("MNIST", (images[:kept], labels[:kept]), (images[kept:], labels[kept:]), source.test, source.hashes)


def sample() -> Digits[Arrays]:
    """Reads scikit-learn's 1 797 digits, images (N, 8, 8) float64 from 0 for paper to 1 for ink.

    1 200 images are for training, 300 for validation, 297 for testing; all parts have the same proportions of digits.
    """
    from sklearn.model_selection import train_test_split  # slow to import

    images, labels = small_digits()
    images = images / 16
    rest, test = train_test_split(np.arange(len(labels)), test_size=297, random_state=42, stratify=labels)
    train, val = train_test_split(rest, test_size=300, random_state=42, stratify=labels[rest])
    sha256 = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
    train, val, test = ((images[rows], labels[rows]) for rows in (train, val, test))
    return Digits("sample digits", train, val, test, {"digits": sha256})


def small_digits() -> Arrays:
    """Reads scikit-learn's 1 797 digits: images (N, 8, 8) float64 from 0 for paper to 16 for ink, labels (N,) int64.

    The file is read without importing scikit-learn, which takes more than a second.
    """
    package = importlib.util.find_spec("sklearn")
    assert package is not None and package.origin is not None
    rows = np.loadtxt(Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz", delimiter=",")
    return rows[:, :-1].reshape(-1, 8, 8), rows[:, -1].astype(np.int64)
