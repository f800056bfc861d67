"""Data sets decoded once into memory, and mini-batches of crops with ImageNet's augmentation."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import transforms

from hw_common.training.batches import Batches, Tensors
from hw_transfer import sample, sources
from hw_transfer.images import decode_all
from hw_transfer.presets import DATASETS

# Pictures of each class: few insects, as in the sheet's data, and more of the shapes that the network learns before.
_INSECTS, _SHAPES = {"train": 32, "val": 50}, {"train": 50, "val": 10}
_EVALUATION_BATCH = 32


@dataclass(frozen=True)
class Split:
    """Pictures and their classes.

    Attributes:
        pictures: (height, width, 3) uint8 each, of any height and width.
        labels: (N,) int64.
    """

    pictures: Sequence[np.ndarray]
    labels: Tensor

    def __len__(self) -> int:
        return len(self.pictures)


@dataclass(frozen=True)
class PictureData:
    """A data set in memory.

    Attributes:
        name: of the data set.
        size: height and width of the crops that the network sees.
        train: for training.
        val: for choosing and reporting; the sheet has no test set.
        classes: their names.
        hashes: SHA-256 of the decoded pictures of each split.
    """

    name: str
    size: int
    train: Split
    val: Split
    classes: tuple[str, ...]
    hashes: Mapping[str, str]


def load(dataset: str, data_dir: Path) -> PictureData:
    """Reads `dataset` from `data_dir`, downloading it on first use.

    Args:
        dataset: one of presets.DATASETS.
        data_dir: where the data sets are; for "folder", the folder with train and val.

    Raises:
        UserError: a file is missing and cannot be downloaded, or is damaged; a class has fewer than two pictures.
    """
    if dataset in ("sample", "sample-source"):
        kinds, counts = (sample.INSECTS, _INSECTS) if dataset == "sample" else (sample.SHAPES, _SHAPES)
        classes, painted = tuple(kinds), sample.paint(kinds, counts)
        labels = {split: np.arange(len(classes)).repeat(count).tolist() for split, count in counts.items()}
    else:
        listing = sources.find(dataset, data_dir)
        classes, labels = listing.classes, listing.labels
        painted = {split: decode_all(files, f"reading {split}") for split, files in listing.files.items()}
    splits = {split: Split(painted[split], torch.tensor(labels[split])) for split in sources.SPLITS}
    facts = DATASETS[dataset]
    hashes = {f"{dataset}/{name}": _hash(split) for name, split in splits.items()}
    return PictureData(facts.title, facts.size, splits["train"], splits["val"], classes, hashes)


def _hash(split: Split) -> str:
    digest = hashlib.sha256(split.labels.numpy())
    for picture in split.pictures:
        digest.update(f"{picture.shape}".encode())
        digest.update(picture)
    return digest.hexdigest()


def training_batches(split: Split, size: int, batch_size: int, seed: int) -> Batches:
    """Shuffled mini-batches (images (B, 3, size, size) uint8, labels (B,)), cropped and mirrored anew each epoch.

    The crops are those of the sheet, torchvision's RandomResizedCrop and RandomHorizontalFlip; which ones depends on
    (seed, epoch) alone. Up to 2048 of them are in memory at a time: 300 MB at size 224.
    """

    def prepare(rows: Tensors, generator: torch.Generator) -> Tensors:
        indices, labels = rows
        return random_crops([split.pictures[i] for i in indices.tolist()], size, generator), labels

    return Batches((torch.arange(len(split)), split.labels), batch_size, seed, prepare)


def evaluation_batches(split: Split, size: int) -> Batches:
    """Mini-batches in order of (images (B, 3, size, size) uint8, labels (B,)), each picture's middle."""
    return Batches((central_crops(split.pictures, size), split.labels), _EVALUATION_BATCH, shuffle=False)


def random_crops(pictures: Sequence[np.ndarray], size: int, generator: torch.Generator) -> Tensor:
    """A random part of each picture, mirrored or not, as (N, 3, size, size) uint8 in channels_last."""
    crop = transforms.Compose([transforms.RandomResizedCrop(size), transforms.RandomHorizontalFlip()])
    seed = int(torch.randint(2**62, (), generator=generator))
    with torch.random.fork_rng(devices=[]):  # torchvision draws from the global generator
        torch.default_generator.manual_seed(seed)
        return _stack([crop(Image.fromarray(picture)) for picture in pictures])


def central_crops(pictures: Sequence[np.ndarray], size: int) -> Tensor:
    """The middle of each picture, reduced to 8/7 of `size` (256 for 224), as (N, 3, size, size) uint8."""
    crop = transforms.Compose([transforms.Resize(size * 8 // 7), transforms.CenterCrop(size)])
    return _stack([crop(Image.fromarray(picture)) for picture in pictures])


def _stack(images: Sequence[Image.Image]) -> Tensor:
    return torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(0, 3, 1, 2)
