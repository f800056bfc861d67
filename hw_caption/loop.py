"""The attention decoder's loop over the words of given captions, forwards and backwards by hand.

Word by word, the attention looks at the image as the state before asks it to, so the steps cannot run side by side as
those of a plain LSTM do. Left to autograd, a step costs some seventy small operations and a gradient as large as the
weights, which together take longer than its matrix products when the batch is small. Here only what depends on the
state before stays in the loop; whatever can be done for all steps at once is done before or after it.

Shapes: B images, R regions, E = embed_dim, C = encoder_dim, A = attention_dim, D = decoder_dim. The captions are sorted
by length, the longest first, and rows are packed: those of the first step, then those of the second, … N in all.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


class AttentionLoop(torch.autograd.Function):
    """All steps of `DecoderWithAttention` but for what goes into and comes out of them."""

    @staticmethod
    def forward(
        ctx: Any,
        embedded: Tensor,
        weight_ih: Tensor,
        weight_hh: Tensor,
        bias: Tensor,
        hidden: Tensor,
        cell: Tensor,
        regions: Tensor,
        projected: Tensor,
        query: Tensor,
        score: Tensor,
        sizes: Sequence[int],
        low: torch.dtype,
    ) -> Tensor:
        """Runs the steps.

        Args:
            ctx: autograd's.
            embedded: (N, E), the words.
            weight_ih: (4D, E + C), of the LSTM, for word and attention vector.
            weight_hh: (4D, D), of the LSTM, for the hidden state.
            bias: (4D,), both of the LSTM's.
            hidden: (B, D), before the first word.
            cell: (B, D), likewise.
            regions: (B, R, C).
            projected: (B, R, A), what the attention makes of the regions, with both biases.
            query: (A, D), by which it multiplies the hidden state.
            score: (A,), by which it multiplies the energies; its bias would change nothing, since softmax follows.
            sizes: captions that have a word at each step.
            low: dtype of the LSTM's matrix products.

        Returns:
            The hidden states after each word, (N, D).
        """
        (rows, words), width, of_images = embedded.shape, hidden.shape[1], regions
        # tanh(x) is 2 sigmoid(2x) - 1, and the sigmoid is three times as fast on a CPU; the -1 changes no weight.
        projected, query, score = 2 * projected, 2 * query, 2 * score
        embedded, of_words = embedded.to(low), weight_ih[:, :words].to(low)
        weight = torch.cat([weight_ih[:, words:], weight_hh], dim=1).to(low)
        gates = F.linear(embedded, of_words) + bias
        states, cells = (hidden.new_empty(rows, width) for _ in range(2))
        energies, looks = (hidden.new_empty(rows, regions.shape[1], *size) for size in (score.shape, ()))
        inputs = embedded.new_empty(rows, weight.shape[1])  # attention vectors and hidden states
        packed = (gates, inputs, states, cells, energies, looks)
        for gate, both, state, memory, energy, look in zip(*(part.split(sizes) for part in packed), strict=True):
            if len(gate) < len(hidden):
                hidden, cell, regions, projected = (part[: len(gate)] for part in (hidden, cell, regions, projected))
            torch.add(projected, F.linear(hidden, query)[:, None], out=energy).sigmoid_()
            torch.softmax(energy @ score, dim=1, out=look)
            torch.cat([torch.bmm(look[:, None], regions).squeeze(1).to(low), hidden.to(low)], dim=1, out=both)
            gate += F.linear(both, weight)
            enter, keep, new, leave = gate.chunk(4, dim=1)
            gate[:, : 2 * width].sigmoid_()
            new.tanh_()
            leave.sigmoid_()
            memory.copy_(cell)
            cell = torch.addcmul(enter * new, keep, cell)
            hidden = torch.mul(leave, cell.tanh(), out=state)
        ctx.save_for_backward(
            of_words, weight, of_images, query, score, embedded, inputs, gates, cells, energies, looks
        )
        ctx.sizes = sizes
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """gradient: (N, D), with respect to the hidden states; returns those with respect to forward's arguments."""
        of_words, weight, regions, query, score, embedded, inputs, gates, cells, energies, looks = ctx.saved_tensors
        size, width = regions.shape[2], gradient.shape[1]
        of_gates, of_logits = torch.empty_like(gates), torch.empty_like(looks)
        of_queries = gradient.new_empty(len(gates), len(score))
        of_projected = energies.new_zeros(len(regions), *energies.shape[1:])
        of_regions = torch.zeros_like(regions) if ctx.needs_input_grad[6] else None
        of_hidden, of_cell = gradient.new_zeros(2, len(regions), width)
        squashed = _tanh_after(gates, cells)
        packed = (gradient, gates, cells, squashed, energies, looks, of_gates, of_logits, of_queries)
        steps = list(zip(*(part.split(ctx.sizes) for part in packed), strict=True))
        for of_state, gate, memory, tanh, energy, look, of_gate, of_logit, of_query in reversed(steps):
            kept = len(gate)
            now, cell_now = of_hidden[:kept], of_cell[:kept]
            now += of_state
            _lstm_backward(gate, memory, tanh, now, cell_now, of_gate)
            of_input = (of_gate.to(weight.dtype) @ weight).to(gradient.dtype)
            of_seen = of_input[:, None, :size]
            # Row times matrix: on a CPU, matrix times column takes ten times as long.
            of_look = torch.bmm(of_seen, regions[:kept].transpose(1, 2)).squeeze(1)
            torch.mul(look, of_look - (look * of_look).sum(dim=1, keepdim=True), out=of_logit)
            slope = torch.addcmul(energy, energy, energy, value=-1)  # of the sigmoid
            torch.mul(torch.bmm(of_logit[:, None], slope).squeeze(1), score, out=of_query)
            torch.addmm(of_input[:, size:], of_query, query, out=now)
            of_projected[:kept].addcmul_(slope, of_logit[:, :, None])
            if of_regions is not None:
                of_regions[:kept].baddbmm_(look[:, :, None], of_seen)
        low_gates = of_gates.to(weight.dtype)
        of_weight = (low_gates.t() @ inputs).to(gradient.dtype)
        of_weight_ih = torch.cat([(low_gates.t() @ embedded).to(gradient.dtype), of_weight[:, :size]], dim=1)
        of_query = of_queries.t() @ inputs[:, size:].to(gradient.dtype)
        of_score = of_logits.flatten() @ energies.flatten(0, 1)
        return (
            (low_gates @ of_words).to(gradient.dtype), of_weight_ih, of_weight[:, size:], of_gates.sum(dim=0),
            of_hidden, of_cell, of_regions,
            2 * score * of_projected, 2 * of_query, 2 * of_score, None, None,
        )  # fmt: skip


