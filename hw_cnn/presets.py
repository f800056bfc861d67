"""The sheets' networks, data sets and defaults as plain facts, known before torch is imported."""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any

HOMEWORK = "hw_cnn"


@dataclass(frozen=True)
class Settings:
    """Settings that decide on the result of a training; each is a flag of `hw_cnn.train`.

    Attributes:
        dataset: key of DATASETS.
        network: key of NETWORKS.
        dropout: probability of the dropout layer.
        no_maxpool: network oct: whether strides take the place of pooling.
        padding: network cifar: zeros around the image of each convolution, 0 or 2; None for the other networks.
        epochs: passes over the training images.
        batch_size: images per step, over all processes.
        lr: learning rate.
        optimizer: "sgd" or "adam".
        momentum: Nesterov momentum of sgd.
        l2_decay: weight decay.
        schedule: "constant", or "cosine" for a learning rate that warms up and falls to 0.
        augment: whether to flip images at random and shift them by up to two pixels.
        precision: "fp32", or "bf16" for automatic mixed precision.
        seed: random seed.
    """

    dataset: str
    network: str
    dropout: float
    no_maxpool: bool
    padding: int | None
    epochs: int
    batch_size: int
    lr: float
    optimizer: str
    momentum: float
    l2_decay: float
    schedule: str
    augment: bool
    precision: str
    seed: int

    @classmethod
    def from_arguments(cls, arguments: argparse.Namespace) -> "Settings":
        """Takes the settings out of the checked arguments of `hw_cnn.train`."""
        return cls(**{setting.name: getattr(arguments, setting.name) for setting in fields(cls)})


@dataclass(frozen=True)
class Network:
    """A network's input, and the settings that its sheet asks for.

    Attributes:
        name: value of --network.
        citation: sheet and question.
        channels: channels of the input images.
        size: height and width of the input images, in pixels.
        scale: number by which pixels 0–255 are divided first (256 in the course's code, 255 elsewhere).
        mean: number that is subtracted next.
        std: number by which the difference is divided last.
        convolutions: names of the first and the second convolution, as the sheet writes them.
        defaults: values of the flags that the command line leaves out.
        best: changes that `--recipe best` makes to the defaults.
    """

    name: str
    citation: str
    channels: int
    size: int
    scale: float
    mean: float
    std: float
    convolutions: tuple[str, ...]
    defaults: Mapping[str, Any]
    best: Mapping[str, Any] = field(default_factory=dict)


_PLAIN = {
    "epochs": 15,
    "batch_size": 8,
    "lr": 0.01,
    "optimizer": "sgd",
    "momentum": 0.0,
    "l2_decay": 0.0,
    "dropout": 0.0,
    "precision": "fp32",
    "augment": False,
    "schedule": "constant",
}
_BEST = {
    "batch_size": 64,
    "precision": "bf16",
    "augment": True,
    "schedule": "cosine",
    "optimizer": "sgd",
    "momentum": 0.9,
}

NETWORKS: Mapping[str, Network] = MappingProxyType({
    network.name: network
    for network in (
        Network(
            "fashion", "ist-2021-22-hw2 Q2", channels=1, size=28, scale=256, mean=0, std=1,
            convolutions=("convblock1[0]", "convblock2[0]"),
            defaults={**_PLAIN, "dropout": 0.3},
            best={**_BEST, "epochs": 40, "lr": 0.05, "l2_decay": 5e-4},
        ),
        Network(
            "oct", "ist-2023-24-hw2 Q2", channels=1, size=28, scale=256, mean=0, std=1,
            convolutions=("conv1", "conv2"),
            defaults={**_PLAIN, "dropout": 0.7},
            best={**_BEST, "epochs": 40, "lr": 0.05, "l2_decay": 5e-4},
        ),
        Network(
            "cifar", "convnets-2024-a2", channels=3, size=32, scale=255, mean=0.5, std=0.25,
            convolutions=("conv1", "conv2"),
            # The sheet leaves these open; they were chosen on the validation images.
            defaults={**_PLAIN, "epochs": 20, "batch_size": 64, "lr": 0.005, "momentum": 0.9},
            best={**_BEST, "epochs": 40, "lr": 0.05, "l2_decay": 5e-4},
        ),
    )
})  # fmt: skip

# Data set → network that its sheet trains on it.
DATASETS: Mapping[str, str] = MappingProxyType({
    "fashion-mnist": "fashion",
    "mnist": "fashion",
    "octmnist": "oct",
    "cifar10": "cifar",
    "folder": "cifar",
    "sample": "fashion",
})  # fmt: skip
