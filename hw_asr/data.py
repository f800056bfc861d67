"""Splits a dataset into training, validation and test clips, and makes mini-batches of clips."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from hw_asr import readers, spectrograms, text
from hw_asr.audio import SpectrogramSettings
from hw_asr.spec_augment import change_tempo, spec_augment
from hw_asr.spectrograms import Spectrograms
from hw_common.runs.errors import UserError
from hw_common.training.batches import SequenceBatches, Tensors

Example = tuple[np.ndarray, list[int]]  # spectrogram (mels, frames) and tokens of a clip
_PERCENT = {"train": 75, "val": 5}  # percentage of the clips in each split; the other clips are test clips


@dataclass(frozen=True)
class Split:
    """The clips of a split, in the order of metadata.csv."""

    names: tuple[str, ...]  # ids of the clips
    tokens: tuple[list[int], ...]  # tokens of each transcript, from START to STOP
    spectrograms: Spectrograms  # the spectrograms on disk

    def __len__(self) -> int:
        return len(self.names)

    @property
    def texts(self) -> tuple[str, ...]:
        """The transcripts, with UNKNOWN for all characters that are not in the alphabet."""
        return tuple(map(text.decode, self.tokens))

    @property
    def frames(self) -> list[int]:
        """The number of frames of each spectrogram."""
        return self.spectrograms.frames

    def spectrogram(self, clip: int) -> np.ndarray:
        """The spectrogram (mels, frames) float32 of the clip with index `clip`."""
        return self.spectrograms.take(clip).astype(np.float32).T

    def example(self, clip: int) -> Example:
        """Spectrogram and tokens of the clip with index `clip`."""
        return self.spectrogram(clip), self.tokens[clip]


@dataclass(frozen=True)
class SpeechData:
    """The three splits of a dataset."""

    name: str  # name for figures
    label: str  # name for folders and files
    train: Split  # training clips
    val: Split  # validation clips
    test: Split  # test clips
    hashes: Mapping[str, str]  # hash of the transcripts, and one hash of all sound files


def load(
    dataset: str,
    data_dir: Path,
    dataset_dir: Path | None,
    *,
    results_dir: Path,
    settings: SpectrogramSettings,
    max_text: int | None = None,
    keep: bool = True,
) -> SpeechData:
    """Reads a dataset (see `readers.read_dataset`) and computes the spectrograms that are not on disk yet.

    The spectrograms have the given settings and are stored in the folder hw_asr/spectrograms of `results_dir`. The
    transcripts are truncated to `max_text` characters; None for no limit. With `keep` false, nothing is written.

    Raises:
        UserError: a file is missing, damaged or wrong, or there are fewer than 5 clips and no lists of splits.
        Stopped: SIGINT or SIGTERM arrived; the finished spectrograms are saved.
    """
    raw = readers.read_dataset(dataset, data_dir, dataset_dir)
    count = len(raw.clips)
    parts: Mapping[str, Sequence[int]] = split(count)
    if raw.splits.ids:
        rows = {clip.name: row for row, clip in enumerate(raw.clips)}
        parts = {name: sorted(rows[clip] for clip in ids) for name, ids in raw.splits.ids.items()}
    if not parts["test"]:
        raise UserError(f"{raw.name} has {count} clips, expected 5 or more, for training, validation and test")
    found = spectrograms.ensure([clip.audio for clip in raw.clips], raw.label, settings, results_dir, keep)
    tokens = [text.encode(clip.text, max_text) for clip in raw.clips]

    def cut(part: Sequence[int]) -> Split:
        names = tuple(raw.clips[clip].name for clip in part)
        return Split(names, tuple(tokens[clip] for clip in part), found.part(part))

    listed = {f"{raw.label}/{name}": digest for name, digest in raw.splits.hashes.items()}
    hashes = {f"{raw.label}/metadata.csv": raw.sha256, f"{raw.label}/wavs": found.sha256, **listed}
    return SpeechData(raw.name, raw.label, **{name: cut(part) for name, part in parts.items()}, hashes=hashes)


def split(count: int) -> dict[str, range]:
    """Splits `count` clips in file order: 75 % for training, 5 % for validation, and the rest for testing.

    LJSpeech's 13 100 clips are split into 9 825, 655 and 2 620 as in the course.
    """
    train = count * _PERCENT["train"] // 100
    val = max(1, count * _PERCENT["val"] // 100)  # a small dataset has at least one validation clip
    return {"train": range(train), "val": range(train, train + val), "test": range(train + val, count)}


def speech_batches(
    clips: Split,
    batch_size: int,
    device: torch.device,
    seed: int = 0,
    augment: bool = False,
    pad_to: tuple[int, int] | None = None,
    join_up_to: int | None = None,
    tempo: bool = False,
) -> SequenceBatches:
    """Shuffled mini-batches of clips of similar length; see `pad` for their tensors.

    Args:
        clips: a split.
        batch_size: clips per step, over all processes.
        device: device of the batches.
        seed: seed of the order and the augmentation, which also depend on the epoch.
        augment: whether to apply SpecAugment.
        pad_to: see `pad`.
        join_up_to: largest number of tokens of two joined clips. Each clip is joined with a random second one with
            probability 1/2 unless their transcripts are longer than that; None joins no clips.
        tempo: whether to make each batch a little faster or slower.
    """

    def collate(indices: list[int], generator: torch.Generator) -> Tensors:
        examples = [clips.example(i) for i in indices]
        if join_up_to is not None:
            examples = [_join(example, clips, join_up_to, generator) for example in examples]
        batch, frames, tokens, lengths = pad(examples, pad_to)
        if tempo:
            batch, frames = change_tempo(batch, frames, generator)
        if augment:
            batch = spec_augment(batch, frames, generator)
        return batch.to(device), frames.to(device), tokens.to(device), lengths.to(device)

    return SequenceBatches(clips.frames, batch_size, collate, seed)


def pad(examples: Sequence[Example], pad_to: tuple[int, int] | None = None) -> Tensors:
    """Pads clips to one batch on the CPU.

    Args:
        examples: spectrograms and tokens of the clips.
        pad_to: numbers F of frames and L of tokens to which the batch is padded or truncated, as in the course's
            notebook; None for the longest clip and the longest transcript of the batch.

    Returns:
        Spectrograms (B, mels, F) float32 padded with 0, number of frames (B,) int64 of each clip, tokens (B, L) int64
        padded with EMPTY, and number of tokens (B,) int64 of each transcript.
    """
    frames = torch.tensor([spectrogram.shape[1] for spectrogram, _ in examples])
    lengths = torch.tensor([len(tokens) for _, tokens in examples])
    if pad_to is not None:
        frames, lengths = frames.clamp(max=pad_to[0]), lengths.clamp(max=pad_to[1])
    max_frames, max_length = pad_to or (int(frames.max()), int(lengths.max()))
    batch = torch.zeros(len(examples), len(examples[0][0]), max_frames)
    padded = torch.full((len(examples), max_length), text.EMPTY)
    for row, (spectrogram, tokens) in enumerate(examples):
        batch[row, :, : frames[row]] = torch.from_numpy(spectrogram[:, :max_frames])
        padded[row, : lengths[row]] = torch.tensor(tokens[:max_length])
    return batch, frames, padded, lengths


def _join(example: Example, clips: Split, max_length: int, generator: torch.Generator) -> Example:
    """With probability 1/2, appends a random one of `clips` to `example`, with a space between the transcripts.

    Returns only `example` if the joined transcripts would have more than `max_length` tokens.
    """
    coin, draw = torch.rand(2, generator=generator).tolist()
    other = int(draw * len(clips))
    tokens = [*example[1][:-1], *text.encode(" ")[1:-1], *clips.tokens[other][1:]]
    if coin < 0.5 or len(tokens) > max_length:
        return example
    return np.concatenate([example[0], clips.spectrogram(other)], axis=1), tokens
