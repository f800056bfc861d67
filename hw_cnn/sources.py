"""Readers: each data set's files to plain arrays, believing nothing that the files do not bear out."""

import hashlib
import pickle
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np

from hw_cnn.images import decode_all, find_classes, list_images
from hw_cnn.presets import Network
from hw_common.data import download, idx
from hw_common.runs import files
from hw_common.runs.errors import UserError

_FASHION_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
_OCT_CLASSES = ("choroidal neovascularization", "diabetic macular edema", "drusen", "normal")
_LARGEST_NPZ = 2**31  # bytes when unpacked; OCTMNIST has 90 million
# What NumPy and zipfile raise for a damaged or malicious file.
_NPZ_ERRORS = (
    *(OSError, EOFError, ValueError, SyntaxError, RuntimeError, MemoryError),
    *(tokenize.TokenError, zipfile.BadZipFile, zlib.error),
)

Part = tuple[np.ndarray, np.ndarray]  # images (N, H, W) or (N, H, W, C) uint8, labels (N,) int64


@dataclass(frozen=True)
class Source:
    """A data set as its files have it.

    Attributes:
        name: what people call it.
        train: for training.
        val: for choosing.
        test: for reporting.
        classes: their names.
        hashes: SHA-256 of each data file (of the decoded pixels, for folders and the sample).
    """

    name: str
    train: Part
    val: Part
    test: Part
    classes: tuple[str, ...]
    hashes: Mapping[str, str]


def _split_off(images: np.ndarray, labels: np.ndarray, count: int, seed: int = 42) -> list[Part]:
    """The course's way to split: scikit-learn's, by default with its random_state 42."""
    from sklearn.model_selection import train_test_split  # slow to import

    if not 0 < count < len(labels):
        raise UserError(f"{len(labels)} training images are too few to split {count} off for validation")
    train, val = train_test_split(np.arange(len(labels)), test_size=count, random_state=seed)
    return [(images[train], labels[train]), (images[val], labels[val])]


