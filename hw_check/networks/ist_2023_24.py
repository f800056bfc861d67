"""The sheet ist-2023-24-hw2: a CNN for OCTMNIST (Q2), and text decoders for speech recognition (Q3)."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy import ndarray
from numpy.random import Generator
from torch import Tensor, nn

from hw_asr.attention import MultiHeadAttention
from hw_asr.models import TextDecoder, TextDecoderRecurrent, TextDecoderTransformer
from hw_asr.presets import Sizes
from hw_check.networks import given
from hw_check.networks.checks import TORCH, Check, Finding, Probe, grade_checks
from hw_check.networks.classifiers import Classifier, Design, Plan, classifier_probes
from hw_check.networks.observed import (
    Answer,
    Weight,
    a_run,
    explained,
    fitted,
    gradients,
    observation,
    output,
    same,
    weights_of,
)  # fmt: skip
from hw_check.rows import Sheet
from hw_cnn.models import OctCNN
from hw_common.training.lstm import LSTM

_LAYERS = ("first convolution", "second convolution", "first affine transformation", "second affine transformation",
           "output layer")  # fmt: skip
_SHAPES = ((8, 1, 3, 3), (16, 8, 3, 3), (320, 576), (120, 320), (4, 120))


def _cnn(no_maxpool: bool) -> Callable[[Generator], list[Probe]]:
    """The probes of one of the two networks of Question 2."""
    stride = 2 if no_maxpool else 1
    plan = Plan((1, 0), (stride, stride), (not no_maxpool,) * 2, "log", linear=3)
    what = Classifier(
        designs=(Design(plan, lambda: OctCNN(no_maxpool=no_maxpool), _LAYERS, _SHAPES),),
        options={"dropout_prob": 0.7, "dropout": 0.7, "no_maxpool": no_maxpool},
        images=lambda rng: rng.random((4, 1, 28, 28), dtype=np.float32),
        forms=lambda images: [[images.reshape(4, 784)], [images]],
        dropout=1,
    )
    return lambda rng: classifier_probes(what, rng)


_WIDTH, _HEADS, _VOCABULARY, _LENGTH, _POSITIONS = 8, 2, 11, 5, 9
_OPTIONS = {
    "freq_dim": _VOCABULARY, "time_dim": _POSITIONS + 1, "hidden_dim": _WIDTH, "n_heads": _HEADS,
    "feed_fwd_dim": 2 * _WIDTH, "n_layers": 2,
}  # fmt: skip
_SHARED = ("embedding", "embedding_norm", "lstm", "positions")


class _Variant:
    """One of the correct networks, which differ in outer norms, biases of the projections, LSTM layers and positions.

    The sheet has an outer norm in each sub-block and projections without biases; the notebook has no outer norms, and
    no bias for the keys. A bias for the keys does not change the output, because the softmax cancels it. The notebook
    has time_dim - 1 positions; one more is never used.
    """

    def __init__(
        self, kind: type[TextDecoder], outer_norm: bool, biases: tuple[bool, bool], layers: int, positions: int
    ) -> None:
        sizes = Sizes(
            width=_WIDTH, heads=_HEADS, vocabulary=_VOCABULARY, text_positions=positions, outer_norm=outer_norm
        )
        self.model: TextDecoder = kind(sizes)
        for part in self.model.modules():
            if isinstance(part, MultiHeadAttention):
                part.key = nn.Linear(_WIDTH, _WIDTH, bias=biases[0])
                for name in ("query", "value", "out"):
                    setattr(part, name, nn.Linear(_WIDTH, _WIDTH, bias=biases[1]))
        if isinstance(self.model, TextDecoderRecurrent):
            self.model.lstm = LSTM(_WIDTH, _WIDTH, layers, batch_first=True)
        self.model.eval()
        self.remark = "LayerNorm follows each sub-block, as on the sheet" if outer_norm else ""


def _variants(kind: type[TextDecoder]) -> Iterator[_Variant]:
    is_recurrent = kind is TextDecoderRecurrent
    layers, positions = ((2, 1), (_POSITIONS,)) if is_recurrent else ((1,), (_POSITIONS, _POSITIONS + 1))
    biases = ((False, True), (True, True), (False, False))
    for arguments in itertools.product((False, True), biases, layers, positions):
        yield _Variant(kind, *arguments)


def _orders(model: TextDecoder) -> Iterator[tuple[str, ...]]:
    """The orders in which a student may have created the parts; the notebook's comes first."""
    parts = [name for name in ("self_attention", "cross_attention", "norm", "classifier") if hasattr(model, name)]
    for order in itertools.permutations(parts):
        yield (*_SHARED, *order)
    yield (*[name for name in order if name != "embedding_norm"], "embedding", "embedding_norm", "lstm", "positions")


