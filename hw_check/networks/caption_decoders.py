"""The caption decoders of ist-2021-22-hw2 (Q3.1): what is right, and what typical mistakes return."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy import ndarray
from numpy.random import Generator
from torch import Tensor, nn

from hw_caption.models import Attention, Decoder, DecoderWithAttention, State
from hw_check.networks.checks import Finding, Probe
from hw_check.networks.observed import (
    LOG_PROBABILITIES,
    Answer,
    a_run,
    explained,
    fitted,
    gradients,
    observation,
    output,
    same,
    weights_of,
)  # fmt: skip

_SIZES = {"vocab_size": 11, "embed_dim": 5, "decoder_dim": 6, "encoder_dim": 7, "attention_dim": 4}
_OPTIONS = {**_SIZES, "embedding_dim": 5, "hidden_dim": 6, "dropout": 0.5, "dropout_prob": 0.5}
_STATELESS = "the LSTM does not get the states, so that it starts from zeros at every step"
_HIDDEN_TWICE = "the LSTM gets the hidden state twice: the cell state is not used"
_OTHER_LAYERS = "its layers are not those of the course's file"


def _draw_arguments(rng: Generator) -> dict[str, ndarray]:
    """The current words, the states and the regions of three images."""

    def normal(*shape: int) -> ndarray:
        return rng.normal(size=shape).astype(np.float32)

    return {"word": rng.integers(0, 11, 3), "hidden": normal(3, 6), "cell": normal(3, 6), "regions": normal(3, 9, 7)}


# Computes what one step returns, from our decoder with the student's weights.
Step = Callable[[Any], tuple[Tensor, Tensor, Tensor]]


def _step(model: Any, word: Tensor, hidden: Tensor, cell: Tensor, regions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One step of our decoder, with the arguments and results of the course's `forward`."""
    scores, state = model(word, State(hidden, cell, regions))
    return scores, state.hidden, state.cell


def decoder_probes(rng: Generator) -> list[Probe]:
    """The probes of the decoder without attention."""
    arguments = _draw_arguments(rng)
    word, hidden, cell, regions = (torch.from_numpy(value) for value in arguments.values())

    def guesses(model: Any, step: tuple[Tensor, Tensor, Tensor]) -> Mapping[str, Tensor]:
        return {
            "the scores come from the state before the step, expected the new one": model.fc(hidden),
            "the scores come from the cell state, expected the hidden state": model.fc(step[2]),
            "hidden and cell state are given to the LSTM in the wrong order":
                _step(model, word, cell, hidden, regions)[0],
            _STATELESS: model.fc(model.decode_step(model.embedding(word))[0]),
            _HIDDEN_TWICE: model.fc(model.decode_step(model.embedding(word), (hidden, hidden))[0]),
        }  # fmt: skip

    values = list(arguments.values())
    request = observation(int(rng.integers(2**31)), [a_run(values, values[:3])], options=_OPTIONS)
    sizes = {name: size for name, size in _SIZES.items() if name != "attention_dim"}
    return _step_probes(request, lambda: Decoder(**sizes), [lambda m: _step(m, word, hidden, cell, regions)], guesses)


