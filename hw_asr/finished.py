"""Finished runs, opened again to write down recordings."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from hw_asr import audio, data, train
from hw_asr.evaluation import Listening
from hw_asr.experiment import network_of, weights_metadata
from hw_asr.models import SpeechToText
from hw_asr.presets import HOMEWORK
from hw_asr.text import START, STOP
from hw_common.runs import checkpoints
from hw_common.runs.errors import UserError
from hw_common.runs.run_folder import BEST, Run
from hw_common.training.decoding import Hypothesis

_LONGEST = 60.0  # seconds: a run folder from elsewhere must not fill the memory


@dataclass(frozen=True)
class Finished:
    """A finished run with its best weights.

    Attributes:
        run: the folder.
        settings: of its spectrograms.
        longest: seconds of the longest clip that it was trained on.
        listening: how it hears and writes.
        network: in eval mode.
    """

    run: Run
    settings: audio.Settings
    longest: float
    listening: Listening
    network: SpeechToText

    @torch.inference_mode()
    def write(self, spectrograms: Sequence[np.ndarray]) -> list[Hypothesis]:
        """The text of each of `spectrograms` (mels, frames), all at once."""
        clips = [(spectrogram, [START, STOP]) for spectrogram in spectrograms]
        batch, frames, _, _ = data.pad(clips, self.listening.pad_to)
        return self.listening.write(self.network, batch, frames)


def open_finished(folder: Path, beam: int | None = None, kernels: str = "fast") -> Finished:
    """Opens a run folder for use.

    Args:
        folder: of the run.
        beam: width of a beam search; None for greedy search.
        kernels: see `hw_asr.kernels.build_model`.

    Raises:
        UserError: it is not one, is unfinished or damaged, or its weights belong to another network.
    """
    run = Run.open(folder, HOMEWORK)
    arguments = train.COMMAND.parse_saved(run)
    longest = run.summary().get("longest_seconds")
    if not isinstance(longest, int | float) or not 0 < longest <= _LONGEST:
        raise UserError(f"{folder} is damaged: its summary does not say how long a clip may be")
    arguments.kernels = kernels
    network = network_of(arguments)
    path = run.folder / BEST
    checkpoints.load_into(network, checkpoints.load_weights(path, weights_metadata(arguments)), path)
    listening = dataclasses.replace(Listening.of(arguments), beam=beam)
    return Finished(run, audio.SETTINGS[arguments.preset], float(longest), listening, network.eval())
