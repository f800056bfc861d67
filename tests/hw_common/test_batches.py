"""Mini-batches: each row once, in an order that is a function of (seed, epoch) alone."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hw_common.training import batches as batches_module
from hw_common.training.batches import Batches, SequenceBatches, batches_of_similar_length, generator_for

SIZES = st.integers(1, 9)


def numbered(rows):
    return torch.arange(rows), 10 * torch.arange(rows)


def add_noise(rows, generator):
    return rows[0] + torch.rand(len(rows[0]), generator=generator), rows[1]


@given(rows=SIZES, size=SIZES, epoch=SIZES, shuffle=st.booleans())
def test_an_epoch_has_every_row_once_in_batches_of_the_size_asked_for(rows, size, epoch, shuffle):
    batches = Batches(numbered(rows), size, shuffle=shuffle)
    found = list(batches.epoch(epoch))
    assert len(found) == len(batches)
    assert [len(labels) for _, labels in found[:-1]] == [size] * (len(found) - 1)
    order = torch.cat([images for images, _ in found])
    assert sorted(order.tolist()) == list(range(rows))
    assert torch.equal(torch.cat([labels for _, labels in found]), 10 * order)  # rows stay together
    assert shuffle or order.tolist() == list(range(rows))


@given(rows=SIZES, size=SIZES, start=st.integers(0, 9), per_chunk=st.integers(1, 4))
def test_an_epoch_taken_up_in_the_middle_goes_on_with_the_same_batches(rows, size, start, per_chunk):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches_module, "CHUNK_ROWS", per_chunk * size)
        batches = Batches(numbered(rows), size, seed=1, prepare=add_noise)
    whole = list(batches.epoch(2))
    rest = list(batches.epoch(2, start))
    assert len(rest) == max(0, len(batches) - start)
    for (a, b), (c, d) in zip(whole[start:], rest, strict=True):
        assert torch.equal(a, c) and torch.equal(b, d)


def test_the_order_depends_on_seed_and_epoch_and_on_nothing_else():
    def order(seed, epoch):
        torch.manual_seed(torch.seed())  # the global generator has no effect
        return torch.cat([images for images, _ in Batches(numbered(9), 4, seed).epoch(epoch)]).tolist()

    assert order(1, 2) == order(1, 2)
    assert len({tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


def test_what_prepare_draws_differs_between_epochs_and_chunks(monkeypatch):
    monkeypatch.setattr(batches_module, "CHUNK_ROWS", 1)
    batches = Batches((torch.zeros(4), torch.zeros(4)), 1, prepare=add_noise)
    drawn = [images.item() for epoch in range(3) for images, _ in batches.epoch(epoch)]
    assert len(set(drawn)) == 12


@given(st.integers(0, 2**31 - 1), st.integers(0, 99))
def test_generators_of_swapped_numbers_have_nothing_in_common(seed, epoch):
    def draw(*numbers):
        return torch.randint(2**60, (2,), generator=generator_for(*numbers)).tolist()

    assert draw(seed, epoch) == draw(seed, epoch)
    assert seed == epoch or draw(seed, epoch) != draw(epoch, seed)
    assert draw(seed, epoch) != draw(seed, epoch + 1)


@given(st.lists(SIZES, min_size=1, max_size=9), SIZES)
def test_batches_of_similar_length_have_every_sequence_once(lengths, size):
    batches = batches_of_similar_length(lengths, size, seed=0, epoch=1)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    assert all(1 <= len(batch) <= size for batch in batches)
    assert batches == batches_of_similar_length(lengths, size, seed=0, epoch=1)


def test_batches_of_similar_length_pad_little_and_change_from_epoch_to_epoch():
    lengths = [1 + (7 * i) % 50 for i in range(50)]  # 1 to 50, mixed up

    def padding(batches):
        return sum(max(lengths[i] for i in batch) * len(batch) - sum(lengths[i] for i in batch) for batch in batches)

    as_they_come = [list(range(start, start + 5)) for start in range(0, 50, 5)]
    epochs = [batches_of_similar_length(lengths, 5, seed=0, epoch=epoch) for epoch in range(3)]
    assert all(padding(batches) < padding(as_they_come) / 3 for batches in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert any(batches != sorted(batches, key=lambda b: lengths[b[0]]) for batches in epochs)  # not short to long


def collate(indices, generator):
    return torch.tensor(indices), torch.rand(len(indices), generator=generator)


@given(lengths=st.lists(SIZES, min_size=1, max_size=12), size=SIZES, start=st.integers(0, 9), shuffle=st.booleans())
def test_sequence_batches_have_each_sequence_once_and_can_be_taken_up_in_the_middle(lengths, size, start, shuffle):
    batches = SequenceBatches(lengths, size, collate, seed=1, shuffle=shuffle)
    whole = list(batches.epoch(3))
    assert len(whole) == len(batches)
    indices = torch.cat([indices for indices, _ in whole]).tolist()
    assert sorted(indices) == list(range(len(lengths)))
    if not shuffle:
        assert indices == sorted(range(len(lengths)), key=lambda index: (lengths[index], index))
    for one, other in zip(whole[start:], batches.epoch(3, start), strict=True):
        assert torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])


def test_what_collate_draws_differs_between_epochs_and_batches():
    batches = SequenceBatches([1] * 6, 2, lambda indices, generator: (torch.rand(1, generator=generator),))
    assert len({drawn.item() for epoch in range(3) for (drawn,) in batches.epoch(epoch)}) == 9
