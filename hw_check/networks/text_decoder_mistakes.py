"""Typical mistakes in text decoders, as functions that compute what they return with the student's weights."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

Decode = Callable[[Any, Tensor, Tensor], Tensor]


def mistakes_of_recurrent() -> Mapping[str, Decode]:
    """Typical mistakes in the recurrent decoder, as functions of our network, tokens and the encoder's output."""

    def end(m: Any, x: Tensor) -> Tensor:
        return m.classifier(m.norm(x))

    def lstm(m: Any, tokens: Tensor) -> Tensor:
        return m.hidden(tokens)

    return {
        "the embedding is not normalized before the LSTM":
            lambda m, t, a: end(m, m.cross_attention(m.lstm(m.embedding(t))[0], a, None)),
        "the LSTM's output is normalized instead of its input":
            lambda m, t, a: end(m, m.cross_attention(m.embedding_norm(m.lstm(m.embedding(t))[0]), a, None)),
        "the cross-attention is missing": lambda m, t, a: end(m, lstm(m, t)),
        "the cross-attention does not get the encoder's output":
            lambda m, t, a: end(m, m.cross_attention.mlp(m.cross_attention.attention(lstm(m, t)))),
        "the LSTM's output is added again after the cross-attention, which has a residual connection already":
            lambda m, t, a: end(m, (x := lstm(m, t)) + m.cross_attention(x, a, None)),
        "the normalization before the classifier is missing":
            lambda m, t, a: m.classifier(m.cross_attention(lstm(m, t), a, None)),
        "the LSTM runs over the batch, expected over the characters (batch_first)":
            lambda m, t, a: end(m, m.cross_attention(
                m.lstm(m.embedding_norm(m.embedding(t)).transpose(0, 1))[0].transpose(0, 1), a, None)),
    }  # fmt: skip


def mistakes_of_transformer() -> Mapping[str, Decode]:
    """Typical mistakes in the Transformer decoder."""

    def end(m: Any, x: Tensor) -> Tensor:
        return m.classifier(m.norm(x))

    def embedded(m: Any, tokens: Tensor) -> Tensor:
        return m.embedding(tokens) + m.positions[: tokens.shape[1]]

    def cross(m: Any, x: Tensor, audio: Tensor) -> Tensor:
        return end(m, m.cross_attention(x, audio, None))

    return {
        "the mask of the self-attention is missing: a prediction depends on later characters":
            lambda m, t, a: cross(m, m.self_attention(embedded(m, t)), a),
        "the position embeddings are missing":
            lambda m, t, a: cross(m, m.self_attention(m.embedding(t), causal=True), a),
        "all characters get the same position embedding: cut the embeddings to the text's length instead of indexing":
            lambda m, t, a: cross(m, m.self_attention(m.embedding(t) + m.positions[t.shape[1]], causal=True), a),
        "all characters get the last position embedding of the text, expected one for each position":
            lambda m, t, a: cross(
                m, m.self_attention(m.embedding(t) + m.positions[t.shape[1] - 1], causal=True), a),
        "the last position embeddings are used, expected the first":
            lambda m, t, a: cross(m, m.self_attention(m.embedding(t) + m.positions[-t.shape[1]:], causal=True), a),
        "the self-attention is missing": lambda m, t, a: cross(m, embedded(m, t), a),
        "the cross-attention is missing": lambda m, t, a: end(m, m.hidden(t)),
        "the cross-attention does not get the encoder's output":
            lambda m, t, a: end(m, m.cross_attention.mlp(m.cross_attention.attention(m.hidden(t)))),
        "the mask of the self-attention hides the earlier characters, expected the later ones":
            lambda m, t, a: cross(m, m.self_attention(embedded(m, t).flip(1), causal=True).flip(1), a),
        "the input of the self-attention is added to its output, which has a residual connection already":
            lambda m, t, a: cross(m, embedded(m, t) + m.hidden(t), a),
        "the self-attention's output is added again after the cross-attention, which has a residual connection already":
            lambda m, t, a: end(m, (x := m.hidden(t)) + m.cross_attention(x, a, None)),
        "the normalization before the classifier is missing":
            lambda m, t, a: m.classifier(m.cross_attention(m.hidden(t), a, None)),
    }  # fmt: skip


def layouts(logits: Tensor) -> dict[str, Tensor]:
    """Mistakes in the form of the logits (B, L, V), whose right form in the notebook is (B, V, L)."""
    turned = logits.transpose(1, 2)
    return {
        "a reshape is used in place of a transpose (permute)": logits.reshape(turned.shape),
        "returns probabilities over the characters, expected logits": turned.softmax(dim=1),
        "a softmax over the positions": turned.softmax(dim=2),
        "returns the logits of the last character alone": logits[:, -1],
    }
