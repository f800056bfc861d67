"""Self-attention and its linear approximation as in the sheets, and a classifier that reads images pixel by pixel.

Shapes: L positions, D features of each query and key, M features of φ; … stands for any leading dimensions (batch,
heads).
"""

import itertools
import math

import torch
from torch import Tensor, nn


class SoftmaxSelfAttention(nn.Module):
    """Z = Softmax(Q Kᵀ) V, unscaled (no 1/√D) as on the sheet (ist-2023-24-hw2 Q1.1).

    Q Kᵀ has L² entries, each a sum of D products, and the product with V takes as many operations: O(L²D) time. The L²
    weights take O(L²) memory. Hence a sequence of twice the length takes four times the time and memory.
    """

    def forward(self, Q: Tensor, K: Tensor, V: Tensor, causal: bool = False) -> Tensor:
        """Q, K, V: (…, L, D); returns Z (…, L, D). With `causal`, no position attends to a later one."""
        scores = Q @ K.mT  # (…, L, L); L² D multiplications and as many additions
        if causal:
            later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=Q.device).triu(1)
            scores = scores.masked_fill(later, -math.inf)
        return scores.softmax(-1) @ V  # (…, L, D); again L² D multiplications and as many additions


def exponential_series(t: Tensor, terms: int) -> Tensor:
    """The first `terms` terms of the series of exp(t), elementwise: 1 + t + t²/2! + … + t^(terms-1)/(terms-1)!."""
    return sum((t**n / float(math.factorial(n)) for n in range(1, terms)), start=torch.ones_like(t))


class FeatureMap(nn.Module):
    """φ of ist-2023-24-hw2 Q1.2: φ(q)ᵀφ(k) is the series of exp(qᵀk), cut off after `terms` terms.

    With three terms, φ(x) has the entries 1, x_i, x_i²/√2 and, for i < j, x_i x_j: M = (D+1)(D+2)/2 entries.

    In general, write x^α = x_1^α_1 … x_D^α_D for a monomial of degree |α| = α_1 + … + α_D, and α! = α_1! … α_D!. By the
    multinomial theorem, (qᵀk)ⁿ/n! = Σ_(|α|=n) q^α k^α / α!. Hence φ(x) has one entry x^α / √α! for each monomial of
    degree |α| < terms. Filled up with factors 1, each monomial is a choice of terms - 1 factors out of x_1, …, x_D
    and 1, with repetition and regardless of order, so there are M = C(D + terms - 1, terms - 1) monomials.

    Args:
        dimension: D, features of a query or key.
        terms: number of terms of the series, K in the sheet; the highest degree is terms - 1.
    """

    def __init__(self, dimension: int, terms: int) -> None:
        super().__init__()
        # The indices of each monomial's factors: (0, 0, 2) stands for x_0² x_2, and () for 1.
        self.monomials = [
            indices
            for degree in range(terms)
            for indices in itertools.combinations_with_replacement(range(dimension), degree)
        ]
        self.size = len(self.monomials)  # M
        # Index D stands for the factor 1, which `forward` appends to x. It fills up the monomials of lower degrees.
        factors = [[*indices, *[dimension] * (terms - 1 - len(indices))] for indices in self.monomials]
        factorials = [math.prod(math.factorial(indices.count(i)) for i in set(indices)) for indices in self.monomials]
        self.factors: Tensor
        self.factorials: Tensor
        self.register_buffer("factors", torch.tensor(factors, dtype=torch.int64), persistent=False)  # (M, terms - 1)
        self.register_buffer("factorials", torch.tensor(factorials, dtype=torch.float64), persistent=False)  # α!, (M,)

    def forward(self, x: Tensor) -> Tensor:
        """φ(x): (…, D) to (…, M)."""
        x = torch.cat([x, torch.ones_like(x[..., :1])], dim=-1)  # (…, D + 1)
        monomials = x[..., self.factors].prod(-1)  # (…, M, terms - 1) to (…, M)
        return monomials / self.factorials.sqrt().to(x.dtype)


