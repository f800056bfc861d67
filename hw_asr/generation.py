"""From sound to text: greedy and beam search, all clips of a batch at once, with one network or several.

Keys and values of the audio, those of the characters so far and the LSTM's state are kept from one character to the
next. Several networks write one text together: before each character, their probabilities are averaged.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from hw_asr.models import SpeechToText
from hw_asr.text import EMPTY, START, STOP
from hw_common.training import decoding
from hw_common.training.decoding import Hypothesis, SpecialTokens

_SPECIAL_TOKENS = SpecialTokens(START, STOP, EMPTY)
_NEVER = [START, EMPTY]


class _Writers:
    """Networks that write together."""

    def __init__(self, models: Sequence[SpeechToText], spectrograms: Tensor, frames: Tensor | None) -> None:
        self.prefixes = [model.begin(spectrograms, frames) for model in models]

    def step(self, tokens: Tensor) -> Tensor:
        """See `decoding.Ensemble`."""
        together = []
        for prefixes in self.prefixes:
            scores = prefixes.step(tokens).float()
            scores[:, _NEVER] = -math.inf
            together.append(scores.log_softmax(dim=1))
        if len(together) == 1:
            return together[0]
        return torch.stack(together).logsumexp(dim=0) - math.log(len(together))

    def select(self, rows: Tensor) -> None:
        """See `decoding.Ensemble`."""
        for prefixes in self.prefixes:
            prefixes.select(rows)


def generate(
    models: Sequence[SpeechToText], spectrograms: Tensor, frames: Tensor | None, longest: int, beam: int | None = None
) -> list[Hypothesis]:
    """The text of each clip.

    Args:
        models: in eval mode.
        spectrograms: (B, mels, F).
        frames: (B,), of each clip; None if the padding is to be heard.
        longest: characters of a text, STOP among them; no more than the decoder's positions.
        beam: width of a beam search; None takes the most probable character each time.
    """
    writers, count, device = _Writers(models, spectrograms, frames), len(spectrograms), spectrograms.device
    if beam is None:
        return decoding.greedy(writers, count, _SPECIAL_TOKENS, longest, device)
    found = decoding.beam_search(writers, count, _SPECIAL_TOKENS, beam, longest, device)
    return [texts[0] for texts in found]
