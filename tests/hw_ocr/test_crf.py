"""The plain CRF and the fast one, each against brute force, pytorch-crf and finite differences, and each other."""

import itertools

import numpy as np
import pytest
import torch
import torchcrf
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hw_ocr.crf import LinearChainCRF
from hw_ocr.fast_crf import FastLinearChainCRF

EXACT = 1e-9
CASES = 1000
both_crfs = pytest.mark.parametrize("crf", [LinearChainCRF, FastLinearChainCRF])


def mask_of(*lengths: int) -> Tensor:
    return torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]


def random_crf(crf: type[LinearChainCRF], tags: int, generator: torch.Generator, scale: float = 1.0) -> LinearChainCRF:
    model = crf(tags).double()
    for parameter in model.parameters():
        parameter.data = scale * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return model


def random_words(
    tags: int, lengths: list[int], generator: torch.Generator, scale: float = 1.0
) -> tuple[Tensor, Tensor, Tensor]:
    mask = mask_of(*lengths)
    emissions = scale * torch.randn((*mask.shape, tags), generator=generator, dtype=torch.float64)
    return emissions, torch.randint(tags, mask.shape, generator=generator), mask


# Brute force: every sequence of tags, in NumPy


def score_by_hand(model: LinearChainCRF, emissions: np.ndarray, tags: tuple[int, ...]) -> float:
    start, transitions, end = (p.detach().numpy() for p in (model.start, model.transitions, model.end))
    steps = sum(transitions[a, b] for a, b in itertools.pairwise(tags))
    return start[tags[0]] + sum(emissions[t, tag] for t, tag in enumerate(tags)) + steps + end[tags[-1]]


def every_sequence(model: LinearChainCRF, emissions: np.ndarray) -> dict[tuple[int, ...], float]:
    """The score of each sequence of tags."""
    length, tags = emissions.shape
    return {path: score_by_hand(model, emissions, path) for path in itertools.product(range(tags), repeat=length)}


def log_sum_exp(scores: list[float]) -> float:
    largest = max(scores)
    return largest + np.log(np.sum(np.exp(np.array(scores) - largest)))


def check_by_brute_force(model: LinearChainCRF, emissions: Tensor, tags: Tensor, mask: Tensor) -> None:
    likelihoods = model.log_likelihood(emissions, tags, mask)
    decoded, marginals = model.decode(emissions, mask), model.marginals(emissions, mask)
    for word, length in enumerate(mask.sum(1).tolist()):
        scores = every_sequence(model, emissions[word, :length].numpy())
        log_z = log_sum_exp(list(scores.values()))
        own = tuple(tags[word, :length].tolist())
        assert likelihoods[word].item() == pytest.approx(scores[own] - log_z, abs=EXACT)
        assert scores[tuple(decoded[word, :length].tolist())] == pytest.approx(max(scores.values()), abs=EXACT)
        expected = np.zeros(emissions.shape[1:])
        for path, score in scores.items():
            expected[range(length), path] += np.exp(score - log_z)
        assert np.abs(marginals[word].numpy() - expected).max() <= EXACT  # 0 in the padding too
        assert not decoded[word, length:].any()


@both_crfs
@pytest.mark.parametrize("tags", [1, 2, 3, 4])
def test_everything_is_what_the_sum_over_all_sequences_says(crf, tags):
    generator = torch.Generator().manual_seed(tags)
    checked = 0
    while checked < CASES // 4:
        lengths = torch.randint(1, 5 if tags < 4 else 4, (5,), generator=generator).tolist()
        scale = [0.1, 1, 10][checked % 3]
        model = random_crf(crf, tags, generator, scale)
        check_by_brute_force(model, *random_words(tags, lengths, generator, scale))
        checked += len(lengths)


@both_crfs
def test_words_of_one_letter_alone(crf):
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        check_by_brute_force(random_crf(crf, 3, generator), *random_words(3, [1], generator))
        check_by_brute_force(random_crf(crf, 3, generator), *random_words(3, [1, 1, 4], generator))


