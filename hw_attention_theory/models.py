"""Self-attention as the sheets write it, its linear approximation, and a classifier that reads an image pixel by pixel.

Shapes: L positions, D numbers per query and key, M features, … any leading dimensions (batch, heads).
"""

import itertools
import math
from collections.abc import Callable, Iterator
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

_CHUNK_NUMBERS = 2**20  # features held at a time: 4 MB in fp32, which stays near the core


def exponential_series(t: Tensor, order: int) -> Tensor:
    """The first `order` terms of exp(t), 1 + t + … + t^(order-1)/(order-1)!, elementwise (Horner's scheme)."""
    result = torch.ones_like(t)
    for n in range(order - 1, 0, -1):
        result = 1 + t * result / n
    return result


class FeatureMap:
    """φ of ist-2023-24-hw2 Q1.2: φ(q)ᵀφ(k) is the exponential series of qᵀk, cut off after `order` terms.

    (qᵀk)ⁿ/n! is the sum over all α with |α| = n of q^α k^α / α!, so that φ has one entry x^α / √α! for each monomial
    of degree below `order`: M = C(D+order-1, order-1) of them, (D+1)(D+2)/2 for three terms. A tensor product would
    have each mixed monomial several times.

    Args:
        dimension: D.
        order: K, the number of terms; the highest power is K - 1.
    """

    def __init__(self, dimension: int, order: int) -> None:
        self.dimension = dimension
        self.order = order
        self.size = math.comb(dimension + order - 1, order - 1)  # M
        self.exponents = [
            indices
            for degree in range(order)
            for indices in itertools.combinations_with_replacement(range(dimension), degree)
        ]  # of each monomial, the indices of its factors: (0, 0, 2) is x₀²x₂
        factorials = [math.prod(math.factorial(indices.count(i)) for i in set(indices)) for indices in self.exponents]
        with torch.inference_mode(False):  # it outlives the call that made it, and is for training too
            self.weights = 1 / torch.tensor(factorials, dtype=torch.float64)  # 1/α!, (M,)

    def monomials(self, x: Tensor) -> Tensor:
        """All x^α, in the order of `exponents`: (…, D) to (…, M)."""
        blocks = [torch.ones_like(x[..., :1])]
        for degree in range(1, self.order):
            below = blocks[-1]
            # Those that begin with x_i are x_i times those of the degree below that begin with x_i or later, which
            # stand together at the end: no monomial comes twice, and nothing has to be gathered.
            later = [math.comb(self.dimension - i + degree - 2, degree - 1) for i in range(self.dimension)]
            products = [x[..., i : i + 1] * below[..., below.shape[-1] - n :] for i, n in enumerate(later)]
            blocks.append(torch.cat(products, dim=-1))
        return torch.cat(blocks, dim=-1)

    def __call__(self, x: Tensor) -> Tensor:
        """φ(x): (…, D) to (…, M)."""
        return self.monomials(x) * self.weights.sqrt().to(x)


@lru_cache(maxsize=64)
def feature_map(dimension: int, order: int) -> FeatureMap:
    """The feature map for that dimension and number of terms, made once."""
    return FeatureMap(dimension, order)


class SoftmaxSelfAttention(nn.Module):
    """Z = Softmax(Q Kᵀ) V (ist-2023-24-hw2 Q1.1): O(L²D) time, O(L²) memory."""

    def forward(self, Q: Tensor, K: Tensor, V: Tensor, causal: bool = False) -> Tensor:
        """Q, K, V: (…, L, D); returns Z (…, L, D). With `causal`, no position attends to later ones."""
        scores = Q @ K.mT  # (…, L, L)
        if causal:
            later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=Q.device).triu(1)
            scores = scores.masked_fill(later, -math.inf)
        return scores.softmax(-1) @ V


