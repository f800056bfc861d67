"""From regions to captions: greedy and beam search, all images of a batch at once, with one decoder or several.

Several decoders write one caption together: before each word, their probabilities are averaged.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from hw_caption.models import Decoder, State
from hw_caption.vocabulary import END, PAD, START, UNKNOWN
from hw_common.training import decoding
from hw_common.training.decoding import Hypothesis, SpecialTokens

_SPECIAL_TOKENS = SpecialTokens(START, END, PAD)
_NEVER = [PAD, START, UNKNOWN]


class _Writers:
    """Decoders that write together, and what they know of each caption."""

    def __init__(self, decoders: Sequence[Decoder], regions: Tensor) -> None:
        self.decoders = decoders
        self.states: list[State] = [decoder.begin(regions) for decoder in decoders]

    def step(self, tokens: Tensor) -> Tensor:
        """See `decoding.Ensemble`."""
        return self.look_and_step(tokens)[0]

    def look_and_step(self, word: Tensor) -> tuple[Tensor, Tensor | None]:
        """After `word` (B,): log-probabilities of the next words (B, V), and where the decoders looked (B, R)."""
        together, looks = [], []
        for i, decoder in enumerate(self.decoders):
            state = self.states[i] = decoder.next_state(word, self.states[i])
            scores = decoder.fc(state.hidden)  # no dropout in eval mode
            scores[:, _NEVER] = -math.inf
            together.append(scores.float().log_softmax(dim=1))
            looks.append(state.attention_weights)
        log_probabilities = torch.stack(together).logsumexp(dim=0) - math.log(len(together))
        return log_probabilities, None if looks[0] is None else torch.stack(looks).mean(dim=0).float()

    def select(self, rows: Tensor) -> None:
        """See `decoding.Ensemble`."""
        self.states = [state.select(rows) for state in self.states]


def greedy(decoders: Sequence[Decoder], regions: Tensor, longest: int) -> list[Hypothesis]:
    """The most probable word after each word, until END or `longest` words.

    Args:
        decoders: in eval mode.
        regions: (B, R, encoder_dim).
        longest: words, END among them.

    Returns:
        A caption for each image.
    """
    return decoding.greedy(_Writers(decoders, regions), len(regions), _SPECIAL_TOKENS, longest, regions.device)


def beam_search(decoders: Sequence[Decoder], regions: Tensor, beam: int, longest: int) -> list[list[Hypothesis]]:
    """The `beam` best captions of each image, the best one first; see `hw_common.training.decoding.beam_search`.

    Args:
        decoders: in eval mode.
        regions: (B, R, encoder_dim).
        beam: captions that are kept for each image.
        longest: words, END among them.
    """
    writers = _Writers(decoders, regions)
    return decoding.beam_search(writers, len(regions), _SPECIAL_TOKENS, beam, longest, regions.device)


def follow(decoders: Sequence[Decoder], regions: Tensor, words: Sequence[int]) -> Tensor | None:
    """Where the decoders look before each of `words`, if that is what they write.

    Args:
        decoders: in eval mode.
        regions: (1, R, encoder_dim), of one image.
        words: numbers, without START and END.

    Returns:
        The weights of the regions, (words, R), the mean over the decoders; None if these have no attention.
    """
    writers = _Writers(decoders, regions)
    looks = [writers.look_and_step(torch.tensor([word], device=regions.device))[1] for word in [START, *words]]
    return None if looks[0] is None else torch.cat(looks)[:-1]
