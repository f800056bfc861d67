"""Dropout against torch's: the same probabilities, scale and gradient; the same mask in any number of processes."""

import pytest
import torch
from torch import nn

from hw_common.training import distributed
from hw_common.training.dropout import Dropout

every_probability = pytest.mark.parametrize("p", [0.1, 0.3, 0.5, 0.7, 0.9])
every_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])


@every_dtype
@every_probability
def test_drops_with_the_probability_and_scales_what_is_left(p, dtype):
    torch.manual_seed(1)
    count = 100_000
    dropped = Dropout(p)(torch.ones(count // 10, 10, dtype=dtype))
    assert dropped.dtype == dtype
    assert set(dropped.unique().tolist()) == {0.0, torch.tensor(1 / (1 - p), dtype=dtype).item()}
    deviation = (p * (1 - p) / count) ** 0.5
    assert abs((dropped == 0).double().mean().item() - p) < 4 * deviation


def test_neighbours_are_dropped_independently():
    torch.manual_seed(1)
    kept = (Dropout(0.5)(torch.ones(20_000, 3)) > 0).double()
    assert (kept.T.corrcoef() - torch.eye(3)).abs().max() < 0.03
    assert abs((kept[1:] * kept[:-1]).mean().item() - 0.25) < 0.01


@every_probability
def test_the_gradient_is_the_mask(p):
    torch.manual_seed(1)
    values = torch.randn(50, 4, requires_grad=True)
    dropped = Dropout(p)(values)
    dropped.sum().backward()
    torch.testing.assert_close(values.grad, torch.where(dropped == 0, 0, 1 / (1 - p)))
    torch.testing.assert_close(dropped, values * values.grad)


@pytest.mark.parametrize(("p", "training"), [(0.5, False), (0.0, True), (1.0, True)])
def test_where_nothing_is_drawn_it_is_torchs(p, training):
    state = torch.get_rng_state()
    values = torch.randn(3, 2, generator=torch.Generator().manual_seed(1))
    assert torch.equal(Dropout(p).train(training)(values), nn.Dropout(p).train(training)(values))
    assert torch.equal(torch.get_rng_state(), state)


def test_each_call_draws_anew_and_the_seed_fixes_it():
    def twice():
        torch.manual_seed(1)
        return layer(torch.ones(4, 3)), layer(torch.ones(4, 3))

    layer = Dropout(0.5)
    first, second = twice()
    assert not torch.equal(first, second)
    assert all(map(torch.equal, twice(), (first, second)))


def test_a_share_meets_that_share_of_the_whole_batchs_mask(monkeypatch):
    def dropped(rank):
        monkeypatch.setattr(distributed.dist, "get_rank", lambda: rank)
        torch.manual_seed(1)
        share = distributed.share(5)
        return layer(torch.ones(5, 3)[share]), torch.get_rng_state()

    layer = Dropout(0.5)
    whole, state = dropped(0)
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    shares, states = zip(dropped(0), dropped(1), strict=True)
    assert [len(share) for share in shares] == [2, 3]
    assert torch.equal(torch.cat(shares), whole)
    assert torch.equal(states[0], state) and torch.equal(states[1], state)
