"""Transcribes recordings with a finished run."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hw_asr import audio, data, segments, text
from hw_asr.experiment import build_network, weights_metadata
from hw_asr.generation import InferenceSettings, align, generate
from hw_asr.models import SpeechToText
from hw_asr.presets import Settings
from hw_asr.speech import has_speech
from hw_asr.train import COMMAND
from hw_common.commands.trained import open_trained
from hw_common.runs.errors import UserError
from hw_common.training.decoding import Hypothesis

_MAX_CLIP = 60.0  # longest duration in seconds that a run may state for its training clips; bounds the memory
_MAX_RATIO = 1.5  # longest segment, relative to the longest training clip; longer segments are recognized badly
_MAX_SECONDS = 12.0  # longest segment in seconds, even if the training clips are longer
_BATCH_SIZE = 16  # number of segments


def transcribe(
    folder: Path, paths: Sequence[Path], beam: int | None = None, kernels: str = "fast"
) -> list[dict[str, Any]]:
    """Transcribes sound files with a finished run.

    Args:
        folder: the run folder.
        paths: the sound files.
        beam: width of a beam search; None for greedy search.
        kernels: see `hw_asr.kernels.build_model`.

    Returns:
        For each file its path ("file"), its duration ("seconds"), whether it contains speech ("speech", see
        `hw_asr.speech`), its "text", which is empty if it contains no speech, and its segments ("pieces"). A segment
        has the seconds at which it begins and ends, its text, and the geometric mean of its characters' probabilities
        ("probability"). A file without speech has segments, too.

    Raises:
        UserError: `folder` is not a finished run, or a file cannot be read, is cut short, or is silent.
    """
    transcriber = open_transcriber(folder, beam, kernels)
    # All files are read first, to report bad files early, and each is read once, because a pipe can be read only once.
    recordings = {path: audio.read(path, transcriber.rate) for path in dict.fromkeys(paths)}
    return [{"file": str(path), **transcriber.transcribe(recordings[path])[0]} for path in paths]


@dataclass(frozen=True)
class Segment:
    """A part of a recording with its text."""

    begin: float  # seconds from the start of the recording
    end: float
    spectrogram: np.ndarray  # (mels, frames)
    hypothesis: Hypothesis

    @property
    def text(self) -> str:
        """The text."""
        return text.decode(self.hypothesis.tokens)


@dataclass(frozen=True)
class Transcriber:
    """A finished run with its best weights."""

    model: SpeechToText
    settings: Settings
    inference: InferenceSettings
    max_seconds: float  # longest segment

    @property
    def rate(self) -> int:
        """Samples per second of the recordings that `transcribe` takes."""
        return self._spectrogram.sample_rate

    @property
    def _spectrogram(self) -> audio.SpectrogramSettings:
        return audio.SPECTROGRAMS[self.settings.preset]

    def transcribe(self, samples: np.ndarray) -> tuple[dict[str, Any], list[Segment]]:
        """Transcribes a recording (n,); returns its result, as in the function `transcribe`, and its segments."""
        parts = segments.split(samples, self.rate, self.max_seconds)
        spectrograms = [audio.log_mel(part, self._spectrogram) for _, part in parts]
        found = [
            Segment(begin / self.rate, (begin + len(part)) / self.rate, spectrogram, hypothesis)
            for (begin, part), spectrogram, hypothesis in zip(
                parts, spectrograms, self._generate(spectrograms), strict=True
            )
        ]
        is_speech = has_speech(samples, self.rate)
        result = {
            "seconds": round(len(samples) / self.rate, 2),
            "speech": is_speech,
            "text": " ".join(segment.text for segment in found) if is_speech else "",
            "pieces": [
                {
                    "begin": round(segment.begin, 2),
                    "end": round(segment.end, 2),
                    "text": segment.text,
                    "probability": math.exp(segment.hypothesis.score),
                }
                for segment in found
            ],
        }
        return result, found

    @torch.inference_mode()
    def align(self, segment: Segment) -> np.ndarray:
        """The cross-attention weights of a segment; see `hw_asr.generation.align`."""
        batch, frames = self._pad([segment.spectrogram])
        return align(self.model, batch, frames, segment.hypothesis, self.inference)

    @torch.inference_mode()
    def _generate(self, spectrograms: Sequence[np.ndarray]) -> list[Hypothesis]:
        """Generates the text of each spectrogram (mels, frames)."""
        hypotheses: list[Hypothesis] = []
        for first in range(0, len(spectrograms), _BATCH_SIZE):
            batch, frames = self._pad(spectrograms[first : first + _BATCH_SIZE])
            hypotheses += generate(self.model, batch, frames, self.inference)
        return hypotheses

    def _pad(self, spectrograms: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
        """A batch of spectrograms (B, mels, F), and the number of frames of each (B,)."""
        examples = [(spectrogram, [text.START, text.STOP]) for spectrogram in spectrograms]
        batch, frames, _, _ = data.pad(examples, self.inference.pad_to)
        return batch, frames


def open_transcriber(folder: Path, beam: int | None = None, kernels: str = "fast") -> Transcriber:
    """Opens a finished run; see `transcribe` for the arguments.

    Raises:
        UserError: `folder` is not a finished run or is damaged.
    """
    trained = open_trained(COMMAND, folder)
    settings = replace(Settings.from_arguments(trained.arguments), kernels=kernels)
    max_clip = trained.summary.get("longest_seconds")
    if not isinstance(max_clip, int | float) or not 0 < max_clip <= _MAX_CLIP:
        raise UserError(f"{folder} is damaged: its summary has no valid longest_seconds")
    return Transcriber(
        trained.load(build_network(settings), weights_metadata(settings)),
        settings,
        InferenceSettings.of(settings, beam),
        min(_MAX_SECONDS, _MAX_RATIO * max_clip),
    )