@both_crfs
@given(
    seed=st.integers(0, 2**31),
    lengths=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    scale=st.sampled_from([1, 300, 3000]),
)
@settings(max_examples=40, deadline=None)
def test_scores_of_any_size(crf, seed, lengths, scale):
    generator = torch.Generator().manual_seed(seed)
    model, words = random_crf(crf, 3, generator, scale), random_words(3, lengths, generator, scale)
    for word, likelihood in enumerate(model.log_likelihood(*words).tolist()):
        emissions, tags, mask = (part[word, : lengths[word]] for part in words)
        scores = every_sequence(model, emissions.numpy())
        expected = scores[tuple(tags.tolist())] - log_sum_exp(list(scores.values()))
        assert likelihood == pytest.approx(expected, abs=EXACT * scale)
    marginals = model.marginals(words[0], words[2])
    assert torch.allclose(marginals.sum(2), words[2].double(), atol=1e-9)


def test_extreme_scores_take_the_textbooks_recursion_and_others_do_not(monkeypatch):
    calls, textbook = [], LinearChainCRF.log_partition
    monkeypatch.setattr(LinearChainCRF, "log_partition", lambda *rest: calls.append(1) or textbook(*rest))
    generator = torch.Generator().manual_seed(1)
    model, (emissions, _, mask) = random_crf(FastLinearChainCRF, 3, generator), random_words(3, [4, 2], generator)
    model.log_partition(emissions, mask)
    assert not calls
    contradiction = 1000 * torch.tensor([[[1.0, 0, 0], [0, 1, 0]]], dtype=torch.float64)
    model.transitions.data = 2000 * torch.eye(3, dtype=torch.float64)  # the letters differ, the tags must not
    model.log_partition(contradiction, mask_of(2))
    assert calls


@both_crfs
def test_forbidden_transitions_are_never_taken(crf):
    model = crf(3).double()
    model.transitions.data[0, 1] = -torch.inf
    emissions = torch.tensor([[[9.0, 0, 0], [0, 9.0, 5.0]]], dtype=torch.float64)
    assert model.decode(emissions, mask_of(2)).tolist() == [[0, 2]]
    assert torch.isfinite(model.log_likelihood(emissions, torch.tensor([[0, 2]]), mask_of(2))).all()
    assert model.log_likelihood(emissions, torch.tensor([[0, 1]]), mask_of(2)).item() == -torch.inf
    assert torch.isfinite(model.marginals(emissions, mask_of(2))).all()


# Gradients


@both_crfs
def test_gradients_agree_with_finite_differences(crf):
    generator = torch.Generator().manual_seed(3)
    model = random_crf(crf, 3, generator)
    emissions, tags, mask = random_words(3, [4, 1, 3], generator)
    inputs = (emissions.requires_grad_(), *model.parameters())
    assert torch.autograd.gradcheck(lambda *_: model.log_likelihood(emissions, tags, mask), inputs)
    assert torch.autograd.gradcheck(lambda *_: model.log_partition(emissions, mask), inputs)


@given(
    seed=st.integers(0, 2**31),
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    scale=st.sampled_from([0.1, 1, 5]),
)
@settings(max_examples=40, deadline=None)
def test_the_fast_crf_computes_the_textbooks_numbers(seed, lengths, scale):
    for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 1e-4)):
        generator = torch.Generator().manual_seed(seed)
        plain = random_crf(LinearChainCRF, 5, generator, scale).to(dtype)
        fast = FastLinearChainCRF(5).to(dtype)
        fast.load_state_dict(plain.state_dict())
        emissions, tags, mask = random_words(5, lengths, generator, scale)
        emissions = emissions.to(dtype).requires_grad_()
        weights = torch.randn(len(lengths), generator=generator, dtype=dtype)
        found = []
        for model in (plain, fast):
            likelihoods = model.log_likelihood(emissions, tags, mask)
            gradients = torch.autograd.grad((likelihoods * weights).sum(), (emissions, *model.parameters()))
            found.append((likelihoods, *gradients, model.marginals(emissions, mask)))
        for ours, theirs in zip(*found, strict=True):
            assert ours.dtype == theirs.dtype == dtype
            assert torch.allclose(ours, theirs, rtol=tolerance, atol=tolerance)
        decoded = [model.decode(emissions, mask) for model in (plain, fast)]
        assert torch.allclose(*(plain.score(emissions, tags, mask) for tags in decoded), rtol=tolerance, atol=tolerance)
        if dtype == torch.float64:
            assert torch.equal(*decoded)


