"""Mini-batches in memory, in an order that depends on (seed, epoch) alone.

The sheets' data sets fit into memory, so a batch is a slice of tensors. Rows are gathered and prepared (uint8 to float,
augmentation) in chunks of about 2048 rows, because calls for each small batch would cost more than their arithmetic.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from hw_common.training import distributed

Tensors = tuple[Tensor, ...]
CHUNK_ROWS = 2048


def generator_for(*numbers: int) -> torch.Generator:
    """Returns a random generator whose state depends on `numbers` (seed, epoch, …) alone."""
    state = 0
    for number in numbers:  # 64-bit mixing, so that (seed 1, epoch 2) and (seed 2, epoch 1) are unrelated
        state = ((state ^ number) * 0x9E3779B97F4A7C15 + 0x632BE59BD9B4E019) % 2**64
        state ^= state >> 29
    return torch.Generator().manual_seed(state)


class EpochBatches(Protocol):
    """The training batches, as the training loop uses them."""

    def __len__(self) -> int:
        """Number of steps in an epoch."""
        ...

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Tensors]:
        """Yields this process's share of the batches of `epoch`, from step `start` on."""
        ...


class Batches:
    """Mini-batches of rows of tensors. Each process gets its share of every batch.

    Args:
        tensors: tensors (rows, …), for example images as uint8 and labels.
        batch_size: number of rows per step, over all processes.
        seed: fixes the order and the random numbers of `prepare`.
        prepare: converts the rows of a chunk to the inputs of the model; draws random numbers from the given generator.
        shuffle: whether the order changes from epoch to epoch.
    """

    def __init__(
        self,
        tensors: Sequence[Tensor],
        batch_size: int,
        seed: int = 0,
        prepare: Callable[[Tensors, torch.Generator], Tensors] = lambda rows, generator: rows,
        shuffle: bool = True,
    ) -> None:
        self.tensors = tuple(tensors)
        self.batch_size = batch_size
        self.seed = seed
        self.prepare = prepare
        self.shuffle = shuffle
        self.rows = len(self.tensors[0])
        self._batches_per_chunk = max(1, CHUNK_ROWS // batch_size)

    def __len__(self) -> int:
        """Number of steps in an epoch; the last one may have fewer rows."""
        return -(-self.rows // self.batch_size)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Tensors]:
        """Yields the batches of `epoch` from step `start` on. The batches do not depend on `start`."""
        order = torch.randperm(self.rows, generator=generator_for(self.seed, epoch)) if self.shuffle else None
        chunk_rows = self._batches_per_chunk * self.batch_size
        for chunk in range(start // self._batches_per_chunk, -(-len(self) // self._batches_per_chunk)):
            rows = self._gather(order, chunk * chunk_rows, min((chunk + 1) * chunk_rows, self.rows))
            rows = self.prepare(rows, generator_for(self.seed, epoch, chunk + 1))
            first = max(start - chunk * self._batches_per_chunk, 0) * self.batch_size
            for begin in range(first, len(rows[0]), self.batch_size):
                batch = tuple(tensor[begin : begin + self.batch_size] for tensor in rows)
                own = distributed.share(len(batch[0]))
                yield tuple(tensor[own] for tensor in batch) if distributed.world_size() > 1 else batch

    def _gather(self, order: Tensor | None, begin: int, end: int) -> Tensors:
        if order is None:
            return tuple(tensor[begin:end] for tensor in self.tensors)
        return tuple(tensor[order[begin:end].to(tensor.device)] for tensor in self.tensors)


def batches_of_similar_length(lengths: Sequence[int], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """Groups sequences of similar length, in an order that depends on (seed, epoch) alone.

    The sequences are sorted by their length times a random factor near 1, cut into batches, and the batches are
    shuffled. Each index appears once.

    Args:
        lengths: length of each sequence.
        batch_size: number of sequences per batch; the batch of the longest sequences may have fewer.
        seed: seed of the order.
        epoch: index of the epoch.

    Returns:
        The indices of the sequences of each batch.
    """
    generator = generator_for(seed, epoch)
    noise = 1 + 0.1 * torch.rand(len(lengths), generator=generator)
    order = torch.argsort(torch.tensor(lengths, dtype=torch.float) * noise)
    batches = [chunk.tolist() for chunk in order.split(batch_size)]
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]


@dataclass
class SequenceBatches:
    """Mini-batches of sequences of similar length. Each process gets its share of every batch."""

    lengths: Sequence[int]  # length of each sequence
    batch_size: int  # number of sequences per step, over all processes
    # Makes padded tensors (rows, …) from the indices of a batch; draws random numbers from the generator.
    collate: Callable[[list[int], torch.Generator], Tensors]
    seed: int = 0  # fixes the order and the random numbers of `collate`
    shuffle: bool = True  # whether batches differ from epoch to epoch; otherwise, short sequences come first

    def __len__(self) -> int:
        """Number of steps in an epoch."""
        return -(-len(self.lengths) // self.batch_size)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Tensors]:
        """Yields the batches of `epoch` from step `start` on. The batches do not depend on `start`."""
        if self.shuffle:
            groups = batches_of_similar_length(self.lengths, self.batch_size, self.seed, epoch)
        else:
            order = torch.argsort(torch.tensor(self.lengths), stable=True)
            groups = [group.tolist() for group in order.split(self.batch_size)]
        for step, indices in enumerate(groups[start:], start):
            batch = self.collate(indices, generator_for(self.seed, epoch, step + 1))
            own = distributed.share(len(indices))  # after padding, because dropout masks depend on the padded width
            yield tuple(tensor[own] for tensor in batch) if distributed.world_size() > 1 else batch
