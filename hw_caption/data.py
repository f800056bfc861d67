"""A data set's images and captions, split for training, and mini-batches of them."""

import dataclasses
import hashlib
import itertools
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from hw_caption import fetch, sample
from hw_caption.images import VIEWS
from hw_caption.presets import DATASETS
from hw_caption.vocabulary import PAD, Vocabulary
from hw_common.data.captioned_images import SPLITS, CaptionedImage, CaptionedImages, Captions
from hw_common.data.dataset_files import DatasetFile, label_of
from hw_common.data.words import UNICODE, WordRules
from hw_common.runs.errors import UserError
from hw_common.training import distributed
from hw_common.training.batches import SequenceBatches, Tensors

_SPLIT_TITLES = {"train": "training", "val": "validation", "test": "test"}


@dataclass(frozen=True)
class Split:
    """Images and their reference captions."""

    images: tuple[DatasetFile, ...]
    captions: tuple[Captions, ...]  # for each image, the lower-cased words of each of its captions

    def __len__(self) -> int:
        return len(self.images)

    @property
    def names(self) -> list[str]:
        """The images' names in the caption file."""
        return [image.name for image in self.images]


@dataclass(frozen=True)
class CaptionData:
    """A data set with its three splits."""

    name: str  # the data set's name, for figures
    label: str  # the data set's name, for file names
    train: Split
    val: Split  # images on which the best epoch is chosen
    test: Split  # images on which the reported numbers are measured
    vocabulary: Vocabulary  # words of the training captions
    hashes: Mapping[str, str]  # <label>/<name of the caption file> -> SHA-256 of the caption file

    @property
    def images(self) -> list[DatasetFile]:
        """The images of all splits."""
        return [*self.train.images, *self.val.images, *self.test.images]

    @property
    def max_length(self) -> int:
        """Number of words in the longest training caption, START and END included."""
        return 2 + max(len(caption) for captions in self.train.captions for caption in captions)


def load(
    dataset: str, data_dir: Path, dataset_dir: Path | None = None, min_count: int = 1, rules: WordRules = UNICODE
) -> CaptionData:
    """Reads the captions of a data set and finds its images, whose pixels are read later.

    Args:
        dataset: a key of presets.DATASETS.
        data_dir: folder that holds the data sets.
        dataset_dir: folder or tar archive to read instead, in a format of `captioned_images`.
        min_count: the vocabulary has the words that occur at least this often in the training captions.
        rules: rules that split captions into words.

    Raises:
        UserError: a file is missing or damaged, or a split has no images or no known word.
    """
    if dataset_dir is None and dataset == "sample":
        found, label = sample.dataset(), "sample"
    else:
        path = dataset_dir or _locate(dataset, data_dir)
        found, label = fetch.read(path, rules), label_of(path)
    if found.left_out is not None and distributed.is_main():
        print(found.left_out, file=sys.stderr)
    images = _with_splits(found, label)
    splits = {split: _select(images, split, f"{label}: {found.captions_file}") for split in SPLITS}
    vocabulary = Vocabulary.from_captions(itertools.chain.from_iterable(splits["train"].captions), min_count)
    for split, part in splits.items():
        if not any(word in vocabulary for captions in part.captions for caption in captions for word in caption):
            raise UserError(f"{label}: no word of the {_SPLIT_TITLES[split]} captions is in the vocabulary")
    hashes = {f"{label}/{found.captions_file}": hashlib.sha256(found.content).hexdigest()}
    return CaptionData(found.title or label.capitalize(), label, **splits, vocabulary=vocabulary, hashes=hashes)


def _locate(dataset: str, data_dir: Path) -> Path:
    """The folder or tar archive of `dataset` in `data_dir`; it is downloaded if there is none."""
    names = DATASETS[dataset]
    for name in names:
        for path in (data_dir / name, data_dir / f"{name}.tar"):
            if path.exists():
                return path
    download = {"sydney": fetch.sydney, "flickr": fetch.flickr8k}[dataset]
    return download(data_dir / names[0])


def _select(images: Sequence[CaptionedImage], split: str, where: str) -> Split:
    """The images of one split; `where` names the caption file in messages."""
    chosen = [image for image in images if image.split == split]
    if not chosen:
        raise UserError(f"{where} has no {_SPLIT_TITLES[split]} images: no image has the split {split!r}")
    return Split(tuple(image.file for image in chosen), tuple(image.captions for image in chosen))


def _with_splits(found: CaptionedImages, label: str) -> Sequence[CaptionedImage]:
    """Shuffles a data set that has no splits, with a fixed seed for all runs, and splits it 80/10/10."""
    if found.images and found.images[0].split is not None:
        return found.images
    if len(found.images) < len(SPLITS):
        raise UserError(
            f"{label}: {found.captions_file} names {len(found.images)} images, too few for {', '.join(SPLITS)}"
        )
    names = sorted(image.file.name for image in found.images)
    random.Random(42).shuffle(names)
    held_out = max(1, len(names) // 10)
    splits = dict.fromkeys(names[:held_out], "test") | dict.fromkeys(names[held_out : 2 * held_out], "val")
    return [dataclasses.replace(image, split=splits.get(image.file.name, "train")) for image in found.images]


class Inputs(Protocol):
    """The captioner's inputs for images: features that were computed before, or pixels for an encoder."""

    def take(self, names: Sequence[str], views: Sequence[int] | None = None) -> Tensor:
        """Returns the captioner's inputs, (B, …) float32.

        Args:
            names: names of the images, which may repeat.
            views: for each image, the number of its flip or rotation (see `images.turn`); by default 0.
        """


class CaptionBatches:
    """Mini-batches as `caption_batches` describes them; under torchrun, each process gets its share of each."""

    def __init__(self, split: Split, examples: SequenceBatches, inputs: Inputs, device: torch.device) -> None:
        self._names = split.names
        self._examples = examples
        self._inputs = inputs
        self._device = device

    def __len__(self) -> int:
        """Number of batches in an epoch; one of them may have fewer rows."""
        return len(self._examples)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Tensors]:
        """The batches of `epoch` from step `start` on; they do not depend on earlier calls."""
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

    A caption is START, its words, END, and PAD up to the longest caption of the batch; its length includes START and
    END. The computing time of a batch grows with its longest caption, so each batch has captions of similar length.
    The batches are shuffled.

    Args:
        split: images and captions.
        vocabulary: ids of the words.
        inputs: the images' features or pixels; if `augment`, in all views.
        batch_size: captions in a batch, over all processes.
        device: device of the batches.
        seed: seed that, with the number of the epoch, determines the order and the views.
        augment: whether each image is flipped or rotated at random, differently in each epoch.
    """
    encoded = [vocabulary.encode(caption) for captions in split.captions for caption in captions]
    lengths = torch.tensor([len(ids) for ids in encoded])
    captions = torch.full((len(encoded), int(lengths.max())), PAD)
    for row, ids in zip(captions, encoded, strict=True):
        row[: len(ids)] = torch.tensor(ids)
    images = torch.tensor([image for image, captions in enumerate(split.captions) for _ in captions])

    def collate(indices: list[int], generator: torch.Generator) -> Tensors:
        rows = torch.tensor(indices)
        views = torch.randint(VIEWS if augment else 1, rows.shape, generator=generator)
        return captions[rows, : lengths[rows].max()], lengths[rows], images[rows], views

    return CaptionBatches(split, SequenceBatches(lengths.tolist(), batch_size, collate, seed), inputs, device)
