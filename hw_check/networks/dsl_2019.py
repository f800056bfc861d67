"""The sheet dsl-2019-hw3: the CNN for letters (Q1.2), and the BiLSTMs for words (Q2.1, and Q2.3 with a convolution)."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy import ndarray
from numpy.random import Generator
from torch import Tensor, nn

from hw_check.networks.checks import TORCH, Check, Finding, Probe, grade_checks
from hw_check.networks.judges import LOG_PROBABILITIES, classifier_probes, draw_weights, gradient_judge, shape_probes
from hw_check.rows import Row, Sheet
from hw_check.sandbox import Sandbox
from hw_ocr.models import OcrCNN


def _cnn(rng: Generator) -> list[Probe]:
    images = rng.random((5, 1, 16, 8), dtype=np.float32)
    layers = {"first convolution": (16, 1, 5, 5), "second convolution": (32, 16, 7, 7), "output layer": (26, 256)}

    def guesses(model: nn.Module, images: Tensor) -> Mapping[str, Tensor]:
        scores = model(images)
        return {
            "returns probabilities: nn.CrossEntropyLoss expects scores": scores.softmax(dim=1),
            "a ReLU stands after the output layer": scores.relu(),
        }

    forms = [[images.reshape(5, 128)], [images[:, 0]], [images]]
    options = {"n_classes": 26, "num_classes": 26}
    return classifier_probes(OcrCNN(), rng, options, forms, layers, guesses, has_dropout=False)


class _Words(nn.Module):
    """The sheet's BiLSTM, or, with `convolves`, that of Q2.3, for one word: (L, 128) pixels to (L, 26) scores."""

    def __init__(self, convolves: bool) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 16, 5, padding=2) if convolves else None
        self.linear = nn.Linear(512 if convolves else 128, 128)
        self.lstm = nn.LSTM(128, 128, bidirectional=True)
        self.output = nn.Linear(256, 26)

    def forward(self, x: Tensor, tanh: bool = True, halves: str = "both") -> Tensor:
        """The scores, with a mistake if one is chosen."""
        if self.convolution is not None:
            x = nn.functional.max_pool2d(self.convolution(x.view(-1, 1, 16, 8)).relu(), 2).flatten(1)
        x = self.linear(x)
        out, _ = self.lstm((x.tanh() if tanh else x)[:, None])
        out = out[:, 0]
        if halves == "swapped":
            out = torch.cat([out[:, 128:], out[:, :128]], dim=1)
        scores: Tensor = self.output(out)
        return scores


def _words(rng: Generator, convolves: bool = False) -> list[Probe]:
    model = _Words(convolves)
    weights = draw_weights(model, rng)
    words = [torch.from_numpy(rng.random((length, 128), dtype=np.float32)) for length in (5, 7)]
    layers: dict[str, Sequence[int]] = {
        **({"convolution": (16, 1, 5, 5)} if convolves else {}),
        "linear layer": (128, 512 if convolves else 128),
        "LSTM": (512, 128),
        "output layer": (26, 256),
    }
    options = {"input_size": 128, "output_size": 26, "hidden_size": 128, "n_classes": 26, "batch_size": 1}
    with torch.no_grad():
        rights = [model(word) for word in words]
        guesses = {
            "the tanh after the linear layer is missing": model(words[0], tanh=False),
            "the two directions are in the wrong order": model(words[0], halves="swapped"),
            "the letters are read in reverse order": model(words[0].flip(0)),
        }

    def outputs(answer: Mapping[str, Any]) -> Finding:
        if not answer["loaded"]:
            return Finding("not compared with ours, because its parameters have other shapes")
        found = answer["outputs"][0]
        if _like(found, rights[0]):
            return Finding()
        if _like(found, rights[0].log_softmax(dim=1)):
            return Finding(remark=LOG_PROBABILITIES)
        mistake = next((text for text, guess in guesses.items() if _like(found, guess)), "")
        return Finding(mistake or "returns other numbers than expected for a word")

    def independent(answer: Mapping[str, Any]) -> Finding:
        if not answer["loaded"] or not _like(answer["outputs"][0], rights[0]):
            return Finding()
        if not _like(answer["outputs"][1], rights[1]):
            return Finding("the scores of a word depend on the word before: the hidden state is kept")
        return Finding()

    request = {
        "probe": "words", "options": options, "weights": weights, "words": [word.numpy() for word in words]
    }  # fmt: skip
    inputs = [[words[0].numpy()], [words[0][:, None].numpy()], [words[0][None].numpy()]]
    gradient = {"probe": "gradient", "options": options, "weights": weights, "inputs": inputs}
    return [
        *shape_probes({"probe": "shapes", "options": options}, layers, 0.4),
        Probe("a word with copied weights", request, outputs, 0.4),
        Probe("a second word", request, independent, 0.1),
        Probe("gradients", gradient, gradient_judge, 0.1),
    ]


def _like(value: Any, right: Tensor) -> bool:
    """Whether the numbers are right, apart from axes of length 1."""
    if not isinstance(value, ndarray) or value.size != right.numel():
        return False
    return bool(np.allclose(value.reshape(right.shape), right.numpy(), atol=1e-4, rtol=1e-3))


def _with_convolution(rng: Generator) -> list[Probe]:
    return _words(rng, convolves=True)


CHECKS = (
    Check("CNN", "hw3-q1.py", "1.2", 10, _cnn, also=("ConvNet", "Net")),
    Check("BILSTM", "hw3-q2.py", "2.1", 10, _words, also=("BiLSTM", "BiLSTMTagger")),
    Check("CNN_BILSTM", "hw3-q2-3.py", "2.3", 10, _with_convolution,
          also=("CNNBILSTM", "CNN_BiLSTM", "ConvBiLSTM", "ConvBILSTM", "CONV_BILSTM")),
)  # fmt: skip


def _grade(
    folder: Path, seed: int, seconds: float, sandbox: Sandbox, names: Mapping[str, str]
) -> Iterator[Row]:  # fmt: skip
    return grade_checks(CHECKS, folder, seed, seconds, sandbox, names)


SHEET = Sheet(
    name="dsl-2019-hw3",
    files=("hw3-q1.py", "hw3-q2.py", "hw3-q2-3.py"),
    elsewhere="the sheet states no points, so these are ours; a person grades the texts, the CRF and the training",
    runner="hw_check.networks.inside",
    grade=_grade,
    preload=TORCH,
    anywhere=True,
)
