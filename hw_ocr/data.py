"""Letters and the words they stand in, as tensors in memory, and mini-batches of either."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hw_common.runs.errors import UserError
from hw_common.training.batches import Batches, SequenceBatches, Tensors
from hw_ocr.sources import FOLDS, READERS, Table

ALPHABET = "abcdefghijklmnopqrstuvwxyz"
# dsl-2019-hw3 trains on eight folds, chooses on the ninth and reports on the last.
_SPLITS = {"train": range(8), "dev": range(8, 9), "test": range(9, 10)}


@dataclass(frozen=True)
class Letters:
    """Letters in the order in which they stand in words.

    Attributes:
        images: (n, 16, 8) uint8, 0 for paper and 1 for ink.
        labels: (n,) int64 from 0 for a to 25 for z.
        lengths: (words,) int64, letters of each word; the words follow one another.
    """

    images: Tensor
    labels: Tensor
    lengths: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class OcrData:
    """A data set, cut into splits by fold; a word is never cut.

    Attributes:
        name: of the data set.
        train: for training.
        dev: for choosing.
        test: for reporting.
        hashes: of the data file.
    """

    name: str
    train: Letters
    dev: Letters
    test: Letters
    hashes: Mapping[str, str]


def load(dataset: str, data_dir: Path, seed: int) -> OcrData:
    """Reads `dataset`, "ocr" (downloaded on first use) or "sample".

    Args:
        dataset: one of sources.READERS.
        data_dir: where the data sets are; the OCR letters are in its folder ocr.
        seed: draws the sample's letters.

    Raises:
        UserError: the file is missing and cannot be downloaded, is damaged, or does not hold what it should; names the
            first row that is wrong.
    """
    source = READERS[dataset](data_dir, seed)
    missing = sorted(set(range(FOLDS)) - set(source.table.folds.tolist()))
    if missing:
        raise UserError(
            f"{source.where} has no word of fold {missing[0]}, expected words of each of the folds 0 to {FOLDS - 1} "
            "(0 to 7 for training, 8 for choosing, 9 for testing)"
        )
    splits = {name: _select(source.table, folds) for name, folds in _SPLITS.items()}
    return OcrData(source.name, **splits, hashes=source.hashes)


def _select(table: Table, folds: range) -> Letters:
    """The words of `table` in `folds`."""
    chosen = np.isin(table.folds, folds)
    of_letter = np.repeat(chosen, table.lengths)
    arrays = table.images[of_letter], table.labels[of_letter], table.lengths[chosen]
    return Letters(*map(torch.from_numpy, arrays))


def letter_batches(
    letters: Letters,
    batch_size: int,
    device: torch.device,
    seed: int = 0,
    shuffle: bool = False,
    augment: bool = False,
) -> Batches:
    """Mini-batches (images (B, 1, 16, 8) float, labels (B,)) of single letters.

    Args:
        letters: moved to `device` whole: the data set is small.
        batch_size: letters per step, over all processes.
        device: where the batches are to be.
        seed: with the epoch, fixes the order and the augmentation.
        shuffle: for training; otherwise the letters come in their order.
        augment: see `shift`.
    """

    def prepare(rows: Tensors, generator: torch.Generator) -> Tensors:
        images, labels = rows
        return (shift(images, generator) if augment else images)[:, None].float(), labels

    return Batches((letters.images.to(device), letters.labels.to(device)), batch_size, seed, prepare, shuffle)


def word_batches(
    letters: Letters,
    batch_size: int,
    device: torch.device,
    seed: int = 0,
    shuffle: bool = False,
    augment: bool = False,
) -> SequenceBatches:
    """Mini-batches (images (B, T, 16, 8) float, labels (B, T) int64, mask (B, T) bool) of words.

    T is the longest word's length; behind the end of a shorter one, images and labels are 0 and the mask is False.

    Args:
        letters: moved to `device` whole.
        batch_size: words per step, over all processes.
        device: where the batches are to be.
        seed: with the epoch, fixes the order and the augmentation.
        shuffle: for training: words of similar length together, in random order; otherwise from the shortest to the
            longest, those of equal length in their order.
        augment: see `shift`.
    """
    lengths = letters.lengths
    starts = lengths.cumsum(0) - lengths
    # All padding points to one blank letter, put behind the others.
    images = F.pad(letters.images, (0, 0, 0, 0, 0, 1)).to(device)
    labels = F.pad(letters.labels, (0, 1)).to(device)

    def collate(words: list[int], generator: torch.Generator) -> Tensors:
        positions = torch.arange(int(lengths[words].max()))
        mask = positions < lengths[words][:, None]
        rows = torch.where(mask, starts[words][:, None] + positions, len(letters)).to(device)  # (B, T)
        pixels = images[rows.flatten()]
        if augment:
            pixels = shift(pixels, generator)
        return pixels.view(*rows.shape, *pixels.shape[1:]).float(), labels[rows], mask.to(device)

    return SequenceBatches(lengths.tolist(), batch_size, collate, seed, shuffle)


def shift(images: Tensor, generator: torch.Generator, reach: int = 1) -> Tensor:
    """Moves each of `images` (N, H, W) by up to `reach` pixels in each direction; paper comes in at the edges."""
    count, height, width = images.shape
    offsets = torch.randint(0, 2 * reach + 1, (2, count), generator=generator)
    rows = (torch.arange(height) + offsets[0][:, None]).to(images.device)
    columns = (torch.arange(width) + offsets[1][:, None]).to(images.device)
    every = torch.arange(count, device=images.device)[:, None, None]
    return F.pad(images, (reach,) * 4)[every, rows[:, :, None], columns[:, None, :]]
