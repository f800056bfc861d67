"""LSTMs for mixed precision on CPUs and GPUs.

With `--precision bf16`, autocast makes cuDNN's LSTM compute in float16, in which small gradients become 0 unless the
loss is scaled up. On a GPU, autocast is therefore off inside LSTMs, which compute in the precision of their weights.
On a CPU, autocast correctly uses bfloat16.
"""

import contextlib

import torch
from torch import Tensor, nn

State = tuple[Tensor, Tensor]  # hidden and cell


class LSTM(nn.LSTM):
    """`nn.LSTM` that never computes in float16."""

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Computes as nn.LSTM does; `x` and `state` may have a lower precision than the weights."""
        precision = self.all_weights[0][1].dtype
        with _own_precision(x.device):
            x, state = _with_precision(x, precision), state and _state_with_precision(state, precision)
            return super().forward(x, state)  # type: ignore[has-type]  # torch declares two overloads without types


def all_steps(cell: nn.LSTMCell, x: Tensor, state: State, training: bool) -> Tensor:
    """Runs `cell` over whole sequences, with the kernel of nn.LSTM.

    Args:
        cell: the cell with the weights.
        x: inputs (B, T, inputs).
        state: hidden and cell state before the first step, (B, hidden) each.
        training: whether gradients will be computed.

    Returns:
        The hidden state after each step, (B, T, hidden).
    """
    weights = (cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh)
    with _own_precision(x.device):
        x = _with_precision(x, cell.weight_hh.dtype)
        hidden, memory = _state_with_precision(state, cell.weight_hh.dtype)
        states, _, _ = torch.lstm(
            x, (hidden[None], memory[None]), weights,
            has_biases=True, num_layers=1, dropout=0.0, train=training, bidirectional=False, batch_first=True,
        )  # fmt: skip
    return states


def _own_precision(device: torch.device) -> contextlib.AbstractContextManager[None]:
    return torch.autocast("cuda", enabled=False) if device.type == "cuda" else contextlib.nullcontext()


def _with_precision(x: Tensor, precision: torch.dtype) -> Tensor:
    """Converts `x` on a GPU to the precision of the weights, which cuDNN requires."""
    return x.to(precision) if x.device.type == "cuda" else x


def _state_with_precision(state: State, precision: torch.dtype) -> State:
    return _with_precision(state[0], precision), _with_precision(state[1], precision)
