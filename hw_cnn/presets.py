"""The sheets' networks, data sets and defaults as plain facts, without importing torch."""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any

HOMEWORK = "hw_cnn"


@dataclass(frozen=True)
class Settings:
    """Settings that determine the result of training; each is a flag of `hw_cnn.train`."""

    dataset: str  # key of DATASETS
    medmnist_flag: str | None  # key of MEDMNIST; None for other data sets
    network: str  # key of NETWORKS
    dropout: float  # probability of the dropout layer
    no_maxpool: bool  # whether strides replace pooling (network oct)
    padding: int | None  # border of zeros around each convolution's input: 0 or 2 (cifar), None (other networks)
    epochs: int  # passes over the training images
    batch_size: int  # images per step, over all processes
    lr: float  # learning rate
    optimizer: str  # "sgd" or "adam"
    momentum: float  # Nesterov momentum of sgd
    l2_decay: float  # weight decay
    schedule: str  # "constant", or "cosine" for a learning rate that warms up and falls to 0
    augment: bool  # whether to flip images at random and shift them by up to two pixels
    balanced: bool  # whether the training loss weights each class by the inverse of its number of images
    precision: str  # "fp32", or "bf16" for automatic mixed precision
    kernels: str  # "plain" for the networks of `models.py`, "fast" for faster ones that give the same bits
    seed: int  # random seed

    @classmethod
    def from_arguments(cls, arguments: argparse.Namespace) -> "Settings":
        """Copies the settings from the checked arguments of `hw_cnn.train`."""
        return cls(**{setting.name: getattr(arguments, setting.name) for setting in fields(cls)})


@dataclass(frozen=True)
class Network:
    """Facts about a network: its input and the settings of its sheet."""

    name: str  # value of --network
    citation: str  # sheet and question
    channels: int  # channels of the input images
    size: int  # height and width of the input images, in pixels
    scale: float  # the input is (pixel / scale − mean) / std; scale is 256 in the course's code, 255 elsewhere
    mean: float  # number subtracted from pixel / scale
    std: float  # divisor of pixel / scale − mean
    convolutions: tuple[str, ...]  # names of the two convolutions in the sheet
    defaults: Mapping[str, Any]  # default values of the flags
    best: Mapping[str, Any] = field(default_factory=dict)  # changes that `--recipe best` makes to the defaults


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
            # 100 epochs were better than 40 on the validation images.
            best={**_BEST, "epochs": 100, "lr": 0.05, "l2_decay": 5e-4},
        ),
        Network(
            "oct", "ist-2023-24-hw2 Q2", channels=1, size=28, scale=256, mean=0, std=1,
            convolutions=("conv1", "conv2"),
            defaults={**_PLAIN, "dropout": 0.7},
            # The learning rate was chosen on PneumoniaMNIST's validation images.
            best={**_BEST, "epochs": 40, "lr": 0.03, "l2_decay": 5e-4},
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

# Data set → the network that is trained on it by default.
DATASETS: Mapping[str, str] = MappingProxyType({
    "fashion-mnist": "fashion",
    "mnist": "fashion",
    "octmnist": "oct",
    "medmnist": "oct",
    "cifar10": "cifar",
    "folder": "cifar",
    "sample": "fashion",
})  # fmt: skip

# Data sets of MedMNIST with 2D images that have one label each: flag → the network that is trained by default.
_GREY = ("breastmnist", "octmnist", "organamnist", "organcmnist", "organsmnist", "pneumoniamnist", "tissuemnist")
_COLOUR = ("bloodmnist", "dermamnist", "pathmnist", "retinamnist")
MEDMNIST: Mapping[str, str] = MappingProxyType({**dict.fromkeys(_GREY, "oct"), **dict.fromkeys(_COLOUR, "cifar")})