Decode = Callable[[Any, Tensor, Tensor], Tensor]


def _mistakes_of_recurrent() -> Mapping[str, Decode]:
    """Typical mistakes in the recurrent decoder, as functions of our network, tokens and the encoder's output."""

    def end(m: Any, x: Tensor) -> Tensor:
        return m.classifier(m.norm(x))

    def lstm(m: Any, tokens: Tensor) -> Tensor:
        return m.hidden(tokens)

    def last_state(m: Any, tokens: Tensor, audio: Tensor) -> Tensor:
        x, (hidden, _) = m.lstm(m.embedding_norm(m.embedding(tokens)))
        return end(m, m.cross_attention(hidden[-1][:, None].expand_as(x), audio, None))

    return {
        "the embedding is not normalized before the LSTM":
            lambda m, t, a: end(m, m.cross_attention(m.lstm(m.embedding(t))[0], a, None)),
        "the LSTM's output is normalized instead of its input":
            lambda m, t, a: end(m, m.cross_attention(m.embedding_norm(m.lstm(m.embedding(t))[0]), a, None)),
        "the LSTM's output is not used":
            lambda m, t, a: end(m, m.cross_attention(m.embedding_norm(m.embedding(t)), a, None)),
        "the LSTM's last state is used for every character": last_state,
        "the cross-attention is missing": lambda m, t, a: end(m, lstm(m, t)),
        "the cross-attention does not get the encoder's output":
            lambda m, t, a: end(m, m.cross_attention.mlp(m.cross_attention.attention(lstm(m, t)))),
        "the cross-attention gets the LSTM's output in place of the encoder's":
            lambda m, t, a: end(m, m.cross_attention(lstm(m, t), lstm(m, t), None)),
        "the LSTM's output is added to the cross-attention block's, which has a residual connection already":
            lambda m, t, a: end(m, (x := lstm(m, t)) + m.cross_attention(x, a, None)),
        "the normalization before the classifier is missing":
            lambda m, t, a: m.classifier(m.cross_attention(lstm(m, t), a, None)),
        "the two norms are exchanged: the one before the LSTM and the one before the classifier":
            lambda m, t, a: m.classifier(m.embedding_norm(
                m.cross_attention(m.lstm(m.norm(m.embedding(t)))[0], a, None))),
        "the same norm is used before the LSTM and before the classifier":
            lambda m, t, a: m.classifier(m.embedding_norm(m.cross_attention(lstm(m, t), a, None))),
        "the LSTM runs over the batch, expected over the characters (batch_first)":
            lambda m, t, a: end(m, m.cross_attention(
                m.lstm(m.embedding_norm(m.embedding(t)).transpose(0, 1))[0].transpose(0, 1), a, None)),
    }  # fmt: skip


def _mistakes_of_transformer() -> Mapping[str, Decode]:
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
        "the position embeddings are added after the self-attention":
            lambda m, t, a: cross(m, m.self_attention(m.embedding(t), causal=True) + m.positions[: t.shape[1]], a),
        "all characters get the same position embedding: its first dimension must be cut to the text's length":
            lambda m, t, a: cross(m, m.self_attention(m.embedding(t) + m.positions[t.shape[1]], causal=True), a),
        "all characters get the last position embedding of the text, expected each its own":
            lambda m, t, a: cross(
                m, m.self_attention(m.embedding(t) + m.positions[t.shape[1] - 1], causal=True), a),
        "all characters get the first position embedding":
            lambda m, t, a: cross(m, m.self_attention(m.embedding(t) + m.positions[0], causal=True), a),
        "the last position embeddings are used, expected the first":
            lambda m, t, a: cross(m, m.self_attention(m.embedding(t) + m.positions[-t.shape[1]:], causal=True), a),
        "the self-attention is missing": lambda m, t, a: cross(m, embedded(m, t), a),
        "the cross-attention is missing": lambda m, t, a: end(m, m.hidden(t)),
        "the cross-attention does not get the encoder's output":
            lambda m, t, a: end(m, m.cross_attention.mlp(m.cross_attention.attention(m.hidden(t)))),
        "the cross-attention gets the self-attention's output in place of the encoder's":
            lambda m, t, a: end(m, m.cross_attention(m.hidden(t), m.hidden(t), None)),
        "the mask of the self-attention hides the earlier characters, expected the later ones":
            lambda m, t, a: cross(m, m.self_attention(embedded(m, t).flip(1), causal=True).flip(1), a),
        "the input of the self-attention is added to its output, which has a residual connection already":
            lambda m, t, a: cross(m, embedded(m, t) + m.hidden(t), a),
        "the self-attention's output is added to the cross-attention block's, which has a residual connection already":
            lambda m, t, a: end(m, (x := m.hidden(t)) + m.cross_attention(x, a, None)),
        "the normalization before the classifier is missing":
            lambda m, t, a: m.classifier(m.cross_attention(m.hidden(t), a, None)),
        "the cross-attention comes before the self-attention": lambda m, t, a: end(
            m, m.self_attention(m.cross_attention(embedded(m, t), a, None), causal=True)),
        "the token embeddings are multiplied by the position embeddings, expected a sum":
            lambda m, t, a: cross(m, m.self_attention(m.embedding(t) * m.positions[: t.shape[1]], causal=True), a),
        "the embeddings are normalized once more before the self-attention":
            lambda m, t, a: cross(m, m.self_attention(m.norm(embedded(m, t)), causal=True), a),
    }  # fmt: skip


