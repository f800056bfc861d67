"""Multi-head attention and the blocks of encoder and decoder (ist-2023-24-hw2 Q3, Appendices A to C).

Shapes: B clips, L queries, T keys, D the hidden dimension, H heads, d_k = D / H.
"""

import math
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from hw_asr.presets import Sizes
from hw_common.training.dropout import Dropout

Module = TypeVar("Module", bound=nn.Module)


def attention(
    queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None, causal: bool = False
) -> Tensor:
    """Scaled dot-product attention: softmax(Q Kᵀ / √d_k) V (Appendix A).

    The values are (B, H, T, d_k), the result is (B, H, L, d_k). See `attention_weights` for the other arguments.
    """
    return attention_weights(queries, keys, mask, causal) @ values


def attention_weights(queries: Tensor, keys: Tensor, mask: Tensor | None = None, causal: bool = False) -> Tensor:
    """The weight of each key for each query: softmax(Q Kᵀ / √d_k).

    Args:
        queries: (B, H, L, d_k).
        keys: (B, H, T, d_k).
        mask: (B, 1, 1, T) bool, True for the keys of a clip and False for padding; None if there is no padding.
        causal: whether query i attends only to keys 0 to i, so that no prediction depends on later tokens.

    Returns:
        (B, H, L, T); the weights of a query sum to 1.
    """
    scores = queries @ keys.transpose(2, 3) / math.sqrt(queries.shape[3])  # (B, H, L, T)
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    if causal:
        later = torch.ones(scores.shape[2:], dtype=torch.bool, device=scores.device).triu(diagonal=1)
        scores = scores.masked_fill(later, -math.inf)
    return scores.softmax(dim=3)


class MultiHeadAttention(nn.Module):
    """MultiHeadAttention(Q, K, V) = Concat(head_1, …, head_H) W^O (Appendix A).

    Each head is an `attention` with its own projections. As in the course's notebook, the keys have no bias: it would
    add the same number to all scores of a query, and softmax cancels that. The number of heads divides `width` (D).
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)  # W^Q of all heads side by side
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)  # W^O

    def forward(self, x: Tensor, z: Tensor | None = None, mask: Tensor | None = None, causal: bool = False) -> Tensor:
        """MultiHeadAttention(x, z, z), or MultiHeadAttention(x, x, x) if `z` is None.

        The queries are computed from `x` (B, L, D), the keys and values from `z` (B, T, D); the result is (B, L, D).
        See `attention_weights` for mask and causal.
        """
        z = x if z is None else z
        queries, keys, values = (self.split(part) for part in (self.query(x), self.key(z), self.value(z)))
        heads = attention(queries, keys, values, mask, causal)  # (B, H, L, d_k)
        return self.out(self.concatenate(heads))

    def weights(self, x: Tensor, z: Tensor, mask: Tensor | None) -> Tensor:
        """The attention weights (B, H, L, T) of all heads; see `forward` for the arguments."""
        return attention_weights(self.split(self.query(x)), self.split(self.key(z)), mask)

    def split(self, x: Tensor) -> Tensor:
        """Splits queries (B, L, D) into heads (B, H, L, d_k), or keys or values (B, T, D) into heads (B, H, T, d_k)."""
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)

    def concatenate(self, heads: Tensor) -> Tensor:
        """Concatenates heads (B, H, L, d_k) to (B, L, D)."""
        return heads.transpose(1, 2).flatten(2)


def mlp(sizes: Sizes) -> nn.Sequential:
    """The feed-forward network of Appendices B and C: one hidden layer of width 2 D with GELU."""
    hidden = 2 * sizes.width
    return nn.Sequential(nn.Linear(sizes.width, hidden), nn.GELU(), nn.Linear(hidden, sizes.width))


class SubBlock(nn.Module, Generic[Module]):
    """SubBlock(x, z) = LayerNorm(x + Module(LayerNorm(x), z)), with or without z (Appendices B and C).

    The module is a `MultiHeadAttention`, which gives the residual attention layer of Appendix A, or an `mlp`. The
    course's notebook has no outer LayerNorm (`outer_norm` is False). The dropout is an addition to the sheet; it is off
    by default.
    """

    def __init__(self, module: Module, sizes: Sizes) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(sizes.width)
        self.module = module
        self.dropout = Dropout(sizes.dropout)
        self.outer_norm = nn.LayerNorm(sizes.width) if sizes.outer_norm else nn.Identity()

    def forward(self, x: Tensor, *z: Tensor, **options: Tensor | bool | None) -> Tensor:
        """Computes (B, L, D) from `x` (B, L, D); `z` and `options` (mask, causal) are passed on to the module."""
        return self.outer_norm(x + self.dropout(self.module(self.norm(x), *z, **options)))


class EncoderBlock(nn.Module):
    """Appendix B: a sub-block with self-attention, followed by a sub-block with a feed-forward network."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.attention = SubBlock(MultiHeadAttention(sizes.width, sizes.heads), sizes)
        self.mlp = SubBlock(mlp(sizes), sizes)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Computes (B, T, D) from `x` (B, T, D); see `attention_weights` for the mask."""
        return self.mlp(self.attention(x, mask=mask))


class CrossAttentionBlock(nn.Module):
    """Appendix C: a sub-block with attention to the encoder's output, followed by one with a feed-forward network."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.attention = SubBlock(MultiHeadAttention(sizes.width, sizes.heads), sizes)
        self.mlp = SubBlock(mlp(sizes), sizes)

    def forward(self, x: Tensor, z: Tensor, mask: Tensor | None) -> Tensor:
        """Computes (B, L, D) from the text `x` (B, L, D), the encoder's output `z` (B, T, D) and its mask."""
        return self.mlp(self.attention(x, z, mask=mask))

    def weights(self, x: Tensor, z: Tensor, mask: Tensor | None) -> Tensor:
        """The attention weights (B, L, T), averaged over the heads; see `forward` for the arguments."""
        return self.attention.module.weights(self.attention.norm(x), z, mask).mean(dim=1)
