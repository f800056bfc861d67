"""The linear attention of `models.py`, computed faster and in little memory: the same numbers.

Positions are processed in chunks, so that the features of one chunk at a time are in memory; in training, each chunk's
features are computed again for the gradient. Monomials are built by degree, each with one multiplication. Shapes as in
`models.py`; c positions make a chunk.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from functools import reduce

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from hw_attention_theory.models import TaylorLinearAttention

_CHUNK_ELEMENTS = 2**20  # elements of a chunk's features: 4 MB in fp32, which fit the cache of a core


class FastTaylorLinearAttention(TaylorLinearAttention):
    """`TaylorLinearAttention` in O(LMD) time and, beyond inputs and output, O(MD) memory, in training too.

    Args:
        dimension: D, features of a query or key.
        order: number of terms of the exponential series, odd.
        chunk: positions of a chunk; by default as many as keep the features of a chunk at 4 MB.

    Raises:
        ValueError: `order` is even or less than 1.
    """

    def __init__(self, dimension: int, order: int = 3, chunk: int | None = None) -> None:
        super().__init__(dimension, order)
        self.chunk = chunk

    def attend(self, Q: Tensor, K: Tensor, V: Tensor) -> Tensor:
        """D⁻¹ Φ(Q) (Φ(K)ᵀ V), (…, L, D'), with both products computed chunk by chunk."""
        Qs, Ks, Vs = self._split(Q, K, V)
        sums = reduce(
            torch.add, (_checkpointed(self._sum_keys, keys, values) for keys, values in zip(Ks, Vs, strict=True))
        )
        return _concatenate((_checkpointed(self._divide, queries, sums) for queries in Qs), Q.shape[-2])

    def attend_causally(self, Q: Tensor, K: Tensor, V: Tensor) -> Tensor:
        """The same with sums over the positions up to each query's own."""
        return _concatenate(self._causal_chunks(*self._split(Q, K, V)), Q.shape[-2])

    def _causal_chunks(
        self, Qs: tuple[Tensor, ...], Ks: tuple[Tensor, ...], Vs: tuple[Tensor, ...]
    ) -> Iterator[Tensor]:
        before = Vs[0].new_zeros((*Vs[0].shape[:-2], self.phi.size, Vs[0].shape[-1] + 1))
        for queries, keys, values in zip(Qs, Ks, Vs, strict=True):
            yield _checkpointed(self._divide_causally, queries, before, keys, values)
            before = before + _checkpointed(self._sum_keys, keys, values)

    def _split(self, Q: Tensor, K: Tensor, V: Tensor) -> tuple[tuple[Tensor, ...], ...]:
        chunk = self.chunk or max(1, _CHUNK_ELEMENTS // (self.phi.size * Q.shape[:-2].numel()))
        return Q.split(chunk, -2), K.split(chunk, -2), V.split(chunk, -2)

    def _sum_keys(self, keys: Tensor, values: Tensor) -> Tensor:
        """Φ(K)ᵀ [V, 1] of a chunk, (…, M, D'+1), with the factor 1/α! instead of the 1/√α! of Φ(K).

        With all of 1/α! in this small matrix, the larger Φ(Q) and Φ(K) need no factor of their own.
        """
        weights = (1 / self.phi.factorials).to(keys)[:, None]  # (M, 1)
        return (monomials(keys, self.order).mT @ _append_ones(values)) * weights

    def _divide(self, queries: Tensor, sums: Tensor) -> Tensor:
        """Z of a chunk, (…, c, D'): numerators by denominators."""
        products = monomials(queries, self.order) @ sums  # (…, c, D'+1)
        return products[..., :-1] / products[..., -1:]

    def _divide_causally(self, queries: Tensor, before: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Z of a chunk, (…, c, D'), from the sums `before` it and the chunk's own positions.

        Within the chunk, the series of qᵀk itself takes less time than the product of features that equals it.
        """
        weights = horner(queries @ keys.mT, self.order).tril()  # (…, c, c)
        products = monomials(queries, self.order) @ before + weights @ _append_ones(values)  # (…, c, D'+1)
        return products[..., :-1] / products[..., -1:]


def monomials(x: Tensor, order: int) -> Tensor:
    """All x^α with |α| < order, in the order of `FeatureMap.monomials`: (…, D) to (…, M)."""
    dimension = x.shape[-1]
    degrees = [torch.ones_like(x[..., :1])]
    for degree in range(1, order):
        lower = degrees[-1]
        # The monomials that begin with x_i are x_i times the monomials of the degree below that begin with x_i or a
        # later feature. Those stand together at the end, so that no index has to be gathered.
        counts = [math.comb(dimension - i + degree - 2, degree - 1) for i in range(dimension)]
        products = [x[..., i : i + 1] * lower[..., lower.shape[-1] - n :] for i, n in enumerate(counts)]
        degrees.append(torch.cat(products, dim=-1))
    return torch.cat(degrees, dim=-1)


def horner(t: Tensor, order: int) -> Tensor:
    """`exponential_series` by Horner's scheme: 1 + t (1 + t/2 (1 + t/3 (…)))."""
    result = torch.ones_like(t)
    for n in range(order - 1, 0, -1):
        result = 1 + t * result / n
    return result


def _append_ones(values: Tensor) -> Tensor:
    """[V, 1], (…, c, D'+1): one product computes numerators and denominators."""
    return torch.cat([values, torch.ones_like(values[..., :1])], dim=-1)


def _checkpointed(function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """`function(*tensors)`; if gradients are computed, its intermediate results are computed again for them."""
    if not (torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)):
        return function(*tensors)
    return checkpoint(function, *tensors, use_reentrant=False, preserve_rng_state=False)


def _concatenate(chunks: Iterator[Tensor], length: int) -> Tensor:
    """The chunks (…, c, D') one after another, (…, L, D').

    Without gradients each chunk is copied into the result at once. If the small chunks were kept until the end, between
    large buffers that are allocated and freed, the process's memory would be fragmented.
    """
    first = next(chunks)
    if first.requires_grad:
        return torch.cat([first, *chunks], dim=-2)
    joined, end = first.new_empty((*first.shape[:-2], length, first.shape[-1])), 0
    for chunk in itertools.chain([first], chunks):
        joined[..., end : end + chunk.shape[-2], :] = chunk
        end += chunk.shape[-2]
    return joined