class TaylorLinearAttention(nn.Module):
    """Z ≈ D⁻¹ Φ(Q) Φ(K)ᵀ V with D = Diag(Φ(Q) Φ(K)ᵀ 1) (ist-2023-24-hw2 Q1.3 and Q1.4).

    Φ(K)ᵀ[V, 1] is computed first, and a chunk of positions at a time: O(L·M·D) time, and O(M·D) memory beyond inputs
    and output, in training too, where each chunk's features are computed again for the gradient.

    Args:
        order: K, how many terms of the exponential series; odd. With an odd number the series is positive everywhere,
            so that attention is an average of values as it is with softmax. With an even one it is negative for
            small enough qᵀk, the weights are no probabilities, and the denominator can be 0.
        chunk: positions at a time; by default as many as keep the features of a chunk at 4 MB.

    Raises:
        ValueError: `order` is not odd and positive.
    """

    def __init__(self, order: int = 3, chunk: int | None = None) -> None:
        super().__init__()
        if order < 1 or order % 2 == 0:
            raise ValueError(
                f"order {order}: expected an odd number of terms; with an even one, attention weights can be negative"
            )
        self.order = order
        self.chunk = chunk

    def forward(self, Q: Tensor, K: Tensor, V: Tensor, causal: bool = False) -> Tensor:
        """Q, K: (…, L, D), V: (…, L, D'); returns Z (…, L, D'). With `causal`, none attends to later positions."""
        phi = feature_map(Q.shape[-1], self.order)
        chunk = self.chunk or max(1, _CHUNK_NUMBERS // (phi.size * Q.shape[:-2].numel()))
        with torch.autocast(Q.device.type, enabled=False):  # sums over thousands of positions need more than bf16
            Q, K, V = (x.float() if x.element_size() < 4 else x for x in (Q, K, V))
            attend = self._attend_causally if causal else self._attend
            return attend(phi, Q.split(chunk, -2), K.split(chunk, -2), V.split(chunk, -2))

    def _attend(self, phi: FeatureMap, Q: tuple[Tensor, ...], K: tuple[Tensor, ...], V: tuple[Tensor, ...]) -> Tensor:
        state = sum(_in_little_memory(_summary, phi, keys, values) for keys, values in zip(K, V, strict=True))
        return _join((_in_little_memory(_look_up, phi, queries, state) for queries in Q), sum(q.shape[-2] for q in Q))

    def _attend_causally(
        self, phi: FeatureMap, Q: tuple[Tensor, ...], K: tuple[Tensor, ...], V: tuple[Tensor, ...]
    ) -> Tensor:
        def outputs() -> Iterator[Tensor]:
            state = V[0].new_zeros((*V[0].shape[:-2], phi.size, V[0].shape[-1] + 1))
            for queries, keys, values in zip(Q, K, V, strict=True):
                yield _in_little_memory(_look_up_causally, phi, queries, state, keys, values)
                state = state + _in_little_memory(_summary, phi, keys, values)

        return _join(outputs(), sum(q.shape[-2] for q in Q))


def _join(chunks: Iterator[Tensor], length: int) -> Tensor:
    """The chunks (…, c, D') one behind the other, (…, L, D').

    Without gradients, each is put in its place at once: kept until the end, those small results between large buffers
    that come and go would leave the process's memory in pieces too small to use again.
    """
    first = next(chunks)
    if first.requires_grad:
        return torch.cat([first, *chunks], dim=-2)
    joined, end = first.new_empty((*first.shape[:-2], length, first.shape[-1])), 0
    for chunk in itertools.chain([first], chunks):
        joined[..., end : end + chunk.shape[-2], :] = chunk
        end += chunk.shape[-2]
    return joined


def _in_little_memory(function: Callable[..., Tensor], phi: FeatureMap, *tensors: Tensor) -> Tensor:
    """`function(phi, *tensors)`; where gradients are wanted, keeping its arguments only and not its features."""
    if not (torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)):
        return function(phi, *tensors)
    return checkpoint(function, phi, *tensors, use_reentrant=False, preserve_rng_state=False)


def _with_ones(values: Tensor) -> Tensor:
    """[V, 1]: with the ones, the denominators come out of the same product."""
    return torch.cat([values, torch.ones_like(values[..., :1])], dim=-1)