def _load_idx(name: str, folder: str, classes: tuple[str, ...], data_dir: Path) -> Source:
    source = idx.load(folder, data_dir)
    # The course keeps 10 000 of 60 000 for validation; smaller files in the same format keep a sixth too.
    train_parts = _split_off(*source.train, count=len(source.train[1]) // 6)
    return Source(name, *train_parts, source.test, classes, source.hashes)


def _load_octmnist(data_dir: Path) -> Source:
    path = data_dir / "octmnist.npz"
    if not path.is_file():
        from medmnist import INFO  # slow to import

        download.place(data_dir, [download.Download(path.name, [INFO["octmnist"]["url"]], INFO["octmnist"]["MD5"])])
    parts = []
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > _LARGEST_NPZ:
            raise UserError(f"{path} claims {unpacked} bytes when unpacked, more than the limit of {_LARGEST_NPZ}")
        with np.load(path, allow_pickle=False) as arrays:
            for split in ("train", "val", "test"):
                images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
                if not (isinstance(images, np.ndarray) and isinstance(labels, np.ndarray)):
                    raise ValueError(f"{split} images or labels are no array")
                if labels.dtype.kind not in "iu":
                    raise ValueError(f"{split}_labels are not whole numbers")
                parts.append((images, labels.reshape(-1).astype(np.int64)))
    except KeyError as error:
        raise UserError(f"{path} is not OCTMNIST: {error.args[0]}") from error
    except _NPZ_ERRORS as error:
        raise UserError(f"{path} is damaged or holds more than plain arrays (nothing was run): {error}") from error
    for images, labels in parts:
        if images.dtype != np.uint8 or images.ndim != 3 or len(images) != len(labels) or 0 in images.shape[1:]:
            raise UserError(
                f"{path}: expected images (N, 28, 28) uint8 and N labels, got {images.shape} {images.dtype}"
            )
    return Source("OCTMNIST", *parts, _OCT_CLASSES, {path.name: files.sha256(path)})


def _load_cifar10(data_dir: Path) -> Source:
    from torchvision.datasets import CIFAR10  # slow to import

    if not (data_dir / CIFAR10.base_folder).is_dir():
        [archive] = download.place(data_dir, [download.Download(CIFAR10.filename, [CIFAR10.url], CIFAR10.tgz_md5)])
        download.unpack(archive, CIFAR10.base_folder)
    try:
        # These files are pickles: torchvision compares each one's hash with the published one before it opens any.
        train, test = CIFAR10(data_dir, train=True), CIFAR10(data_dir, train=False)
    except (RuntimeError, OSError, pickle.UnpicklingError) as error:
        folder = data_dir / CIFAR10.base_folder
        raise UserError(f"{folder} is not the published CIFAR-10; remove it, and it is downloaded again") from error
    train_parts = _split_off(train.data, np.array(train.targets), count=len(train.data) // 10)
    published = {f"cifar10/{name}": f"md5:{md5}" for name, md5 in CIFAR10.train_list + CIFAR10.test_list}
    return Source("CIFAR-10", *train_parts, (test.data, np.array(test.targets)), tuple(train.classes), published)


def _load_sample(data_dir: Path) -> Source:
    from sklearn.datasets import load_digits  # slow to import; comes with scikit-learn, so `data_dir` is not used

    digits = load_digits()
    images, labels = (digits.images * (255 / 16)).round().astype(np.uint8), digits.target.astype(np.int64)
    train, test = _split_off(images, labels, count=297)
    hashes = {"digits": _hash_arrays(images, labels)}
    return Source("sample digits", *_split_off(*train, count=300), test, tuple("0123456789"), hashes)


READERS: Mapping[str, Callable[[Path], Source]] = MappingProxyType({
    "fashion-mnist": lambda data_dir: _load_idx("Fashion-MNIST", "FashionMNIST", _FASHION_CLASSES, data_dir),
    "mnist": lambda data_dir: _load_idx("MNIST", "MNIST", tuple("0123456789"), data_dir),
    "octmnist": _load_octmnist,
    "cifar10": _load_cifar10,
    "sample": _load_sample,
})  # fmt: skip


def read_folder(data_dir: Path, network: Network, seed: int) -> Source:
    """Reads `<data_dir>/{train,val,test}/<class>/*` at the input size of `network`.

    Raises:
        UserError: a folder is missing or empty, the class folders differ, or a file is no image.
    """
    has_val = (data_dir / "val").is_dir()
    names = ("train", "val", "test") if has_val else ("train", "test")
    for name in names:
        if not (data_dir / name).is_dir():
            raise UserError(
                f"{data_dir / name} does not exist; --dataset folder expects {data_dir}/{{train,val,test}}/<class>/* "
                "(name the folder with --data_dir)"
            )
    classes = find_classes(data_dir / "train")
    if len(classes) < 2:
        raise UserError(f"{data_dir / 'train'} has {len(classes)} class folders, expected at least two")
    listed = {}
    for name in names:
        found = find_classes(data_dir / name)
        if found != classes:
            odd = sorted(set(found) ^ set(classes))
            raise UserError(f"{data_dir / name} and {data_dir / 'train'} differ in the class folders {', '.join(odd)}")
        listed[name] = list_images(data_dir / name, classes)
    parts, hashes = {}, {}
    for name, (paths, labels) in listed.items():
        images = decode_all(paths, network.channels, network.size, f"reading {name} images")
        parts[name] = (images, labels)
        hashes[f"folder/{name}"] = _hash_arrays(images, labels)
    if not has_val:
        parts["train"], parts["val"] = _split_off(
            *parts["train"], count=max(1, len(parts["train"][1]) // 10), seed=seed
        )
    return Source("image folder", parts["train"], parts["val"], parts["test"], tuple(classes), hashes)


def _hash_arrays(*arrays: np.ndarray) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()