def test_second_derivatives_of_the_fast_crf_are_refused_and_not_wrong():
    model = random_crf(FastLinearChainCRF, 2, torch.Generator().manual_seed(0))
    emissions = torch.zeros(1, 3, 2, dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(model.log_partition(emissions, mask_of(3)).sum(), emissions, create_graph=True)
    with pytest.raises(RuntimeError, match="does not require grad"):
        first.sum().backward()


# pytorch-crf


def pair(crf: type[LinearChainCRF], seed: int, tags: int = 26) -> tuple[LinearChainCRF, torchcrf.CRF]:
    """Ours and pytorch-crf's, with the same scores."""
    ours = random_crf(crf, tags, torch.Generator().manual_seed(seed))
    theirs = torchcrf.CRF(tags, batch_first=True).double()
    theirs.start_transitions.data = ours.start.data.clone()
    theirs.transitions.data = ours.transitions.data.clone()
    theirs.end_transitions.data = ours.end.data.clone()
    return ours, theirs


@both_crfs
@pytest.mark.parametrize("seed", range(3))
def test_pytorch_crf_agrees(crf, seed):
    ours, theirs = pair(crf, seed)
    emissions, tags, mask = random_words(26, [3, 9, 1, 7, 9, 2], torch.Generator().manual_seed(seed), scale=3)
    emissions.requires_grad_()
    likelihoods = ours.log_likelihood(emissions, tags, mask)
    expected = theirs(emissions, tags, mask, reduction="none")
    assert torch.allclose(likelihoods, expected, atol=EXACT)
    gradients = torch.autograd.grad(likelihoods.sum(), (emissions, ours.start, ours.transitions, ours.end))
    inputs = (emissions, theirs.start_transitions, theirs.transitions, theirs.end_transitions)
    for own, other in zip(gradients, torch.autograd.grad(expected.sum(), inputs), strict=True):
        assert torch.allclose(own, other, atol=EXACT)
    decoded = ours.decode(emissions, mask)
    assert [word[own].tolist() for word, own in zip(decoded, mask, strict=True)] == theirs.decode(emissions, mask)


# Padding, precision, modes


@both_crfs
def test_padding_has_no_influence(crf):
    generator = torch.Generator().manual_seed(5)
    model = random_crf(crf, 3, generator)
    emissions, tags, mask = random_words(3, [2, 4, 1], generator)
    littered = emissions.masked_fill(~mask[:, :, None], torch.nan).requires_grad_()
    dirty = tags.masked_fill(~mask, -100)
    assert torch.equal(model.log_likelihood(littered, dirty, mask), model.log_likelihood(emissions, tags, mask))
    assert torch.equal(model.decode(littered, mask), model.decode(emissions, mask))
    assert torch.equal(model.marginals(littered, mask), model.marginals(emissions, mask))
    (gradient,) = torch.autograd.grad(model.log_likelihood(littered, dirty, mask).sum(), littered)
    assert not gradient[~mask].any()
    for word, length in enumerate(mask.sum(1)):
        alone = model.log_likelihood(emissions[[word], :length], tags[[word], :length], mask[[word], :length])
        assert alone.item() == pytest.approx(model.log_likelihood(emissions, tags, mask)[word].item(), abs=EXACT)


@both_crfs
@pytest.mark.parametrize("length", [1, 3])
def test_arguments_are_not_changed(crf, length):
    generator = torch.Generator().manual_seed(8)
    model = random_crf(crf, 3, generator)
    words = random_words(3, [length], generator)  # of a single word all layouts are the same memory
    before = [part.clone() for part in (*words, *model.parameters())]
    model.log_likelihood(*words).sum().backward()
    model.decode(words[0], words[2])
    model.marginals(words[0], words[2])
    assert all(torch.equal(part, copy) for part, copy in zip((*words, *model.parameters()), before, strict=True))


@both_crfs
def test_bfloat16_emissions_are_summed_in_float32(crf):
    generator = torch.Generator().manual_seed(6)
    model = crf(26)
    emissions, tags, mask = random_words(26, [9, 5], generator, scale=5)
    coarse = emissions.bfloat16()
    likelihoods = model.log_likelihood(coarse, tags, mask)
    assert likelihoods.dtype == torch.float32
    assert torch.allclose(likelihoods, model.log_likelihood(coarse.float(), tags, mask))


@both_crfs
def test_marginals_and_decoding_work_in_inference_mode(crf):
    generator = torch.Generator().manual_seed(7)
    model = random_crf(crf, 3, generator)
    emissions, _, mask = random_words(3, [3, 2], generator)
    expected = model.marginals(emissions, mask), model.decode(emissions, mask)
    with torch.inference_mode():
        emissions, mask = emissions * 1, mask & True
        assert torch.equal(model.marginals(emissions, mask), expected[0])
        assert torch.equal(model.decode(emissions, mask), expected[1])


@both_crfs
def test_an_untrained_crf_prefers_nothing(crf):
    model = crf(4)
    likelihood = model.log_likelihood(torch.zeros(1, 3, 4), torch.tensor([[0, 1, 2]]), mask_of(3))
    assert likelihood.item() == pytest.approx(-3 * np.log(4))


@both_crfs
def test_training_finds_the_transitions(crf):
    model = crf(2)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    tags = torch.tensor([[0, 1, 0, 1], [1, 0, 1, 0]])
    for _ in range(20):
        optimizer.zero_grad()
        (-model.log_likelihood(torch.zeros(2, 4, 2), tags, mask_of(4, 4)).mean()).backward()
        optimizer.step()
    decoded = model.decode(torch.tensor([[[1.0, 0], [0, 0], [0, 0], [0, 0]]]), mask_of(4))  # only the first is seen
    assert decoded.tolist() == [[0, 1, 0, 1]]


# Bad input


@both_crfs
@pytest.mark.parametrize(
    ("emissions", "mask", "words"),
    [
        ((2, 3, 4), torch.ones(2, 3, dtype=torch.bool), r"\(2, 3, 4\), expected \(words, letters, 5\)"),
        ((3, 5), torch.ones(2, 3, dtype=torch.bool), "expected"),
        ((2, 3, 5), torch.ones(2, 4, dtype=torch.bool), r"mask \(2, 4\)"),
        ((2, 3, 5), torch.ones(2, 3), "torch.float32"),
        ((2, 3, 5), torch.tensor([[True] * 3, [True, False, True]]), "no gap"),
        ((2, 3, 5), torch.tensor([[True] * 3, [False] * 3]), "must begin with True"),
        ((2, 0, 5), torch.ones(2, 0, dtype=torch.bool), "must begin with True"),
    ],
)
def test_what_is_no_batch_of_words_is_refused(crf, emissions, mask, words):
    model = crf(5)
    for call in (model.log_partition, model.decode, model.marginals):
        with pytest.raises(ValueError, match=words):
            call(torch.zeros(emissions), mask)


def test_tags_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"tags \(1, 2\)"):
        LinearChainCRF(5).log_likelihood(torch.zeros(1, 3, 5), torch.zeros(1, 2, dtype=torch.int64), mask_of(3))
