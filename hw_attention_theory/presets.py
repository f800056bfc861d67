"""Citations, data sets and settings of this homework as plain values; this file does not import torch."""

import argparse
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any

HOMEWORK = "hw_attention_theory"
CITATIONS: Mapping[str, str] = MappingProxyType({"2021-22": "ist-2021-22-hw2 Q1", "2023-24": "ist-2023-24-hw2 Q1"})
DATASETS = ("mnist", "sample")
# Allowed heights and widths of the images; the first is the original one.
SIDES: Mapping[str, tuple[int, ...]] = MappingProxyType({"mnist": (28, 14, 7), "sample": (8, 4)})
TITLES: Mapping[str, str] = MappingProxyType({"softmax": "softmax attention", "taylor": "linear attention"})
TERMS = 3  # number of terms of the exponential series, as in ist-2023-24-hw2 Q1.2

# The sheets train no such network. This one is small enough for a CPU, the same for both attentions, and not tuned.
DEFAULTS: Mapping[str, Any] = MappingProxyType({
    "n": 32, "d": 16, "heads": 1, "blocks": 2, "epochs": 6, "batch_size": 64, "lr": 0.003, "optimizer": "adam",
    "l2_decay": 0.0, "precision": "fp32", "schedule": "cosine",
})  # fmt: skip
# The sample has a fortieth of MNIST's images, so it needs more epochs.
SAMPLE: Mapping[str, Any] = MappingProxyType({"epochs": 30, "batch_size": 32})


def count_features(D: int, K: int) -> int:
    """M = C(D + K - 1, K - 1), the number of features of φ for D dimensions and K terms (ist-2023-24-hw2 Q1.2)."""
    return math.comb(D + K - 1, K - 1)


@dataclass(frozen=True)
class Settings:
    """The classifier of pixel sequences and how it is trained."""

    dataset: str  # "mnist" or "sample"
    side: int  # height and width of the images, in pixels
    attention: str  # "softmax" or "taylor", which is linear attention
    terms: int | None  # terms of the exponential series; None for softmax attention
    kernels: str  # "plain" for linear attention as the sheet writes it, "fast" for a faster computation of it
    n: int  # features of a position
    d: int  # features of a query, key or value in each head
    heads: int  # number of heads in each block
    blocks: int  # number of blocks, each with attention and two linear layers
    epochs: int  # number of passes over the training data
    batch_size: int  # images per step
    lr: float  # learning rate
    optimizer: str  # "adam", "adamw" or "sgd"
    l2_decay: float  # weight decay
    schedule: str  # "constant" or "cosine", the course of the learning rate
    precision: str  # "fp32" or "bf16"
    seed: int  # fixes every random choice

    @classmethod
    def from_arguments(cls, arguments: argparse.Namespace) -> "Settings":
        """Takes the settings out of the checked arguments of `hw_attention_theory.train`."""
        return cls(**{setting.name: getattr(arguments, setting.name) for setting in fields(cls)})

    @property
    def title(self) -> str:
        """The network's name in figures and tables."""
        terms = f" ({self.terms} terms)" if self.attention == "taylor" else ""
        return f"{TITLES[self.attention]}{terms}, {self.side**2} pixels"
