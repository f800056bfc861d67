"""Reads the four IDX files of MNIST and Fashion-MNIST; their headers are checked against their contents."""

import gzip
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hw_common.data import download
from hw_common.data.transfer import Download
from hw_common.runs import files
from hw_common.runs.errors import UserError

_FILES = (
    *("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    *("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
)
# The size of all four files, and the licence, in words.
_ABOUT = {"MNIST": "12 MB in all, licence CC BY-SA 3.0", "FashionMNIST": "31 MB in all, MIT licence"}
_MOST_IMAGES = 10**6
_LARGEST_SIDE = 1024  # pixels
_LARGEST_ARRAY = 2**30  # bytes; a packed file of a few megabytes could unpack to more than the memory can hold
_BLOCK = 2**20

Part = tuple[np.ndarray, np.ndarray]  # images (N, H, W) uint8, labels (N,) int64


@dataclass(frozen=True)
class IdxFiles:
    """The content of the four files."""

    folder: Path  # folder of the files, for messages
    train: Part  # all training images with their labels, in the order of the files
    test: Part  # all test images with their labels
    hashes: Mapping[str, str]  # SHA-256 of each file


def load(dataset: str, data_dir: Path, side: int | None = None) -> IdxFiles:
    """Reads the four files of `dataset`; downloads missing ones.

    Args:
        dataset: "MNIST" or "FashionMNIST", torchvision's names.
        data_dir: folder that contains <dataset>/raw with the files, gzipped or not, as torchvision stores them.
        side: required height and width of the images in pixels; None for any.

    Raises:
        UserError: a file is missing and cannot be downloaded, is damaged, or has the wrong content.
    """
    folder = data_dir / dataset / "raw"
    missing = [name for name in _FILES if not (folder / name).is_file() and not (folder / f"{name}.gz").is_file()]
    if missing:
        download.place(folder, _downloads(dataset, missing))
    arrays, hashes = {}, {}
    for name in _FILES:
        path = folder / name if (folder / name).is_file() else folder / f"{name}.gz"
        arrays[name] = _read(path, side)
        hashes[f"{dataset}/{path.name}"] = files.sha256(path)
    train, test = (
        _pair(folder, what, arrays[f"{what}-images-idx3-ubyte"], arrays[f"{what}-labels-idx1-ubyte"])
        for what in ("train", "t10k")
    )
    return IdxFiles(folder, train, test, hashes)


def check_labels(source: IdxFiles, classes: int = 10) -> None:
    """Refuses files with fewer than two images in a part, or with a label outside the classes.

    Raises:
        UserError: a part is refused; the message names it.
    """
    for what, (_, labels) in (("train", source.train), ("t10k", source.test)):
        if len(labels) < 2:
            raise UserError(f"{source.folder}: {what} has {len(labels)} images, expected at least two")
        if labels.max() >= classes:
            raise UserError(f"{source.folder}: {what} has the label {labels.max()}, expected 0 to {classes - 1}")


def _pair(folder: Path, what: str, images: np.ndarray, labels: np.ndarray) -> Part:
    if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
        raise UserError(
            f"{folder}: {what} images {images.shape} and labels {labels.shape} do not belong together, "
            "expected (N, height, width) and (N,)"
        )
    return images, labels.astype(np.int64)


def _downloads(dataset: str, missing: Sequence[str]) -> list[Download]:
    from torchvision import datasets  # slow to import, and only needed if a file is missing

    source = getattr(datasets, dataset)
    return [
        Download(name, [f"{mirror.rstrip('/')}/{name}" for mirror in source.mirrors], md5, about=_ABOUT[dataset])
        for name, md5 in source.resources
        if name.removesuffix(".gz") in missing
    ]


def _read(path: Path, side: int | None) -> np.ndarray:
    """Reads an IDX file of bytes, gzipped or not, and checks its header against its size."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            header = file.read(4)
            if len(header) < 4 or header[:3] != b"\0\0\x08" or header[3] not in (1, 3):
                raise UserError(f"{path} is not an IDX file of bytes: it starts with {header.hex() or 'nothing'}")
            sides = file.read(4 * header[3])
            shape = np.frombuffer(sides.ljust(4 * header[3], b"\0"), dtype=">u4").astype(int)
            if len(sides) < 4 * header[3] or not _is_believable(shape, side):
                raise UserError(f"{path} is damaged: its header claims the shape {tuple(shape.tolist())}")
            size = int(np.prod(shape))
            data = bytearray()
            while len(data) <= size and (block := file.read(min(_BLOCK, size + 1 - len(data)))):
                data += block
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} is damaged or cut short: {error}") from error
    if len(data) != size:
        raise UserError(f"{path} is cut short or too long: expected {size} bytes of data, found {len(data)} or more")
    return np.frombuffer(data, dtype=np.uint8).reshape(shape)


def _is_believable(shape: np.ndarray, side: int | None) -> bool:
    sides = shape[1:]
    fits = (sides > 0) & (sides <= _LARGEST_SIDE) if side is None else sides == side
    return shape[0] <= _MOST_IMAGES and bool(fits.all()) and int(np.prod(shape)) <= _LARGEST_ARRAY
