"""The encoder's network, ResNet-18 without its last two layers, and its weights.

The layers are torchvision's, in an nn.Sequential as in the course's code. They turn a 224×224 image into 7×7 regions of
512 features.
"""

import hashlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from hw_common.training.pretrained import load_backbone, load_pretrained

REGION_SIZE = 512  # number of features of a region
STRIDE = 32  # distance between neighbouring regions in pixels
# Scaling for torchvision's weights: pixels are scaled to [0, 1], this mean is subtracted, and the result is divided by
# this standard deviation.
PIXEL_MEAN, PIXEL_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def load_trunk(weights: str, data_dir: Path, seed: int = 42) -> nn.Sequential:
    """ResNet-18 without its last two layers, frozen and in eval mode: (B, 3, H, W) to (B, 512, H/32, W/32).

    Args:
        weights: "imagenet" (torchvision's, downloaded on first use), "none" (initialized from `seed`), or the path of
            a .safetensors or PyTorch file with a state dict of torchvision's ResNet-18; its last layer is ignored.
        data_dir: folder for downloaded weights.
        seed: seed of the random weights "none".

    Raises:
        UserError: the weights are not available, are damaged, or do not fit the network.
    """
    from torchvision.models import resnet18  # slow to import

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the GPUs too
        network = resnet18(weights=None)
    network.fc = nn.Identity()
    pretrained = load_pretrained(weights, data_dir)
    if pretrained is not None:
        load_backbone(network, pretrained)
    trunk = nn.Sequential(*list(network.children())[:-2]).eval().requires_grad_(False)
    nn.utils.convert_conv2d_weight_memory_format(trunk, torch.channels_last)
    return trunk


def weights_sha256(trunk: nn.Module) -> str:
    """SHA-256 of the names and values of a network's weights; the format of their file does not matter."""
    digest = hashlib.sha256()
    for name, tensor in sorted(trunk.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy())
    return digest.hexdigest()


def to_input(pixels: np.ndarray | Tensor) -> Tensor:
    """Converts images (B, H, W, 3) uint8 to the trunk's input: (B, 3, H, W) float32 in channels_last, normalized."""
    floats = torch.as_tensor(pixels).permute(0, 3, 1, 2).float().div_(255)  # permuting makes it channels_last
    mean, std = (torch.tensor(values, device=floats.device).view(3, 1, 1) for values in (PIXEL_MEAN, PIXEL_STD))
    return floats.sub_(mean).div_(std)
