"""The networks and settings of dsl-2019-hw3 as plain values; this file does not import torch."""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any

HOMEWORK = "hw_ocr"
CITATION = "dsl-2019-hw3"
DATASETS = ("ocr", "sample")
TITLES: Mapping[str, str] = MappingProxyType({
    "cnn": "CNN", "pairwise": "linear classifier of pixel pairs", "bilstm": "BiLSTM", "conv-bilstm": "conv-BiLSTM"
})  # fmt: skip
OF_LETTERS = ("cnn", "pairwise")  # networks that read single letters; the others read words
CONV_LAYERS = (2, 3, 4, 5)  # the rows of Table 1 in the published report (dsl-2019-hw3)
# Test accuracies of the published report (Table 1, Questions 2.1 and 2.3), by rows of `hw_ocr.compare`. That report has
# no accuracies by word; the ones below were computed with its code.
PUBLISHED: Mapping[str, Mapping[str, float]] = MappingProxyType({
    "cnn2": {"test_accuracy": 0.9012},
    "cnn3": {"test_accuracy": 0.9053},
    "cnn4": {"test_accuracy": 0.9135},
    "cnn5": {"test_accuracy": 0.9088},
    "bilstm": {"test_accuracy": 0.9701, "test_word_accuracy": 0.8533},
    "conv-bilstm": {"test_accuracy": 0.9829, "test_word_accuracy": 0.9141},
})  # fmt: skip
RECOMMENDED = "conv-bilstm"  # the network of --recipe best, which also has a CRF
_SIZES = ("conv_layers", "hidden", "layers", "dropout")

_PLAIN: Mapping[str, Any] = MappingProxyType({
    "epochs": 20, "batch_size": 64, "lr": 0.001, "optimizer": "adam", "l2_decay": 0.0, "precision": "fp32",
    "schedule": "constant", "augment": False,
})  # fmt: skip
# The published report trains on one word per step with the learning rate above. Steps of 16 words take much less time
# per word and, at a higher rate, reach at least its accuracy in 20 epochs. Both values were chosen on the dev fold.
_PLAIN_WORDS: Mapping[str, Any] = MappingProxyType({"batch_size": 16, "lr": 0.003})
_PLAIN_LSTM: Mapping[str, Any] = MappingProxyType({"hidden": 128, "layers": 1, "dropout": 0.0})
# The recipe "best", chosen on the dev fold.
_BEST: Mapping[str, Any] = MappingProxyType({"precision": "bf16", "schedule": "cosine", "augment": True})
_BEST_WORDS: Mapping[str, Any] = MappingProxyType({"batch_size": 32, "lr": 0.002})
_BEST_LSTM: Mapping[str, Any] = MappingProxyType({"hidden": 256, "layers": 2, "dropout": 0.4})


@dataclass(frozen=True)
class Settings:
    """The network and how it is trained."""

    dataset: str  # "ocr" or "sample"
    model: str  # one of TITLES
    # arguments of the network's class: conv_layers for the CNN; hidden, layers and dropout for the LSTMs
    sizes: Mapping[str, Any]
    crf: bool  # whether a linear-chain CRF scores whole words
    kernels: str  # "plain" for the CRF of `crf.py`, "fast" for a faster computation of the same numbers
    epochs: int  # number of passes over the training data
    batch_size: int  # words per step, or letters per step for a network of letters
    lr: float  # learning rate
    optimizer: str  # "adam", "adamw" or "sgd"
    l2_decay: float  # weight decay
    schedule: str  # "constant" or "cosine": how the learning rate changes
    precision: str  # "fp32" or "bf16"
    augment: bool  # whether training images are shifted by up to one pixel
    seed: int  # fixes every random choice

    @classmethod
    def from_arguments(cls, arguments: argparse.Namespace) -> "Settings":
        """Takes the settings out of the checked arguments of `hw_ocr.train`."""
        values = vars(arguments)
        sizes = {name: values[name] for name in _SIZES if values[name] is not None}
        return cls(sizes=sizes, **{s.name: values[s.name] for s in fields(cls) if s.name != "sizes"})

    @property
    def title(self) -> str:
        """The network's name in figures and tables."""
        layers = f" with {self.sizes['conv_layers']} convolutions" if self.model == "cnn" else ""
        return f"{TITLES[self.model]}{'-CRF' if self.crf else ''}{layers}"

    @property
    def trains_on_words(self) -> bool:
        """Whether a training example is a word; otherwise it is a single letter."""
        return self.crf or self.model not in OF_LETTERS


def defaults(model: str, crf: bool, recipe: str) -> dict[str, Any]:
    """The defaults of the flags that depend on the network and the recipe.

    Args:
        model: one of TITLES.
        crf: whether the network has a CRF.
        recipe: "plain" for the published report's settings, "best" for the recommended ones.

    Returns:
        Values by the name of the flag; None where the network has no such setting.
    """
    of_letters = model in OF_LETTERS
    words, no_lstm = crf or not of_letters, dict.fromkeys(_PLAIN_LSTM)
    settings = {**_PLAIN, **(_PLAIN_WORDS if words else {}), **(no_lstm if of_letters else _PLAIN_LSTM)}
    if recipe == "best":
        settings |= {**_BEST, **(_BEST_WORDS if words else {}), **(no_lstm if of_letters else _BEST_LSTM)}
    return {**settings, "conv_layers": CONV_LAYERS[0] if model == "cnn" else None}
