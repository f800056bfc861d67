"""The sheet ist-2021-22-hw2: a CNN for Fashion-MNIST (Q2.2), and decoders for image captions (Q3.1)."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor, nn

from hw_caption import models as captions
from hw_check.networks import given
from hw_check.networks.checks import TORCH, Check, Finding, Probe, grade_checks
from hw_check.networks.judges import classifier_probes, draw_weights, explain_output, gradient_judge, same
from hw_check.rows import Row, Sheet
from hw_check.sandbox import Sandbox
from hw_cnn.models import FashionCNN

_SIZES = {"vocab_size": 11, "embed_dim": 5, "decoder_dim": 6, "encoder_dim": 7, "attention_dim": 4}
_OTHER_NAMES = {"embedding_dim": 5, "hidden_dim": 6, "dropout_prob": 0.5}


def cnn_guesses(model: nn.Module, images: Tensor) -> Mapping[str, Tensor]:
    """Outputs of a CNN with two blocks and three affine layers with typical mistakes."""
    part: Any = model
    features = part.convblock2(part.convblock1(images))

    def head(x: Tensor, skipped: int = 0) -> Tensor:
        x = part.fc1(x.flatten(1))
        x = part.fc2(x if skipped == 1 else x.relu())
        return part.fc3(x if skipped == 2 else x.relu())

    return output_guesses(head, features)


def output_guesses(head: Any, features: Tensor) -> Mapping[str, Tensor]:
    """Outputs with mistakes in the last layers; `head` computes the scores, without one of the ReLUs if asked to."""
    scores = head(features)
    return {
        "returns scores: the LogSoftmax is missing": scores,
        "returns probabilities: the output is a softmax, expected its logarithm": scores.softmax(dim=1),
        "the LogSoftmax runs over the batch, expected over the classes": scores.log_softmax(dim=0),
        "the softmax is applied twice": scores.softmax(dim=1).log_softmax(dim=1),
        "the ReLU after the first affine transformation is missing": head(features, 1).log_softmax(dim=1),
        "the ReLU after the second affine transformation is missing": head(features, 2).log_softmax(dim=1),
        "a ReLU stands before the output": scores.relu().log_softmax(dim=1),
    }


def _cnn(rng: Generator) -> list[Probe]:
    images = rng.random((5, 1, 28, 28), dtype=np.float32)
    layers = {
        "first convolution": (16, 1, 3, 3),
        "second convolution": (32, 16, 3, 3),
        "first affine transformation": (600, 1152),
        "second affine transformation": (120, 600),
        "output layer": (10, 120),
    }
    forms = [[images.reshape(5, 784)], [images]]
    return classifier_probes(FashionCNN(), rng, {"dropout_prob": 0.5, "dropout": 0.5}, forms, layers, cnn_guesses)


def _decoder_arguments(rng: Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The current words, the states and the regions of three images."""

    def normal(*shape: int) -> Tensor:
        return torch.from_numpy(rng.normal(size=shape).astype(np.float32))

    return torch.from_numpy(rng.integers(0, 11, 3)), normal(3, 6), normal(3, 6), normal(3, 9, 7)


def _decoder(rng: Generator) -> list[Probe]:
    model = captions.Decoder(**{name: size for name, size in _SIZES.items() if name != "attention_dim"})
    weights = draw_weights(model.eval(), rng)
    word, hidden, cell, regions = _decoder_arguments(rng)
    with torch.no_grad():
        scores, next_hidden, next_cell = model(word, hidden, cell, regions)
        guesses = {
            "the scores come from the state before the step, expected the new one": model.fc(hidden),
            "the scores come from the cell state, expected the hidden state": model.fc(next_cell),
            "the states start from the image again at every step": model(
                word, *model.init_hidden_state(regions), regions
            )[0],
            "returns log-probabilities, expected scores": scores.log_softmax(dim=1),
            "returns probabilities, expected scores": scores.softmax(dim=1),
        }
    arguments = [value.numpy() for value in (word, hidden, cell, regions)]
    request = {
        "probe": "forward", "options": {**_SIZES, **_OTHER_NAMES, "dropout": 0.5}, "weights": weights,
        "inputs": [arguments, arguments[:3]],
    }  # fmt: skip
    return _step_probes(request, scores, next_hidden, next_cell, guesses)


