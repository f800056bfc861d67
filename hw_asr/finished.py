"""Opens finished runs to transcribe recordings."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from hw_asr import audio, data, train
from hw_asr.experiment import build_network, weights_metadata
from hw_asr.generation import InferenceSettings, generate
from hw_asr.models import SpeechToText
from hw_asr.presets import HOMEWORK, Settings
from hw_asr.text import START, STOP
from hw_common.runs import checkpoints
from hw_common.runs.errors import UserError
from hw_common.runs.run_folder import BEST, Run
from hw_common.training.decoding import Hypothesis

_MAX_SECONDS = 60.0  # bounds the memory, whatever a run folder says


@dataclass(frozen=True)
class Finished:
    """A finished run with its best weights.

    Attributes:
        spectrogram: settings of its spectrograms.
        max_seconds: duration of the longest training clip.
        inference: how clips are given to the network and texts are generated.
        model: the network in eval mode.
    """

    spectrogram: audio.SpectrogramSettings
    max_seconds: float
    inference: InferenceSettings
    model: SpeechToText

    @torch.inference_mode()
    def transcribe(self, spectrograms: Sequence[np.ndarray]) -> list[Hypothesis]:
        """Generates the text of each of `spectrograms` (mels, frames), in one batch."""
        batch, frames, _, _ = data.pad([(one, [START, STOP]) for one in spectrograms], self.inference.pad_to)
        return generate(self.model, batch, frames, self.inference)


def open_finished(folder: Path, beam: int | None = None, kernels: str = "fast") -> Finished:
    """Opens a finished run.

    Args:
        folder: the run folder.
        beam: width of a beam search; None for greedy search.
        kernels: see `hw_asr.kernels.build_model`.

    Raises:
        UserError: the folder is not a finished run, is damaged, or its weights are those of another network.
    """
    run = Run.open(folder, HOMEWORK)
    settings = replace(Settings.from_arguments(train.COMMAND.parse_saved(run)), kernels=kernels)
    max_seconds = run.summary().get("longest_seconds")
    if not isinstance(max_seconds, int | float) or not 0 < max_seconds <= _MAX_SECONDS:
        raise UserError(f"{folder} is damaged: its summary has no valid longest_seconds")
    model = build_network(settings)
    path = run.folder / BEST
    checkpoints.load_into(model, checkpoints.load_weights(path, weights_metadata(settings)), path)
    inference = InferenceSettings.of(settings, beam)
    return Finished(audio.SPECTROGRAMS[settings.preset], float(max_seconds), inference, model.eval())
