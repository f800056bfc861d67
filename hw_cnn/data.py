"""Data sets as uint8 tensors in memory, at a network's input size, and mini-batches of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hw_cnn.presets import Network
from hw_cnn.sources import READERS, read_folder
from hw_common.runs.errors import UserError
from hw_common.training.batches import Batches, Tensors

# ist-2023-24: the course's test set is the first 182/55/42/250 test images of classes 0-3.
_COURSE_OCT_COUNTS = (182, 55, 42, 250)


@dataclass(frozen=True)
class Split:
    """Images and their classes.

    Attributes:
        images: (N, C, H, W) uint8.
        labels: (N,) int64.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class ImageData:
    """A data set, cut into splits and brought to a network's input size.

    Attributes:
        name: of the data set.
        train: for training.
        val: for choosing.
        test: for reporting.
        classes: their names.
        hashes: of each data file.
        course_subset: indices of the course's own test set, where it is not the published one.
    """

    name: str
    train: Split
    val: Split
    test: Split
    classes: tuple[str, ...]
    hashes: Mapping[str, str]
    course_subset: Tensor | None = None


def load(dataset: str, data_dir: Path, network: Network, seed: int) -> ImageData:
    """Reads `dataset` from `data_dir`, downloading it on first use, at the input size of `network`.

    Args:
        dataset: one of presets.DATASETS.
        data_dir: where the data sets are; for "folder", the folder with train, val and test.
        network: decides on grey or RGB and on the size.
        seed: splits the validation images off a folder without `val`; the course's splits have their own seed.

    Raises:
        UserError: a file is missing and cannot be downloaded, is damaged, or does not hold what it should.
    """
    source = read_folder(data_dir, network, seed) if dataset == "folder" else READERS[dataset](data_dir)
    splits = []
    for part, (images, labels) in {"training": source.train, "validation": source.val, "test": source.test}.items():
        if len(labels) == 0:
            raise UserError(f"{source.name} in {data_dir} has no {part} images")
        wrong = labels[(labels < 0) | (labels >= len(source.classes))]
        if len(wrong):
            raise UserError(
                f"{source.name} in {data_dir}: {part} label {wrong[0]} is out of range, "
                f"expected 0 to {len(source.classes) - 1}"
            )
        splits.append(Split(_fit_to(network, images), torch.from_numpy(labels)))
    subset = _course_subset(splits[2].labels) if dataset == "octmnist" else None
    return ImageData(source.name, *splits, source.classes, source.hashes, subset)


def _course_subset(labels: Tensor) -> Tensor | None:
    """Indices of the course's 529 test images; None where a class has too few."""
    chosen = [torch.nonzero(labels == c).flatten()[:count] for c, count in enumerate(_COURSE_OCT_COUNTS)]
    if tuple(map(len, chosen)) != _COURSE_OCT_COUNTS:
        return None
    return torch.cat(chosen).sort().values


def _fit_to(network: Network, images: np.ndarray) -> Tensor:
    """(N, H, W) or (N, H, W, C) uint8 to the network's (N, channels, size, size) uint8."""
    pixels = torch.from_numpy(np.ascontiguousarray(images))
    pixels = pixels[:, None] if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2)
    if network.channels == 1 and pixels.shape[1] == 3:
        weights = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)  # ITU-R 601, as Pillow's "L"
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
    """Mini-batches (images (B, C, H, W) float in channels_last, labels (B,)) of `split`, scaled as `network` wants.

    Args:
        split: moved to `device` whole: these data sets are small.
        network: decides on the scaling.
        batch_size: over all processes.
        device: where the batches are to be.
        seed: with the epoch, fixes the order and the augmentation.
        shuffle: for training.
        augment: random flips and shifts by up to two pixels.
    """

    def prepare(rows: Tensors, generator: torch.Generator) -> Tensors:
        images, labels = rows
        if augment:
            images = flip_and_shift(images, generator)
        return to_input(images, network), labels

    return Batches((split.images.to(device), split.labels.to(device)), batch_size, seed, prepare, shuffle)


def to_input(images: Tensor, network: Network) -> Tensor:
    """(B, C, H, W) uint8 to the floats that `network` takes, in channels_last."""
    floats = images.to(torch.float, memory_format=torch.channels_last).div_(network.scale)
    return floats.sub_(network.mean).div_(network.std) if (network.mean, network.std) != (0, 1) else floats


def flip_and_shift(images: Tensor, generator: torch.Generator, reach: int = 2) -> Tensor:
    """Mirrors half of `images` (B, C, H, W) and shifts each by up to `reach` pixels; black comes in at the edges."""
    count, _, height, width = images.shape
    flipped = torch.rand(count, generator=generator) < 0.5
    offsets = torch.randint(0, 2 * reach + 1, (2, count), generator=generator)
    columns = torch.arange(width).repeat(count, 1)
    columns[flipped] = columns[flipped].flip(1)
    columns = (columns + offsets[1][:, None]).to(images.device)
    rows = (torch.arange(height) + offsets[0][:, None]).to(images.device)
    padded = F.pad(images, (reach,) * 4)
    every = torch.arange(count, device=images.device)[:, None, None]
    # Advanced indices around the channel slice: (B, H, W, C), hence back to (B, C, H, W).
    return padded[every, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