class TaylorLinearAttention(nn.Module):
    """Z ≈ D⁻¹ Φ(Q) Φ(K)ᵀ V with the diagonal matrix D = Diag(Φ(Q) Φ(K)ᵀ 1) (ist-2023-24-hw2 Q1.3).

    If Φ(K)ᵀ V is computed first, this takes O(LMD) time and O(LM + MD) memory, linear in L (Q1.4). (`attend_causally`
    takes O(LMD) memory here; see `FastTaylorLinearAttention`.) In these costs, D is `dimension`, not the matrix.

    Args:
        dimension: D, features of a query or key.
        terms: number of terms of the exponential series, K in the sheet. It must be odd: the series is then positive
            everywhere, so attention is a weighted average of values as with softmax. With an even number, the series is
            negative for some qᵀk, so weights can be negative and the denominator can be 0.

    Raises:
        ValueError: `terms` is even or less than 1.
    """

    def __init__(self, dimension: int, terms: int = 3) -> None:
        super().__init__()
        if terms < 1 or terms % 2 == 0:
            raise ValueError(f"{terms}: expected an odd number of terms; with an even one, weights can be negative")
        self.terms = terms
        self.phi = FeatureMap(dimension, terms)

    def forward(self, Q: Tensor, K: Tensor, V: Tensor, causal: bool = False) -> Tensor:
        """Q, K: (…, L, D), V: (…, L, D'); returns Z (…, L, D'). With `causal`, no position attends to a later one."""
        with torch.autocast(Q.device.type, enabled=False):  # sums over thousands of positions need more than bf16
            Q, K, V = (x.float() if x.element_size() < 4 else x for x in (Q, K, V))
            return self.attend_causally(Q, K, V) if causal else self.attend(Q, K, V)

    def attend(self, Q: Tensor, K: Tensor, V: Tensor) -> Tensor:
        """D⁻¹ Φ(Q) (Φ(K)ᵀ V), (…, L, D').

        The products with Φ(K)ᵀ are computed first, once for all queries, so no matrix (L, L) is needed. Each product
        takes L M D' operations, which is linear in L (Q1.4).
        """
        Phi_Q, Phi_K, ones = self.phi(Q), self.phi(K), torch.ones_like(V[..., :1])  # (…, L, M) twice, (…, L, 1)
        numerators = Phi_Q @ (Phi_K.mT @ V)  # (…, L, D'), by way of (…, M, D')
        denominators = Phi_Q @ (Phi_K.mT @ ones)  # (…, L, 1), the diagonal of the matrix D
        return numerators / denominators

    def attend_causally(self, Q: Tensor, K: Tensor, V: Tensor) -> Tensor:
        """As `attend`, but each query's sums end at its own position, (…, L, D')."""
        Phi_Q, Phi_K = self.phi(Q)[..., None], self.phi(K)[..., None]  # (…, L, M, 1)
        numerators = (Phi_Q * (Phi_K * V[..., None, :]).cumsum(-3)).sum(-2)  # (…, L, M, D') to (…, L, D')
        denominators = (Phi_Q * Phi_K.cumsum(-3)).sum(-2)  # (…, L, 1)
        return numerators / denominators


class MultiHeadSelfAttention(nn.Module):
    """Self-attention with W_Q, W_K and W_V of each head, as in ist-2021-22-hw2 Q1.3, and a linear output layer W_O.

    Args:
        n: features of a position.
        d: features of a query, key or value in each head.
        heads: number of heads.
        attention: module that computes Z from Q, K and V.
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
    """Self-attention, then a part with two linear layers at each position.

    Each of the two parts has a layer normalization and a residual connection.
    """

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
    """Classifies images that are read as sequences of pixels, row by row.

    Args:
        length: L, pixels of an image.
        classes: number of classes.
        n: features of a position.
        d: features of a query, key or value in each head.
        heads: number of heads in each block.
        blocks: number of blocks.
        attention: module that computes Z from Q, K and V; all blocks share it, since it has no parameters.
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
