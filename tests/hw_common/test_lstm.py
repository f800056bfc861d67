"""LSTMs in mixed precision: torch's own on a CPU, and never float16 on a GPU."""

import pytest
import torch
from torch import nn

from hw_common.training.lstm import LSTM, all_steps
from hw_common.training.precision import is_supported

NEEDS_BF16 = pytest.mark.skipif(not is_supported(torch.device("cpu")), reason="this CPU has no instructions for bf16")


def run(kind, device, precision):
    torch.manual_seed(1)
    lstm = kind(4, 5, batch_first=True).to(device)
    x = torch.randn(2, 3, 4, device=device, requires_grad=True)
    with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
        states, (hidden, cell) = lstm(x.to(torch.bfloat16) if precision == "bf16" else x)
        states, _ = lstm(x, (hidden, cell))
    states.float().sum().backward()
    return states, x.grad, *(parameter.grad for parameter in lstm.parameters())


@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=NEEDS_BF16)])
def test_on_a_cpu_it_is_torchs(precision):
    assert list(LSTM(4, 5).state_dict()) == list(nn.LSTM(4, 5).state_dict())
    for ours, theirs in zip(run(LSTM, "cpu", precision), run(nn.LSTM, "cpu", precision), strict=True):
        assert ours.dtype == theirs.dtype and torch.equal(ours, theirs)


@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=NEEDS_BF16)])
def test_all_steps_of_a_cell_are_those_it_takes_one_by_one(precision):
    torch.manual_seed(1)
    cell, x, state = nn.LSTMCell(4, 5), torch.randn(2, 3, 4), (torch.randn(2, 5), torch.randn(2, 5))
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        states = all_steps(cell, x, state, training=True)
    states.float().square().sum().backward()
    gradients = [parameter.grad.clone() for parameter in cell.parameters()]
    cell.zero_grad()
    expected = []
    for step in x.unbind(1):
        state = cell(step, state)
        expected.append(state[0])
    torch.stack(expected).square().sum().backward()
    tolerance = {"rtol": 0.05, "atol": 0.05} if precision == "bf16" else {}
    torch.testing.assert_close(states.float(), torch.stack(expected, dim=1), **tolerance)
    for ours, theirs in zip(gradients, cell.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs.grad, **tolerance)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_autocast_leaves_it_alone():
    for mixed, exact in zip(run(LSTM, "cuda", "bf16"), run(LSTM, "cuda", "fp32"), strict=True):
        assert mixed.dtype == torch.float32
        torch.testing.assert_close(mixed, exact, rtol=0.02, atol=0.02)
