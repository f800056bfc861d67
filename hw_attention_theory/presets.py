"""What this homework is about and what its classifier is trained with, known before torch is imported."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

HOMEWORK = "hw_attention_theory"
SOURCES: Mapping[str, str] = MappingProxyType({"2021-22": "ist-2021-22-hw2 Q1", "2023-24": "ist-2023-24-hw2 Q1"})
DATASETS = ("mnist", "sample")
SIDES: Mapping[str, tuple[int, ...]] = MappingProxyType({"mnist": (28, 14, 7), "sample": (8, 4)})  # the first is whole
TITLES: Mapping[str, str] = MappingProxyType({"softmax": "softmax attention", "taylor": "linear attention"})
TERMS = 3  # of the exponential series, as in ist-2023-24-hw2 Q1.2

# The sheets train no such network. Ours is small enough for a CPU, and the same for both attentions; it is not tuned.
DEFAULTS: Mapping[str, Any] = MappingProxyType({
    "n": 32,
    "d": 16,
    "heads": 1,
    "blocks": 2,
    "epochs": 6,
    "batch_size": 64,
    "lr": 0.003,
    "optimizer": "adam",
    "l2_decay": 0.0,
    "precision": "fp32",
    "schedule": "cosine",
})  # fmt: skip
# The sample has a fortieth of MNIST's images, hence more epochs.
SAMPLE: Mapping[str, Any] = MappingProxyType({"epochs": 30, "batch_size": 32})
