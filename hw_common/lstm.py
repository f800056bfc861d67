"""LSTMs in mixed precision, on a GPU too."""

import contextlib

import torch
from torch import Tensor, nn


def lstm_precision(device: torch.device) -> contextlib.AbstractContextManager:
    """What to call an LSTM in: on a GPU, autocast is switched off.

    With `--precision bf16` it would make cuDNN's LSTM compute in float16, in which small gradients become 0 unless the
    loss is scaled up. On a CPU it takes bfloat16, as it should.
    """
    return torch.autocast("cuda", enabled=False) if device.type == "cuda" else contextlib.nullcontext()


class LSTM(nn.LSTM):
    """`nn.LSTM` in `lstm_precision`."""

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """See nn.LSTM; `x` and `state` may have a lower precision than the weights."""
        if x.device.type == "cuda":
            kind = self.weight_hh_l0.dtype
            x, state = x.to(kind), None if state is None else (state[0].to(kind), state[1].to(kind))
        with lstm_precision(x.device):
            return super().forward(x, state)
