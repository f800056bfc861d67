"""The encoder's network: ResNet-18 without its last two layers, and where its weights come from.

Layers are torchvision's, in an nn.Sequential as the course builds it: a 224×224 image becomes 7×7 regions of 512.
"""

import hashlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from hw_common.training.pretrained import load_backbone, load_pretrained

REGION_SIZE = 512  # numbers per region
STRIDE = 32  # pixels per region, in each direction
# What torchvision's weights were trained with: pixels from 0 to 1, minus the mean, divided by the deviation.
PIXEL_MEAN, PIXEL_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def load_trunk(weights: str, data_dir: Path, seed: int = 42) -> nn.Sequential:
    """ResNet-18 without its last two layers, frozen and in eval mode: (B, 3, H, W) to (B, 512, H/32, W/32).

    In eval mode the features of an image do not depend on those beside it (REFERENCE.md, trap 7).

    Args:
        weights: "imagenet" (torchvision's, downloaded on first use), "none" (as initialized from `seed`), or the path
            of a state dict of torchvision's ResNet-18 as .safetensors or as a PyTorch file; its last layer is ignored.
        data_dir: where downloaded weights are kept.
        seed: of "none".

    Raises:
        UserError: the weights cannot be had, are damaged, or belong to another network.
    """
    from torchvision.models import resnet18  # slow to import

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # and not those of GPUs
        network = resnet18(weights=None)
    network.fc = nn.Identity()
    pretrained = load_pretrained(weights, data_dir)
    if pretrained is not None:
        load_backbone(network, pretrained)
    trunk = nn.Sequential(*list(network.children())[:-2])
    return trunk.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def weights_sha256(trunk: nn.Module) -> str:
    """Hash of the names and numbers of a network, whichever file they came from."""
    digest = hashlib.sha256()
    for name, tensor in sorted(trunk.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy())
    return digest.hexdigest()


def to_input(pixels: np.ndarray | Tensor) -> Tensor:
    """(B, H, W, 3) uint8 to what the trunk takes: (B, 3, H, W) float32 in channels_last, normalized as for ImageNet."""
    floats = torch.as_tensor(pixels).permute(0, 3, 1, 2).float().div_(255)  # channels_last, as the pixels lie
    mean, std = (torch.tensor(values, device=floats.device).view(3, 1, 1) for values in (PIXEL_MEAN, PIXEL_STD))
    return floats.sub_(mean).div_(std)
