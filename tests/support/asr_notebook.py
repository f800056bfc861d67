"""The networks of hw_asr as plain functions of their weights, computed as in the course's notebook.

Clips are padded with zeros to 20 seconds, attention is written out with a causal mask only, and generation computes the
whole text again for each character. It is the oracle of the tests, and benchmarks/asr.py compares our speed with it.

w: the weights by name; spectrograms: (B, mels, F); tokens: (B, L); audio: (B, T, D).
"""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

FRAMES = 2754
HEADS = 2

Weights = Mapping[str, Tensor]
LSTM = Callable[[Tensor], Tensor]  # (B, L, D) to (B, L, D)


def padded(clips: Sequence[Tensor], frames: int = FRAMES) -> Tensor:
    """One batch of `clips` (mels, F) with zeros behind them."""
    return torch.stack([F.pad(clip, (0, frames - clip.shape[1])) for clip in clips])


def linear(w: Weights, name: str, x: Tensor) -> Tensor:
    return F.linear(x, w[f"{name}.weight"], w.get(f"{name}.bias"))


def norm(w: Weights, name: str, x: Tensor) -> Tensor:
    if f"{name}.weight" not in w:  # the other preset's
        return x
    return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"])


def attention(w: Weights, name: str, x: Tensor, z: Tensor, causal: bool) -> Tensor:
    scale = (x.shape[2] // HEADS) ** -0.25
    q, k, v = (linear(w, f"{name}.{part}", y) for part, y in (("query", x), ("key", z), ("value", z)))
    q = q.view(*q.shape[:2], HEADS, -1).permute(0, 2, 1, 3) * scale
    k = k.view(*k.shape[:2], HEADS, -1).permute(0, 2, 3, 1) * scale
    v = v.view(*v.shape[:2], HEADS, -1).permute(0, 2, 1, 3)
    scores = q @ k
    if causal:
        scores = scores + torch.full(scores.shape[2:], -math.inf).triu(1).to(scores)
    heads = (scores.softmax(dim=-1) @ v).permute(0, 2, 1, 3).flatten(start_dim=2)
    return linear(w, f"{name}.out", heads)


def attention_layer(w: Weights, name: str, x: Tensor, z: Tensor | None = None, causal: bool = False) -> Tensor:
    y = norm(w, f"{name}.norm", x)
    y = attention(w, f"{name}.module", y, y if z is None else z, causal)
    return norm(w, f"{name}.outer_norm", x + y)


def mlp_layer(w: Weights, name: str, x: Tensor) -> Tensor:
    y = linear(w, f"{name}.module.0", norm(w, f"{name}.norm", x))
    return norm(w, f"{name}.outer_norm", x + linear(w, f"{name}.module.2", F.gelu(y)))


def positions(length: int, width: int) -> Tensor:
    """Sines and cosines (length, width), number by number."""
    half = width // 2
    table = torch.empty(length, width, dtype=torch.float64)
    for i in range(half):
        angles = torch.arange(length, dtype=torch.float64) / 3000 ** (i / (half - 1))
        table[:, i], table[:, half + i] = angles.sin(), angles.cos()
    return table


def encode(w: Weights, spectrograms: Tensor) -> Tensor:
    """(B, T, D)."""
    x = F.gelu(F.conv1d(spectrograms, w["encoder.conv1.weight"], w["encoder.conv1.bias"], padding=1))
    x = F.gelu(F.conv1d(x, w["encoder.conv2.weight"], w["encoder.conv2.bias"], padding=1, stride=2))
    x = x.permute(0, 2, 1)
    x = x + positions(*x.shape[1:]).to(x)
    block = 0
    while f"encoder.blocks.{block}.mlp.norm.weight" in w:
        x = attention_layer(w, f"encoder.blocks.{block}.attention", x)
        x = mlp_layer(w, f"encoder.blocks.{block}.mlp", x)
        block += 1
    return norm(w, "encoder.norm", x)


def decode(w: Weights, tokens: Tensor, audio: Tensor, lstm: LSTM) -> Tensor:
    """Logits (B, L, V)."""
    x = w["decoder.embedding.weight"][tokens]
    if "decoder.positions" in w:
        x = x + w["decoder.positions"][: tokens.shape[1]]
        x = attention_layer(w, "decoder.self_attention", x, causal=True)
    else:
        x = lstm(norm(w, "decoder.embedding_norm", x))
    x = attention_layer(w, "decoder.cross_attention.attention", x, audio)
    x = mlp_layer(w, "decoder.cross_attention.mlp", x)
    return linear(w, "decoder.classifier", norm(w, "decoder.norm", x))


def lstm_of(w: Weights) -> LSTM:
    """The decoder's LSTM, step by step."""

    def run(x: Tensor) -> Tensor:
        hidden = cell = x.new_zeros(len(x), x.shape[2])
        outputs = []
        for step in x.unbind(dim=1):
            gates = F.linear(step, w["decoder.lstm.weight_ih_l0"], w["decoder.lstm.bias_ih_l0"])
            gates = gates + F.linear(hidden, w["decoder.lstm.weight_hh_l0"], w["decoder.lstm.bias_hh_l0"])
            input_gate, forget_gate, candidate, output_gate = gates.chunk(4, dim=1)
            cell = forget_gate.sigmoid() * cell + input_gate.sigmoid() * candidate.tanh()
            hidden = output_gate.sigmoid() * cell.tanh()
            outputs.append(hidden)
        return torch.stack(outputs, dim=1)

    return run


@torch.inference_mode()
def generate(w: Weights, spectrograms: Tensor, start: int, never: Sequence[int], steps: int, lstm: LSTM) -> Tensor:
    """The `steps` most probable tokens, one after another, without a stop at STOP: (B, steps)."""
    audio = encode(w, spectrograms)
    tokens = torch.full((len(spectrograms), 1), start)
    for _ in range(steps):
        scores = decode(w, tokens, audio, lstm)[:, -1]
        scores[:, never] = -math.inf
        tokens = torch.cat([tokens, scores.argmax(dim=1, keepdim=True)], dim=1)
    return tokens[:, 1:]
