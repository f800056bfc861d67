"""Networks as the sheet uses them: trained as a whole, or as a fixed feature extractor under a new last layer.

`ResNet18` and `FrozenResNet18` are the sheet's. `OtherNetwork` does the same with other networks of torchvision.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, ResNet

from hw_common.training.backbones import BACKBONES
from hw_common.training.dropout import Dropout
from hw_common.training.pretrained import new_network

# Mean and standard deviation of ImageNet's channels, on a scale of 0 to 1: networks trained on it expect this scaling.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class ResNet18(ResNet):
    """ResNet-18 (He et al. 2016) that takes pixels; its parameters have torchvision's names.

    Args:
        classes: number of outputs.
    """

    def __init__(self, classes: int) -> None:
        super().__init__(BasicBlock, [2, 2, 2, 2], num_classes=classes)

    @property
    def head(self) -> nn.Module:
        """The layer that turns the output of `features` into scores."""
        return self.fc

    def forward(self, images: Tensor) -> Tensor:
        """images: (B, 3, H, W) uint8; returns scores (B, classes), to which the loss applies the softmax."""
        return self.fc(self.features(images))

    def features(self, images: Tensor) -> Tensor:
        """images: (B, 3, H, W) uint8; returns the input of the last layer, (B, 512)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(normalize(images)))))  # (B, 64, H/4, W/4)
        x = self.layer2(self.layer1(x))  # (B, 128, H/8, W/8)
        x = self.layer4(self.layer3(x))  # (B, 512, H/32, W/32)
        return self.avgpool(x).flatten(1)


class FrozenResNet18(ResNet18):
    """ResNet-18 of which only the last layer is trained (Q5d); all other parameters and buffers stay as they are.

    Args:
        classes: number of outputs.
    """

    def __init__(self, classes: int) -> None:
        super().__init__(classes)
        self.requires_grad_(False)
        self.fc.requires_grad_(True)

    def train(self, mode: bool = True) -> "FrozenResNet18":
        """Keeps all but the last layer in eval mode; in train mode, batch normalization would update its averages."""
        super().train(False)
        self.fc.train(mode)
        return self

    def features(self, images: Tensor) -> Tensor:
        """The same as in ResNet18, without an autograd graph, since no gradient is needed."""
        with torch.no_grad():
            return super().features(images)


class OtherNetwork(nn.Module):
    """Any network of BACKBONES with a new last layer; its weights have torchvision's names in `state_dict`.

    Args:
        backbone: key of BACKBONES.
        classes: number of outputs.
        frozen: whether only the last layer is trained, as in FrozenResNet18.
    """

    def __init__(self, backbone: str, classes: int, frozen: bool) -> None:
        super().__init__()
        self.network = new_network(backbone, classes)
        self.frozen = frozen
        self._last_layer = BACKBONES[backbone].last_layer
        for name, module in list(self.network.named_modules()):
            if type(module) is nn.Dropout:  # our Dropout has the same masks for any number of processes
                self.network.set_submodule(name, Dropout(module.p))
        if isinstance(self.head, nn.Sequential) and isinstance(self.network.get_submodule(self._last_layer), nn.Conv2d):
            # SqueezeNet's scores are maps of one pixel, which torchvision flattens only after the head.
            self.head.append(nn.Flatten())
        if frozen:
            self.network.requires_grad_(False)
            self.network.get_submodule(self._last_layer).requires_grad_(True)

    @property
    def head(self) -> nn.Module:
        """The part of the network with the last layer; torchvision calls it `fc` or `classifier`."""
        return self.network.get_submodule(self._last_layer.partition(".")[0])

    def forward(self, images: Tensor) -> Tensor:
        """images: (B, 3, H, W) uint8; returns scores (B, classes), to which the loss applies the softmax."""
        scores: Tensor = self.network(normalize(images))
        return scores

    def features(self, images: Tensor) -> Tensor:
        """images: (B, 3, H, W) uint8; returns the input of `head`, whose shape depends on the network."""
        inputs: list[Tensor] = []
        hook = self.head.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))
        self(images)
        hook.remove()
        return inputs[0]

    def train(self, mode: bool = True) -> "OtherNetwork":
        """Sets the mode; a frozen network keeps all but `head` in eval mode."""
        super().train(mode and not self.frozen)
        self.head.train(mode)
        return self

    def state_dict(self, *arguments: Any, **named: Any) -> Any:
        """The weights under torchvision's names."""
        return self.network.state_dict(*arguments, **named)

    def load_state_dict(self, *arguments: Any, **named: Any) -> Any:
        """Loads weights that have torchvision's names."""
        return self.network.load_state_dict(*arguments, **named)


def normalize(images: Tensor) -> Tensor:
    """Scales images (B, 3, H, W) uint8 as networks trained on ImageNet expect; returns floats in channels_last."""
    mean, std = (torch.tensor(values, device=images.device).view(3, 1, 1) for values in (_MEAN, _STD))
    floats = images.to(torch.float, memory_format=torch.channels_last)
    return floats.div_(255).sub_(mean).div_(std)
