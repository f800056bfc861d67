"""Joint CTC and attention decoding (Watanabe et al., 2017).

The score of a text is (1 − w) · log p_attention + w · log p_CTC.

For an unfinished text, log p_CTC is the log-probability of all texts that begin with it. Shapes: B texts, T encoder
positions, V characters of the vocabulary. EMPTY is the blank label, as in training.
"""

import math

import torch
from torch import Tensor

from hw_asr import text
from hw_common.training.decoding import Ensemble

_NEVER_GENERATED = [text.START, text.EMPTY]


class CTCPrefixes:
    """The prefixes of a batch of texts, with the CTC probabilities of all alignments that yield them.

    Args:
        logits: (B, T, V), logits of the CTC classifier.
        positions: (B,), number of encoder positions of each clip; the others are padding.
    """

    def __init__(self, logits: Tensor, positions: Tensor) -> None:
        scores = logits.float().log_softmax(dim=2)
        padding = torch.arange(scores.shape[1], device=scores.device) >= positions[:, None]  # (B, T)
        scores = scores.masked_fill(padding[:, :, None], -math.inf)
        scores[:, :, text.EMPTY] = scores[:, :, text.EMPTY].masked_fill(padding, 0.0)  # only blanks follow a clip
        self.scores = scores  # (B, T, V)
        zeros = scores.new_zeros(len(scores), 1)
        # (B, T + 1): log-probabilities that the first t positions give the prefix and end with a blank, or without one
        self.with_blank = torch.cat([zeros, scores[:, :, text.EMPTY].cumsum(1)], dim=1)
        self.without_blank = torch.full_like(self.with_blank, -math.inf)
        self.last = torch.full((len(scores),), text.START, device=scores.device)  # (B,) last characters

    def step(self, tokens: Tensor) -> Tensor:
        """Appends `tokens` (B,); START begins a text.

        Returns:
            (B, V) log-probabilities of the prefixes with each character appended; for STOP, of the whole text.
        """
        if not bool((tokens == text.START).all()):
            self._append(tokens)
        total = torch.logaddexp(self.with_blank, self.without_blank)
        longer = torch.logsumexp(total[:, :-1, None] + self.scores, dim=1)
        # The last character can be repeated only after a blank.
        repeated = torch.logsumexp(self.with_blank[:, :-1] + self._scores_of(self.last), dim=1)
        longer.scatter_(1, self.last[:, None], repeated[:, None])
        longer[:, text.STOP] = total[:, -1]
        return longer

    def _append(self, tokens: Tensor) -> None:
        before = torch.logaddexp(self.with_blank, self.without_blank)
        before = torch.where((tokens == self.last)[:, None], self.with_blank, before)
        scores, blanks = self._scores_of(tokens), self.scores[:, :, text.EMPTY]
        without_blank = [torch.full_like(before[:, 0], -math.inf)]
        with_blank = [without_blank[0]]
        for t in range(scores.shape[1]):
            with_blank.append(torch.logaddexp(with_blank[t], without_blank[t]) + blanks[:, t])
            without_blank.append(torch.logaddexp(without_blank[t], before[:, t]) + scores[:, t])
        self.with_blank, self.without_blank = torch.stack(with_blank, dim=1), torch.stack(without_blank, dim=1)
        self.last = tokens

    def _scores_of(self, tokens: Tensor) -> Tensor:
        """(B, T) log-probabilities of one character for each text."""
        return self.scores.gather(2, tokens[:, None, None].expand(-1, self.scores.shape[1], 1))[:, :, 0]

    def select(self, rows: Tensor) -> None:
        """See `hw_common.training.decoding.Ensemble`."""
        for name, value in vars(self).items():
            setattr(self, name, value[rows])


class JointScores:
    """An `Ensemble` that adds the CTC scores, with the weight `weight`, to those of `attention`."""

    def __init__(self, attention: Ensemble, prefixes: CTCPrefixes, weight: float) -> None:
        self.attention, self.prefixes, self.weight = attention, prefixes, weight
        self._longer = torch.zeros_like(prefixes.scores[:, 0])  # (B, V), the latest result of `prefixes.step`

    def step(self, tokens: Tensor) -> Tensor:
        """See `Ensemble`. Each CTC score is the change of log p_CTC; over a text, they add up to its log p_CTC."""
        before = self._longer.gather(1, tokens[:, None])
        self._longer = self.prefixes.step(tokens)
        added = torch.where(before.isfinite(), self._longer - before, -math.inf)
        scores = (1 - self.weight) * self.attention.step(tokens) + self.weight * added
        scores[:, _NEVER_GENERATED] = -math.inf
        return scores

    def select(self, rows: Tensor) -> None:
        """See `Ensemble`."""
        self.attention.select(rows)
        self.prefixes.select(rows)
        self._longer = self._longer[rows]
