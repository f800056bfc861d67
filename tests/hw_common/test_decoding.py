"""Greedy and beam search against the scores of all possible sequences."""

import itertools
import math
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hw_common.runs.errors import UserError
from hw_common.training.decoding import SpecialTokens, beam_search, greedy

START, END, PAD = 0, 1, 2
ALPHABET = SpecialTokens(START, END, PAD)
LETTERS = (3, 4, 5)
CPU = torch.device("cpu")


class Table:
    """An ensemble whose log-probabilities depend on the sequence and on all of its tokens so far."""

    def __init__(self, seed, count, ends=1.0):
        self.seed, self.ends = seed, ends
        self.written = [(number,) for number in range(count)]
        self.steps = []  # how many sequences each step was asked for

    def step(self, tokens):
        self.written = [(*before, token) for before, token in zip(self.written, tokens.tolist(), strict=True)]
        self.steps.append(len(self.written))
        return torch.tensor([self.log_probabilities(written) for written in self.written])

    def select(self, rows):
        self.written = [self.written[row] for row in rows.tolist()]

    def log_probabilities(self, written):
        draw = random.Random(f"{self.seed} {written}")
        weights = [0.0, self.ends * draw.random(), 0.0, *(draw.random() ** 2 for _ in LETTERS)]
        return [math.log(weight / sum(weights)) if weight else -math.inf for weight in weights]

    def score(self, number, sequence):
        """Mean log-probability of a sequence, with its end unless it was cut off."""
        before, total = (number, START), 0.0
        for token in sequence:
            total += self.log_probabilities(before)[token]
            before = (*before, token)
        return total / len(sequence)


def all_sequences(longest):
    """All sequences of at most `longest` tokens, END included; they end with END unless they are cut off."""
    for length in range(longest):
        for letters in itertools.product(LETTERS, repeat=length):
            yield [*letters, END]
    yield from map(list, itertools.product(LETTERS, repeat=longest))


def without_end(sequence):
    return [token for token in sequence if token != END]


def by_hand(table, number, beam, longest):
    """Beam search in plain Python: no tensors, no batch."""
    kept = [[]]
    for _ in range(longest):
        candidates = []
        for sequence in kept:
            candidates += [sequence] if END in sequence else [[*sequence, token] for token in (END, *LETTERS)]
        kept = sorted(candidates, key=lambda sequence: -table.score(number, sequence))[:beam]
    return kept


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(1, 3), longest=st.integers(1, 3))
def test_a_beam_that_leaves_out_nothing_finds_the_best_of_all_sequences(seed, count, longest):
    table = Table(seed, count)
    found = beam_search(Table(seed, count), count, ALPHABET, 300, longest, CPU)
    for number, group in enumerate(found):
        ranked = sorted(((table.score(number, one), one) for one in all_sequences(longest)), reverse=True)
        assert len(group) == len(ranked)
        assert [written.score for written in group] == pytest.approx([value for value, _ in ranked], abs=1e-5)
        assert group[0].tokens == without_end(ranked[0][1])
        assert group[0].has_ended == (END in ranked[0][1])


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    count=st.integers(1, 3),
    beam=st.integers(1, 4),
    longest=st.integers(1, 5),
    ends=st.sampled_from([0.3, 1.0, 5.0]),
)
def test_beam_search_is_the_one_in_plain_python(seed, count, beam, longest, ends):
    table = Table(seed, count, ends)
    found = beam_search(Table(seed, count, ends), count, ALPHABET, beam, longest, CPU)
    for number, group in enumerate(found):
        expected = by_hand(table, number, beam, longest)
        assert [written.tokens for written in group] == [without_end(sequence) for sequence in expected]
        assert [written.has_ended for written in group] == [END in sequence for sequence in expected]
        scores = [table.score(number, sequence) for sequence in expected]
        assert [written.score for written in group] == pytest.approx(scores, abs=1e-5)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    count=st.integers(1, 5),
    longest=st.integers(1, 6),
    ends=st.sampled_from([0.1, 1.0, 5.0]),
)
def test_greedy_takes_the_most_probable_token_each_time_as_a_beam_of_one_does(seed, count, longest, ends):
    table = Table(seed, count, ends)
    found = greedy(Table(seed, count, ends), count, ALPHABET, longest, CPU)
    ones = beam_search(Table(seed, count, ends), count, ALPHABET, 1, longest, CPU)
    for number, (written, [one]) in enumerate(zip(found, ones, strict=True)):
        [expected] = by_hand(table, number, 1, longest)
        assert written.tokens == one.tokens == without_end(expected)
        assert written.has_ended == one.has_ended == (END in expected)
        assert written.score == pytest.approx(table.score(number, expected), abs=1e-5)
        assert one.score == pytest.approx(written.score, abs=1e-5)


def test_a_sequence_that_has_ended_costs_no_more():
    table = Table(seed=1, count=9, ends=0.5)
    found = greedy(table, 9, ALPHABET, 9, CPU)
    lengths = [len(written.tokens) + written.has_ended for written in found]
    assert len(set(lengths)) > 2  # otherwise, the test would check nothing
    assert table.steps == [sum(length > place for length in lengths) for place in range(max(lengths))]


def test_scores_that_are_no_numbers_are_named():
    writer = Table(0, 2, 1.0)
    writer.step = lambda tokens: torch.full((len(tokens), len(LETTERS) + 3), math.nan)
    with pytest.raises(UserError, match="scores are not finite because its training diverged"):
        beam_search(writer, 2, ALPHABET, 3, 4, CPU)


@pytest.mark.parametrize("beam", [None, 1, 3])
def test_what_never_ends_is_cut_off(beam):
    table = Table(seed=0, count=2, ends=0.0)
    if beam is None:
        found = greedy(table, 2, ALPHABET, 4, CPU)
    else:
        found = [written for group in beam_search(table, 2, ALPHABET, beam, 4, CPU) for written in group]
    assert len(found) == 2 * (beam or 1)
    assert all(len(written.tokens) == 4 and not written.has_ended for written in found)


@pytest.mark.parametrize("beam", [None, 2])
def test_a_sequence_may_be_empty_and_then_nothing_more_is_asked(beam):
    table = Table(seed=0, count=2, ends=1e9)
    if beam is None:
        found = greedy(table, 2, ALPHABET, 5, CPU)
        assert table.steps == [2]
    else:
        found = [group[0] for group in beam_search(table, 2, ALPHABET, beam, 5, CPU)]
    assert [(written.tokens, written.has_ended) for written in found] == [([], True)] * 2


def test_a_beam_wider_than_what_there_is_returns_only_what_there_is():
    [group] = beam_search(Table(seed=0, count=1), 1, ALPHABET, 50, 1, CPU)
    assert sorted((written.tokens, written.has_ended) for written in group) == [
        ([], True), ([3], False), ([4], False), ([5], False),
    ]  # fmt: skip
