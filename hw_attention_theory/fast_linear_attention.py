"""The linear attention of `models.py`, computed faster and with little memory; the results are the same.

Positions are processed in chunks, so only the features of one chunk are in memory; in training, each chunk's features
are computed again for the gradient. Monomials are built by degree, each with one multiplication. Shapes are those of
`models.py`; c is the number of positions in a chunk.
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
_CHUNK_ELEMENTS_ON_GPU = 2**28  # 1 GB: on a GPU, starting the kernels of a small chunk takes longer than computing it


class FastTaylorLinearAttention(TaylorLinearAttention):
    """`TaylorLinearAttention` in O(LMD) time and, beyond inputs and output, O(MD) memory, in training too.

    Only causal attention keeps more for training: a matrix (M, D'+1) for each chunk.

    Args:
        dimension: D, features of a query or key.
        terms: number of terms of the exponential series, odd.
        chunk: positions of a chunk; by default, as many as make its features take 4 MB, or 1 GB on a GPU without a
            causal mask.

    Raises:
        ValueError: `terms` is even or less than 1.
    """

    def __init__(self, dimension: int, terms: int = 3, chunk: int | None = None) -> None:
        super().__init__(dimension, terms)
        self.chunk = chunk

    def attend(self, Q: Tensor, K: Tensor, V: Tensor) -> Tensor:
        """D⁻¹ Φ(Q) (Φ(K)ᵀ V), (…, L, D'), with both products computed chunk by chunk."""
        elements = _CHUNK_ELEMENTS if Q.device.type == "cpu" else _CHUNK_ELEMENTS_ON_GPU
        Qs, Ks, Vs = self._split(elements, Q, K, V)
        sums = reduce(
            torch.add, (_checkpointed(self._sum_keys, keys, values) for keys, values in zip(Ks, Vs, strict=True))
        )
        return _concatenate((_checkpointed(self._divide, queries, sums) for queries in Qs), Q.shape[-2])

    def attend_causally(self, Q: Tensor, K: Tensor, V: Tensor) -> Tensor:
        """As `attend`, but each query's sums end at its own position."""
        return _concatenate(self._causal_chunks(*self._split(_CHUNK_ELEMENTS, Q, K, V)), Q.shape[-2])

    def _causal_chunks(
        self, Qs: tuple[Tensor, ...], Ks: tuple[Tensor, ...], Vs: tuple[Tensor, ...]
    ) -> Iterator[Tensor]:
        before = Vs[0].new_zeros((*Vs[0].shape[:-2], self.phi.size, Vs[0].shape[-1] + 1))
        for queries, keys, values in zip(Qs, Ks, Vs, strict=True):
            yield _checkpointed(self._divide_causally, queries, before, keys, values)
            before = before + _checkpointed(self._sum_keys, keys, values)

    def _split(self, elements: int, Q: Tensor, K: Tensor, V: Tensor) -> tuple[tuple[Tensor, ...], ...]:
        chunk = self.chunk or max(1, elements // (self.phi.size * Q.shape[:-2].numel()))
        return Q.split(chunk, -2), K.split(chunk, -2), V.split(chunk, -2)

    def _sum_keys(self, keys: Tensor, values: Tensor) -> Tensor:
        """Φ(K)ᵀ [V, 1] of a chunk, (…, M, D'+1), times the factors 1/√α! of Φ(Q).

        The factors of Φ(Q) and Φ(K), together 1/α!, are applied to this matrix because it is smaller than both.
        """
        weights = (1 / self.phi.factorials).to(keys)[:, None]  # (M, 1)
        return (monomials(keys, self.terms).mT @ _append_ones(values)) * weights

    def _divide(self, queries: Tensor, sums: Tensor) -> Tensor:
        """Z of a chunk, (…, c, D'): numerators divided by denominators."""
        products = monomials(queries, self.terms) @ sums  # (…, c, D'+1)
        return products[..., :-1] / products[..., -1:]

    def _divide_causally(self, queries: Tensor, before: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Z of a chunk, (…, c, D'), from the sums over all positions `before` the chunk and from its own positions.

        Within the chunk, computing the series of qᵀk takes less time than computing φ(q)ᵀφ(k), which is equal.
        """
        weights = horner(queries @ keys.mT, self.terms).tril()  # (…, c, c)
        products = monomials(queries, self.terms) @ before + weights @ _append_ones(values)  # (…, c, D'+1)
        return products[..., :-1] / products[..., -1:]


def monomials(x: Tensor, terms: int) -> Tensor:
    """All x^α with |α| < terms, in the order of `FeatureMap.monomials`: (…, D) to (…, M)."""
    dimension = x.shape[-1]
    degrees = [torch.ones_like(x[..., :1])]
    for degree in range(1, terms):
        lower = degrees[-1]
        # x_i is multiplied by every monomial of the lower degree whose first factor is x_i or a later feature. These
        # are the last ones of `lower`, so a slice selects them.
        counts = [math.comb(dimension - i + degree - 2, degree - 1) for i in range(dimension)]
        products = [x[..., i : i + 1] * lower[..., lower.shape[-1] - n :] for i, n in enumerate(counts)]
        degrees.append(torch.cat(products, dim=-1))
    return torch.cat(degrees, dim=-1)


def horner(t: Tensor, terms: int) -> Tensor:
    """`exponential_series` by Horner's scheme: 1 + t (1 + t/2 (1 + t/3 (…)))."""
    result = torch.ones_like(t)
    for n in range(terms - 1, 0, -1):
        result = 1 + t * result / n
    return result


def _append_ones(values: Tensor) -> Tensor:
    """[V, 1], (…, c, D'+1): one product computes numerators and denominators."""
    return torch.cat([values, torch.ones_like(values[..., :1])], dim=-1)


def _checkpointed(function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """`function(*tensors)`; in training, its intermediate results are not kept but computed again for the gradient."""
    if not (torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)):
        return function(*tensors)
    return checkpoint(function, *tensors, use_reentrant=False, preserve_rng_state=False)


def _concatenate(chunks: Iterator[Tensor], length: int) -> Tensor:
    """The chunks (…, c, D') one after another, (…, L, D').

    Without gradients, each chunk is copied into the result as soon as it is computed. Keeping all chunks until the end
    would fragment the memory of the process, because large buffers are allocated and freed between them.
    """
    first = next(chunks)
    if first.requires_grad:
        return torch.cat([first, *chunks], dim=-2)
    joined, end = first.new_empty((*first.shape[:-2], length, first.shape[-1])), 0
    for chunk in itertools.chain([first], chunks):
        joined[..., end : end + chunk.shape[-2], :] = chunk
        end += chunk.shape[-2]
    return joined
