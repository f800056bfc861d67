"""Readers of the data sets: each turns files, which may be damaged or malicious, into plain arrays."""

import hashlib
import math
import pickle
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import IO

import numpy as np

from hw_cnn.images import decode_all
from hw_cnn.presets import Network
from hw_common.data import class_folders, download, idx
from hw_common.data.dataset_files import label_of
from hw_common.data.digits import small_digits
from hw_common.data.transfer import Download
from hw_common.runs import files
from hw_common.runs.errors import UserError

_FASHION_CLASSES = tuple("T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot".split(","))
_LARGEST_NPZ = 2**30  # bytes when unpacked; OCTMNIST has 90 million
# The exceptions that NumPy and zipfile raise for a damaged or malicious file.
_NPZ_ERRORS = (
    *(OSError, EOFError, ValueError, OverflowError, SyntaxError, RuntimeError, MemoryError),
    *(tokenize.TokenError, zipfile.BadZipFile, zlib.error),
)

Part = tuple[np.ndarray, np.ndarray]  # images (N, H, W) or (N, H, W, C) uint8, labels (N,) int64


@dataclass(frozen=True)
class RawDataset:
    """A data set as read from its files, before resizing."""

    name: str  # name in messages and figures
    train: Part  # training images and labels
    val: Part  # validation images and labels
    test: Part  # test images and labels
    classes: tuple[str, ...]  # names of the classes
    hashes: Mapping[str, str]  # hash of each data file, or of the arrays (image folders and the sample)
    facts: Mapping[str, str] = field(default_factory=dict)  # for a set of MedMNIST: its flag, task and licence


def _split_off(part: Part, count: int, seed: int = 42) -> tuple[Part, Part]:
    """Splits `count` images off like the course's code, which uses scikit-learn's train_test_split and random_state 42.

    scikit-learn takes the first images of a random permutation for testing and the next ones for training.
    """
    images, labels = part
    if not 0 < count < len(labels):
        raise UserError(f"{len(labels)} training images are too few to split {count} off for validation")
    order = np.random.RandomState(seed).permutation(len(labels))
    val, train = order[:count], order[count:]
    return (images[train], labels[train]), (images[val], labels[val])


