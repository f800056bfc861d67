"""Images with their captions, and mini-batches of them."""

import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from hw_caption import sample, sources
from hw_caption.sources import Captions
from hw_caption.vocabulary import PAD, Vocabulary
from hw_common.data.dataset_files import SourceFile, label_of
from hw_common.runs.errors import UserError
from hw_common.training.batches import SequenceBatches, Tensors

_WORDS = {"train": "training", "val": "validation", "test": "test"}


@dataclass(frozen=True)
class Split:
    """Images and their reference captions.

    Attributes:
        images: their files.
        captions: for each image, the lower-cased words of each of its captions.
    """

    images: tuple[SourceFile, ...]
    captions: tuple[Captions, ...]

    def __len__(self) -> int:
        return len(self.images)

    @property
    def names(self) -> list[str]:
        """What the captions call the images."""
        return [image.name for image in self.images]


@dataclass(frozen=True)
class CaptionData:
    """A data set, cut into splits.

    Attributes:
        name: what people call it, for figures.
        label: a short name that can be part of a file name.
        train: for training.
        val: for choosing.
        test: for reporting.
        vocabulary: of the training captions.
        hashes: of the caption file.
    """

    name: str
    label: str
    train: Split
    val: Split
    test: Split
    vocabulary: Vocabulary
    hashes: Mapping[str, str]

    @property
    def images(self) -> list[SourceFile]:
        """Those of all splits."""
        return [*self.train.images, *self.val.images, *self.test.images]

    @property
    def longest(self) -> int:
        """Length of the longest training caption with its start and end."""
        return 2 + max(len(caption) for captions in self.train.captions for caption in captions)


def load(dataset: str, data_dir: Path, dataset_dir: Path | None = None, min_count: int = 1) -> CaptionData:
    """Reads a data set's captions and finds its images (which are read later).

    Args:
        dataset: one of sources.DATASETS.
        data_dir: where the data sets are.
        dataset_dir: a folder or tar archive with a data set in one of the two formats, to take instead.
        min_count: how often a training word must occur to get into the vocabulary.

    Raises:
        UserError: a file is missing or damaged, or does not hold what it should.
    """
    if dataset_dir is None and dataset == "sample":
        found, label = sample.source(), "sample"
    else:
        path = dataset_dir or sources.locate(dataset, data_dir)
        found, label = sources.read(path), label_of(path)
    splits = {split: _cut(found, split, label) for split in sources.SPLITS}
    vocabulary = Vocabulary.from_captions(itertools.chain.from_iterable(splits["train"].captions), min_count)
    for split, part in splits.items():
        if not any(word in vocabulary for captions in part.captions for caption in captions for word in caption):
            raise UserError(f"{label}: no word of the {_WORDS[split]} captions is in the vocabulary")
    hashes = {f"{label}/{found.captions_file}": hashlib.sha256(found.content).hexdigest()}
    return CaptionData(found.name or label.capitalize(), label, **splits, vocabulary=vocabulary, hashes=hashes)


def _cut(found: sources.Source, split: str, label: str) -> Split:
    entries = [entry for entry in found.entries if entry.split == split]
    if not entries:
        raise UserError(f"{label} has no {_WORDS[split]} images: none has the split {split!r} in {found.captions_file}")
    return Split(tuple(entry.image for entry in entries), tuple(entry.captions for entry in entries))


class Inputs(Protocol):
    """What a decoder looks at: features from a file, or pixels for an encoder.

    Attributes:
        views: 1, or 8 where flips and rotations can be asked for.
    """

    views: int

    def take(self, names: Sequence[str], views: Sequence[int] | None = None) -> Tensor:
        """Inputs (B, …) float32 of the images `names`, each seen as its number in `views` says; 0 is as it is."""


class CaptionBatches:
    """Mini-batches of an image and one of its captions, this process's share of each; made by `caption_batches`."""

    def __init__(self, split: Split, examples: SequenceBatches, inputs: Inputs, device: torch.device) -> None:
        self._names = split.names
        self._examples = examples
        self._inputs = inputs
        self._device = device

    def __len__(self) -> int:
        """Steps in an epoch; one of them may have fewer rows."""
        return len(self._examples)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Tensors]:
        """The batches of `epoch` from step `start` on: the same ones, whether or not those before were asked for."""
        for captions, lengths, images, views in self._examples.epoch(epoch, start):
            inputs = self._inputs.take([self._names[image] for image in images.tolist()], views.tolist())
            yield inputs.to(self._device), captions.to(self._device), lengths.to(self._device)


def caption_batches(
    split: Split,
    vocabulary: Vocabulary,
    inputs: Inputs,
    batch_size: int,
    *,
    device: torch.device,
    seed: int = 0,
    augment: bool = False,
) -> CaptionBatches:
    """Mini-batches (inputs (B, …) float32, captions (B, T) int64, lengths (B,) int64) with a row for each caption.

    A caption is START, its words, END, and PAD up to the longest in the batch; its length counts START and END.
    Captions of similar length come together, in random order, because a batch takes as long as its longest one.

    Args:
        split: images and captions.
        vocabulary: gives the words their numbers.
        inputs: what is known of the images.
        batch_size: over all processes.
        device: where the batches are to be.
        seed: with the epoch, fixes the order and the views.
        augment: each image is flipped or rotated at random, anew in each epoch.
    """
    encoded = [vocabulary.encode(caption) for captions in split.captions for caption in captions]
    lengths = torch.tensor([len(numbers) for numbers in encoded])
    captions = torch.full((len(encoded), int(lengths.max())), PAD)
    for row, numbers in zip(captions, encoded, strict=True):
        row[: len(numbers)] = torch.tensor(numbers)
    images = torch.tensor([image for image, captions in enumerate(split.captions) for _ in captions])

    def collate(indices: list[int], generator: torch.Generator) -> Tensors:
        rows = torch.tensor(indices)
        views = torch.randint(inputs.views if augment else 1, rows.shape, generator=generator)
        return captions[rows, : lengths[rows].max()], lengths[rows], images[rows], views

    return CaptionBatches(split, SequenceBatches(lengths.tolist(), batch_size, collate, seed), inputs, device)
