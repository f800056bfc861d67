"""The pretrained networks that `--backbone` offers, as plain facts, without importing torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Backbone:
    """A network of torchvision that was trained on ImageNet."""

    last_layer: str  # name of the layer that computes the scores of the classes; it is replaced
    channels: int  # number of features of an image region: the channels of the last feature maps


# Name of the network in torchvision.models → facts about it.
BACKBONES: Mapping[str, Backbone] = MappingProxyType({
    "resnet18": Backbone("fc", 512),
    "resnet34": Backbone("fc", 512),
    "resnet50": Backbone("fc", 2048),
    "mobilenet_v2": Backbone("classifier.1", 1280),
    "mobilenet_v3_large": Backbone("classifier.3", 960),
    "squeezenet1_1": Backbone("classifier.1", 512),
    "densenet121": Backbone("classifier", 1024),
    "efficientnet_b0": Backbone("classifier.1", 1280),
    "vgg16": Backbone("classifier.6", 512),
})  # fmt: skip
