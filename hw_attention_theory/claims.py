"""The claims of both sheets' Question 1 as numerical checks.

A check draws sizes with Python's generator and inputs with torch's, computes both sides of a claim, and returns the
sizes and the error. All computations are in float64, so an error above rounding means that the claim is wrong.
"""

import itertools
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from hw_attention_theory.fast_linear_attention import FastTaylorLinearAttention
from hw_attention_theory.models import FeatureMap, SoftmaxSelfAttention, TaylorLinearAttention, exponential_series
from hw_attention_theory.presets import count_features

Outcome = tuple[dict[str, int], float]  # the sizes by name, and the error
_ROUNDING = 1e-9  # largest error that rounding explains


@dataclass(frozen=True)
class Claim:
    """A claim of a sheet."""

    name: str  # the claim's key in summary.json
    question: str  # sheet and question
    statement: str  # the claim in one line
    check_case: Callable[[random.Random], Outcome]  # checks one case; draws the sizes with the given generator
    tolerance: float  # the largest error with which the claim holds
    draws: int = 200  # number of cases


def check(claim: Claim, seed: int, draws: int | None = None) -> dict[str, Any]:
    """Checks `claim` on cases that depend on the seed and the claim's name alone; returns a row of the table."""
    generator = random.Random(f"{seed} {claim.name}")
    torch.manual_seed(generator.randrange(2**32))
    cases = [claim.check_case(generator) for _ in range(draws or claim.draws)]
    largest = max(error if error == error else math.inf for _, error in cases)  # NaN counts as infinite
    drawn = {size: [sizes[size] for sizes, _ in cases] for size in cases[0][0]}
    return {
        "name": claim.name,
        "question": claim.question,
        "claim": claim.statement,
        "draws": len(cases),
        "sizes": {size: [min(values), max(values)] for size, values in drawn.items()},
        "largest_error": largest,
        "tolerance": claim.tolerance,
        "holds": largest <= claim.tolerance,
    }


