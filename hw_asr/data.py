"""Clips with their transcripts, cut into splits, and mini-batches of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from hw_asr import sources, spectrograms, text
from hw_asr.audio import Settings
from hw_asr.spec_augment import change_tempo, spec_augment
from hw_asr.spectrograms import Spectrograms
from hw_common.runs.errors import UserError
from hw_common.training.batches import SequenceBatches, Tensors

Clip = tuple[np.ndarray, list[int]]  # a spectrogram (mels, frames), and the tokens of what is said
_PERCENT = {"train": 75, "val": 5}  # in the order of the file; the rest is for testing


@dataclass(frozen=True)
class Split:
    """Clips in the order of the file.

    Attributes:
        names: what the data set calls them.
        tokens: the numbers of each transcript's characters, between START and STOP.
        spectrograms: on disk.
    """

    names: tuple[str, ...]
    tokens: tuple[list[int], ...]
    spectrograms: Spectrograms

    def __len__(self) -> int:
        return len(self.names)

    @property
    def texts(self) -> tuple[str, ...]:
        """The transcripts as far as the alphabet can say them: what a network could give back at best."""
        return tuple(map(text.decode, self.tokens))

    @property
    def frames(self) -> list[int]:
        """How many each spectrogram has."""
        return self.spectrograms.frames

    def spectrogram(self, clip: int) -> np.ndarray:
        """The spectrogram (mels, frames) float32 of a clip."""
        return self.spectrograms.take(clip).astype(np.float32).T


@dataclass(frozen=True)
class SpeechData:
    """A data set, cut into splits.

    Attributes:
        name: what people call it, for figures.
        label: a short name that can be part of a file name.
        train: for training.
        val: for choosing.
        test: for reporting.
        hashes: of the transcripts, and of all sound files together.
    """

    name: str
    label: str
    train: Split
    val: Split
    test: Split
    hashes: Mapping[str, str]


def load(
    dataset: str,
    data_dir: Path,
    dataset_dir: Path | None,
    *,
    results_dir: Path,
    settings: Settings,
    longest_text: int | None = None,
) -> SpeechData:
    """Reads a data set, and computes its spectrograms where that was not done before.

    Args:
        dataset: one of sources.DATASETS.
        data_dir: where the data sets are; LJSpeech is downloaded to it if it is not there.
        dataset_dir: a folder or tar archive in LJSpeech's layout, to take instead.
        results_dir: the spectrograms are kept in its folder hw_asr/spectrograms.
        settings: of the spectrograms.
        longest_text: characters that are kept of each transcript; None keeps all.

    Raises:
        UserError: a file is missing or damaged, or does not hold what it should.
        Stopped: on SIGINT or SIGTERM while spectrograms are computed, after saving.
    """
    source = sources.open_source(dataset, data_dir, dataset_dir)
    count = len(source.clips)
    parts = split(count)
    if not parts["test"]:
        raise UserError(f"{source.name} has {count} clips, expected 5 or more, for training, validation and test")
    found = spectrograms.ensure([clip.audio for clip in source.clips], source.label, settings, results_dir)
    tokens = [text.encode(clip.text, longest_text) for clip in source.clips]

    def cut(part: range) -> Split:
        names = tuple(source.clips[clip].name for clip in part)
        return Split(names, tuple(tokens[clip] for clip in part), found.part(part))

    hashes = {f"{source.label}/metadata.csv": source.sha256, f"{source.label}/wavs": found.sha256}
    return SpeechData(source.name, source.label, **{name: cut(part) for name, part in parts.items()}, hashes=hashes)


def split(count: int) -> dict[str, range]:
    """75 % of `count` clips for training, 5 % for validation and the rest for testing, in the order of the file.

    For LJSpeech's 13 100, the 9 825, 655 and 2 620 of the course.
    """
    train = count * _PERCENT["train"] // 100
    val = max(1, count * _PERCENT["val"] // 100)  # a small data set has one, too
    return {"train": range(train), "val": range(train, train + val), "test": range(train + val, count)}


def speech_batches(
    clips: Split,
    batch_size: int,
    device: torch.device,
    seed: int = 0,
    shuffle: bool = False,
    augment: bool = False,
    pad_to: tuple[int, int] | None = None,
    join_up_to: int | None = None,
    tempo: bool = False,
) -> SequenceBatches:
    """Mini-batches (spectrograms (B, mels, T) float32, frames (B,), tokens (B, L), lengths (B,), all int64) of clips.

    Behind a clip's end spectrograms are 0, as in the course, and behind a transcript's STOP tokens are EMPTY.

    Args:
        clips: a split.
        batch_size: clips per step, over all processes.
        device: where the batches are to be.
        seed: with the epoch, fixes the order and the augmentation.
        shuffle: for training: clips of similar length together, in random order; otherwise from the shortest to the
            longest, those of equal length in their order.
        augment: SpecAugment.
        pad_to: T and L of every batch, and longer clips are cut, as in the course's notebook; as the batch needs by
            default.
        join_up_to: join every other clip with a second one, if their transcript then has no more tokens; None joins
            nothing.
        tempo: make each batch a little faster or slower.
    """

    def collate(indices: list[int], generator: torch.Generator) -> Tensors:
        chosen = [(clips.spectrogram(i), clips.tokens[i]) for i in indices]
        if join_up_to is not None:
            chosen = [_joined(clip, clips, join_up_to, generator) for clip in chosen]
        batch, frames, tokens, lengths = pad(chosen, pad_to)
        if tempo:
            batch, frames = change_tempo(batch, frames, generator)
        if augment:
            batch = spec_augment(batch, frames, generator)
        return batch.to(device), frames.to(device), tokens.to(device), lengths.to(device)

    return SequenceBatches(clips.frames, batch_size, collate, seed, shuffle)


def pad(clips: Sequence[Clip], pad_to: tuple[int, int] | None = None) -> Tensors:
    """Clips as one batch on the CPU; see `speech_batches`, which explains its tensors and `pad_to`."""
    frames = torch.tensor([spectrogram.shape[1] for spectrogram, _ in clips])
    lengths = torch.tensor([len(tokens) for _, tokens in clips])
    if pad_to is not None:
        frames, lengths = frames.clamp(max=pad_to[0]), lengths.clamp(max=pad_to[1])
    time, width = pad_to or (int(frames.max()), int(lengths.max()))
    batch = torch.zeros(len(clips), len(clips[0][0]), time)
    padded = torch.full((len(clips), width), text.EMPTY)
    for row, (spectrogram, tokens) in enumerate(clips):
        batch[row, :, : frames[row]] = torch.from_numpy(spectrogram[:, :time])
        padded[row, : lengths[row]] = torch.tensor(tokens[:width])
    return batch, frames, padded, lengths


def _joined(clip: Clip, others: Split, longest: int, generator: torch.Generator) -> Clip:
    """`clip` or, every other time, it and a random one of `others` behind it, a space between what they say."""
    coin, draw = torch.rand(2, generator=generator).tolist()
    other = int(draw * len(others))
    tokens = [*clip[1][:-1], *text.encode(" ")[1:-1], *others.tokens[other][1:]]
    if coin < 0.5 or len(tokens) > longest:
        return clip
    return np.concatenate([clip[0], others.spectrogram(other)], axis=1), tokens
