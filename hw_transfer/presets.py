"""The sheet's settings and data sets as plain facts, without importing torch."""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType

HOMEWORK = "hw_transfer"


@dataclass(frozen=True)
class Recipe:
    """Settings of the optimization; the defaults are the sheet's (eecs545-w20-hw4 Q5)."""

    epochs: int = 25  # passes over the training pictures
    batch_size: int = 4  # pictures per step, over all processes
    lr: float = 1e-3  # learning rate of the first `step_size` epochs
    optimizer: str = "sgd"  # "sgd" or "adam"
    momentum: float = 0.9  # classical (not Nesterov) momentum of sgd
    l2_decay: float = 0.0  # weight decay
    step_size: int = 7  # number of epochs between multiplications of the learning rate by `gamma` (StepLR)
    gamma: float = 0.1  # factor for the learning rate
    precision: str = "fp32"  # "fp32", or "bf16" for automatic mixed precision


@dataclass(frozen=True)
class Settings:
    """Settings that determine the result of training; all of them are flags of `hw_transfer.train`."""

    dataset: str  # key of DATASETS
    mode: str  # "finetune" or "freeze"
    backbone: str  # key of BACKBONES
    weights: str  # "imagenet", "none" for random weights, or the path of a file
    cache_features: bool  # whether the last layer is trained on features that are computed once, without augmentation
    seed: int  # random seed
    recipe: Recipe  # settings of the optimization

    @classmethod
    def from_arguments(cls, arguments: argparse.Namespace) -> "Settings":
        """Copies the settings from the checked arguments of `hw_transfer.train`."""
        recipe = Recipe(**{setting.name: getattr(arguments, setting.name) for setting in fields(Recipe)})
        names = ("dataset", "mode", "backbone", "weights", "cache_features", "seed")
        return cls(**{name: getattr(arguments, name) for name in names}, recipe=recipe)


@dataclass(frozen=True)
class Dataset:
    """A data set that the command line offers."""

    title: str  # name in messages and figures
    size: int  # height and width of the network's input, in pixels
    weights: str  # default of --weights


DATASETS: Mapping[str, Dataset] = MappingProxyType({
    "hymenoptera": Dataset("hymenoptera", 224, "imagenet"),
    "folder": Dataset("image folder", 224, "imagenet"),
    "sample": Dataset("sample insects", 64, "none"),
    "sample-source": Dataset("sample shapes", 64, "none"),
})  # fmt: skip
CITATION = "eecs545-w20-hw4 Q5"