def _tanh_after(gates: Tensor, cells: Tensor) -> Tensor:
    """The tangent of the cell states (N, D) after the steps; gates (N, 4D) and the cell states before them (N, D)."""
    enter, keep, new, _ = gates.chunk(4, dim=1)
    return torch.addcmul(enter * new, keep, cells).tanh_()


def _lstm_backward(gate: Tensor, cell: Tensor, tanh: Tensor, of_hidden: Tensor, of_cell: Tensor, out: Tensor) -> None:
    """The gradient of an LSTM cell with respect to its gates before their sigmoids, into `out`.

    Args:
        gate: (B, 4D), after sigmoids and tangent.
        cell: (B, D), before the step.
        tanh: (B, D), of the cell state after the step.
        of_hidden: (B, D), gradient of the hidden state after the step.
        of_cell: (B, D), gradient of the cell state after the step, without what comes by way of the hidden state;
            becomes that of the cell state before the step.
        out: (B, 4D).
    """
    enter, keep, new, leave = gate.chunk(4, dim=1)
    of_tanh = of_hidden * leave
    of_cell += torch.addcmul(of_tanh, of_tanh * tanh, tanh, value=-1)
    slope = torch.addcmul(gate, gate, gate, value=-1)
    slope[:, 2 * cell.shape[1] : 3 * cell.shape[1]] = 1 - new * new
    torch.cat([new * of_cell, cell * of_cell, enter * of_cell, tanh * of_hidden], dim=1, out=out)
    out *= slope
    of_cell *= keep
