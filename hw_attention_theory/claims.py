"""The claims of both sheets' Question 1 as checks over random sizes: each draws one case and says how far off it is.

All of it is in float64, so that what is off by more than rounding is wrong.
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

Case = tuple[dict[str, int], float]  # the sizes that were drawn, and the error
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Claim:
    """What a sheet says.

    Attributes:
        name: short, for other programs.
        question: sheet and number.
        statement: in a line.
        check: draws a case with the generator that it is given (torch's is seeded too).
        tolerance: the largest error that still counts as holding.
        draws: how many cases are tried.
    """

    name: str
    question: str
    statement: str
    check: Callable[[random.Random], Case]
    tolerance: float
    draws: int = 200


def check(claim: Claim, seed: int, draws: int | None = None) -> dict[str, Any]:
    """Tries `claim` on its cases; the same ones for the same seed, whatever else is tried."""
    generator = random.Random(f"{seed} {claim.name}")
    torch.manual_seed(generator.randrange(2**32))
    cases = [claim.check(generator) for _ in range(draws or claim.draws)]
    largest = max(error if error == error else math.inf for _, error in cases)  # NaN is the worst
    ranges = {
        size: [min(sizes[size] for sizes, _ in cases), max(sizes[size] for sizes, _ in cases)] for size in cases[0][0]
    }
    return {
        "name": claim.name,
        "question": claim.question,
        "claim": claim.statement,
        "draws": len(cases),
        "sizes": ranges,
        "largest_error": largest,
        "tolerance": claim.tolerance,
        "holds": largest <= claim.tolerance,
    }


def _normal(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


def _largest(difference: Tensor) -> float:
    return difference.abs().max().item()


# ist-2021-22-hw2 Q1.3


def _heads(draw: random.Random) -> tuple[dict[str, int], Tensor, Tensor, Tensor]:
    sizes = {"L": draw.randint(1, 20), "n": draw.randint(2, 16)}
    sizes["d"] = draw.randint(1, sizes["n"])
    X, W_Q, W_K = _normal(sizes["L"], sizes["n"]), _normal(sizes["n"], sizes["d"]), _normal(sizes["n"], sizes["d"])
    return sizes, X, W_Q, W_K


def _one_matrix(draw: random.Random) -> Case:
    sizes, X, W_Q, W_K = _heads(draw)
    A = W_Q @ W_K.T
    P, expected = (X @ A @ X.T).softmax(-1), ((X @ W_Q) @ (X @ W_K).T).softmax(-1)
    return sizes, _largest(P - expected)


def _rank(draw: random.Random) -> Case:
    sizes, _, W_Q, W_K = _heads(draw)
    singular = torch.linalg.svdvals(W_Q @ W_K.T)  # n of them, largest first; d = n leaves none to be 0
    return sizes, (singular[sizes["d"] :].sum() / singular[0]).item()


def _same_heads(draw: random.Random) -> Case:
    sizes, X, W_Q, W_K = _heads(draw)
    B = _normal(sizes["d"], sizes["d"])
    while torch.linalg.cond(B) > 100:  # invertible, and not so nearly singular that rounding hides the claim
        B = _normal(sizes["d"], sizes["d"])
    first = ((X @ W_Q) @ (X @ W_K).T).softmax(-1)
    second = ((X @ W_Q @ B) @ (X @ W_K @ torch.linalg.inv(B).T).T).softmax(-1)
    return sizes, _largest(first - second)


# ist-2023-24-hw2 Q1.1 to Q1.4


def _rows(sizes: dict[str, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Q, K and V; scaled so that qᵀk stays around 1 whatever D is."""
    scale = sizes["D"] ** -0.25
    Q, K, V = (_normal(sizes["L"], sizes["D"]) for _ in range(3))
    return scale * Q, scale * K, V


def _softmax_cost(draw: random.Random) -> Case:
    sizes = {"L": draw.randint(1, 300), "D": draw.randint(1, 32)}
    flops = _count_flops(SoftmaxSelfAttention(), sizes)
    return sizes, abs(flops / (4 * sizes["L"] ** 2 * sizes["D"]) - 1)


def _linear_cost(draw: random.Random) -> Case:
    sizes = {"L": draw.randint(1, 300), "D": draw.randint(1, 16), "K": draw.choice((1, 3, 5))}
    M = math.comb(sizes["D"] + sizes["K"] - 1, sizes["K"] - 1)
    flops = _count_flops(TaylorLinearAttention(sizes["D"], sizes["K"]), sizes)
    return {**sizes, "M": M}, abs(flops / (4 * sizes["L"] * M * (sizes["D"] + 1)) - 1)


def _count_flops(attention: torch.nn.Module, sizes: dict[str, int]) -> int:
    with FlopCounterMode(display=False) as counter:
        attention(*_rows(sizes))
    return counter.get_total_flops()


def _feature_product(draw: random.Random) -> Case:
    sizes = {"D": draw.randint(1, 8), "K": draw.randint(1, 6)}
    q, k = 2 * _normal(sizes["D"]), 2 * _normal(sizes["D"])
    phi = FeatureMap(**_map(sizes))
    t = (q @ k).item()
    terms = [t**n / math.factorial(n) for n in range(sizes["K"])]
    # What cancels in the products cannot come out better than rounding of what is added.
    scale = sum((q.abs() @ k.abs()).item() ** n / math.factorial(n) for n in range(sizes["K"]))
    return sizes, abs((phi(q) @ phi(k)).item() - sum(terms)) / scale


def _feature_count(draw: random.Random) -> Case:
    sizes = {"D": draw.randint(1, 6), "K": draw.randint(1, 6)}
    products = (itertools.product(range(sizes["D"]), repeat=degree) for degree in range(sizes["K"]))
    monomials = {tuple(sorted(factors)) for factors in itertools.chain.from_iterable(products)}
    phi = FeatureMap(**_map(sizes))
    counts = [phi.size, phi(_normal(sizes["D"])).numel(), len(set(phi.monomials))]
    if sizes["K"] == 3:
        counts.append((sizes["D"] + 1) * (sizes["D"] + 2) // 2)
    return {**sizes, "M": phi.size}, float(max(abs(count - len(monomials)) for count in counts))


def _map(sizes: dict[str, int]) -> dict[str, int]:
    return {"dimension": sizes["D"], "order": sizes["K"]}


def _matrix_form(draw: random.Random) -> Case:
    sizes = {"L": draw.randint(1, 12), "D": draw.randint(1, 6), "K": draw.choice((1, 3, 5))}
    Q, K, V = _rows(sizes)
    phi = FeatureMap(**_map(sizes))
    PhiQ, PhiK, ones = phi(Q), phi(K), torch.ones(sizes["L"], dtype=torch.float64)
    Z = torch.diag(1 / (PhiQ @ PhiK.T @ ones)) @ PhiQ @ PhiK.T @ V
    weights = [[(phi(q) @ phi(k)).item() for k in K] for q in Q]  # in place of exp(qᵀk) in each softmax
    by_hand = torch.stack([sum(w * v for w, v in zip(row, V, strict=True)) / sum(row) for row in weights])
    return sizes, _largest(Z - by_hand)


def _linear_is_quadratic(causal: bool) -> Callable[[random.Random], Case]:
    def case(draw: random.Random) -> Case:
        sizes = {"L": draw.randint(1, 64), "D": draw.randint(1, 8), "K": draw.choice((1, 3, 5))}
        sizes["chunk"] = draw.randint(1, 20)
        Q, K, V = _rows(sizes)
        weights = exponential_series(Q @ K.T, sizes["K"])
        weights = weights.tril() if causal else weights
        expected = (weights @ V) / weights.sum(-1, keepdim=True)
        linear = FastTaylorLinearAttention(sizes["D"], sizes["K"], sizes["chunk"])(Q, K, V, causal)
        return sizes, _largest(linear - expected)

    return case


def _positive(draw: random.Random) -> Case:
    sizes = {"K": draw.choice((1, 3, 5, 7, 9, 11))}
    t = torch.linspace(-20, 20, 4001, dtype=torch.float64)
    return sizes, max(0.0, -exponential_series(t, sizes["K"]).min().item())


def remainder(r: float, terms: int) -> float:
    """A bound on |1 - T(t)/exp(t)| for |t| ≤ r, where T has that many terms: Lagrange's remainder, r^K e^r / K!."""
    return r**terms * math.exp(r) / math.factorial(terms)


def attention_bound(r: float, terms: int) -> float:
    """A bound on the error of any entry of Z, as a share of the largest entry of V, where all |qᵀk| ≤ r.

    If every weight is off by a factor between 1-ε and 1+ε, the average of values is off by at most 2ε/(1-ε).
    """
    error = remainder(r, terms)
    return 2 * error / (1 - error) if error < 1 else math.inf


def attention_error(r: float, terms: int, L: int, D: int) -> float:
    """The largest error of Z for random queries and keys with ‖q‖‖k‖ = r, as a share of the largest entry of V."""
    Q, K = (math.sqrt(r) * torch.nn.functional.normalize(_normal(L, D), dim=-1) for _ in range(2))
    V = _normal(L, D)
    exact, approximate = SoftmaxSelfAttention()(Q, K, V), TaylorLinearAttention(D, terms)(Q, K, V)
    return _largest(exact - approximate) / _largest(V)


def _exponential_error(draw: random.Random) -> Case:
    sizes = {"D": draw.randint(1, 8), "K": draw.randint(1, 8)}
    phi = FeatureMap(**_map(sizes))
    q, k = draw.uniform(0.2, 2) * _normal(sizes["D"]), draw.uniform(0.2, 2) * _normal(sizes["D"])
    exact = (q @ k).exp().item()
    error = abs((phi(q) @ phi(k)).item() - exact) / exact
    return sizes, error / (remainder((q.norm() * k.norm()).item(), sizes["K"]) + _ROUNDING)


def _attention_error(draw: random.Random) -> Case:
    sizes = {"L": draw.randint(1, 64), "D": draw.randint(1, 8), "K": draw.choice((3, 5, 7))}
    r = draw.uniform(0.05, 0.7)
    return sizes, attention_error(r, sizes["K"], sizes["L"], sizes["D"]) / (attention_bound(r, sizes["K"]) + _ROUNDING)


_OLD, _NEW = "ist-2021-22-hw2", "ist-2023-24-hw2"
CLAIMS = (
    Claim("one_matrix", f"{_OLD} Q1.3.1", "P = Softmax(X A Xᵀ) with A = W_Q W_Kᵀ", _one_matrix, _ROUNDING),
    Claim("rank", f"{_OLD} Q1.3.1", "rank of A ≤ d (σ after the d-th, relative to the first)", _rank, _ROUNDING),
    Claim("same_heads", f"{_OLD} Q1.3.2", "W_Q B and W_K B⁻ᵀ give the same P", _same_heads, _ROUNDING),
    Claim("softmax_cost", f"{_NEW} Q1.1", "matrix products of Softmax(Q Kᵀ) V cost 4 L² D", _softmax_cost, 0.0, 50),
    Claim("feature_product", f"{_NEW} Q1.2", "φ(q)ᵀφ(k) = Σ tⁿ/n!, n < K, t = qᵀk", _feature_product, _ROUNDING, 500),
    Claim("feature_count", f"{_NEW} Q1.2", "M = C(D+K-1, K-1), no monomial twice", _feature_count, 0.0),
    Claim("positive", f"{_NEW} Q1.2", "Σ tⁿ/n!, n < K, is positive for odd K", _positive, 0.0, 12),
    Claim("exponential_error", f"{_NEW} Q1.2", "|1 - φ(q)ᵀφ(k)/exp(t)| ≤ r^K e^r / K!, r = ‖q‖‖k‖ (share of it)",
          _exponential_error, 1.0, 1000),
    Claim("matrix_form", f"{_NEW} Q1.3", "D⁻¹ Φ(Q) Φ(K)ᵀ V is attention with weights φ(q)ᵀφ(k)", _matrix_form,
          _ROUNDING, 50),
    Claim("attention_error", f"{_NEW} Q1.3", "|Z - D⁻¹ Φ(Q) Φ(K)ᵀ V| ≤ 2ε/(1-ε) max|V|, ε = r^K e^r / K! (share of it)",
          _attention_error, 1.0, 500),
    Claim("linear_is_quadratic", f"{_NEW} Q1.4", "Φ(Q) (Φ(K)ᵀ V) in chunks equals the L×L evaluation",
          _linear_is_quadratic(causal=False), _ROUNDING),
    Claim("causal_is_masked", f"{_NEW} Q1.4", "prefix sums in chunks equal the masked L×L evaluation",
          _linear_is_quadratic(causal=True), _ROUNDING),
    Claim("linear_cost", f"{_NEW} Q1.4", "matrix products of Φ(Q) (Φ(K)ᵀ [V, 1]) cost 4 L M (D+1)",
          _linear_cost, 0.0, 50),
)  # fmt: skip
