"""Small picture data sets in folders and archives, and weights files; used by the tests of hw_transfer."""

import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.models import resnet18

COUNTS = {"train": 3, "val": 2}
CLASSES = ("ants", "bees")


def picture(width: int = 40, height: int = 30, seed: int = 0) -> np.ndarray:
    """A smooth picture of random colours, (height, width, 3) uint8."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def encoded(kind: str = "png", **size: int) -> bytes:
    """A picture file."""
    buffer = io.BytesIO()
    Image.fromarray(picture(**size)).save(buffer, kind)
    return buffer.getvalue()


def members(counts: Mapping[str, int] = COUNTS, classes: tuple[str, ...] = CLASSES) -> dict[str, bytes]:
    """Picture files by their path in a data set; those of different classes differ in brightness."""
    content = {}
    for split, count in counts.items():
        for label, name in enumerate(classes):
            for number in range(count):
                pixels = picture(seed=100 * label + 10 * (split == "val") + number) // 2 + 100 * (label % 2)
                buffer = io.BytesIO()
                Image.fromarray(pixels.astype(np.uint8)).save(buffer, "png")
                content[f"{split}/{name}/{number}.png"] = buffer.getvalue()
    return content


def write_folder(folder: Path, **kwargs: Any) -> Path:
    """Writes `members` as a folder; returns it."""
    for name, content in members(**kwargs).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def write_zip(path: Path, content: Mapping[str, bytes], root: str = "hymenoptera_data/") -> Path:
    """Writes a zip archive; returns its path."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(root + name, data)
    return path


def write_tar(path: Path, content: Mapping[str, bytes], root: str = "hymenoptera_data/") -> Path:
    """Writes a tar archive, compressed if its name ends in .gz; returns its path."""
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
        for name, data in content.items():
            member = tarfile.TarInfo(root + name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def state_dict(classes: int = 10) -> dict[str, Tensor]:
    """torchvision's ResNet-18 with random weights, as `uneven` makes them."""
    torch.manual_seed(7)
    return uneven(resnet18(num_classes=classes))


def uneven(model: nn.Module) -> dict[str, Tensor]:
    """The state dict of `model` with batch-norm statistics that are not those of a new network."""
    weights = model.state_dict()
    for name, tensor in weights.items():
        if name.endswith("running_mean"):
            tensor.uniform_(-0.1, 0.1)
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)
    return weights


def write_weights(path: Path, weights: Mapping[str, Tensor]) -> Path:
    """Writes weights as safetensors or, under any other name, as torch.save does; returns the path."""
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(dict(weights), path)
    else:
        torch.save(dict(weights), path)
    return path
