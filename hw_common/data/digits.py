"""Handwritten digits in a fixed split: MNIST, or scikit-learn's small ones, a sample that needs no files."""

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hw_common.data import idx

CLASSES = 10


@dataclass(frozen=True)
class Digits:
    """A data set.

    Attributes:
        name: what people call it.
        train: for training; as it is read, images (N, H, W) and labels (N,) int64.
        val: for choosing.
        test: for reporting.
        hashes: SHA-256 of each data file (of the images and labels, for the sample).
    """

    name: str
    train: Any
    val: Any
    test: Any
    hashes: Mapping[str, str]

    def convert(self, change: Callable[[np.ndarray, np.ndarray], Any]) -> "Digits":
        """The same digits in another form: `change` takes images and labels of each part."""
        parts = {part: change(*getattr(self, part)) for part in ("train", "val", "test")}
        return dataclasses.replace(self, **parts)


def mnist(data_dir: Path, side: int = 28) -> Digits:
    """MNIST, downloaded on first use; images (N, 28, 28) uint8. The last 5 000 of 60 000 training images validate.

    Args:
        data_dir: has MNIST/raw with the four files, gzipped or not, as torchvision leaves them.
        side: the height and width that images must have, in pixels.

    Raises:
        UserError: a file is missing and cannot be downloaded, is damaged, or does not hold what it should.
    """
    source = idx.load("MNIST", data_dir, side)
    idx.check_labels(source, CLASSES)
    images, labels = source.train
    kept = len(labels) - max(1, len(labels) // 12)
    return Digits("MNIST", (images[:kept], labels[:kept]), (images[kept:], labels[kept:]), source.test, source.hashes)


def sample() -> Digits:
    """scikit-learn's 1 797 digits, images (N, 8, 8) float64 from 0 for paper to 1 for ink.

    1 200 train, 300 validate and 297 test, with every digit's share the same in each.
    """
    from sklearn.datasets import load_digits  # slow to import
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    images, labels = digits.images / digits.images.max(), digits.target.astype(np.int64)
    rest, test = train_test_split(np.arange(len(labels)), test_size=297, random_state=42, stratify=labels)
    train, val = train_test_split(rest, test_size=300, random_state=42, stratify=labels[rest])
    sha256 = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
    return Digits("sample digits", *((images[rows], labels[rows]) for rows in (train, val, test)), {"digits": sha256})