def _load_idx(name: str, folder: str, classes: tuple[str, ...], data_dir: Path) -> RawDataset:
    found = idx.load(folder, data_dir)
    # The course validates on 10 000 of 60 000 images, a sixth; smaller files are split in the same proportion.
    train, val = _split_off(found.train, count=len(found.train[1]) // 6)
    return RawDataset(name, train, val, found.test, classes, found.hashes)


def read_medmnist(flag: str, data_dir: Path) -> RawDataset:
    """Reads `<data_dir>/<flag>.npz`, which is downloaded if it is missing.

    Raises:
        UserError: the file cannot be downloaded, is damaged or has unexpected arrays.
    """
    from medmnist import INFO  # slow to import

    facts, path = INFO[flag], data_dir / f"{flag}.npz"
    name, shape = facts["python_class"], (28, 28) if facts["n_channels"] == 1 else (28, 28, 3)
    if not path.is_file():
        size = sum(facts["n_samples"].values()) * math.prod(shape)
        about = f"{size / 1e6:.0f} MB of images, compressed, licence {facts['license']}"
        download.place(data_dir, [Download(path.name, [facts["url"]], facts["MD5"], about=about)])
    parts = []
    try:
        _check_sizes(path)
        with np.load(path, allow_pickle=False) as arrays:
            for split in ("train", "val", "test"):
                images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
                if not (isinstance(images, np.ndarray) and isinstance(labels, np.ndarray)):
                    raise ValueError(f"{split}_images or {split}_labels is not an array")
                if labels.dtype.kind not in "iu":
                    raise ValueError(f"{split}_labels are not integers")
                parts.append((images, labels.reshape(-1).astype(np.int64)))
    except KeyError as error:
        raise UserError(f"{path} is not {name}: {error.args[0]}") from error
    except _NPZ_ERRORS as error:
        raise UserError(f"{path} is damaged or contains Python objects, which are not loaded: {error}") from error
    for images, labels in parts:
        is_right = images.dtype == np.uint8 and images.ndim == 1 + len(shape) and images.shape[3:] == shape[2:]
        if not is_right or len(images) != len(labels) or 0 in images.shape[1:]:
            raise UserError(
                f"{path}: expected images (N, {', '.join(map(str, shape))}) uint8 and N labels, "
                f"got {images.shape} {images.dtype}"
            )
    train, val, test = parts
    classes = tuple(facts["label"].values())
    described = {"medmnist_flag": flag, "task": facts["task"], "licence": facts["license"]}
    return RawDataset(name, train, val, test, classes, {path.name: files.sha256(path)}, described)


def _check_sizes(path: Path) -> None:
    """Refuses an npz file that is too large, or in which the header of an array claims a wrong size."""
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > _LARGEST_NPZ:
            raise UserError(f"{path} would unpack to {unpacked} bytes, more than the limit of {_LARGEST_NPZ}")
        for entry in archive.infolist():
            with archive.open(entry) as member:
                if member.read(len(np.lib.format.MAGIC_PREFIX)) == np.lib.format.MAGIC_PREFIX:
                    member.seek(0)
                    _check_size(member, entry)


def _check_size(member: IO[bytes], entry: zipfile.ZipInfo) -> None:
    """Compares the shape in an array's header with its bytes; NumPy would allocate the array before it reads them."""
    version = np.lib.format.read_magic(member)
    if version not in ((1, 0), (2, 0)):  # NumPy writes version 3 only for arrays with named fields
        raise ValueError(f"{entry.filename} has version {version[0]}.{version[1]} of NumPy's format, expected 1 or 2")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(member)
    found = entry.file_size - member.tell()
    if not dtype.hasobject and math.prod(shape) * dtype.itemsize != found:
        raise ValueError(f"{entry.filename} has the shape {shape} of {dtype}, but {found} bytes")


def _load_cifar10(data_dir: Path) -> RawDataset:
    from torchvision.datasets import CIFAR10  # slow to import

    if not (data_dir / CIFAR10.base_folder).is_dir():
        about = "170 MB, its page names no licence"
        wanted = Download(CIFAR10.filename, [CIFAR10.url], CIFAR10.tgz_md5, about=about)
        [archive] = download.place(data_dir, [wanted])
        download.unpack(archive, CIFAR10.base_folder)
    try:
        # The files are pickles; torchvision checks their published hashes before it unpickles any of them.
        published, test = CIFAR10(data_dir, train=True), CIFAR10(data_dir, train=False)
    except (RuntimeError, OSError, pickle.UnpicklingError) as error:
        folder = data_dir / CIFAR10.base_folder
        raise UserError(f"{folder} is not the published CIFAR-10; remove it to download it again") from error
    train, val = _split_off((published.data, np.array(published.targets)), count=len(published.data) // 10)
    hashes = {f"cifar10/{name}": f"md5:{md5}" for name, md5 in CIFAR10.train_list + CIFAR10.test_list}
    return RawDataset("CIFAR-10", train, val, (test.data, np.array(test.targets)), tuple(published.classes), hashes)


def _load_sample(data_dir: Path) -> RawDataset:
    """Returns the digits that are part of scikit-learn; `data_dir` is not used."""
    images, labels = small_digits()
    images = (images * (255 / 16)).round().astype(np.uint8)
    rest, test = _split_off((images, labels), count=297)
    train, val = _split_off(rest, count=300)
    hashes = {"digits": _hash_arrays(images, labels)}
    return RawDataset("sample digits", train, val, test, tuple("0123456789"), hashes)


READERS: Mapping[str, Callable[[Path], RawDataset]] = MappingProxyType({
    "fashion-mnist": lambda data_dir: _load_idx("Fashion-MNIST", "FashionMNIST", _FASHION_CLASSES, data_dir),
    "mnist": lambda data_dir: _load_idx("MNIST", "MNIST", tuple("0123456789"), data_dir),
    "octmnist": partial(read_medmnist, "octmnist"),
    "cifar10": _load_cifar10,
    "sample": _load_sample,
})  # fmt: skip


def read_folder(data_dir: Path, network: Network, seed: int) -> RawDataset:
    """Reads `<data_dir>/{train,val,test}/<class>/*`, resized and converted (grey or RGB) for `network`.

    If there is no folder `val` (or valid, validation, dev), a random tenth of `train`, drawn with `seed`, is used for
    validation.

    Raises:
        UserError: a folder is missing or empty, the class folders differ, or a file is not an image.
    """
    listed = class_folders.list_folder(data_dir, ("train", "val", "test"), optional=("val",))
    parts: dict[str, Part] = {}
    hashes = {}
    for split, paths in listed.files.items():
        images = decode_all(paths, network.channels, network.size, f"reading {split} images")
        parts[split] = images, np.array(listed.labels[split], dtype=np.int64)
        hashes[f"folder/{split}"] = _hash_arrays(*parts[split])
    if "val" not in parts:
        parts["train"], parts["val"] = _split_off(parts["train"], max(1, len(parts["train"][1]) // 10), seed)
    return RawDataset(label_of(data_dir), parts["train"], parts["val"], parts["test"], listed.classes, hashes)


def _hash_arrays(*arrays: np.ndarray) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
