"""LSTMs in mixed precision: torch's own on a CPU, and never float16 on a GPU."""

import pytest
import torch
from torch import nn

from hw_common.lstm import LSTM


def run(kind, device, precision):
    torch.manual_seed(1)
    lstm = kind(4, 5, batch_first=True).to(device)
    x = torch.randn(2, 3, 4, device=device, requires_grad=True)
    with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
        states, (hidden, cell) = lstm(x.to(torch.bfloat16) if precision == "bf16" else x)
        states, _ = lstm(x, (hidden, cell))
    states.float().sum().backward()
    return states, x.grad, *(parameter.grad for parameter in lstm.parameters())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_on_a_cpu_it_is_torchs(precision):
    assert list(LSTM(4, 5).state_dict()) == list(nn.LSTM(4, 5).state_dict())
    for ours, theirs in zip(run(LSTM, "cpu", precision), run(nn.LSTM, "cpu", precision), strict=True):
        assert ours.dtype == theirs.dtype and torch.equal(ours, theirs)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_autocast_leaves_it_alone():
    for mixed, exact in zip(run(LSTM, "cuda", "bf16"), run(LSTM, "cuda", "fp32"), strict=True):
        assert mixed.dtype == torch.float32
        torch.testing.assert_close(mixed, exact, rtol=0.02, atol=0.02)
