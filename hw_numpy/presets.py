"""Settings of the two training commands; imports no NumPy."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

HOMEWORK = "hw_numpy"
TITLES: Mapping[str, str] = MappingProxyType({"softmax": "two-layer network", "cnn": "convolutional network"})
LARGEST_FILTER = 27  # the convolution of a 28×28 image then has 2×2 pixels, which is one window to pool
UPDATE_RULES = ("sgd", "sgd_momentum", "rmsprop", "adam")
# The sheet leaves epochs and update rule open. Published results use sgd; momentum raises CNN validation accuracy.
DEFAULTS: Mapping[str, Mapping[str, Any]] = MappingProxyType({
    "softmax": {"epochs": 40, "update_rule": "sgd"},
    "cnn": {"epochs": 10, "update_rule": "sgd_momentum", "filter_sizes": [5, 7]},
})  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """Settings that both training commands have."""

    dataset: str  # name of the data set
    data_dir: Path  # folder of the data set
    update_rule: str  # one of UPDATE_RULES
    lr: float  # learning rate of the first epoch
    lr_decay: float  # factor of the learning rate after each epoch
    batch_size: int  # samples per step
    epochs: int  # passes over the training samples
    seed: int  # random seed
    threads: int | None  # CPU threads; None for the default

    @classmethod
    def from_arguments(cls, arguments: argparse.Namespace) -> Self:
        """The settings among the checked arguments of a training command."""
        return cls(**{setting.name: getattr(arguments, setting.name) for setting in fields(cls)})

    @property
    def solver(self) -> dict[str, Any]:
        """Keyword arguments of a solver."""
        return {
            "update_rule": self.update_rule,
            "optim_config": {"learning_rate": self.lr},
            "lr_decay": self.lr_decay,
            "batch_size": self.batch_size,
            "num_epochs": self.epochs,
            "verbose": False,
            "seed": self.seed,
        }

    def __str__(self) -> str:
        return (
            f"{self.epochs} epochs of {self.update_rule}, learning rate {self.lr:g}, batch {self.batch_size}, "
            f"seed {self.seed}"
        )


@dataclass(frozen=True)
class DigitSettings(Settings):
    """Settings of the digit classification (Q2c, Q3c)."""

    model: str  # "softmax" or "cnn"
    hidden_dims: Sequence[int]  # numbers of hidden units to choose from
    filter_sizes: Sequence[int] | None  # heights and widths of the CNN's filters to choose from; None for softmax
    grow: int  # largest number of candidates to add while the best one is at the edge of the grid
    weight_scale: float  # standard deviation of the initial weights


@dataclass(frozen=True)
class CaptionSettings(Settings):
    """Settings of the captioning (Q4d)."""

    max_train: int  # largest number of training captions
    pca_features: bool  # whether to use the image features reduced by PCA
    cell_type: str  # "rnn" or "lstm"
    hidden_dim: int  # number of hidden units
    wordvec_dim: int  # dimension of the word embeddings
