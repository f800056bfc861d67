"""The data sets, split by fold, as tensors in memory; mini-batches of letters and of words."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hw_common.runs.errors import UserError
from hw_common.training.batches import Batches, SequenceBatches, Tensors
from hw_ocr.readers import FOLDS, READERS, LetterTable

ALPHABET = "abcdefghijklmnopqrstuvwxyz"
# dsl-2019-hw3 trains on eight folds, chooses on the ninth and reports on the last.
_SPLITS = {"train": range(8), "dev": range(8, 9), "test": range(9, 10)}


@dataclass(frozen=True)
class Letters:
    """The letters of some words, word by word."""

    images: Tensor  # (n, 16, 8) uint8, 0 for paper and 1 for ink
    labels: Tensor  # (n,) int64 from 0 for a to 25 for z
    lengths: Tensor  # (words,) int64, number of letters of each word

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class OcrData:
    """A data set, split by fold; all letters of a word have the same fold."""

    name: str  # the data set's name in figures and tables
    train: Letters  # folds 0 to 7, for training
    dev: Letters  # fold 8, for choosing
    test: Letters  # fold 9, for reporting
    hashes: Mapping[str, str]  # SHA-256 of the data file


def load(dataset: str, data_dir: Path, seed: int) -> OcrData:
    """Reads `dataset`, "ocr" (downloaded on first use) or "sample".

    Args:
        dataset: one of readers.READERS.
        data_dir: folder of all data sets; the OCR letters are in its folder ocr.
        seed: seed of the sample's letters; the OCR letters do not depend on it.

    Raises:
        UserError: the file is missing and cannot be downloaded, is damaged, or has a wrong row (the message names it).
    """
    raw = READERS[dataset](data_dir, seed)
    missing = sorted(set(range(FOLDS)) - set(raw.table.folds.tolist()))
    if missing:
        raise UserError(
            f"{raw.where} has no word of fold {missing[0]}, expected words of each of the folds 0 to {FOLDS - 1} "
            "(0 to 7 for training, 8 for choosing, 9 for testing)"
        )
    splits = {name: _select(raw.table, folds) for name, folds in _SPLITS.items()}
    return OcrData(raw.name, **splits, hashes=raw.hashes)


def _select(table: LetterTable, folds: range) -> Letters:
    """The words of `table` in `folds`."""
    chosen = np.isin(table.folds, folds)
    chosen_letters = np.repeat(chosen, table.lengths)
    arrays = table.images[chosen_letters], table.labels[chosen_letters], table.lengths[chosen]
    return Letters(*map(torch.from_numpy, arrays))


def letter_batches(
    letters: Letters, batch_size: int, device: torch.device, seed: int = 0, shuffle: bool = False, augment: bool = False
) -> Batches:
    """Mini-batches (images (B, 1, 16, 8) float, labels (B,)) of single letters.

    Args:
        letters: the data; all of them are moved to `device`, since the data set is small.
        batch_size: letters per step, over all processes.
        device: device of the batches.
        seed: together with the epoch, it determines the order and the augmentation.
        shuffle: whether the letters come in random order, for training.
        augment: whether each image is moved by `shift`.
    """

    def prepare(rows: Tensors, generator: torch.Generator) -> Tensors:
        images, labels = rows
        return (shift(images, generator) if augment else images)[:, None].float(), labels

    return Batches((letters.images.to(device), letters.labels.to(device)), batch_size, seed, prepare, shuffle)


def word_batches(
    letters: Letters, batch_size: int, device: torch.device, seed: int = 0, shuffle: bool = False, augment: bool = False
) -> SequenceBatches:
    """Mini-batches (images (B, T, 16, 8) float, labels (B, T) int64, mask (B, T) bool) of words.

    T is the length of the batch's longest word. In the padding of shorter words, images and labels are 0 and the mask
    is False. A batch has words of similar length. With `shuffle`, the batches come in random order; otherwise the words
    are sorted by length, and words of equal length keep their order. Arguments are those of `letter_batches`, except
    that `batch_size` counts words.
    """
    lengths = letters.lengths
    starts = lengths.cumsum(0) - lengths
    # One blank letter is appended to the others; all padding is this letter.
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


def shift(images: Tensor, generator: torch.Generator, distance: int = 1) -> Tensor:
    """Moves each image (H, W) of `images` (N, H, W) by up to `distance` pixels along each axis, padded with paper."""
    count, height, width = images.shape
    offsets = torch.randint(0, 2 * distance + 1, (2, count), generator=generator)
    rows = (torch.arange(height) + offsets[0][:, None]).to(images.device)
    columns = (torch.arange(width) + offsets[1][:, None]).to(images.device)
    every = torch.arange(count, device=images.device)[:, None, None]
    return F.pad(images, (distance,) * 4)[every, rows[:, :, None], columns[:, None, :]]
