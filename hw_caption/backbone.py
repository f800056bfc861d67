"""The encoder's network, ResNet-18 or another one of torchvision without its last layers, and its weights.

The layers are torchvision's, in an nn.Sequential as in the course's code. ResNet-18 turns a 224×224 image into 7×7
regions of 512 features.
"""

import hashlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from hw_common.training.pretrained import load_backbone, load_pretrained, new_network

# Scaling for torchvision's weights: pixels are scaled to [0, 1], this mean is subtracted, and the result is divided by
# this standard deviation.
PIXEL_MEAN, PIXEL_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def load_trunk(weights: str, data_dir: Path, seed: int = 42, backbone: str = "resnet18") -> nn.Sequential:
    """The convolutional layers of a network, frozen and in eval mode: (B, 3, H, W) to (B, channels, h, w).

    For ResNet-18, these are all but the last two layers, and the result is (B, 512, H/32, W/32).

    Args:
        weights: "imagenet" (torchvision's, downloaded on first use), "none" (initialized from `seed`), or the path of
            a .safetensors or PyTorch file with a state dict of torchvision's network; its last layer is ignored.
        data_dir: folder for downloaded weights.
        seed: seed of the random weights "none".
        backbone: key of BACKBONES.

    Raises:
        UserError: the weights are not available, are damaged, or do not fit the network.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the GPUs too
        network = new_network(backbone)
    pretrained = load_pretrained(weights, data_dir, backbone)
    if pretrained is not None:
        load_backbone(network, pretrained)
    if backbone.startswith("resnet"):
        layers = list(network.children())[:-2]
    else:
        layers = [network.get_submodule("features")]
        if backbone.startswith("densenet"):
            layers.append(nn.ReLU())  # torchvision applies it in `forward`
    trunk = nn.Sequential(*layers).eval().requires_grad_(False)
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
