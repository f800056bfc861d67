"""Settings of the two trainings, known before NumPy is imported."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

HOMEWORK = "hw_numpy"
UPDATE_RULES = ("sgd", "sgd_momentum", "rmsprop", "adam")
# The sheet leaves epochs and update rule open: sgd is the published recipe; for the CNN, momentum validates better.
DEFAULTS: Mapping[str, Mapping[str, Any]] = MappingProxyType({
    "softmax": {"epochs": 40, "update_rule": "sgd"},
    "cnn": {"epochs": 10, "update_rule": "sgd_momentum", "filter_sizes": [5, 7]},
})  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """Settings that both trainings have.

    Attributes:
        dataset: name of the data set.
        data_dir: folder that holds it.
        update_rule: one of UPDATE_RULES.
        lr: learning rate of the first epoch.
        lr_decay: factor of the learning rate after each epoch.
        batch_size: samples per step.
        epochs: passes over the training samples.
        seed: fixes every random choice.
        threads: CPU threads; None for the default.
    """

    dataset: str
    data_dir: Path
    update_rule: str
    lr: float
    lr_decay: float
    batch_size: int
    epochs: int
    seed: int
    threads: int | None

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
    """Settings of the digit classification (Q2c, Q3c).

    Attributes:
        model: "softmax" or "cnn".
        hidden_dims: numbers of hidden units to choose from.
        filter_sizes: heights and widths of the CNN's filters to choose from; None for softmax.
        weight_scale: standard deviation of the initial weights.
    """

    model: str
    hidden_dims: Sequence[int]
    filter_sizes: Sequence[int] | None
    weight_scale: float


@dataclass(frozen=True)
class CaptionSettings(Settings):
    """Settings of the captioning (Q4d).

    Attributes:
        max_train: largest number of training captions.
        pca_features: whether to use the features after PCA.
        cell_type: "rnn" or "lstm".
        hidden_dim: number of hidden units.
        wordvec_dim: dimension of the word embeddings.
    """

    max_train: int
    pca_features: bool
    cell_type: str
    hidden_dim: int
    wordvec_dim: int
