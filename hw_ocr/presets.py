"""The report's networks and settings as plain facts, known before torch is imported."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

HOMEWORK = "hw_ocr"
SOURCE = "dsl-2019-hw3"
DATASETS = ("ocr", "sample")
TITLES: Mapping[str, str] = MappingProxyType({"cnn": "CNN", "bilstm": "BiLSTM", "conv-bilstm": "conv-BiLSTM"})
CONV_LAYERS = (2, 3, 4, 5)  # Table 1
# Its test accuracies with the names of ours, by `<model><conv_layers>`: Table 1, Questions 2.1 and 2.3; those of whole
# words were computed with its code.
PUBLISHED: Mapping[str, Mapping[str, float]] = MappingProxyType({
    "cnn2": {"test_accuracy": 0.9012},
    "cnn3": {"test_accuracy": 0.9053},
    "cnn4": {"test_accuracy": 0.9135},
    "cnn5": {"test_accuracy": 0.9088},
    "bilstm": {"test_accuracy": 0.9701, "test_word_accuracy": 0.8533},
    "conv-bilstm": {"test_accuracy": 0.9829, "test_word_accuracy": 0.9141},
})  # fmt: skip
RECOMMENDED = "conv-bilstm"  # what --recipe best trains, under a CRF

_PLAIN: Mapping[str, Any] = MappingProxyType({
    "epochs": 20,
    "batch_size": 64,
    "lr": 0.001,
    "optimizer": "adam",
    "l2_decay": 0.0,
    "precision": "fp32",
    "schedule": "constant",
    "augment": False,
})  # fmt: skip
# The report takes one word a step at the rate above. A step of 16 words is many times faster a word, and with a rate
# that suits it at least as good after the same 20 epochs; both chosen on the dev fold.
_PLAIN_WORDS: Mapping[str, Any] = MappingProxyType({"batch_size": 16, "lr": 0.003})
_PLAIN_LSTM: Mapping[str, Any] = MappingProxyType({"hidden": 128, "layers": 1, "dropout": 0.0})
# Ours, chosen on the dev fold.
_BEST: Mapping[str, Any] = MappingProxyType({"precision": "bf16", "schedule": "cosine", "augment": True})
_BEST_WORDS: Mapping[str, Any] = MappingProxyType({"batch_size": 32, "lr": 0.002})
_BEST_LSTM: Mapping[str, Any] = MappingProxyType({"hidden": 256, "layers": 2, "dropout": 0.4})


def takes_words(model: str, crf: bool) -> bool:
    """Whether that network is trained on words, and not on single letters."""
    return crf or model != "cnn"


def defaults(model: str, crf: bool, recipe: str) -> dict[str, Any]:
    """The settings that are not given on the command line.

    Args:
        model: one of TITLES.
        crf: whether it has a CRF on top.
        recipe: "plain", the report's, or "best", ours.

    Returns:
        By the name of the flag; None where the network has no such setting.
    """
    words, no_lstm = takes_words(model, crf), dict.fromkeys(_PLAIN_LSTM)
    settings = {**_PLAIN, **(_PLAIN_WORDS if words else {}), **(no_lstm if model == "cnn" else _PLAIN_LSTM)}
    if recipe == "best":
        settings |= {**_BEST, **(_BEST_WORDS if words else {}), **(no_lstm if model == "cnn" else _BEST_LSTM)}
    return {**settings, "conv_layers": CONV_LAYERS[0] if model == "cnn" else None}
