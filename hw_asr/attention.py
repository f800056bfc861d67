"""Appendices A to C of the sheet: multi-head attention, and the sub-blocks that networks are built of.

Shapes: B clips, L queries, T keys, D the width, H heads.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from hw_asr.presets import Sizes
from hw_common.training.dropout import Dropout

KeysAndValues = tuple[Tensor, Tensor]  # (B, H, T, D / H) each


class MultiHeadAttention(nn.Module):
    """Appendix A: `heads` scaled dot-product attentions side by side; keys have no bias, as in the course."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(
        self, x: Tensor, source: KeysAndValues | None = None, mask: Tensor | None = None, causal: bool = False
    ) -> Tensor:
        """Attends from `x` to itself, or to `source`.

        Args:
            x: (B, L, D), the queries.
            source: what `keys_and_values` made of what is attended to; None for x itself.
            mask: (B, 1, 1, T) bool, True for the keys of each clip, which come first; None for all.
            causal: whether query i sees keys 0 to i only.

        Returns:
            (B, L, D).
        """
        x = _lowered(x)
        queries, (keys, values) = self._split(self.query(x)), source or self.keys_and_values(x)
        if queries.dtype == torch.bfloat16 and queries.device.type == "cpu" and not causal:
            if x.shape[1] == 1:  # while a text is written
                looked = _weights(queries, keys, mask) @ values
            else:
                looked = ClipByClip.apply(queries, keys, values, mask)
        else:
            looked = F.scaled_dot_product_attention(queries, keys, values, mask, is_causal=causal)
        return self.out(looked.transpose(1, 2).flatten(2))

    def keys_and_values(self, z: Tensor) -> KeysAndValues:
        """The keys and values of `z` (B, T, D)."""
        z = _lowered(z)
        return self._split(self.key(z)), self._split(self.value(z))

    def weights(self, x: Tensor, keys: Tensor, mask: Tensor | None) -> Tensor:
        """How much each query of `x` (B, L, D) looks at each of `keys`: (B, H, L, T), each row's sum is 1."""
        return _weights(self._split(self.query(x)), keys, mask)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)  # (B, H, L, D / H)


def _lowered(x: Tensor) -> Tensor:
    """`x` in autocast's dtype, if that is on: cast once, where each of three projections would make and keep a copy."""
    kind = x.device.type
    return x.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else x


