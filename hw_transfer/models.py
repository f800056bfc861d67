"""ResNet-18 as the sheet uses it: trained as a whole, or as a fixed feature extractor under a new last layer."""

import torch
from torch import Tensor
from torchvision.models.resnet import BasicBlock, ResNet

# Mean and standard deviation of ImageNet's channels, on a scale of 0 to 1: networks trained on it expect this scaling.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class ResNet18(ResNet):
    """ResNet-18 (He et al. 2016) that takes pixels; its parameters have torchvision's names.

    Args:
        classes: number of outputs.
    """

    def __init__(self, classes: int) -> None:
        super().__init__(BasicBlock, [2, 2, 2, 2], num_classes=classes)

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


def normalize(images: Tensor) -> Tensor:
    """Scales images (B, 3, H, W) uint8 as networks trained on ImageNet expect; returns floats in channels_last."""
    mean, std = (torch.tensor(values, device=images.device).view(3, 1, 1) for values in (_MEAN, _STD))
    floats = images.to(torch.float, memory_format=torch.channels_last)
    return floats.div_(255).sub_(mean).div_(std)