def _step_probes(
    request: Mapping[str, Any], scores: Tensor, hidden: Tensor, cell: Tensor, guesses: Mapping[str, Tensor]
) -> list[Probe]:  # fmt: skip
    """Probes of one step of a decoder."""

    def outputs(answer: Mapping[str, Any]) -> Finding:
        if not answer["loaded"]:
            return Finding("its layers have other shapes than those of the course's file")
        if len(answer["eval"]) < 3:
            return Finding("returns fewer than three values, expected scores, hidden state and cell state")
        return Finding(explain_output(answer["eval"][0], scores, guesses))

    def states(answer: Mapping[str, Any]) -> Finding:
        if not answer["loaded"] or len(answer["eval"]) < 3:
            return Finding("the new states cannot be compared")
        return Finding(_explain_states(answer["eval"], hidden, cell))

    def dropout(answer: Mapping[str, Any]) -> Finding:
        if not answer["loaded"] or len(answer["eval"]) < 3:
            return Finding()
        first, second = answer["train"]
        if not same(first[1], hidden) and same(answer["eval"][1], hidden):
            return Finding(
                "dropout changes the hidden state that it returns: only the input of fc goes through dropout"
            )
        return Finding("dropout has no effect in training mode" if np.array_equal(first[0], second[0]) else "")

    return [
        Probe("scores with copied weights", request, outputs, 0.5),
        Probe("new states", request, states, 0.25),
        Probe("dropout", request, dropout, 0.25),
    ]


def _explain_states(returned: Any, hidden: Tensor, cell: Tensor) -> str:
    """The mistake in the new states; empty if they are right."""
    if same(returned[1], cell) and same(returned[2], hidden):
        return "hidden and cell state are returned in the wrong order"
    if not same(returned[1], hidden):
        return "the hidden state that it returns is not that of the LSTM"
    return "" if same(returned[2], cell) else "the cell state that it returns is not that of the LSTM"


def _attention(rng: Generator) -> list[Probe]:
    model = captions.Attention(7, 6, 4)
    weights = draw_weights(model, rng)
    _, hidden, _, regions = _decoder_arguments(rng)
    with torch.no_grad():
        keys, query = model.encoder_att(regions), model.decoder_att(hidden)[:, None]
        right, right_weights = model(regions, hidden)

        def attended(energies: Tensor, dim: int | None = 1) -> Tensor:
            weights = energies if dim is None else energies.softmax(dim=dim)
            return (weights * regions).sum(dim=1)

        tanh = model.full_att(torch.tanh(keys + query))
        relu = model.full_att(torch.relu(keys + query))
        guesses = {
            "the tanh or ReLU between the two linear layers is missing": attended(model.full_att(keys + query)),
            "the softmax runs over the batch, expected over the regions": attended(tanh, 0),
            "the softmax runs over an axis of length 1, expected over the regions": attended(tanh, 2),
            "the softmax is missing: the weights must sum to 1 over the regions": attended(tanh, None),
            "the softmax runs over an axis of length 1 or the batch, expected over the regions": attended(relu, 0),
            "the softmax is missing: the weights must sum to 1 over the regions ": attended(relu, None),
            "the regions are averaged: the weighted vectors must be summed": right / regions.shape[1],
            "the hidden state is not used": attended(model.full_att(torch.tanh(keys + model.decoder_att.bias))),
        }
        with_relu = attended(relu)

    def outputs(answer: Mapping[str, Any]) -> Finding:
        if not answer["loaded"]:
            return Finding("its layers have other shapes than those of the course's file")
        context = answer["eval"][0]
        if same(context, with_relu):
            return Finding(remark="a ReLU between the linear layers; the paper has tanh, and courses differ")
        return Finding(explain_output(context, right, guesses))

    def sums(answer: Mapping[str, Any]) -> Finding:
        if not answer["loaded"] or len(answer["eval"]) < 2 or not isinstance(answer["eval"][1], np.ndarray):
            return Finding()  # the course's file does not say that the weights are returned
        total = answer["eval"][1].reshape(len(hidden), -1).sum(axis=1)
        right_size = answer["eval"][1].size == right_weights.numel()
        return Finding(
            "" if right_size and np.allclose(total, 1, atol=1e-4) else "the weights do not sum to 1 over the regions"
        )

    forms = [[regions.numpy(), hidden.numpy()], [regions.numpy(), hidden[:, None].numpy()]]
    options = {**_SIZES, **_OTHER_NAMES}
    request = {"probe": "forward", "options": options, "weights": weights, "inputs": forms}
    return [
        Probe("attention vector with copied weights", request, outputs, 0.8),
        Probe("weights sum to 1", request, sums, 0.1),
        Probe("gradients", {**request, "probe": "gradient"}, gradient_judge, 0.1),
    ]