def _normal(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


def _largest(difference: Tensor) -> float:
    return difference.abs().max().item()


# ist-2021-22-hw2 Q1.3; the scores are unscaled (no 1/√d), as on the sheet


def _draw_head(rng: random.Random) -> tuple[dict[str, int], Tensor, Tensor, Tensor]:
    """Sizes, X (L, n), and W_Q and W_K (n, d) of one head: L positions, n input features, d features of a query."""
    sizes = {"L": rng.randint(1, 20), "n": rng.randint(2, 16)}
    sizes["d"] = rng.randint(1, sizes["n"])
    X, W_Q, W_K = _normal(sizes["L"], sizes["n"]), _normal(sizes["n"], sizes["d"]), _normal(sizes["n"], sizes["d"])
    return sizes, X, W_Q, W_K


def one_matrix(rng: random.Random) -> Outcome:
    """Softmax(X A Xᵀ) is the head's P = Softmax((X W_Q)(X W_K)ᵀ) with A = W_Q W_Kᵀ, since (X W_K)ᵀ = W_Kᵀ Xᵀ."""
    sizes, X, W_Q, W_K = _draw_head(rng)
    A = W_Q @ W_K.T  # (n, n)
    P, expected = (X @ A @ X.T).softmax(-1), ((X @ W_Q) @ (X @ W_K).T).softmax(-1)
    return sizes, _largest(P - expected)


def rank(rng: random.Random) -> Outcome:
    """A = W_Q W_Kᵀ has rank at most d, as rank A ≤ rank W_Q ≤ d: all singular values after the d-th are 0."""
    sizes, _, W_Q, W_K = _draw_head(rng)
    singular = torch.linalg.svdvals(W_Q @ W_K.T)  # n values in descending order
    return sizes, (singular[sizes["d"] :].sum() / singular[0]).item()  # always 0 if d = n: such a case checks nothing


def same_heads(rng: random.Random) -> Outcome:
    """The head with W_Q B and W_K B⁻ᵀ has the same P for any invertible B, since A = W_Q B (W_K B⁻ᵀ)ᵀ = W_Q W_Kᵀ."""
    sizes, X, W_Q, W_K = _draw_head(rng)
    B = _normal(sizes["d"], sizes["d"])
    while torch.linalg.cond(B) > 100:  # a nearly singular B would amplify rounding
        B = _normal(sizes["d"], sizes["d"])
    first = ((X @ W_Q) @ (X @ W_K).T).softmax(-1)
    second = ((X @ W_Q @ B) @ (X @ W_K @ torch.linalg.inv(B).T).T).softmax(-1)
    return sizes, _largest(first - second)


# ist-2023-24-hw2 Q1.1 to Q1.4


def _draw_attention(sizes: dict[str, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Q, K and V, scaled so that qᵀk is of the order of 1 for any D."""
    scale = sizes["D"] ** -0.25
    Q, K, V = (_normal(sizes["L"], sizes["D"]) for _ in range(3))
    return scale * Q, scale * K, V


def softmax_cost(rng: random.Random) -> Outcome:
    """The matrix products of softmax attention take 4 L² D operations."""
    sizes = {"L": rng.randint(1, 300), "D": rng.randint(1, 32)}
    flops = _count_flops(SoftmaxSelfAttention(), sizes)
    return sizes, abs(flops / (4 * sizes["L"] ** 2 * sizes["D"]) - 1)


def linear_cost(rng: random.Random) -> Outcome:
    """The matrix products of linear attention take 4 L M (D + 1) operations."""
    sizes = {"L": rng.randint(1, 300), "D": rng.randint(1, 16), "K": rng.choice((1, 3, 5))}
    M = count_features(sizes["D"], sizes["K"])
    flops = _count_flops(TaylorLinearAttention(sizes["D"], sizes["K"]), sizes)
    return {**sizes, "M": M}, abs(flops / (4 * sizes["L"] * M * (sizes["D"] + 1)) - 1)


def _count_flops(attention: torch.nn.Module, sizes: dict[str, int]) -> int:
    with FlopCounterMode(display=False) as counter:
        attention(*_draw_attention(sizes))
    return counter.get_total_flops()


def feature_product(rng: random.Random) -> Outcome:
    """φ(q)ᵀφ(k) is the exponential series of qᵀk with K terms."""
    sizes = {"D": rng.randint(1, 8), "K": rng.randint(1, 6)}
    q, k = 2 * _normal(sizes["D"]), 2 * _normal(sizes["D"])
    phi = FeatureMap(sizes["D"], sizes["K"])
    t = (q @ k).item()
    terms = [t**n / math.factorial(n) for n in range(sizes["K"])]
    # Positive and negative terms of φ(q)ᵀφ(k) cancel, so the error is divided by the sum of the terms' absolute values.
    scale = sum((q.abs() @ k.abs()).item() ** n / math.factorial(n) for n in range(sizes["K"]))
    return sizes, abs((phi(q) @ phi(k)).item() - sum(terms)) / scale


def feature_count(rng: random.Random) -> Outcome:
    """φ has M = C(D + K - 1, K - 1) entries, one for each monomial of degree below K."""
    sizes = {"D": rng.randint(1, 6), "K": rng.randint(1, 6)}
    products = (itertools.product(range(sizes["D"]), repeat=degree) for degree in range(sizes["K"]))
    monomials = {tuple(sorted(factors)) for factors in itertools.chain.from_iterable(products)}
    phi = FeatureMap(sizes["D"], sizes["K"])
    counts = [phi.size, phi(_normal(sizes["D"])).numel(), len(set(phi.monomials))]
    if sizes["K"] == 3:
        counts.append((sizes["D"] + 1) * (sizes["D"] + 2) // 2)
    return {**sizes, "M": phi.size}, float(max(abs(count - len(monomials)) for count in counts))


def matrix_form(rng: random.Random) -> Outcome:
    """With φ(q)ᵀφ(k) in place of exp(qᵀk), softmax attention becomes D⁻¹ Φ(Q) Φ(K)ᵀ V, as the sheet writes it.

    Row i of softmax attention is Σ_j exp(q_iᵀk_j) v_j / Σ_j exp(q_iᵀk_j). By Q1.2, exp(q_iᵀk_j) ≈ φ(q_i)ᵀφ(k_j), and
    this is the entry A_ij of A = Φ(Q) Φ(K)ᵀ, because the rows of Φ(Q) and Φ(K) are φ(q_i) and φ(k_j). So the numerator
    is approximately Σ_j A_ij v_j, which is row i of A V. The denominator is approximately the row sum Σ_j A_ij. This is
    entry i of A 1, and hence the entry (i, i) of D = Diag(A 1). A product with D⁻¹ from the left divides each row i by
    this entry, so Z ≈ D⁻¹ A V. With an odd number of terms, every A_ij is positive, so D is invertible.

    The check compares Z, computed with these matrices, with the averages, computed row by row.
    """
    sizes = {"L": rng.randint(1, 12), "D": rng.randint(1, 6), "K": rng.choice((1, 3, 5))}
    Q, K, V = _draw_attention(sizes)
    phi = FeatureMap(sizes["D"], sizes["K"])
    Phi_Q, Phi_K, ones = phi(Q), phi(K), torch.ones(sizes["L"], dtype=torch.float64)  # both (L, M)
    D = torch.diag(Phi_Q @ Phi_K.T @ ones)  # (L, L)
    Z = torch.linalg.inv(D) @ Phi_Q @ Phi_K.T @ V
    weights = torch.stack([torch.stack([phi(q) @ phi(k) for k in K]) for q in Q])  # (L, L), instead of exp(qᵀk)
    averages = torch.stack([(row[:, None] * V).sum(0) / row.sum() for row in weights])
    return sizes, _largest(Z - averages)


def linear_is_quadratic(causal: bool) -> Callable[[random.Random], Outcome]:
    """Linear attention in chunks equals its evaluation by the (L, L) matrix of weights, masked if `causal`."""

    def check_case(rng: random.Random) -> Outcome:
        sizes = {"L": rng.randint(1, 64), "D": rng.randint(1, 8), "K": rng.choice((1, 3, 5))}
        sizes["chunk"] = rng.randint(1, 20)
        Q, K, V = _draw_attention(sizes)
        weights = exponential_series(Q @ K.T, sizes["K"])
        weights = weights.tril() if causal else weights
        expected = (weights @ V) / weights.sum(-1, keepdim=True)
        plain = TaylorLinearAttention(sizes["D"], sizes["K"])(Q, K, V, causal)
        fast = FastTaylorLinearAttention(sizes["D"], sizes["K"], sizes["chunk"])(Q, K, V, causal)
        return sizes, max(_largest(plain - expected), _largest(fast - expected))

    return check_case


def positive(rng: random.Random) -> Outcome:
    """The exponential series with an odd number of terms is positive (for t from -20 to 20)."""
    sizes = {"K": rng.choice((1, 3, 5, 7, 9, 11))}
    t = torch.linspace(-20, 20, 4001, dtype=torch.float64)
    return sizes, max(0.0, -exponential_series(t, sizes["K"]).min().item())


def remainder(r: float, terms: int) -> float:
    """A bound on |1 - T(t)/exp(t)| for |t| ≤ r, where T has K terms: Lagrange's remainder r^K e^r / K!."""
    return r**terms * math.exp(r) / math.factorial(terms)


def attention_bound(r: float, terms: int) -> float:
    """A bound on the error of any entry of Z, as a share of the largest entry of V, if all |qᵀk| ≤ r.

    If every weight is wrong by a factor between 1-ε and 1+ε, the average of the values is wrong by at most 2ε/(1-ε).
    """
    error = remainder(r, terms)
    return 2 * error / (1 - error) if error < 1 else math.inf


def attention_error(r: float, terms: int, L: int, D: int) -> float:
    """The largest error of Z for random queries and keys with ‖q‖‖k‖ = r, as a share of the largest entry of V."""
    Q, K = (math.sqrt(r) * torch.nn.functional.normalize(_normal(L, D), dim=-1) for _ in range(2))
    V = _normal(L, D)
    exact, approximate = SoftmaxSelfAttention()(Q, K, V), TaylorLinearAttention(D, terms)(Q, K, V)
    return _largest(exact - approximate) / _largest(V)


def relative_exponential_error(rng: random.Random) -> Outcome:
    """The error of φ(q)ᵀφ(k) as a share of its bound."""
    sizes = {"D": rng.randint(1, 8), "K": rng.randint(1, 8)}
    phi = FeatureMap(sizes["D"], sizes["K"])
    q, k = rng.uniform(0.2, 2) * _normal(sizes["D"]), rng.uniform(0.2, 2) * _normal(sizes["D"])
    exact = (q @ k).exp().item()
    error = abs((phi(q) @ phi(k)).item() - exact) / exact
    return sizes, error / (remainder((q.norm() * k.norm()).item(), sizes["K"]) + _ROUNDING)


def relative_attention_error(rng: random.Random) -> Outcome:
    """The error of linear attention as a share of its bound."""
    sizes = {"L": rng.randint(1, 64), "D": rng.randint(1, 8), "K": rng.choice((3, 5, 7))}
    r = rng.uniform(0.05, 0.7)
    return sizes, attention_error(r, sizes["K"], sizes["L"], sizes["D"]) / (attention_bound(r, sizes["K"]) + _ROUNDING)


_OLD, _NEW = "ist-2021-22-hw2", "ist-2023-24-hw2"
CLAIMS = (
    Claim("one_matrix", f"{_OLD} Q1.3.1", "P = Softmax(X A Xᵀ) with A = W_Q W_Kᵀ", one_matrix, _ROUNDING),
    Claim("rank", f"{_OLD} Q1.3.1", "rank of A ≤ d (error: sum of σ after the d-th / first σ)", rank, _ROUNDING),
    Claim("same_heads", f"{_OLD} Q1.3.2", "W_Q B and W_K B⁻ᵀ give the same P", same_heads, _ROUNDING),
    Claim("softmax_cost", f"{_NEW} Q1.1", "matrix products of Softmax(Q Kᵀ) V cost 4 L² D", softmax_cost, 0.0, 50),
    Claim("feature_product", f"{_NEW} Q1.2", "φ(q)ᵀφ(k) = Σ tⁿ/n!, n < K, t = qᵀk", feature_product, _ROUNDING, 500),
    Claim("feature_count", f"{_NEW} Q1.2", "M = C(D+K-1, K-1), no monomial twice", feature_count, 0.0),
    Claim("positive", f"{_NEW} Q1.2", "Σ tⁿ/n!, n < K, is positive for odd K", positive, 0.0, 12),
    Claim("exponential_error", f"{_NEW} Q1.2", "|1 - φ(q)ᵀφ(k)/exp(t)| ≤ r^K e^r / K!, r = ‖q‖‖k‖ (error/bound)",
          relative_exponential_error, 1.0, 1000),
    Claim("matrix_form", f"{_NEW} Q1.3", "D⁻¹ Φ(Q) Φ(K)ᵀ V is attention with weights φ(q)ᵀφ(k)", matrix_form,
          _ROUNDING, 50),
    Claim("attention_error", f"{_NEW} Q1.3", "|Z - D⁻¹ Φ(Q) Φ(K)ᵀ V| ≤ 2ε/(1-ε) max|V|, ε = r^K e^r / K! (error/bound)",
          relative_attention_error, 1.0, 500),
    Claim("linear_is_quadratic", f"{_NEW} Q1.4", "Φ(Q) (Φ(K)ᵀ V) in chunks equals the L×L evaluation",
          linear_is_quadratic(causal=False), _ROUNDING),
    Claim("causal_is_masked", f"{_NEW} Q1.4", "prefix sums in chunks equal the masked L×L evaluation",
          linear_is_quadratic(causal=True), _ROUNDING),
    Claim("linear_cost", f"{_NEW} Q1.4", "matrix products of Φ(Q) (Φ(K)ᵀ [V, 1]) cost 4 L M (D+1)",
          linear_cost, 0.0, 50),
)  # fmt: skip
