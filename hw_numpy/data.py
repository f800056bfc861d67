"""Handwritten digits as arrays of raw pixels: MNIST, or scikit-learn's small ones as a sample that needs no files."""

import gzip
import hashlib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy import ndarray

from hw_common import fetch, files
from hw_common.errors import UserError

SIDE = 28  # height and width of an image, in pixels
CLASSES = 10
_IDX_FILES = (
    *("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    *("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
)
_MOST_IMAGES = 10**6

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
    folder = data_dir / "MNIST" / "raw"
    arrays, hashes = {}, {}
    for name in _IDX_FILES:
        path = folder / name
        if not path.is_file():
            path = folder / f"{name}.gz"
        if not path.is_file():
            fetch.place(folder, [download for download in _downloads() if download.name == path.name])
        arrays[name] = _read_idx(path)
        hashes[f"MNIST/{path.name}"] = files.sha256(path)
    train = _check(folder, "train", arrays[_IDX_FILES[0]], arrays[_IDX_FILES[1]])
    test = _check(folder, "t10k", arrays[_IDX_FILES[2]], arrays[_IDX_FILES[3]])
    kept = len(train[1]) - max(1, len(train[1]) // 12)  # the course's 55 000 of 60 000; the last 5 000 validate
    return Digits("MNIST", *_split(train, kept), test, hashes)


def _check(folder: Path, what: str, images: ndarray, labels: ndarray) -> Part:
    if images.ndim != 3 or images.shape[1:] != (SIDE, SIDE) or labels.shape != images.shape[:1]:
        raise UserError(
            f"{folder}: {what} images {images.shape} and labels {labels.shape} do not belong together, "
            f"expected (N, {SIDE}, {SIDE}) and (N,)"
        )
    if len(labels) < 2:
        raise UserError(f"{folder}: {what} has {len(labels)} images, expected at least two")
    if labels.max() >= CLASSES:
        raise UserError(f"{folder}: {what} has the label {labels.max()}, expected 0 to {CLASSES - 1}")
    return images[:, None], labels.astype(np.int64)


def _split(part: Part, kept: int) -> tuple[Part, Part]:
    X, y = part
    return (X[:kept], y[:kept]), (X[kept:], y[kept:])


def _downloads() -> list[fetch.Download]:
    from torchvision.datasets import MNIST  # slow to import, and only needed where a file is missing

    return [
        fetch.Download(name, [f"{mirror.rstrip('/')}/{name}" for mirror in MNIST.mirrors], md5)
        for name, md5 in MNIST.resources
    ]


def _read_idx(path: Path) -> ndarray:
    """Reads an IDX file of bytes, gzipped or not; the header is believed only as far as the file bears it out."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            header = file.read(4)
            if len(header) < 4 or header[:3] != b"\0\0\x08" or header[3] not in (1, 3):
                raise UserError(f"{path} is not an IDX file of bytes: it starts with {header.hex() or 'nothing'}")
            sides = file.read(4 * header[3])
            shape = np.frombuffer(sides.ljust(4 * header[3], b"\0"), dtype=">u4").astype(int)
            if len(sides) < 4 * header[3] or shape[0] > _MOST_IMAGES or np.any(shape[1:] != SIDE):
                raise UserError(f"{path} is damaged: its header claims the shape {tuple(shape.tolist())}")
            size = int(np.prod(shape))
            data = bytearray()
            while len(data) <= size and (block := file.read(min(2**20, size + 1 - len(data)))):
                data += block
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} is damaged or cut short: {error}") from error
    if len(data) != size:
        raise UserError(f"{path} is cut short or too long: expected {size} bytes of data, found {len(data)} or more")
    return np.frombuffer(data, dtype=np.uint8).reshape(shape)


def _load_sample() -> Digits:
    """1 797 digits of 8×8 pixels from scikit-learn, enlarged to 28×28 between 0 and 255, as MNIST's are."""
    from sklearn.datasets import load_digits  # slow to import
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    enlarge = _interpolation(digits.images.shape[1], SIDE)
    pixels = (enlarge @ digits.images @ enlarge.T * (255 / digits.images.max())).round().astype(np.uint8)
    X, y = pixels[:, None], digits.target.astype(np.int64)
    hashes = {"digits": hashlib.sha256(X.tobytes() + y.tobytes()).hexdigest()}
    rest, test = train_test_split(np.arange(len(y)), test_size=297, random_state=42, stratify=y)
    train, val = train_test_split(rest, test_size=300, random_state=42, stratify=y[rest])
    return Digits("sample digits", *((X[rows], y[rows]) for rows in (train, val, test)), hashes)


def _interpolation(before: int, after: int) -> ndarray:
    """The matrix (after, before) that enlarges a row of pixels linearly; its edges are those of the row before."""
    places = np.clip((np.arange(after) + 0.5) * before / after - 0.5, 0, before - 1)
    return np.maximum(0, 1 - np.abs(places[:, None] - np.arange(before)))
