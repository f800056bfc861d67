"""LSTMs in mixed precision, on a GPU too.

With `--precision bf16`, autocast would make cuDNN's LSTM compute in float16, in which small gradients become 0 unless
the loss is scaled up. So on a GPU it is switched off for LSTMs, which then compute in the precision of their weights;
on a CPU it takes bfloat16, as it should.
"""

import contextlib

import torch
from torch import Tensor, nn

State = tuple[Tensor, Tensor]  # hidden and cell


class LSTM(nn.LSTM):
    """`nn.LSTM`, but never in float16."""

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """See nn.LSTM; `x` and `state` may have a lower precision than the weights."""
        with _own_precision(x.device):
            return super().forward(*_as_precise(x, state, self.weight_hh_l0))


def all_steps(cell: nn.LSTMCell, x: Tensor, state: State, training: bool) -> Tensor:
    """Runs `cell` over whole sequences, in the kernel that nn.LSTM calls.

    Args:
        cell: the weights.
        x: (B, T, inputs).
        state: (B, hidden) each, before the first step.
        training: whether gradients will be asked for.

    Returns:
        The hidden states after each step, (B, T, hidden).
    """
    weights = (cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh)
    with _own_precision(x.device):
        x, (hidden, memory) = _as_precise(x, state, cell.weight_hh)
        states, _, _ = torch.lstm(
            x, (hidden[None], memory[None]), weights,
            has_biases=True, num_layers=1, dropout=0.0, train=training, bidirectional=False, batch_first=True,
        )  # fmt: skip
    return states


def _own_precision(device: torch.device) -> contextlib.AbstractContextManager:
    return torch.autocast("cuda", enabled=False) if device.type == "cuda" else contextlib.nullcontext()


def _as_precise(x: Tensor, state: State | None, weight: Tensor) -> tuple[Tensor, State | None]:
    """`x` and `state` as precise as `weight` on a GPU, where an LSTM takes nothing else."""
    if x.device.type != "cuda":
        return x, state
    return x.to(weight.dtype), None if state is None else tuple(part.to(weight.dtype) for part in state)