class ClipByClip(torch.autograd.Function):
    """Scaled dot-product attention for bfloat16 on a CPU: up to 1.7 times as fast there as torch's kernel.

    The weights of one clip fit into the processor's cache, those of a batch do not: they fill hundreds of megabytes. So
    clips take turns, and the backward pass computes their weights again. What is padding is not computed at all.
    """

    @staticmethod
    def forward(ctx: Any, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """As `F.scaled_dot_product_attention`; queries: (B, H, L, D / H), mask: (B, 1, 1, T) of the first keys."""
        counts = [keys.shape[2]] * len(keys) if mask is None else mask.sum(dim=3).flatten().tolist()
        queries = (queries * queries.shape[3] ** -0.5).contiguous()
        looked = torch.empty_like(queries)
        for clip, own in enumerate(counts):
            weights = _weights_of_clip(queries[clip], keys[clip, :, :own])
            torch.bmm(weights, values[clip, :, :own], out=looked[clip])
        ctx.save_for_backward(queries, keys, values, looked)
        ctx.counts = counts
        return looked

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """gradient: with respect to what `forward` returned."""
        queries, keys, values, looked = ctx.saved_tensors
        of_queries = torch.empty_like(queries)
        of_keys, of_values = (torch.zeros_like(part, memory_format=torch.contiguous_format) for part in (keys, values))
        # The sum over the keys of a weight times its gradient, which the softmax's gradient needs.
        means = (gradient * looked).sum(dim=3, keepdim=True)
        for clip, own in enumerate(ctx.counts):
            weights = _weights_of_clip(queries[clip], keys[clip, :, :own])
            torch.bmm(weights.transpose(1, 2), gradient[clip], out=of_values[clip, :, :own])
            of_weights = gradient[clip] @ values[clip, :, :own].transpose(1, 2)
            of_scores = weights.mul_(of_weights.sub_(means[clip]))
            torch.bmm(of_scores, keys[clip, :, :own], out=of_queries[clip])
            torch.bmm(of_scores.transpose(1, 2), queries[clip], out=of_keys[clip, :, :own])
        return of_queries.mul_(queries.shape[3] ** -0.5), of_keys, of_values, None


def _weights_of_clip(queries: Tensor, keys: Tensor) -> Tensor:
    """(H, L, D / H) scaled, and (H, T, D / H); returns (H, L, T)."""
    return (queries @ keys.transpose(1, 2)).softmax(dim=2)


def _weights(queries: Tensor, keys: Tensor, mask: Tensor | None) -> Tensor:
    """softmax(Q K^T / sqrt(D / H)): (B, H, L, T)."""
    scores = (queries * queries.shape[3] ** -0.5) @ keys.transpose(2, 3)
    return (scores if mask is None else scores.masked_fill_(~mask, -torch.inf)).softmax(dim=3)


class SubBlock(nn.Module):
    """SubBlock(x) = LayerNorm(x + Module(LayerNorm(x))); the course's notebook leaves the outer LayerNorm out.

    With `MultiHeadAttention` as its module it is the residual attention layer of Appendix A.

    Args:
        module: what is computed of x, and of what else `forward` is given.
        sizes: of the networks.
    """

    def __init__(self, module: nn.Module, sizes: Sizes) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(sizes.width)
        self.module = module
        self.dropout = Dropout(sizes.dropout)
        self.outer_norm = nn.LayerNorm(sizes.width) if sizes.outer_norm else nn.Identity()

    def forward(self, x: Tensor, *more: object, **options: object) -> Tensor:
        """x: (B, L, D); returns the same shape."""
        return self.outer_norm(x + self.dropout(self.module(self.norm(x), *more, **options)))


def attention(sizes: Sizes) -> SubBlock:
    """A sub-block of multi-head attention."""
    return SubBlock(MultiHeadAttention(sizes.width, sizes.heads), sizes)


def feed_forward(sizes: Sizes) -> SubBlock:
    """A sub-block of the sheet's MLP: one hidden layer of twice the width, with GELU."""
    hidden = 2 * sizes.width
    mlp = nn.Sequential(nn.Linear(sizes.width, hidden), nn.GELU(), nn.Linear(hidden, sizes.width))
    return SubBlock(mlp, sizes)


class EncoderBlock(nn.Module):
    """Appendix B: attention, then a feed-forward network."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.attention = attention(sizes)
        self.mlp = feed_forward(sizes)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """x: (B, T, D); mask: as in `MultiHeadAttention`; returns (B, T, D)."""
        return self.mlp(self.attention(x, mask=mask))


class CrossAttentionBlock(nn.Module):
    """Appendix C: attention from the text to the encoder's output, then a feed-forward network."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.attention = attention(sizes)
        self.mlp = feed_forward(sizes)

    def forward(self, x: Tensor, audio: KeysAndValues, mask: Tensor | None) -> Tensor:
        """x: (B, L, D), of the text; audio: see `keys_and_values`; mask: (B, 1, 1, T); returns (B, L, D)."""
        return self.mlp(self.attention(x, audio, mask))

    def keys_and_values(self, audio: Tensor) -> KeysAndValues:
        """What stays the same while a text is written; audio: (B, T, D)."""
        return self.attention.module.keys_and_values(audio)

    def weights(self, x: Tensor, keys: Tensor, mask: Tensor | None) -> Tensor:
        """Where the text (B, L, D) looks: (B, L, T), the mean over the heads."""
        return self.attention.module.weights(self.attention.norm(x), keys, mask).mean(dim=1)
