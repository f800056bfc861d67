"""The decoders of `models.py`, computed faster: same parameters, same numbers up to rounding.

The decoder without attention runs whole captions through the kernel of nn.LSTM. The decoder with attention cannot,
because each attention query is computed from the previous hidden state. With autograd, each step would run about 70
small operations and accumulate the gradients of its weights. With small batches, this would take longer than the matrix
products of the step. Inside the loop, `AttentionLoop` therefore computes only what depends on the previous state. Its
own backward pass computes the weights' gradients once for all steps.

On a CPU, sigmoid is three times as fast as tanh, so the tanh of the attention and of the candidate gate is computed as
2 sigmoid(2x) - 1. In the attention, the -1 adds the same constant to the energies of all regions; softmax cancels it.

Shapes: B images, R regions, E = embed_dim, C = encoder_dim, A = attention_dim, D = decoder_dim. Captions are sorted by
length, the longest first, and packed as in PackedSequence: the rows of step 1, then the rows of step 2, …; N in all.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from hw_caption.models import Attention, Decoder, DecoderWithAttention, State
from hw_common.training import lstm


class FastDecoder(Decoder):
    """`Decoder`, with the kernel of nn.LSTM for given captions."""

    def hidden_states(self, regions: Tensor, words: Tensor, lengths: Tensor) -> Tensor:
        """See `Decoder.hidden_states`; padding is computed too, since packed sequences have no fast kernel on a CPU."""
        start = self.init_hidden_state(regions)
        return lstm.all_steps(self.decode_step, self.embedding(words), start, self.training)


@dataclass
class FastState(State):
    """A decoder's state with the attention's keys, which are the same for every word of a caption."""

    keys: Tensor = field(kw_only=True)  # (B, R, A), `Attention.encoder_att` of the regions

    def select(self, rows: Tensor) -> "FastState":
        """See `State.select`."""
        return FastState(self.hidden[rows], self.cell[rows], self.regions[rows], keys=self.keys[rows])


class FastDecoderWithAttention(DecoderWithAttention):
    """`DecoderWithAttention`, with `AttentionLoop` for given captions and with precomputed keys for generation."""

    def begin(self, regions: Tensor) -> FastState:
        """See `Decoder.begin`."""
        return FastState(*self.init_hidden_state(regions), regions, keys=self.attention.encoder_att(regions))

    def next_state(self, word: Tensor, state: State) -> FastState:
        """See `Decoder.next_state`."""
        keys = state.keys if isinstance(state, FastState) else self.attention.encoder_att(state.regions)
        context, weights = _attend(self.attention, state.regions, state.hidden, keys)
        inputs = torch.cat([self.embedding(word), context], dim=1)
        hidden, cell = self.decode_step(inputs, (state.hidden, state.cell))
        return FastState(hidden, cell, state.regions, weights, keys=keys)

    def hidden_states(self, regions: Tensor, words: Tensor, lengths: Tensor) -> Tensor:
        """See `Decoder.hidden_states`; a step computes only the captions that have not ended."""
        lengths, order = lengths.to(words.device).sort(descending=True, stable=True)
        steps, rows = (torch.arange(words.shape[1], device=words.device)[:, None] < lengths).nonzero(as_tuple=True)
        positions = order[rows] * words.shape[1] + steps  # (N,), packed rows to positions in the flattened captions
        regions = regions[order]
        hidden, cell = self.init_hidden_state(regions)
        attention, step = self.attention, self.decode_step
        keys = attention.encoder_att(regions) + attention.decoder_att.bias
        # Softmax cancels the bias of full_att, which all regions share. With 0 · bias, its gradient is 0, not None.
        score_weight = attention.full_att.weight[0] + 0 * attention.full_att.bias
        matmul_dtype = hidden.dtype  # bfloat16 under autocast; everything else has the dtype of the weights
        tensors = (
            self.embedding(words.flatten()[positions]), step.weight_ih, step.weight_hh, step.bias_ih + step.bias_hh,
            hidden, cell, regions, keys, attention.decoder_att.weight, score_weight,
        )  # fmt: skip
        with torch.autocast(regions.device.type, enabled=False):
            exact = (tensor.to(step.weight_hh.dtype) for tensor in tensors)
            states = AttentionLoop.apply(*exact, torch.bincount(steps).tolist(), matmul_dtype)
        padded = states.new_zeros(words.numel(), states.shape[1]).index_copy(0, positions, states)
        return padded.view(*words.shape, -1)


def _attend(attention: Attention, regions: Tensor, hidden: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
    """`Attention.forward` with precomputed `keys` and sigmoid in place of tanh."""
    activations = (keys + attention.decoder_att(hidden)[:, None]).mul_(2).sigmoid_()  # (B, R, A)
    weights = (2 * attention.full_att(activations)).squeeze(2).softmax(dim=1)
    return torch.bmm(weights[:, None], regions).squeeze(1), weights


class AttentionLoop(torch.autograd.Function):
    """Attention and LSTM of all steps, from word embeddings to hidden states.

    For each row, with W = query_weight and v = score_weight, a step computes

        activations = sigmoid(2 (keys + W hidden))     (R, A), so that tanh = 2 activations - 1
        attention_weights = softmax(2 v · activations)     (R,)
        context = attention_weights · regions     (C,)
        input_gate, forget_gate, output_gate = sigmoid(…), candidate = tanh(…) of embedding, context and hidden
        cell = forget_gate · cell + input_gate · candidate
        hidden = output_gate · tanh(cell)
    """

    @staticmethod
    def forward(
        ctx: Any,  # autograd's context
        embedded: Tensor,  # (N, E), the words' embeddings
        weight_ih: Tensor,  # (4D, E + C), the LSTM's weight for embedding and context
        weight_hh: Tensor,  # (4D, D), the LSTM's weight for the hidden state
        bias: Tensor,  # (4D,), the sum of the LSTM's two biases
        hidden: Tensor,  # (B, D), the hidden state before the first word
        cell: Tensor,  # (B, D), the cell state before the first word
        regions: Tensor,  # (B, R, C)
        keys: Tensor,  # (B, R, A), `encoder_att` of the regions plus the bias of `decoder_att`
        query_weight: Tensor,  # (A, D), the weight of `decoder_att`
        score_weight: Tensor,  # (A,), the weight of `full_att`
        batch_sizes: Sequence[int],  # the number of captions in each step
        matmul_dtype: torch.dtype,  # dtype of the LSTM's matrix products
    ) -> Tensor:
        """Runs all steps; returns the hidden state after each word, (N, D)."""
        (rows, embed_dim), encoder_dim, width = embedded.shape, regions.shape[2], hidden.shape[1]
        all_regions, initial_cell = regions, cell
        embedded, weight_ie = embedded.to(matmul_dtype), weight_ih[:, :embed_dim].to(matmul_dtype)
        weight = embedded.new_empty(len(weight_ih), encoder_dim + width)  # for context and hidden state
        weight[:, :encoder_dim], weight[:, encoder_dim:] = weight_ih[:, embed_dim:], weight_hh
        gates = F.linear(embedded, weight_ie) + bias
        # tanh(x) = 2 sigmoid(2x) - 1: both factors 2 are applied to the weights here, once for all steps.
        keys, query_weight, score_weight = 2 * keys, 2 * query_weight, 2 * score_weight
        candidates = slice(2 * width, 3 * width)
        weight[candidates] *= 2
        gates[:, candidates] *= 2
        inputs = embedded.new_empty(rows, encoder_dim + width)  # context and hidden state
        hiddens, cells, tanh_cells = (hidden.new_empty(rows, width) for _ in range(3))
        activations, weights = (hidden.new_empty(rows, regions.shape[1], *more) for more in (score_weight.shape, ()))
        packed = (gates, *gates.chunk(4, dim=1), inputs, hiddens, cells, tanh_cells, activations, weights)
        for parts in zip(*(part.split(batch_sizes) for part in packed), strict=True):
            (gate, input_gate, forget_gate, candidate, output_gate,
             lstm_input, hidden_out, cell_out, tanh_cell, activation, attention_weights) = parts  # fmt: skip
            if len(gate) < len(hidden):
                hidden, cell, regions, keys = (part[: len(gate)] for part in (hidden, cell, regions, keys))
            torch.add(keys, F.linear(hidden, query_weight)[:, None], out=activation).sigmoid_()
            torch.softmax(activation @ score_weight, dim=1, out=attention_weights)
            lstm_input[:, :encoder_dim] = torch.bmm(attention_weights[:, None], regions).squeeze(1)
            lstm_input[:, encoder_dim:] = hidden
            gate += F.linear(lstm_input, weight)
            gate.sigmoid_()  # all four gates; the tanh of the LSTM's equations is 2 candidate - 1
            new = torch.addcmul(input_gate, input_gate, candidate, value=-2)  # -input_gate · tanh
            cell = torch.sub(forget_gate * cell, new, out=cell_out)
            hidden = torch.mul(output_gate, torch.tanh(cell, out=tanh_cell), out=hidden_out)
        before = [initial_cell, *cells.split(batch_sizes)[:-1]]
        previous_cells = torch.cat([part[:count] for part, count in zip(before, batch_sizes, strict=True)])
        ctx.save_for_backward(
            weight_ie, weight, all_regions, query_weight, score_weight, embedded, inputs, gates, previous_cells,
            tanh_cells, activations, weights,
        )  # fmt: skip
        ctx.batch_sizes = batch_sizes
        return hiddens

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_hiddens: Tensor) -> tuple[Tensor | None, ...]:
        """Computes the gradients of the loss with respect to forward's arguments from grad_hiddens (N, D).

        The loop runs from the last step to the first and carries grad_hidden and grad_cell, the gradients with respect
        to the two states of a step. The weights' gradients are matrix products over all steps, after the loop.
        """
        (weight_ie, weight, regions, query_weight, score_weight, embedded, inputs, gates, previous_cells,
         tanh_cells, activations, weights) = ctx.saved_tensors  # fmt: skip
        encoder_dim, width = regions.shape[2], grad_hiddens.shape[1]
        gate_derivatives, cell_derivatives = _lstm_derivatives(gates, previous_cells, tanh_cells)
        grad_gates, grad_energies = torch.empty_like(gates, dtype=weight.dtype), torch.empty_like(weights)
        # Gradients with respect to the sigmoid's argument: grad_queries sums them over regions, grad_keys over steps.
        # Their common factor score_weight is multiplied in after the loop.
        grad_queries = grad_hiddens.new_empty(len(gates), len(score_weight))
        grad_keys = activations.new_zeros(len(regions), *activations.shape[1:])
        grad_regions = torch.zeros_like(regions) if ctx.needs_input_grad[6] else None
        grad_hidden_of_all, grad_cell_of_all = grad_hiddens.new_zeros(2, len(regions), width)
        query_to_hidden = score_weight[:, None] * query_weight
        by_gate, grad_by_gate = (part.unflatten(1, (4, width)) for part in (gate_derivatives, grad_gates))
        packed = (
            grad_hiddens, gates[:, width : 2 * width], cell_derivatives, by_gate[:, :3], by_gate[:, 3], activations,
            weights, grad_gates, grad_by_gate[:, :3], grad_by_gate[:, 3], grad_energies, grad_queries,
        )  # fmt: skip
        for parts in reversed(list(zip(*(part.split(ctx.batch_sizes) for part in packed), strict=True))):
            (grad_output, forget_gate, cell_derivative, first_three, last, activation,
             attention_weights, grad_gate, grad_first_three, grad_last, grad_energy, grad_query) = parts  # fmt: skip
            count = len(forget_gate)
            grad_hidden, grad_cell = grad_hidden_of_all[:count], grad_cell_of_all[:count]
            grad_hidden += grad_output
            grad_cell.addcmul_(cell_derivative, grad_hidden)
            torch.mul(first_three, grad_cell[:, None], out=grad_first_three)
            torch.mul(last, grad_hidden, out=grad_last)
            grad_cell *= forget_gate
            grad_input = (grad_gate @ weight).to(grad_hiddens.dtype)
            grad_context = grad_input[:, None, :encoder_dim]
            # This is a row times a matrix, since on a CPU a matrix times a column takes ten times as long.
            grad_weights = torch.bmm(grad_context, regions[:count].transpose(1, 2)).squeeze(1)
            mean = (attention_weights * grad_weights).sum(dim=1, keepdim=True)
            torch.mul(attention_weights, grad_weights - mean, out=grad_energy)
            sigmoid_derivative = torch.addcmul(activation, activation, activation, value=-1)
            torch.bmm(grad_energy[:, None], sigmoid_derivative, out=grad_query[:, None])
            torch.addmm(grad_input[:, encoder_dim:], grad_query, query_to_hidden, out=grad_hidden)
            grad_keys[:count].addcmul_(sigmoid_derivative, grad_energy[:, :, None])
            if grad_regions is not None:
                grad_regions[:count].baddbmm_(attention_weights[:, :, None], grad_context)
        grad_gates[:, 2 * width : 3 * width] *= 2
        grad_weight = grad_gates.t() @ inputs
        grad_weight_ih = grad_hiddens.new_empty(len(grad_weight), embedded.shape[1] + encoder_dim)
        grad_weight_ih[:, :-encoder_dim] = grad_gates.t() @ embedded
        grad_weight_ih[:, -encoder_dim:] = grad_weight[:, :encoder_dim]
        grad_query_weight = score_weight[:, None] * (grad_queries.t() @ inputs[:, encoder_dim:].to(grad_hiddens.dtype))
        grad_score_weight = torch.bmm(grad_energies[:, None], activations).sum(dim=(0, 1))
        return (
            (grad_gates @ weight_ie).to(grad_hiddens.dtype), grad_weight_ih,
            grad_weight[:, encoder_dim:].to(grad_hiddens.dtype), grad_gates.sum(dim=0, dtype=grad_hiddens.dtype),
            grad_hidden_of_all, grad_cell_of_all, grad_regions,
            2 * score_weight * grad_keys, 2 * grad_query_weight, 2 * grad_score_weight, None, None,
        )  # fmt: skip


def _lstm_derivatives(gates: Tensor, previous_cells: Tensor, tanh_cells: Tensor) -> tuple[Tensor, Tensor]:
    """The derivatives of an LSTM cell's new states.

    Args:
        gates: (N, 4D), the outputs of the sigmoids: input_gate, forget_gate, candidate (tanh = 2 candidate - 1) and
            output_gate.
        previous_cells: (N, D), the cell states before each step.
        tanh_cells: (N, D), tanh of the cell states after each step.

    Returns:
        First (N, 4D): the derivative of the cell state with respect to the arguments of the first three sigmoids, and
        of the hidden state with respect to the argument of the output gate's sigmoid. Second (N, D): the derivative of
        the hidden state with respect to the cell state.
    """
    input_gate, _, candidate, output_gate = gates.chunk(4, dim=1)
    derivatives = torch.addcmul(gates, gates, gates, value=-1)
    derivatives *= torch.cat([2 * candidate - 1, previous_cells, 2 * input_gate, tanh_cells], dim=1)
    return derivatives, output_gate * (1 - tanh_cells * tanh_cells)