def _layouts(logits: Tensor) -> dict[str, Tensor]:
    """Mistakes in the form of the logits (B, L, V), whose right form in the notebook is (B, V, L)."""
    turned = logits.transpose(1, 2)
    return {
        "a reshape stands in place of a transpose (permute)": logits.reshape(turned.shape),
        "returns probabilities over the characters, expected logits": turned.softmax(dim=1),
        "returns log-probabilities, expected logits": turned.log_softmax(dim=1),
        "a softmax over the positions": turned.softmax(dim=2),
        "a ReLU is applied to the logits": turned.relu(),
        "returns the logits of the last character alone": logits[:, -1],
    }


def _judge_decoder(
    kind: type[TextDecoder], mistakes: Mapping[str, Decode], answer: Answer, tokens: Tensor, audio: Tensor
) -> Finding:
    """Compares the logits with ours, and with those of typical mistakes."""
    value, weights = output(answer), weights_of(answer)
    fitting = [variant for variant in _variants(kind) if fitted(variant.model, weights)]
    if not fitting:
        return Finding(_other_parameters(kind, weights))
    with torch.no_grad():
        for variant in fitting:
            for order in _orders(variant.model):
                fitted(variant.model, weights, order)
                logits = variant.model(tokens, audio, None)
                if same(value, logits.transpose(1, 2)):
                    return Finding(remark=variant.remark)
                if same(value, logits):
                    return Finding(remark="returns (B, L, V); the notebook's loss needs (B, V, L)")
        guesses = _all_guesses(fitting, mistakes, weights, tokens, audio)
        return Finding(explained(value, logits.transpose(1, 2), guesses))


def _all_guesses(
    fitting: Sequence[_Variant],
    mistakes: Mapping[str, Decode],
    weights: Sequence[Weight],
    tokens: Tensor,
    audio: Tensor,
) -> Iterator[tuple[str, Tensor]]:
    for variant in fitting:
        fitted(variant.model, weights, next(_orders(variant.model)))
        yield from _layouts(variant.model(tokens, audio, None)).items()
        for text, decode in mistakes.items():
            try:
                wrong = decode(variant.model, tokens, audio)
            except (RuntimeError, IndexError):  # with these sizes, the mistake raises an error
                continue
            yield text, wrong.transpose(1, 2)
            yield text, wrong


def _other_parameters(kind: type[TextDecoder], weights: Sequence[Weight]) -> str:
    """Describes how parameters that fit none of the right networks differ from ours."""
    ours = [tuple(p.shape) for p in next(_variants(kind)).model.parameters()]
    theirs = [tuple(weight.numbers.shape) for weight in weights]
    more, fewer = list(theirs), []
    for shape in ours:
        if shape in more:
            more.remove(shape)
        else:
            fewer.append(shape)
    texts = [
        f"{text} of shape {shapes[0]}" for text, shapes in (("no parameter", fewer), ("a parameter", more)) if shapes
    ]
    return f"its layers are not those of the course's file: it has {' and '.join(texts)}"


