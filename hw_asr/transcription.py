"""Transcribes recordings with a finished run."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hw_asr import audio, data, segments, text
from hw_asr.experiment import build_network, weights_metadata
from hw_asr.generation import InferenceSettings, generate
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
_BATCH_SIZE = 16  # segments


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
    model, settings, max_clip = _open(folder, kernels)
    spectrogram, inference = audio.SPECTROGRAMS[settings.preset], InferenceSettings.of(settings, beam)
    rate = spectrogram.sample_rate
    # All files are read first, to report bad files early, and each is read once, because a pipe can be read only once.
    recordings = {path: audio.read(path, rate) for path in dict.fromkeys(paths)}
    results = []
    for path in paths:
        samples = recordings[path]
        parts = segments.split(samples, rate, min(_MAX_SECONDS, _MAX_RATIO * max_clip))
        hypotheses = _generate(model, [audio.log_mel(part, spectrogram) for _, part in parts], inference)
        pieces = [
            {
                "begin": round(begin / rate, 2),
                "end": round((begin + len(part)) / rate, 2),
                "text": text.decode(hypothesis.tokens),
                "probability": math.exp(hypothesis.score),
            }
            for (begin, part), hypothesis in zip(parts, hypotheses, strict=True)
        ]
        is_speech = has_speech(samples, rate)
        results.append(
            {
                "file": str(path),
                "seconds": round(len(samples) / rate, 2),
                "speech": is_speech,
                "text": " ".join(str(piece["text"]) for piece in pieces) if is_speech else "",
                "pieces": pieces,
            }
        )
    return results


def _open(folder: Path, kernels: str) -> tuple[SpeechToText, Settings, float]:
    """A run's network with its best weights, its settings, and the duration of its longest training clip in seconds."""
    trained = open_trained(COMMAND, folder)
    settings = replace(Settings.from_arguments(trained.arguments), kernels=kernels)
    max_clip = trained.summary.get("longest_seconds")
    if not isinstance(max_clip, int | float) or not 0 < max_clip <= _MAX_CLIP:
        raise UserError(f"{folder} is damaged: its summary has no valid longest_seconds")
    return trained.load(build_network(settings), weights_metadata(settings)), settings, max_clip


@torch.inference_mode()
def _generate(model: SpeechToText, parts: Sequence[np.ndarray], inference: InferenceSettings) -> list[Hypothesis]:
    """Generates the text of each spectrogram (mels, frames)."""
    hypotheses: list[Hypothesis] = []
    for first in range(0, len(parts), _BATCH_SIZE):
        examples = [(part, [text.START, text.STOP]) for part in parts[first : first + _BATCH_SIZE]]
        batch, frames, _, _ = data.pad(examples, inference.pad_to)
        hypotheses += generate(model, batch, frames, inference)
    return hypotheses
