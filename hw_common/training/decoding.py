"""Greedy and beam search, all sequences of a batch at once, over whatever writes token by token."""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from hw_common.runs.errors import UserError


class Writer(Protocol):
    """Something that writes sequences side by side and remembers what it has written."""

    def step(self, tokens: Tensor) -> Tensor:
        """After `tokens` (B,): log-probabilities of the next ones (B, V), which the search may change."""
        ...

    def select(self, rows: Tensor) -> None:
        """Goes on with the sequences `rows`, each as often as it is named."""
        ...


@dataclass(frozen=True)
class Alphabet:
    """The tokens with a meaning of their own.

    Attributes:
        start: stands before every sequence.
        end: stands behind it.
        pad: fills up; never written.
    """

    start: int
    end: int
    pad: int


@dataclass(frozen=True)
class Written:
    """A sequence that was written.

    Attributes:
        tokens: without start and end.
        score: mean log-probability of the tokens and of the end.
        has_ended: False if it was cut off for its length.
    """

    tokens: list[int]
    score: float
    has_ended: bool


def greedy(writer: Writer, count: int, alphabet: Alphabet, longest: int, device: torch.device) -> list[Written]:
    """The most probable token after each token, until all sequences have ended or have `longest` tokens.

    Args:
        writer: at the beginning of `count` sequences.
        count: of sequences.
        alphabet: its special tokens.
        longest: tokens of a sequence, its end among them.
        device: of the writer's tensors.
    """
    token = torch.full((count,), alphabet.start, device=device)
    tokens = token.new_full((count, longest), alphabet.pad)
    totals = torch.zeros(count, device=device)
    going = torch.arange(count, device=device)  # the sequences that have not ended
    for place in range(longest):
        scores, token = writer.step(token).max(dim=1)
        totals[going] += scores
        tokens[going, place] = token
        rows = (token != alphabet.end).nonzero()[:, 0]
        if len(rows) == 0:
            break
        if len(rows) < len(going):  # what has ended costs no more
            writer.select(rows)
            going, token = going[rows], token[rows]
    return _read(tokens, totals, alphabet)


def beam_search(
    writer: Writer, count: int, alphabet: Alphabet, beam: int, longest: int, device: torch.device
) -> list[list[Written]]:
    """The `beam` best sequences that a search finds that keeps as many unfinished ones at each step.

    Sequences are compared by the mean log-probability of their tokens, the end included: by the sum, short ones would
    win.

    Args:
        writer: at the beginning of `count` sequences.
        count: of sequences.
        alphabet: its special tokens.
        beam: sequences that are kept for each; with 1, the result is `greedy`'s.
        longest: tokens of a sequence, its end among them.
        device: of the writer's tensors.

    Returns:
        For each of `count` its sequences, the best one first; fewer than `beam` if there are no more.
    """
    end, pad = alphabet.end, alphabet.pad
    token = torch.full((count,), alphabet.start, device=device)
    tokens = token.new_empty((count, 0))
    total = torch.zeros(count, 1, device=device)  # (count, kept) log-probability of each; one at first, then beam
    length = torch.zeros_like(total)
    for _ in range(longest):
        log_probabilities = writer.step(token)
        ended = (token == end) | (token == pad)
        log_probabilities[ended] = -math.inf
        log_probabilities[ended, pad] = 0.0  # what has ended stays as it is
        vocabulary = log_probabilities.shape[1]
        totals = total[:, :, None] + log_probabilities.view(count, -1, vocabulary)
        lengths = length + (~ended).view(count, -1)
        ranks = (totals / lengths[:, :, None]).flatten(1)  # (count, kept · V)
        best = ranks.topk(min(beam, ranks.shape[1]), dim=1).indices
        kept = best // vocabulary
        rows = (kept + torch.arange(count, device=device)[:, None] * total.shape[1]).flatten()
        token = (best % vocabulary).flatten()
        total, length = totals.flatten(1).gather(1, best), lengths.gather(1, kept)
        writer.select(rows)
        tokens = torch.cat([tokens[rows], token[:, None]], dim=1)
        if ((token == end) | (token == pad)).all():
            break
    found = _read(tokens, total.flatten(), alphabet)
    width = total.shape[1]
    grouped = [found[i * width : (i + 1) * width] for i in range(count)]
    possible = [[written for written in group if written.score > -math.inf] for group in grouped]
    if not all(possible):
        raise UserError("the network's scores are no numbers: its training has diverged; try a smaller --lr")
    return possible


def _read(tokens: Tensor, totals: Tensor, alphabet: Alphabet) -> list[Written]:
    """tokens: (B, L), with ends and padding; totals: (B,) log-probabilities."""
    sequences = []
    for numbers, total in zip(tokens.tolist(), totals.tolist(), strict=True):
        has_ended = alphabet.end in numbers
        length = numbers.index(alphabet.end) if has_ended else len(numbers)
        sequences.append(Written(numbers[:length], total / (length + has_ended), has_ended))
    return sequences
