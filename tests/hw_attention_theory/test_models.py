"""Attention against torch's own; linear attention, plain and fast, against the quadratic evaluation of its weights."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from hw_attention_theory import fast_linear_attention
from hw_attention_theory.fast_linear_attention import FastTaylorLinearAttention, horner, monomials
from hw_attention_theory.models import (
    FeatureMap,
    MultiHeadSelfAttention,
    PixelClassifier,
    SoftmaxSelfAttention,
    TaylorLinearAttention,
    exponential_series,
)

ORDERS = st.sampled_from([1, 3, 5])
LINEAR = [TaylorLinearAttention, FastTaylorLinearAttention]


def normal(*shape, seed=0, **options):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, dtype=torch.float64, generator=generator).requires_grad_(options.get("grad", False))


def quadratic(Q, K, V, terms, causal):
    """The same attention by its L×L weights."""
    weights = sum((Q @ K.mT) ** n / math.factorial(n) for n in range(terms))
    weights = weights.tril() if causal else weights
    return weights @ V / weights.sum(-1, keepdim=True)


# Feature map


@given(D=st.integers(1, 5), K=st.integers(1, 5))
@settings(max_examples=25, deadline=None)
def test_the_feature_map_has_each_monomial_once_and_multiplies_to_the_series(D, K):
    phi = FeatureMap(D, K)
    x, y = normal(3, D, seed=1), normal(3, D, seed=2)
    tensor_product = itertools.chain.from_iterable(itertools.product(range(D), repeat=n) for n in range(K))
    assert set(phi.monomials) == {tuple(sorted(indices)) for indices in tensor_product}
    assert len(phi.monomials) == phi.size == math.comb(D + K - 1, K - 1) == phi(x).shape[-1]
    expected = torch.stack([x[:, list(indices)].prod(-1) for indices in phi.monomials], dim=-1)
    assert torch.allclose(monomials(x, K), expected, atol=1e-12)
    assert torch.allclose(phi(x), expected / phi.factorials.sqrt(), atol=1e-12)
    assert torch.allclose(phi(x) @ phi(y).T, exponential_series(x @ y.T, K), atol=1e-9)


@pytest.mark.parametrize("D", [1, 4, 16])
def test_three_terms_make_as_many_features_as_the_sheet_says(D):
    assert FeatureMap(D, 3).size == (D + 1) * (D + 2) // 2


def test_the_series_is_exps_and_positive_with_an_odd_number_of_terms():
    t = torch.linspace(-9, 9, 181, dtype=torch.float64)
    assert torch.allclose(exponential_series(t, 60), t.exp())
    for K in (1, 3, 5, 7):
        assert torch.allclose(horner(t, K), exponential_series(t, K))
        assert exponential_series(t, K).min() > 0
        assert exponential_series(t, K + 1).min() < 0


# Attention


@pytest.mark.parametrize("causal", [False, True])
def test_softmax_attention_is_torchs(causal):
    Q, K, V = (normal(2, 5, 3, seed=i) for i in range(3))
    expected = F.scaled_dot_product_attention(Q, K, V, is_causal=causal, scale=1.0)
    assert torch.allclose(SoftmaxSelfAttention()(Q, K, V, causal), expected)


@given(L=st.integers(1, 9), D=st.integers(1, 4), width=st.integers(1, 3), terms=ORDERS, chunk=st.integers(1, 10),
       causal=st.booleans(), heads=st.integers(1, 3))  # fmt: skip
@settings(max_examples=25, deadline=None)
def test_linear_attention_is_the_quadratic_one_with_its_gradients(L, D, width, terms, chunk, causal, heads):
    inputs = [normal(heads, L, n, seed=i, grad=True) for i, n in enumerate((D, D, width))]
    results = []
    for attention in (TaylorLinearAttention(D, terms), FastTaylorLinearAttention(D, terms, chunk)):
        Z = attention(*inputs, causal)
        results.append((Z, *torch.autograd.grad(Z.sin().sum(), inputs, allow_unused=True, materialize_grads=True)))
        with torch.no_grad():
            assert torch.allclose(attention(*inputs, causal), Z, atol=1e-10)
        singles = [x.detach().float() for x in inputs]
        assert torch.allclose(attention(*singles, causal).double(), Z, rtol=1e-4, atol=1e-4)
    expected = quadratic(*inputs, terms, causal)
    wanted = torch.autograd.grad(expected.sin().sum(), inputs, allow_unused=True, materialize_grads=True)
    for plain, fast, own in zip(*results, (expected, *wanted), strict=True):
        assert torch.allclose(plain, fast, rtol=1e-10, atol=1e-10)
        assert torch.allclose(plain, own, atol=1e-9)


@pytest.mark.parametrize("linear", LINEAR)
def test_it_comes_near_softmax_with_more_terms(linear):
    Q, K, V = (0.5 * normal(6, 3, seed=i) for i in range(3))
    exact = SoftmaxSelfAttention()(Q, K, V)
    errors = [(linear(3, K_)(Q, K, V) - exact).abs().max().item() for K_ in (1, 3, 5, 7, 9)]
    assert errors == sorted(errors, reverse=True) and errors[-1] < 1e-4 < errors[0]


@pytest.mark.parametrize(
    "attention", [SoftmaxSelfAttention(), TaylorLinearAttention(2), FastTaylorLinearAttention(2, chunk=2)]
)
def test_causal_attention_does_not_see_what_comes_later(attention):
    Q, K, V = (normal(7, 2, seed=i) for i in range(3))
    before = attention(Q, K, V, causal=True)
    for changed in (Q, K, V):
        changed[4:] += 1
    after = attention(Q, K, V, causal=True)
    assert torch.allclose(before[:4], after[:4]) and not torch.allclose(before[4:], after[4:])


@pytest.mark.parametrize("terms", [0, 2, 4, -1])
def test_an_even_number_of_terms_is_refused(terms):
    with pytest.raises(ValueError, match="expected an odd number of terms"):
        TaylorLinearAttention(2, terms)


def test_the_chunk_makes_no_difference_by_default_either(monkeypatch):
    Q, K, V = (normal(2, 30, 3, seed=i) for i in range(3))
    whole = FastTaylorLinearAttention(3, chunk=30)(Q, K, V)
    monkeypatch.setattr(fast_linear_attention, "_CHUNK_ELEMENTS", 7 * 2 * 10)  # seven positions of both rows
    cut, divide = [], FastTaylorLinearAttention._divide
    monkeypatch.setattr(
        FastTaylorLinearAttention, "_divide", lambda self, Q, sums: cut.append(Q.shape[-2]) or divide(self, Q, sums)
    )
    assert torch.allclose(FastTaylorLinearAttention(3)(Q, K, V), whole)
    assert cut == [7, 7, 7, 7, 2]


@pytest.mark.parametrize("linear", LINEAR)
def test_it_can_be_trained_after_it_was_evaluated(linear):
    attention, inputs = linear(2), [normal(4, 2, seed=i, grad=True) for i in range(3)]
    with torch.inference_mode():
        attention(*inputs)
    attention(*inputs).sum().backward()
    assert all(x.grad is not None for x in inputs)


class LargestTensor(TorchDispatchMode):
    """Records the number of elements of the largest new tensor."""

    numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, torch.Tensor):
                self.numbers = max(self.numbers, tensor.untyped_storage().nbytes() // tensor.element_size())
        return result


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_memory_does_not_grow_with_the_product_of_length_and_features(causal, training):
    L, D, terms = 400, 3, 5
    inputs = [normal(L, D, seed=i, grad=training) for i in range(3)]
    saved = 0

    def keep(tensor):
        nonlocal saved
        saved += tensor.numel() if tensor.untyped_storage().nbytes() > 8 * L * D else 0
        return tensor

    with LargestTensor() as largest, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        FastTaylorLinearAttention(D, terms, chunk=8)(*inputs, causal)
    assert largest.numbers <= L * D  # inputs and output; L features alone are more than ten times as many
    assert saved == 0  # no tensor larger than an input is kept for the gradient


@pytest.mark.parametrize("linear", LINEAR)
def test_sums_are_in_fp32_under_bf16(linear):
    attention = linear(4)
    Q, K, V = (normal(300, 4, seed=i).float() for i in range(3))
    exact = attention(Q, K, V)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = attention(Q.bfloat16(), K.bfloat16(), V.bfloat16())
    assert mixed.dtype == torch.float32
    assert torch.allclose(mixed, attention(*(x.bfloat16().float() for x in (Q, K, V))))
    assert torch.allclose(mixed, exact, atol=0.05)


# Network


def test_heads_are_torchs():
    n, d, heads = 6, 2, 3
    own = MultiHeadSelfAttention(n, d, heads, SoftmaxSelfAttention()).double()
    theirs = torch.nn.MultiheadAttention(n, heads, bias=False, batch_first=True).double()
    with torch.no_grad():  # torch divides the scores by √d, the sheet does not
        theirs.in_proj_weight.copy_(torch.cat([own.W_Q.weight * math.sqrt(d), own.W_K.weight, own.W_V.weight]))
        theirs.out_proj.weight.copy_(own.W_O.weight)
    X = normal(2, 5, n)
    assert torch.allclose(own(X), theirs(X, X, X, need_weights=False)[0])


@pytest.mark.parametrize("attention", [SoftmaxSelfAttention(), *(linear(2) for linear in LINEAR)])
def test_the_classifier_uses_all_its_parameters_and_every_pixel(attention):
    torch.manual_seed(0)
    model = PixelClassifier(9, 10, n=4, d=2, heads=2, blocks=2, attention=attention)
    pixels = torch.rand(3, 9, requires_grad=True)
    scores = model(pixels)
    assert scores.shape == (3, 10)
    scores.square().sum().backward()
    assert all(parameter.grad.any() for parameter in model.parameters())
    assert pixels.grad.all()
    block = 2 * (2 * 4) + 3 * 4 * 4 + 4 * 4 + (4 * 8 + 8) + (8 * 4 + 4)
    assert sum(p.numel() for p in model.parameters()) == (4 + 4) + 9 * 4 + 2 * block + 2 * 4 + (4 * 10 + 10)


def test_the_classifier_knows_where_a_pixel_stands():
    model = PixelClassifier(4, 3, n=4, d=2, heads=1, blocks=1, attention=SoftmaxSelfAttention())
    pixels = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]])
    first, second = model(pixels)
    assert not torch.allclose(first, second)
