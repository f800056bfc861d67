"""The sheet's settings and data sets as plain facts, known before torch is imported."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

HOMEWORK = "hw_transfer"


@dataclass(frozen=True)
class Recipe:
    """How a network is trained; the defaults are the sheet's (eecs545-w20-hw4 Q5).

    Attributes:
        epochs: passes over the training pictures.
        batch_size: pictures per step, over all processes.
        lr: learning rate of the first `step_size` epochs.
        optimizer: "sgd" or "adam".
        momentum: of sgd, not Nesterov's.
        l2_decay: weight decay.
        step_size: after so many epochs each …
        gamma: … the learning rate is multiplied by this (StepLR).
        precision: "fp32", or "bf16" for automatic mixed precision.
    """

    epochs: int = 25
    batch_size: int = 4
    lr: float = 1e-3
    optimizer: str = "sgd"
    momentum: float = 0.9
    l2_decay: float = 0.0
    step_size: int = 7
    gamma: float = 0.1
    precision: str = "fp32"


@dataclass(frozen=True)
class Dataset:
    """A data set as the command line knows it.

    Attributes:
        title: what people call it.
        size: height and width that the network sees, in pixels.
        weights: default of --weights.
    """

    title: str
    size: int
    weights: str


DATASETS: Mapping[str, Dataset] = MappingProxyType({
    "hymenoptera": Dataset("hymenoptera", 224, "imagenet"),
    "folder": Dataset("image folder", 224, "imagenet"),
    "sample": Dataset("sample insects", 64, "none"),
    "sample-source": Dataset("sample shapes", 64, "none"),
})  # fmt: skip
SOURCE = "eecs545-w20-hw4 Q5"
