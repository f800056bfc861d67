"""The sheets' networks, data sets and defaults as plain facts, known before torch is imported."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

HOMEWORK = "hw_cnn"


@dataclass(frozen=True)
class Network:
    """What a network takes and the settings that its sheet asks for.

    Attributes:
        name: value of --network.
        source: sheet and question.
        channels: of its input images.
        size: height and width of its input images, in pixels.
        scale: pixels 0-255 are divided by this (the course's code has 256, others 255), …
        mean: … then this is subtracted, …
        std: … and the result divided by this.
        convolutions: names of the first and the second convolution, as the sheet writes them.
        defaults: flags left out on the command line.
        best: what `--recipe best` changes in them.
    """

    name: str
    source: str
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
            # The sheet leaves these open: chosen on validation (README).
            defaults={**_PLAIN, "epochs": 20, "batch_size": 64, "lr": 0.005, "momentum": 0.9},
            best={**_BEST, "epochs": 40, "lr": 0.05, "l2_decay": 5e-4},
        ),
    )
})  # fmt: skip

# Each data set with the network that its sheet trains on it.
DATASETS: Mapping[str, str] = MappingProxyType({
    "fashion-mnist": "fashion",
    "mnist": "fashion",
    "octmnist": "oct",
    "cifar10": "cifar",
    "folder": "cifar",
    "sample": "fashion",
})  # fmt: skip
