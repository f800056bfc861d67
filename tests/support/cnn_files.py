"""Small data sets in the real file formats, and files with false headers; used by the tests of hw_cnn."""

import gzip
import hashlib
import io
import pickle
import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

IDX_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def pixels(*shape: int, seed: int = 0) -> np.ndarray:
    """Random uint8 numbers of that shape."""
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def cycle(count: int, classes: int) -> np.ndarray:
    """Labels 0, 1, 2, …, 0, 1, …"""
    return (np.arange(count) % classes).astype(np.uint8)


def md5(data: bytes) -> str:
    """A gzipped file, as the data sets publish it."""
    return hashlib.md5(data).hexdigest()


# IDX: MNIST and Fashion-MNIST


def idx(array: np.ndarray) -> bytes:
    """An IDX file of bytes."""
    return idx_header(*array.shape) + array.tobytes()


def idx_header(*shape: int) -> bytes:
    """The start of an IDX file of bytes that claims `shape`."""
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, 8, len(shape), *shape)


def idx_arrays(train: int = 12, test: int = 5) -> dict[str, np.ndarray]:
    """Images of 28×28 and labels 0-9, by file name."""
    arrays = (pixels(train, 28, 28), cycle(train, 10), pixels(test, 28, 28, seed=1), cycle(test, 10))
    return dict(zip(IDX_FILES, arrays, strict=True))


def write_idx(data_dir: Path, name: str = "MNIST", *, gz: bool = False, **replaced: bytes) -> Path:
    """Writes the four files of `name`; `replaced` has train_images=…, t10k_labels=… and so on. Returns their folder."""
    folder = data_dir / name / "raw"
    folder.mkdir(parents=True, exist_ok=True)
    for file, array in idx_arrays().items():
        content = replaced.get("_".join(file.split("-")[:2]), idx(array))
        if gz:
            (folder / f"{file}.gz").write_bytes(gzip.compress(content, mtime=0))
        else:
            (folder / file).write_bytes(content)
    return folder


# NPZ: OCTMNIST


def npz_arrays(train: int = 6, val: int = 5, test: int = 4) -> dict[str, np.ndarray]:
    """Images of 28×28 and labels (N, 1) from 0 to 3, as medmnist publishes them."""
    arrays = {}
    for seed, (split, count) in enumerate({"train": train, "val": val, "test": test}.items()):
        arrays[f"{split}_images"] = pixels(count, 28, 28, seed=seed)
        arrays[f"{split}_labels"] = cycle(count, 4)[:, None]
    return arrays


def write_npz(data_dir: Path, **replaced: np.ndarray | None) -> Path:
    """Writes octmnist.npz with some arrays replaced, or left out where None; returns its path."""
    arrays = {name: array for name, array in {**npz_arrays(), **replaced}.items() if array is not None}
    np.savez_compressed(data_dir / "octmnist.npz", **arrays)
    return data_dir / "octmnist.npz"


def npy_header(*shape: int) -> bytes:
    """The start of an .npy file of bytes that claims `shape`."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return file.getvalue()


# Python pickles: CIFAR-10

CIFAR_CLASSES = "airplane automobile bird cat deer dog frog horse ship truck".split()


def write_cifar(data_dir: Path, monkeypatch: Any, labels: Sequence[int] = range(4)) -> Path:
    """Writes six batches with an image per label, and patches torchvision's hashes to match them."""
    from torchvision.datasets import CIFAR10

    folder = data_dir / CIFAR10.base_folder
    folder.mkdir(parents=True, exist_ok=True)

    def write(name: str, content: Mapping[str, Any]) -> str:
        (folder / name).write_bytes(pickle.dumps(content))
        return md5((folder / name).read_bytes())

    def batches(published: Sequence[Sequence[str]], first_seed: int) -> list[list[str]]:
        return [
            [name, write(name, {"data": pixels(len(labels), 3072, seed=seed), "labels": list(labels)})]
            for seed, (name, _) in enumerate(published, first_seed)
        ]

    meta = {**CIFAR10.meta, "md5": write("batches.meta", {"label_names": CIFAR_CLASSES})}
    monkeypatch.setattr(CIFAR10, "train_list", batches(CIFAR10.train_list, 0))
    monkeypatch.setattr(CIFAR10, "test_list", batches(CIFAR10.test_list, 9))
    monkeypatch.setattr(CIFAR10, "meta", meta)
    return folder


# Image folders


def write_folder(data_dir: Path, splits: Mapping[str, int], classes: Sequence[str] = ("cat", "dog")) -> Path:
    """Writes <split>/<class>/<number>.png, as many per class as `splits` says; returns `data_dir`."""
    for seed, (split, count) in enumerate(splits.items()):
        for label, name in enumerate(classes):
            (data_dir / split / name).mkdir(parents=True)
            for number in range(count):
                image = Image.fromarray(pixels(6, 5, 3, seed=1000 * seed + 100 * label + number))
                image.save(data_dir / split / name / f"{number}.png")
    return data_dir


def png_claiming(width: int, height: int) -> bytes:
    """A PNG file of a few bytes whose header claims a large grey image."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


# Files with code inside


class Trap:
    """An object whose pickle contains code that creates the file `marker` when it is read."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        """What pickle calls when it reads the object."""
        return Path.touch, (self.marker,)