def decoder_with_attention_probes(rng: Generator) -> list[Probe]:
    """The probes of the decoder with attention; if its attention can be found, it is replaced by a fixed vector."""
    arguments = _draw_arguments(rng)
    word, hidden, cell, regions = (torch.from_numpy(value) for value in arguments.values())
    context = torch.from_numpy(rng.normal(size=(3, 7)).astype(np.float32))

    def after(model: Any, *inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        new_hidden, new_cell = model.decode_step(torch.cat(inputs, dim=1), (hidden, cell))
        return model.fc(new_hidden), new_hidden, new_cell

    def with_relu(model: Any) -> tuple[Tensor, Tensor, Tensor]:
        energies = model.attention.full_att(_hidden_layer(model.attention, regions, hidden).relu())
        return after(model, model.embedding(word), (energies.softmax(dim=1) * regions).sum(dim=1))

    steps: list[Step] = [
        lambda m: after(m, m.embedding(word), context),
        lambda m: after(m, context, m.embedding(word)),  # the weights of the LSTM's inputs are in another order
        lambda m: _step(m, word, hidden, cell, regions),
        with_relu,
    ]

    def guesses(model: Any, step: tuple[Tensor, Tensor, Tensor]) -> Mapping[str, Tensor]:
        embedded, mean = model.embedding(word), regions.mean(dim=1)
        return {
            "the mean of the regions is used in place of the attention vector": after(model, embedded, mean)[0],
            "the scores come from the state before the step, expected the new one": model.fc(hidden),
            "the scores come from the cell state, expected the hidden state": model.fc(step[2]),
            _STATELESS: model.fc(model.decode_step(torch.cat([embedded, context], dim=1))[0]),
            _HIDDEN_TWICE: model.fc(model.decode_step(torch.cat([embedded, context], dim=1), (hidden, hidden))[0]),
        }

    def query(answer: Answer) -> Finding:
        """Judges what the attention gets: the hidden state before the step, and not the cell state."""
        inputs = [np.squeeze(value) for value in answer["attention inputs"]]
        if not inputs or any(same(value, hidden) for value in inputs):
            return Finding()
        if any(same(value, cell) for value in inputs):
            return Finding("the attention gets the cell state, expected the hidden state")
        return Finding("the attention does not get the hidden state before the step")

    seed, form = int(rng.integers(2**31)), list(arguments.values())
    request = observation(seed, [a_run(form)], options=_OPTIONS, fixed=context.numpy())
    probes = _step_probes(request, lambda: DecoderWithAttention(**_SIZES), steps, guesses)
    gradient = observation(seed, [a_run(form, gradient=True)], options=_OPTIONS)
    return [
        *probes,
        Probe("what the attention gets", request, query, 0.25),
        Probe("gradients of the attention", gradient, _attention_learns, 0.25),
    ]


def _attention_learns(answer: Answer) -> Finding:
    """Judges whether the scores pass a gradient on to the attention."""
    names = {str(name) for name in answer["names"] if "att" in str(name).partition(".")[0].lower()}
    cut_off = names and names <= set(answer["runs"][0]["without"])
    return Finding("the scores pass no gradient on to the attention, so it cannot learn" if cut_off else "")


def _step_probes(
    request: Mapping[str, Any],
    ours: Callable[[], nn.Module],
    steps: list[Step],
    guesses: Callable[[Any, tuple[Tensor, Tensor, Tensor]], Mapping[str, Tensor]],
) -> list[Probe]:
    """Probes of one step of a decoder; the first of the right `steps` is the usual one."""
    judge = _StepJudge(ours, steps, guesses)
    [run] = request["runs"]
    train = {**request, "dropout": 1.0, "runs": [run, {**run, "mode": "train"}]}
    return [
        Probe("scores with the same weights as ours", request, judge.scores, 0.5),
        Probe("new states", request, judge.states, 0.25),
        Probe("dropout", train, judge.dropout, 0.25),
    ]


@dataclass(frozen=True)
class _StepJudge:
    """Judges one step of a decoder."""

    ours: Callable[[], nn.Module]
    steps: list[Step]
    guesses: Callable[[Any, tuple[Tensor, Tensor, Tensor]], Mapping[str, Tensor]]

    def _right(self, answer: Answer) -> tuple[Any, tuple[Tensor, Tensor, Tensor]] | None:
        """Our decoder with the student's weights, and the right step that gives the student's hidden state."""
        model = self.ours().eval()
        if not fitted(model, weights_of(answer)):
            return None
        with torch.no_grad():
            rights = [step(model) for step in self.steps]
        found = answer["runs"][0]["outputs"]
        return model, next((right for right in rights if any(same(value, right[1]) for value in found)), rights[0])

    def scores(self, answer: Answer) -> Finding:
        """Compares the scores."""
        right = self._right(answer)
        if right is None:
            return Finding(_OTHER_LAYERS)
        model, step = right
        if len(answer["runs"][0]["outputs"]) < 3:
            return Finding("returns fewer than three values, expected scores, hidden state and cell state")
        if same(output(answer), step[0].log_softmax(dim=1)):
            return Finding(remark=LOG_PROBABILITIES)
        with torch.no_grad():
            wrong = {
                **self.guesses(model, step),
                "returns probabilities, expected scores": step[0].softmax(dim=1),
            }
        return Finding(explained(output(answer), step[0], iter(wrong.items())))

    def states(self, answer: Answer) -> Finding:
        """Compares the new states."""
        right, found = self._right(answer), answer["runs"][0]["outputs"]
        if right is None or len(found) < 3:
            return Finding("the new states cannot be compared")
        return Finding(_explain_states(found, *right[1][1:]))

    def dropout(self, answer: Answer) -> Finding:
        """Judges a step in training mode with dropout of probability 1, after which only the bias of fc is left."""
        right = self._right(answer)
        evaluated, first = (one["outputs"] for one in answer["runs"])
        if right is None or len(first) < 3:
            return Finding()
        model, step = right
        if same(evaluated[1], step[1]) and not same(first[1], step[1]):
            return Finding("dropout changes the returned hidden state: only the input of fc goes through dropout")
        if same(first[0], torch.from_numpy(evaluated[0])):
            return Finding("dropout has no effect in training mode")
        all_dropped = model.fc.bias.detach().expand_as(step[0])
        is_right = same(first[0], all_dropped) or not same(evaluated[0], step[0])
        return Finding("" if is_right else "dropout must be between the hidden state and fc")


def _explain_states(returned: Any, hidden: Tensor, cell: Tensor) -> str:
    """The mistake in the new states; empty if they are right."""
    if same(returned[1], cell) and same(returned[2], hidden):
        return "hidden and cell state are returned in the wrong order"
    if not same(returned[1], hidden):
        return "the returned hidden state is not that of the LSTM"
    return "" if same(returned[2], cell) else "the returned cell state is not that of the LSTM"


def _hidden_layer(attention: Any, regions: Tensor, hidden: Tensor) -> Tensor:
    """The sum of both projections, before the activation function."""
    total: Tensor = attention.encoder_att(regions) + attention.decoder_att(hidden)[:, None]
    return total


def _wrong_attention(model: Attention, regions: Tensor, hidden: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Yields typical mistakes and the attention vectors that they give."""

    def attended(energies: Tensor, dim: int | None = 1) -> Tensor:
        weights = energies if dim is None else energies.softmax(dim=dim)
        return (weights * regions).sum(dim=1)

    total = _hidden_layer(model, regions, hidden)
    product = torch.tanh(model.encoder_att(regions) * model.decoder_att(hidden)[:, None])
    yield "both projections are multiplied, expected their sum", attended(model.full_att(product))
    yield "the tanh or ReLU between the two linear layers is missing", attended(model.full_att(total))
    keys_alone = model.encoder_att(regions) + model.decoder_att.bias
    for activation in (torch.tanh, torch.relu):
        energies = model.full_att(activation(total))
        yield "the softmax runs over the batch, expected over the regions", attended(energies, 0)
        yield "the softmax runs over an axis of length 1, expected over the regions", attended(energies, 2)
        yield "the softmax is missing: the weights must sum to 1 over the regions", attended(energies, None)
        yield "the regions are averaged: the weighted vectors must be summed", attended(energies) / regions.shape[1]
        yield "a sigmoid gives the weights, expected a softmax over the regions", attended(energies.sigmoid(), None)
        yield "a LogSoftmax gives the weights, expected a softmax", attended(energies.log_softmax(dim=1), None)
        yield "the hidden state is not used", attended(model.full_att(activation(keys_alone)))
        separate = activation(model.encoder_att(regions)) + activation(model.decoder_att(hidden)[:, None])
        yield (
            "each projection is activated: expected one activation of their sum",
            attended(model.full_att(separate)),
        )


def attention_probes(rng: Generator) -> list[Probe]:
    """The probes of the attention, which gives a vector for regions and a hidden state."""
    arguments = _draw_arguments(rng)
    hidden, regions = torch.from_numpy(arguments["hidden"]), torch.from_numpy(arguments["regions"])

    def vector(answer: Answer) -> Finding:
        model = Attention(7, 6, 4)
        if not fitted(model, weights_of(answer)):
            return Finding(_OTHER_LAYERS)
        with torch.no_grad():
            right, _ = model(regions, hidden)
            relu = model.full_att(_hidden_layer(model, regions, hidden).relu()).softmax(dim=1)
            value = _vector_in(answer)
            if same(value, (relu * regions).sum(dim=1)):
                return Finding(remark="a ReLU between the linear layers; the paper has tanh, and courses differ")
            return Finding(explained(value, right, _wrong_attention(model, regions, hidden)))

    def sums(answer: Answer) -> Finding:
        others = [value for value in answer["runs"][0]["outputs"] if isinstance(value, ndarray) and value.size == 3 * 9]
        right = all(np.allclose(value.reshape(3, 9).sum(axis=1), 1, atol=1e-4) for value in others)
        return Finding("" if right else "the weights do not sum to 1 over the regions")

    forms = [[arguments["regions"], arguments["hidden"]], [arguments["regions"], arguments["hidden"][:, None]]]
    request = observation(int(rng.integers(2**31)), [a_run(*forms)], options=_OPTIONS)
    gradient = {**request, "runs": [a_run(*forms, gradient=True)]}
    return [
        Probe("attention vector with the same weights as ours", request, vector, 0.8),
        Probe("weights sum to 1", request, sums, 0.1),
        Probe("gradients", gradient, gradients, 0.1),
    ]


def _vector_in(answer: Answer) -> Any:
    """The attention vector, which may come before or after the weights, with or without an axis of length 1."""
    outputs = answer["runs"][0]["outputs"]
    found = next((value for value in outputs if isinstance(value, ndarray) and value.size == 3 * 7), outputs[0])
    return found.reshape(3, 7) if isinstance(found, ndarray) and found.shape == (3, 1, 7) else found
