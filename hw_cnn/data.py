"""Data sets in memory as uint8 tensors at a network's input size, and mini-batches of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hw_cnn.presets import Network
from hw_cnn.readers import READERS, Part, read_folder, read_medmnist
from hw_common.runs.errors import UserError
from hw_common.training.batches import Batches, Tensors

# ist-2023-24-hw2: the course tests on the first 182, 55, 42 and 250 test images of the classes 0 to 3.
_COURSE_OCT_COUNTS = (182, 55, 42, 250)


@dataclass(frozen=True)
class Split:
    """Images and their classes."""

    images: Tensor  # images (N, C, H, W) uint8
    labels: Tensor  # class of each image, (N,) int64

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class ImageData:
    """A data set, split three ways, at a network's input size."""

    name: str  # name in messages and figures
    train: Split  # training images
    val: Split  # validation images
    test: Split  # test images
    classes: tuple[str, ...]  # names of the classes
    hashes: Mapping[str, str]  # hash of each data file
    # positions in `test` of the images that the course tests on; None if there is no such subset
    course_subset: Tensor | None = None
    facts: Mapping[str, str] = field(default_factory=dict)  # for a set of MedMNIST: its flag, task and licence


def load(dataset: str, data_dir: Path, network: Network, seed: int, medmnist_flag: str | None = None) -> ImageData:
    """Reads `dataset` from `data_dir` at the input size of `network`, and downloads it first if it is missing.

    Args:
        dataset: one of presets.DATASETS.
        data_dir: folder of the data sets; for "folder", the folder with train, val and test.
        network: network, which determines the size and colours (grey or RGB) of the images.
        seed: random seed of the validation split of a folder without `val`; all other splits are fixed.
        medmnist_flag: key of presets.MEDMNIST, for "medmnist".

    Raises:
        UserError: a file is missing and cannot be downloaded, is damaged, or has unexpected content.
    """
    if dataset == "folder":
        raw = read_folder(data_dir, network, seed)
    else:
        raw = read_medmnist(medmnist_flag, data_dir) if medmnist_flag else READERS[dataset](data_dir)
    where = f"{raw.name} in {data_dir}"
    train, val, test = (
        _check_and_fit(part, network, len(raw.classes), where, name)
        for name, part in (("training", raw.train), ("validation", raw.val), ("test", raw.test))
    )
    subset = _course_subset(test.labels) if dataset == "octmnist" else None
    return ImageData(raw.name, train, val, test, raw.classes, raw.hashes, subset, raw.facts if medmnist_flag else {})


def _check_and_fit(part: Part, network: Network, classes: int, where: str, name: str) -> Split:
    images, labels = part
    if len(labels) == 0:
        raise UserError(f"{where} has no {name} images")
    wrong = labels[(labels < 0) | (labels >= classes)]
    if len(wrong):
        raise UserError(f"{where}: {name} label {wrong[0]} is out of range, expected 0 to {classes - 1}")
    return Split(_fit_to(network, images), torch.from_numpy(labels))


def _course_subset(labels: Tensor) -> Tensor | None:
    """Returns the positions of the course's 529 test images, or None if a class has too few images."""
    chosen = [torch.nonzero(labels == c).flatten()[:count] for c, count in enumerate(_COURSE_OCT_COUNTS)]
    if tuple(map(len, chosen)) != _COURSE_OCT_COUNTS:
        return None
    return torch.cat(chosen).sort().values


def _fit_to(network: Network, images: np.ndarray) -> Tensor:
    """Turns images (N, H, W) or (N, H, W, C) uint8 into the network's (N, channels, size, size) uint8."""
    pixels = torch.from_numpy(np.ascontiguousarray(images))
    pixels = pixels[:, None] if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2)
    if network.channels == 1 and pixels.shape[1] == 3:
        weights = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)  # ITU-R 601, as in Pillow's mode "L"
        pixels = (pixels * weights).sum(1, keepdim=True).round().to(torch.uint8)
    elif network.channels == 3:
        pixels = pixels.expand(-1, 3, -1, -1)
    if pixels.shape[2:] != (network.size, network.size):
        size = (network.size, network.size)
        pixels = F.interpolate(pixels.float(), size, mode="bilinear", antialias=True).round().to(torch.uint8)
    return pixels.contiguous()


def batches(
    split: Split,
    network: Network,
    batch_size: int,
    *,
    device: torch.device,
    seed: int = 0,
    shuffle: bool = False,
    augment: bool = False,
) -> Batches:
    """Returns mini-batches (images (B, C, H, W) float in channels_last, labels (B,)), scaled for `network`.

    Args:
        split: images and labels; all of them are moved to `device`, since these data sets are small.
        network: network, which determines how pixels are scaled.
        batch_size: examples per step, over all processes.
        device: device of the batches.
        seed: random seed; together with the epoch's number it fixes the order and the augmentation.
        shuffle: whether to shuffle the images anew for each epoch.
        augment: whether to flip images at random and shift them by up to two pixels.
    """

    def prepare(rows: Tensors, generator: torch.Generator) -> Tensors:
        images, labels = rows
        if augment:
            images = flip_and_shift(images, generator)
        return to_input(images, network), labels

    return Batches((split.images.to(device), split.labels.to(device)), batch_size, seed, prepare, shuffle)


def to_input(images: Tensor, network: Network) -> Tensor:
    """Turns images (B, C, H, W) uint8 into the floats that `network` takes, in channels_last."""
    floats = images.to(torch.float, memory_format=torch.channels_last).div_(network.scale)
    return floats.sub_(network.mean).div_(network.std) if (network.mean, network.std) != (0, 1) else floats


def flip_and_shift(images: Tensor, generator: torch.Generator, reach: int = 2) -> Tensor:
    """Mirrors `images` (B, C, H, W) with probability 1/2 and shifts them by up to `reach` pixels, padded with zeros."""
    count, _, height, width = images.shape
    flipped = torch.rand(count, generator=generator) < 0.5
    offsets = torch.randint(0, 2 * reach + 1, (2, count), generator=generator)
    columns = torch.arange(width).repeat(count, 1)
    columns[flipped] = columns[flipped].flip(1)
    columns = (columns + offsets[1][:, None]).to(images.device)
    rows = (torch.arange(height) + offsets[0][:, None]).to(images.device)
    padded = F.pad(images, (reach,) * 4)
    every = torch.arange(count, device=images.device)[:, None, None]
    # Index arrays on both sides of a slice put the slice's dimension last: (B, H, W, C).
    return padded[every, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
