"""Greedy search and beam search over models that predict one token at a time, for a whole batch at once."""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from hw_common.runs.errors import UserError


class Ensemble(Protocol):
    """One or several models that decode a batch of sequences together and keep the state of each sequence."""

    def step(self, tokens: Tensor) -> Tensor:
        """Appends a token to each sequence.

        Args:
            tokens: (B,) the token to append to each sequence.

        Returns:
            (B, V) log-probabilities of the tokens that may follow. The search may overwrite this tensor.
        """
        ...

    def select(self, rows: Tensor) -> None:
        """Replaces the batch by its rows `rows` (B',). A row that is listed twice is duplicated."""
        ...


@dataclass(frozen=True)
class SpecialTokens:
    """The tokens that mark where a sequence begins and ends."""

    start: int  # token before every sequence
    end: int  # token after every sequence
    pad: int  # token that fills the rest of a row; the models never predict it


@dataclass(frozen=True)
class Hypothesis:
    """A decoded sequence."""

    tokens: list[int]  # the tokens without start and end
    score: float  # mean log-probability of the tokens and the end token
    has_ended: bool  # whether the end token was reached; False if the sequence was cut off at the maximum length


def greedy(
    ensemble: Ensemble, count: int, special: SpecialTokens, max_length: int, device: torch.device
) -> list[Hypothesis]:
    """Appends the most probable token to each sequence until all sequences have ended.

    The arguments are explained in `beam_search`.
    """
    token = torch.full((count,), special.start, device=device)  # the latest token of each unfinished sequence
    tokens = token.new_full((count, max_length), special.pad)
    totals = torch.zeros(count, device=device)
    unfinished = torch.arange(count, device=device)  # indices of the sequences that have not ended
    for position in range(max_length):
        scores, token = ensemble.step(token).max(dim=1)
        totals[unfinished] += scores
        tokens[unfinished, position] = token
        rows = (token != special.end).nonzero()[:, 0]  # indices into `unfinished` of those without an end token
        if len(rows) == 0:
            break
        if len(rows) < len(unfinished):  # ended sequences need no more steps
            ensemble.select(rows)
            unfinished, token = unfinished[rows], token[rows]
    return _to_hypotheses(tokens, totals, special)


def beam_search(
    ensemble: Ensemble, count: int, special: SpecialTokens, beam: int, max_length: int, device: torch.device
) -> list[list[Hypothesis]]:
    """Beam search: keeps the `beam` best hypotheses of each sequence at every step.

    Hypotheses are ranked by the mean log-probability of their tokens, the end token included. A ranking by the sum
    would prefer short sequences.

    Args:
        ensemble: the models, before their first step.
        count: number of sequences.
        special: the special tokens.
        beam: number of hypotheses per sequence; with 1, the result is that of `greedy`.
        max_length: maximum number of tokens in a sequence, the end token included.
        device: device of the ensemble's tensors.

    Returns:
        The hypotheses of each sequence, best first. There are fewer than `beam` if no more exist.

    Raises:
        UserError: the models' scores are not finite.
    """
    end, pad = special.end, special.pad
    token = torch.full((count,), special.start, device=device)
    tokens = token.new_empty((count, 0))
    # log-probabilities (count, W) of W hypotheses per sequence; W is 1 at first, then at most `beam`
    total = torch.zeros(count, 1, device=device)
    length = torch.zeros_like(total)
    for _ in range(max_length):
        log_probabilities = ensemble.step(token)
        ended = (token == end) | (token == pad)
        log_probabilities[ended] = -math.inf
        log_probabilities[ended, pad] = 0.0  # an ended sequence is padded and keeps its score
        vocabulary = log_probabilities.shape[1]
        totals = total[:, :, None] + log_probabilities.view(count, -1, vocabulary)
        lengths = length + (~ended).view(count, -1)
        ranks = (totals / lengths[:, :, None]).flatten(1)  # (count, W · V)
        best = ranks.topk(min(beam, ranks.shape[1]), dim=1).indices
        kept = best // vocabulary
        rows = (kept + torch.arange(count, device=device)[:, None] * total.shape[1]).flatten()
        token = (best % vocabulary).flatten()
        total, length = totals.flatten(1).gather(1, best), lengths.gather(1, kept)
        ensemble.select(rows)
        tokens = torch.cat([tokens[rows], token[:, None]], dim=1)
        if ((token == end) | (token == pad)).all():
            break
    found = _to_hypotheses(tokens, total.flatten(), special)
    width = total.shape[1]
    grouped = [found[i * width : (i + 1) * width] for i in range(count)]
    possible = [[hypothesis for hypothesis in group if hypothesis.score > -math.inf] for group in grouped]
    if not all(possible):
        raise UserError("the network's scores are not finite because its training diverged; try a smaller --lr")
    return possible


def _to_hypotheses(tokens: Tensor, totals: Tensor, special: SpecialTokens) -> list[Hypothesis]:
    """Cuts end and padding off each row of tokens (B, L); totals (B,) are the sums of their log-probabilities."""
    sequences = []
    for ids, total in zip(tokens.tolist(), totals.tolist(), strict=True):
        has_ended = special.end in ids
        length = ids.index(special.end) if has_ended else len(ids)
        sequences.append(Hypothesis(ids[:length], total / (length + has_ended), has_ended))
    return sequences