def _with_attention(rng: Generator) -> list[Probe]:
    model = captions.DecoderWithAttention(**_SIZES)
    weights = draw_weights(model.eval(), rng)
    word, hidden, cell, regions = _decoder_arguments(rng)
    context = torch.from_numpy(rng.normal(size=(3, 7)).astype(np.float32))
    embedded = model.embedding(word)
    with torch.no_grad():
        next_hidden, next_cell = model.decode_step(torch.cat([embedded, context], dim=1), (hidden, cell))
        scores = model.fc(next_hidden)
        mean = regions.mean(dim=1)

        def after(inputs: Tensor) -> Tensor:
            return model.fc(model.decode_step(inputs, (hidden, cell))[0])

        guesses = {
            "the attention vector is not used: the mean of the regions is": after(torch.cat([embedded, mean], dim=1)),
            "the scores come from the state before the step, expected the new one": model.fc(hidden),
            "returns log-probabilities, expected scores": scores.log_softmax(dim=1),
            "returns probabilities, expected scores": scores.softmax(dim=1),
        }
    arguments = [value.numpy() for value in (word, hidden, cell, regions)]
    request = {
        "probe": "forward", "options": {**_SIZES, **_OTHER_NAMES, "dropout": 0.5}, "weights": weights,
        "inputs": [arguments], "fixed": {"attention": context.numpy()},
    }  # fmt: skip
    return _step_probes(request, scores, next_hidden, next_cell, guesses)


CHECKS = (
    Check("CNN", "hw2-q2.py", "2.2", 12, _cnn, ("dropout_prob", "dropout")),
    Check("train_batch", "hw2-q2.py", "2.2", 2, given.train_batch),
    Check("evaluate", "hw2-q2.py", "", 0, given.evaluate),
    Check("Decoder", "decoder.py", "3.1a", 6, _decoder, ("dropout",)),
    Check("Attention", "decoder_with_attention.py", "3.1b", 6, _attention),
    Check("DecoderWithAttention", "decoder_with_attention.py", "3.1b", 8, _with_attention, ("dropout",)),
)


def _grade(
    folder: Path, seed: int, seconds: float, sandbox: Sandbox, names: Mapping[str, str]
) -> Iterator[Row]:  # fmt: skip
    return grade_checks(CHECKS, folder, seed, seconds, sandbox, names)


SHEET = Sheet(
    name="ist-2021-22-hw2",
    files=("hw2-q2.py", "decoder.py", "decoder_with_attention.py"),
    elsewhere="a person reads Q1, Q2.1 and Q2.3, and grades the training and the figures of Q2.2 and Q3",
    runner="hw_check.networks.inside",
    grade=_grade,
    preload=TORCH,
    anywhere=True,
)
