"""Data sets decoded into memory, and mini-batches of crops with the usual augmentation of ImageNet."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import transforms
from torchvision.datasets.folder import IMG_EXTENSIONS

from hw_common.data import class_folders, download
from hw_common.data.class_folders import ClassFolders
from hw_common.data.transfer import Download
from hw_common.training.batches import Batches, Tensors
from hw_transfer import sample
from hw_transfer.images import decode_all
from hw_transfer.presets import DATASETS

_SPLITS = ("train", "val")
_NAME = "hymenoptera_data"
# The archive of the course, with its published MD5.
_DOWNLOAD = Download(
    f"{_NAME}.zip",
    [f"https://download.pytorch.org/tutorial/{_NAME}.zip"],
    "5f8c32a6554f6acb4d649776e7735e48",
    size=47_286_322,
    about="47 MB, a part of ImageNet without a licence of its own",
)
# Number of pictures of each class in the samples; there are few training pictures of insects, as in the sheet's data.
_INSECTS, _SHAPES = {"train": 32, "val": 50}, {"train": 50, "val": 10}
_EVALUATION_BATCH = 32


@dataclass(frozen=True)
class Split:
    """Pictures and their classes."""

    pictures: Sequence[np.ndarray]  # pictures, each (height, width, 3) uint8 of its own size
    labels: Tensor  # class of each picture, (N,) int64

    def __len__(self) -> int:
        return len(self.pictures)


@dataclass(frozen=True)
class PictureData:
    """A data set in memory."""

    name: str  # name in messages and figures
    size: int  # height and width of the network's input, in pixels
    train: Split  # training pictures
    val: Split  # validation pictures, also used for the reported results, since the sheet has no test set
    classes: tuple[str, ...]  # names of the classes
    hashes: Mapping[str, str]  # SHA-256 of each split's decoded pictures and labels


def load(dataset: str, data_dir: Path) -> PictureData:
    """Reads `dataset` from `data_dir`, and downloads it first if it is missing.

    Args:
        dataset: one of presets.DATASETS.
        data_dir: folder of the data sets; for "folder", the folder with train and val.

    Raises:
        UserError: a file is missing and cannot be downloaded, or is damaged; a class has fewer than two pictures.
    """
    if dataset in ("sample", "sample-source"):
        kinds, counts = (sample.INSECTS, _INSECTS) if dataset == "sample" else (sample.SHAPES, _SHAPES)
        classes, pictures = tuple(kinds), sample.paint(kinds, counts)
        labels = {split: np.arange(len(classes)).repeat(count).tolist() for split, count in counts.items()}
    else:
        listed = _list_files(dataset, data_dir)
        classes, labels = listed.classes, dict(listed.labels)
        pictures = {split: decode_all(files, f"reading {split}") for split, files in listed.files.items()}
    splits = {split: Split(pictures[split], torch.tensor(labels[split])) for split in _SPLITS}
    facts = DATASETS[dataset]
    hashes = {f"{dataset}/{name}": _hash(split) for name, split in splits.items()}
    return PictureData(facts.title, facts.size, splits["train"], splits["val"], classes, hashes)


def _list_files(dataset: str, data_dir: Path) -> ClassFolders:
    """Lists the image files of "hymenoptera" or "folder"; like torchvision's ImageFolder, it skips other files.

    hymenoptera is `hymenoptera_data/{train,val}/{ants,bees}/*`, in a folder or a zip or tar archive in `data_dir`. An
    archive is not unpacked, so `data_dir` may be read-only. If there is neither, the zip archive is downloaded.
    """
    folder = data_dir if dataset == "folder" else data_dir / _NAME
    archives = [data_dir / f"{_NAME}{suffix}" for suffix in (".zip", ".tar", ".tar.gz")]
    if dataset == "folder" or folder.is_dir():
        return class_folders.list_folder(folder, _SPLITS, smallest_class=2, suffixes=IMG_EXTENSIONS)
    archive = next(filter(Path.is_file, archives), None) or download.place(data_dir, [_DOWNLOAD])[0]
    return class_folders.list_archive(archive, _SPLITS, smallest_class=2, suffixes=IMG_EXTENSIONS)


def _hash(split: Split) -> str:
    digest = hashlib.sha256(split.labels.numpy().data)
    for picture in split.pictures:
        digest.update(f"{picture.shape}".encode())
        digest.update(np.ascontiguousarray(picture).data)
    return digest.hexdigest()


def training_batches(split: Split, size: int, batch_size: int, seed: int) -> Batches:
    """Returns shuffled mini-batches (images (B, 3, size, size) uint8, labels (B,)) of random crops.

    As in the sheet, torchvision's RandomResizedCrop and RandomHorizontalFlip make the crops. Each epoch has new crops,
    which depend only on the seed and the epoch. Up to 2048 crops are in memory at a time: 300 MB at size 224.
    """

    def prepare(rows: Tensors, generator: torch.Generator) -> Tensors:
        indices, labels = rows
        return random_crops([split.pictures[i] for i in indices.tolist()], size, generator), labels

    return Batches((torch.arange(len(split)), split.labels), batch_size, seed, prepare)


def evaluation_batches(split: Split, size: int) -> Batches:
    """Returns mini-batches (images (B, 3, size, size) uint8, labels (B,)) of central crops, in order."""
    return Batches((central_crops(split.pictures, size), split.labels), _EVALUATION_BATCH, shuffle=False)


def random_crops(pictures: Sequence[np.ndarray], size: int, generator: torch.Generator) -> Tensor:
    """Returns a random crop of each picture, randomly mirrored, as (N, 3, size, size) uint8 in channels_last."""
    crop = transforms.Compose([transforms.RandomResizedCrop(size), transforms.RandomHorizontalFlip()])
    seed = int(torch.randint(2**62, (), generator=generator))
    with torch.random.fork_rng(devices=[]):  # torchvision draws from the global generator
        torch.default_generator.manual_seed(seed)
        return _stack([crop(Image.fromarray(picture)) for picture in pictures])


def central_crops(pictures: Sequence[np.ndarray], size: int) -> Tensor:
    """Returns the middle of each picture as (N, 3, size, size) uint8.

    Before cropping, the shorter side is resized to 8/7 of `size`: to 256 pixels if `size` is 224.
    """
    crop = transforms.Compose([transforms.Resize(size * 8 // 7), transforms.CenterCrop(size)])
    return _stack([crop(Image.fromarray(picture)) for picture in pictures])


def _stack(images: Sequence[Image.Image]) -> Tensor:
    return torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(0, 3, 1, 2)
