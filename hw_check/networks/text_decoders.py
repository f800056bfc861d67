"""The text decoders of ist-2023-24-hw2 (Q3): what is right, and the logits of typical mistakes."""

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy import ndarray
from numpy.random import Generator
from torch import Tensor, nn

from hw_asr.attention import MultiHeadAttention, SubBlock
from hw_asr.models import TextDecoder, TextDecoderRecurrent, TextDecoderTransformer
from hw_asr.presets import Sizes
from hw_check.networks.checks import Finding, Probe
from hw_check.networks.observed import (
    LOG_PROBABILITIES,
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
from hw_check.networks.text_decoder_mistakes import Decode, layouts, mistakes_of_recurrent, mistakes_of_transformer
from hw_common.training.lstm import LSTM

_WIDTH, _HEADS, _VOCABULARY, _LENGTH, _POSITIONS = 8, 2, 11, 5, 9
_OPTIONS = {
    "freq_dim": _VOCABULARY, "time_dim": _POSITIONS + 1, "hidden_dim": _WIDTH, "n_heads": _HEADS,
    "feed_fwd_dim": 2 * _WIDTH, "n_layers": 2,
}  # fmt: skip
_SHARED = ("embedding", "lstm", "positions")
_PARTS = ("embedding_norm", "self_attention", "cross_attention", "norm", "classifier")


class _Variant:
    """One of the correct networks, which differ in outer norms, biases of the projections, LSTM layers and positions.

    The sheet has an outer norm in each sub-block and projections without biases; the notebook has no outer norms, and
    no bias for the keys. A student may have written one sub-block as on the sheet and another as in the notebook. A
    bias for the keys does not change the output, because the softmax cancels it. The notebook has time_dim - 1
    positions; a student may have one more, which is never used.
    """

    def __init__(
        self, kind: type[TextDecoder], norms: tuple[bool, ...], biases: tuple[bool, bool], layers: int, positions: int
    ) -> None:
        sizes = Sizes(width=_WIDTH, heads=_HEADS, vocabulary=_VOCABULARY, text_positions=positions)
        self.model: TextDecoder = kind(sizes)
        sub_blocks = [part for part in self.model.modules() if isinstance(part, SubBlock)]
        for sub_block, has_norm in zip(sub_blocks, norms, strict=True):
            if not has_norm:
                sub_block.outer_norm = nn.Identity()
        for part in self.model.modules():
            if isinstance(part, MultiHeadAttention):
                part.key = nn.Linear(_WIDTH, _WIDTH, bias=biases[0])
                for name in ("query", "value", "out"):
                    setattr(part, name, nn.Linear(_WIDTH, _WIDTH, bias=biases[1]))
        if isinstance(self.model, TextDecoderRecurrent):
            self.model.lstm = LSTM(_WIDTH, _WIDTH, layers, batch_first=True)
        self.model.eval()
        which = "each sub-block, as on the sheet" if all(norms) else "some sub-blocks, but not all"
        self.remark = f"LayerNorm follows {which}" if any(norms) else ""


@functools.cache
def _variants(is_recurrent: bool) -> list[_Variant]:
    """All variants; making them takes longer than judging a student's network. `fitted` overwrites their weights."""
    kind = TextDecoderRecurrent if is_recurrent else TextDecoderTransformer
    layers, positions = ((2, 1), (_POSITIONS,)) if is_recurrent else ((1,), (_POSITIONS, _POSITIONS + 1))
    biases = ((False, True), (True, True), (False, False))
    norms = itertools.product((False, True), repeat=2 if is_recurrent else 3)
    return [_Variant(kind, *arguments) for arguments in itertools.product(norms, biases, layers, positions)]


def _orders(model: TextDecoder) -> Iterator[tuple[str, ...]]:
    """The orders in which a student may have created the parts; the notebook's comes first."""
    parts = [name for name in _PARTS if hasattr(model, name)]
    for order in itertools.permutations(parts):
        yield (*_SHARED, *order)
    yield (*order, *_SHARED)


def _judge_decoder(
    kind: type[TextDecoder], mistakes: Mapping[str, Decode], answer: Answer, tokens: Tensor, audio: Tensor
) -> Finding:
    """Compares the logits with ours, and with those of typical mistakes."""
    value, weights = output(answer), weights_of(answer)
    fitting = [variant for variant in _variants(kind is TextDecoderRecurrent) if fitted(variant.model, weights)]
    if not fitting:
        return Finding(_other_parameters(kind, weights))
    with torch.no_grad():
        for variant in fitting:
            for order in _orders(variant.model):
                fitted(variant.model, weights, order)
                logits = variant.model(tokens, audio, None)
                if same(value, logits.transpose(1, 2)):
                    return Finding(remark=variant.remark)
                if same(value, logits.log_softmax(dim=2).transpose(1, 2)):
                    return Finding(remark=LOG_PROBABILITIES)
                if same(value, logits):
                    return Finding(remark="returns (B, L, V); the notebook's loss needs (B, V, L)")
        right = logits if np.shape(value) == logits.shape else logits.transpose(1, 2)
        return Finding(explained(value, right, _all_guesses(fitting, mistakes, weights, tokens, audio)))


def _all_guesses(
    fitting: Sequence[_Variant],
    mistakes: Mapping[str, Decode],
    weights: Sequence[Weight],
    tokens: Tensor,
    audio: Tensor,
) -> Iterator[tuple[str, Tensor]]:
    for variant in fitting:
        fitted(variant.model, weights, next(_orders(variant.model)))
        yield from layouts(variant.model(tokens, audio, None)).items()
        for text, decode in mistakes.items():
            try:
                wrong = decode(variant.model, tokens, audio)
            except (RuntimeError, IndexError):  # with these sizes, the mistake raises an error
                continue
            yield text, wrong.transpose(1, 2)
            yield text, wrong


def _other_parameters(kind: type[TextDecoder], weights: Sequence[Weight]) -> str:
    """Describes how parameters that fit none of the right networks differ from ours."""
    ours = [tuple(p.shape) for p in _variants(kind is TextDecoderRecurrent)[0].model.parameters()]
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


def decoder_probes(kind: type[TextDecoder]) -> Callable[[Generator], list[Probe]]:
    """The probes of one of the two decoders."""
    mistakes = mistakes_of_recurrent if kind is TextDecoderRecurrent else mistakes_of_transformer

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
    """Logits with the axis of positions, which is one of the last two, moved to the front."""
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