def _decoder(
    kind: type[TextDecoder], mistakes: Callable[[], Mapping[str, Decode]]
) -> Callable[[Generator], list[Probe]]:
    """The probes of one of the two decoders."""

    def probes(rng: Generator) -> list[Probe]:
        tokens = rng.integers(0, _VOCABULARY, (3, _LENGTH))
        audio = rng.normal(size=(3, 6, _WIDTH)).astype(np.float32)
        changed = tokens.copy()
        changed[:, 3:] = (changed[:, 3:] + 1 + rng.integers(0, _VOCABULARY - 1, (3, 2))) % _VOCABULARY
        seed, forms = int(rng.integers(2**31)), [[tokens, audio]]
        request = observation(seed, [a_run(*forms)], options=_OPTIONS)

        def outputs(answer: Answer) -> Finding:
            return _judge_decoder(kind, mistakes(), answer, torch.from_numpy(tokens), torch.from_numpy(audio))

        causal = {**request, "runs": [a_run(*forms), a_run([changed, audio]), a_run(*forms)]}
        gradient = {**request, "runs": [a_run(*forms, gradient=True)]}
        steps = {**request, "runs": [a_run(*forms), *_generation(kind, tokens, audio), a_run(*forms)]}
        return [
            Probe("logits with the same weights as ours", request, outputs, 0.6),
            Probe("no output depends on later characters", causal, _judge_causality, 0.2),
            Probe("character by character as in generate", steps, _judge_steps, 0.1),
            Probe("gradients", gradient, gradients, 0.1),
        ]

    return probes


def _generation(kind: type[TextDecoder], tokens: ndarray, audio: ndarray) -> list[dict[str, Any]]:
    """Runs that read the text as the notebook's generate does: character by character, or longer and longer texts."""
    return [
        a_run([tokens[:, i if kind is TextDecoderRecurrent else 0 : i + 1], audio, i == 0], method="generate")
        for i in range(_LENGTH)
    ]  # fmt: skip


def _by_position(value: Any) -> ndarray:
    """Logits with the positions first, whichever of the two last dimensions they are."""
    array = np.asarray(value)
    return np.moveaxis(array, 1 if array.shape[-1] == _VOCABULARY else 2, 0)


def _judge_causality(answer: Answer) -> Finding:
    before, after, again = (_by_position(output(answer, number)) for number in range(3))
    if not np.isfinite(before).all():
        return Finding()  # the outputs cost points in another probe
    if not same(again, torch.from_numpy(before)):
        return Finding("the same input gives other logits the next time: forward keeps a state")
    if not same(before[:2], torch.from_numpy(after[:2])):
        return Finding("a prediction depends on later characters")
    if not same(before[2], torch.from_numpy(after[2])):
        return Finding("a prediction depends on the next character, which it predicts: the mask is shifted by one")
    return Finding()


def _judge_steps(answer: Answer) -> Finding:
    whole, again = _by_position(output(answer)), _by_position(output(answer, -1))
    if isinstance(output(answer, 1), str):
        return Finding()  # there is no method generate, which came with the course's file
    if not np.isfinite(whole).all():
        return Finding()
    if not same(again, torch.from_numpy(whole)):
        return Finding("forward depends on the state that generate has left")
    steps = np.stack([_by_position(output(answer, i + 1))[-1] for i in range(_LENGTH)])
    if same(steps, torch.from_numpy(whole)):
        return Finding()
    if same(steps[0], torch.from_numpy(whole[0])):
        return Finding("generate gives other logits than forward: the state must be passed on")
    return Finding("generate gives other logits than forward")


CHECKS = (
    Check("CNN", "hw2-q2.py", "2.1", 12, _cnn(no_maxpool=False)),
    Check("CNN(no_maxpool=True)", "hw2-q2.py", "2.2", 6, _cnn(no_maxpool=True), seeks="CNN"),
    Check("get_number_trainable_params", "hw2-q2.py", "2.3", 3, given.count),
    Check("TextDecoderRecurrent", "hw2-q3.py", "3.1", 6, _decoder(TextDecoderRecurrent, _mistakes_of_recurrent)),
    Check("TextDecoderTransformer", "hw2-q3.py", "3.2", 6, _decoder(TextDecoderTransformer, _mistakes_of_transformer)),
)


SHEET = Sheet(
    name="ist-2023-24-hw2",
    files=("hw2-q2.py", "hw2-q3.py"),
    elsewhere="a person reads Q1, Q2.3, Q3.3 and Q3.4, and grades the training and the figures of Q2 and Q3",
    runner="hw_check.networks.observe",
    grade=partial(grade_checks, CHECKS),
    preload=TORCH,
    anywhere=True,
)
