"""Generates the texts of clips by greedy search or beam search, for all clips of a batch at once."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hw_asr import text
from hw_asr.ctc_prefixes import CTCPrefixes, JointScores
from hw_asr.models import Prefixes, SpeechToText
from hw_asr.presets import NOTEBOOK_FRAMES, Settings
from hw_common.training import decoding
from hw_common.training.decoding import Ensemble, Hypothesis, SpecialTokens

COUNTED_TOKENS = text.NOTEBOOK_MAX_TEXT + 2  # tokens to which the course's notebook pads every transcript
_SPECIAL_TOKENS = SpecialTokens(text.START, text.STOP, text.EMPTY)
_NEVER_GENERATED = [text.START, text.EMPTY]


@dataclass(frozen=True)
class InferenceSettings:
    """Settings of padding and decoding."""

    # Numbers of frames and tokens of every batch in the course's notebook, where padding is processed like sound. None
    # means that batches are padded as little as possible and the padding is masked.
    pad_to: tuple[int, int] | None
    max_length: int  # largest number of characters of a text, including STOP; at most the decoder's text_positions
    beam: int | None = None  # width of the beam search; None for greedy search
    ctc_weight: float = 0.0  # weight of the CTC scores in the beam search, see `ctc_prefixes`

    @classmethod
    def of(cls, settings: Settings, beam: int | None = None) -> "InferenceSettings":
        """The settings for a training run: padding and longest text of its preset, and the given beam width."""
        pad_to = (NOTEBOOK_FRAMES, COUNTED_TOKENS) if settings.preset == "notebook" else None
        return cls(pad_to, settings.sizes.text_positions, beam, settings.ctc_weight)

    def unpadded(self, frames: Tensor | None) -> Tensor | None:
        """The second argument of `SpeechToText`: `frames` (B,), or None if padding is processed like sound."""
        return frames if self.pad_to is None else None


class _LogProbabilities:
    """The adapter of `Prefixes` for `hw_common.training.decoding`, which expects log-probabilities."""

    def __init__(self, prefixes: Prefixes) -> None:
        self.select = prefixes.select
        self._logits = prefixes.step

    def step(self, tokens: Tensor) -> Tensor:
        """Appends `tokens` (B,) to the texts and returns the log-probabilities (B, V) of the next characters."""
        logits = self._logits(tokens).float()
        logits[:, _NEVER_GENERATED] = -math.inf
        return logits.log_softmax(dim=1)


def generate(
    model: SpeechToText, spectrograms: Tensor, frames: Tensor | None, inference: InferenceSettings
) -> list[Hypothesis]:
    """Generates the text of each clip.

    Args:
        model: a network in eval mode, under inference_mode.
        spectrograms: (B, mels, F).
        frames: (B,), number of frames of each clip; None if there is no padding.
        inference: padding and decoding.
    """
    scores = _LogProbabilities(model.begin(spectrograms, inference.unpadded(frames)))
    count, max_length, device = len(spectrograms), inference.max_length, spectrograms.device
    if inference.beam is None:
        return decoding.greedy(scores, count, _SPECIAL_TOKENS, max_length, device)
    ensemble: Ensemble = scores
    if inference.ctc_weight and model.ctc is not None:
        audio, mask = model.encoder(spectrograms, inference.unpadded(frames))
        whole = torch.full((count,), audio.shape[1], device=device)
        positions = whole if mask is None else mask.flatten(1).sum(1)
        ensemble = JointScores(scores, CTCPrefixes(model.ctc(audio), positions), inference.ctc_weight)
    found = decoding.beam_search(ensemble, count, _SPECIAL_TOKENS, inference.beam, max_length, device)
    return [hypotheses[0] for hypotheses in found]


def align(
    model: SpeechToText, spectrograms: Tensor, frames: Tensor, hypothesis: Hypothesis, inference: InferenceSettings
) -> np.ndarray:
    """The cross-attention weights before each character of a clip's text, and before STOP.

    Args:
        model: a network in eval mode, under inference_mode.
        spectrograms: the clip, (1, mels, F).
        frames: (1,), number of frames of the clip.
        hypothesis: the text.
        inference: padding and decoding.

    Returns:
        (characters and STOP, encoder positions that are not padding) float32.
    """
    tokens = torch.tensor([[text.START, *hypothesis.tokens][: inference.max_length]], device=spectrograms.device)
    audio, mask = model.encoder(spectrograms, inference.unpadded(frames))
    weights = model.decoder.alignment(tokens, audio, mask)[0].float().cpu()
    positions = math.ceil(weights.shape[1] * int(frames) / spectrograms.shape[2])
    return weights[:, :positions].numpy()
