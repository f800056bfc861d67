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
        (rows, words), size, width = embedded.shape, regions.shape[2], hidden.shape[1]
        images, first = regions, cell
        embedded, of_words = embedded.to(low), weight_ih[:, :words].to(low)
        weight = embedded.new_empty(len(weight_ih), size + width)
        weight[:, :size], weight[:, size:] = weight_ih[:, words:], weight_hh
        gates = F.linear(embedded, of_words) + bias
        # tanh(x) is 2 sigmoid(2x) - 1, and the sigmoid is three times as fast on a CPU: what goes into a tangent is
        # doubled. The -1 of the attention's energies changes no weight.
        projected, query, score = 2 * projected, 2 * query, 2 * score
        third = slice(2 * width, 3 * width)
        weight[third] *= 2
        gates[:, third] *= 2
        inputs = embedded.new_empty(rows, size + width)  # attention vectors and hidden states
        states, cells, tangents = (hidden.new_empty(rows, width) for _ in range(3))
        energies, looks = (hidden.new_empty(rows, regions.shape[1], *more) for more in (score.shape, ()))
        packed = (gates, *gates.chunk(4, dim=1), inputs, states, cells, tangents, energies, looks)
        for parts in zip(*(part.split(sizes) for part in packed), strict=True):
            gate, enter, keep, new, leave, both, state, memory, tangent, energy, look = parts
            if len(gate) < len(hidden):
                hidden, cell, regions, projected = (part[: len(gate)] for part in (hidden, cell, regions, projected))
            torch.add(projected, F.linear(hidden, query)[:, None], out=energy).sigmoid_()
            torch.softmax(energy @ score, dim=1, out=look)
            both[:, :size] = torch.bmm(look[:, None], regions).squeeze(1)
            both[:, size:] = hidden
            gate += F.linear(both, weight)
            gate.sigmoid_()
            cell = torch.sub(keep * cell, torch.addcmul(enter, enter, new, value=-2), out=memory)
            hidden = torch.mul(leave, torch.tanh(cell, out=tangent), out=state)
        before = torch.cat([part[:count] for part, count in zip([first, *cells.split(sizes)], sizes, strict=False)])
        ctx.save_for_backward(
            of_words, weight, images, query, score, embedded, inputs, gates, before, tangents, energies, looks
        )
        ctx.sizes = sizes
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """gradient: (N, D), with respect to the hidden states; returns those with respect to forward's arguments."""
        of_words, weight, regions, query, score, embedded, inputs, gates, before, tangents, energies, looks = (
            ctx.saved_tensors
        )
        size, width = regions.shape[2], gradient.shape[1]
        slopes, leaks = _lstm_slopes(gates, before, tangents)
        of_gates, of_logits = torch.empty_like(gates, dtype=weight.dtype), torch.empty_like(looks)
        of_queries = gradient.new_empty(len(gates), len(score))
        of_projected = energies.new_zeros(len(regions), *energies.shape[1:])
        of_regions = torch.zeros_like(regions) if ctx.needs_input_grad[6] else None
        of_hidden, of_cell = gradient.new_zeros(2, len(regions), width)
        scored = score[:, None] * query
        four_slopes, of_four = (part.unflatten(1, (4, width)) for part in (slopes, of_gates))
        packed = (
            gradient, gates[:, width : 2 * width], leaks, four_slopes[:, :3], four_slopes[:, 3], energies, looks,
            of_gates, of_four[:, :3], of_four[:, 3], of_logits, of_queries,
        )  # fmt: skip
        for parts in reversed(list(zip(*(part.split(ctx.sizes) for part in packed), strict=True))):
            of_state, keep, leak, three, last, energy, look, of_gate, of_three, of_last, of_logit, of_query = parts
            kept = len(keep)
            now, cell_now = of_hidden[:kept], of_cell[:kept]
            now += of_state
            cell_now.addcmul_(leak, now)
            torch.mul(three, cell_now[:, None], out=of_three)
            torch.mul(last, now, out=of_last)
            cell_now *= keep
            of_input = (of_gate @ weight).to(gradient.dtype)
            of_seen = of_input[:, None, :size]
            # Row times matrix: on a CPU, matrix times column takes ten times as long.
            of_look = torch.bmm(of_seen, regions[:kept].transpose(1, 2)).squeeze(1)
            torch.mul(look, of_look - (look * of_look).sum(dim=1, keepdim=True), out=of_logit)
            curve = torch.addcmul(energy, energy, energy, value=-1)  # slope of the sigmoid
            torch.bmm(of_logit[:, None], curve, out=of_query[:, None])
            torch.addmm(of_input[:, size:], of_query, scored, out=now)
            of_projected[:kept].addcmul_(curve, of_logit[:, :, None])
            if of_regions is not None:
                of_regions[:kept].baddbmm_(look[:, :, None], of_seen)
        of_gates[:, 2 * width : 3 * width] *= 2
        of_weight = of_gates.t() @ inputs
        of_weight_ih = gradient.new_empty(len(of_weight), embedded.shape[1] + size)
        of_weight_ih[:, :-size], of_weight_ih[:, -size:] = of_gates.t() @ embedded, of_weight[:, :size]
        of_query = score[:, None] * (of_queries.t() @ inputs[:, size:].to(gradient.dtype))
        of_score = torch.bmm(of_logits[:, None], energies).sum(dim=(0, 1))
        return (
            (of_gates @ of_words).to(gradient.dtype), of_weight_ih, of_weight[:, size:].to(gradient.dtype),
            of_gates.sum(dim=0, dtype=gradient.dtype), of_hidden, of_cell, of_regions,
            2 * score * of_projected, 2 * of_query, 2 * of_score, None, None,
        )  # fmt: skip


def _lstm_slopes(gates: Tensor, before: Tensor, tangents: Tensor) -> tuple[Tensor, Tensor]:
    """What the gradients of an LSTM cell's states are multiplied by on their way back through it.

    Args:
        gates: (N, 4D), after their sigmoids, the third of which stands for a tangent.
        before: (N, D), the cell states before the steps.
        tangents: (N, D), of the cell states after them.

    Returns:
        Slopes (N, 4D) of the gates before their sigmoids: the first three by the cell state's gradient, the fourth by
        the hidden state's; and (N, D), by which the latter flows into the cell state's.
    """
    enter, _, new, leave = gates.chunk(4, dim=1)
    slopes = torch.addcmul(gates, gates, gates, value=-1)
    slopes *= torch.cat([2 * new - 1, before, 2 * enter, tangents], dim=1)
    return slopes, leave * (1 - tangents * tangents)