def _summary(phi: FeatureMap, keys: Tensor, values: Tensor) -> Tensor:
    """Φ(K)ᵀ [V, 1]: (…, M, D'+1); with 1/α! on this small matrix, neither Φ(Q) nor Φ(K) needs its 1/√α!."""
    return (phi.monomials(keys).mT @ _with_ones(values)) * phi.weights.to(keys)[:, None]


def _look_up(phi: FeatureMap, queries: Tensor, state: Tensor) -> Tensor:
    sums = phi.monomials(queries) @ state
    return sums[..., :-1] / sums[..., -1:]


def _look_up_causally(phi: FeatureMap, queries: Tensor, state: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Attention of a chunk to all positions before it, which are in `state`, and to those of its own that come first.

    Within the chunk, the series of qᵀk itself costs less than the product of features that equals it.
    """
    own = exponential_series(queries @ keys.mT, phi.order).tril()
    sums = phi.monomials(queries) @ state + own @ _with_ones(values)
    return sums[..., :-1] / sums[..., -1:]


class MultiHeadSelfAttention(nn.Module):
    """Self-attention of X: (B, L, n) with W_Q, W_K, W_V of each head as in ist-2021-22-hw2 Q1.3, and an output layer.

    Args:
        n: numbers per position.
        d: numbers per query, key and value in each head.
        heads: how many.
        attention: Q, K, V to Z.
    """

    def __init__(self, n: int, d: int, heads: int, attention: nn.Module) -> None:
        super().__init__()
        self.heads = heads
        self.W_Q = nn.Linear(n, heads * d, bias=False)
        self.W_K = nn.Linear(n, heads * d, bias=False)
        self.W_V = nn.Linear(n, heads * d, bias=False)
        self.attention = attention
        self.W_O = nn.Linear(heads * d, n, bias=False)

    def forward(self, X: Tensor) -> Tensor:
        """X: (B, L, n); returns (B, L, n)."""
        Q, K, V = (
            W(X).unflatten(2, (self.heads, -1)).transpose(1, 2)  # (B, heads, L, d)
            for W in (self.W_Q, self.W_K, self.W_V)
        )
        Z = self.attention(Q, K, V)
        return self.W_O(Z.transpose(1, 2).flatten(2).to(X.dtype))  # (B, L, heads * d) to (B, L, n)


class Block(nn.Module):
    """Self-attention, then two linear layers at each position; each normalizes its input and is added to it."""

    def __init__(self, n: int, d: int, heads: int, attention: nn.Module) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(n)
        self.self_attention = MultiHeadSelfAttention(n, d, heads, attention)
        self.norm2 = nn.LayerNorm(n)
        self.feed_forward = nn.Sequential(nn.Linear(n, 2 * n), nn.GELU(), nn.Linear(2 * n, n))

    def forward(self, X: Tensor) -> Tensor:
        """X: (B, L, n); returns (B, L, n)."""
        X = X + self.self_attention(self.norm1(X))
        return X + self.feed_forward(self.norm2(X))


class PixelClassifier(nn.Module):
    """Classes of images that are read as a sequence of pixels, row by row.

    Args:
        length: L, pixels in an image.
        classes: how many.
        n: numbers per position.
        d: numbers per query, key and value in each head.
        heads: of each block.
        blocks: how many.
        attention: Q, K, V to Z; has no parameters, so all blocks share it.
    """

    def __init__(
        self, length: int, classes: int, n: int, d: int, heads: int, blocks: int, attention: nn.Module
    ) -> None:
        super().__init__()
        self.embedding = nn.Linear(1, n)
        self.positions = nn.Parameter(0.5 * torch.randn(length, n))
        self.blocks = nn.Sequential(*(Block(n, d, heads, attention) for _ in range(blocks)))
        self.norm = nn.LayerNorm(n)
        self.output_layer = nn.Linear(n, classes)

    def forward(self, pixels: Tensor) -> Tensor:
        """pixels: (B, L) float from 0 to 1; returns scores (B, classes)."""
        X = self.embedding(pixels[:, :, None]) + self.positions  # (B, L, n)
        return self.output_layer(self.norm(self.blocks(X)).mean(1))
