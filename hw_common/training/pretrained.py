"""Pretrained weights of a backbone: torchvision's ImageNet weights, or a file that is read without running code."""

import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor, nn

from hw_common.data import download
from hw_common.data.transfer import Download
from hw_common.runs import checkpoints, files
from hw_common.runs.errors import UserError
from hw_common.training import distributed
from hw_common.training.backbones import BACKBONES
from hw_common.training.startup import import_torchvision

_LARGEST_FILE = 2**30  # bytes; a ResNet-18 has 45 million, the largest of BACKBONES 553 million
_PARTS = ("state_dict", "model_state_dict", "model")  # usual names of the state dict in a checkpoint


@dataclass(frozen=True)
class Pretrained:
    """Pretrained weights."""

    path: Path  # path of the file
    tensors: Mapping[str, Tensor]  # weights by their names in torchvision's network; the last layer's are not used
    sha256: str  # SHA-256 of the file
    backbone: str = "resnet18"  # key of BACKBONES: the network whose weights these should be


def load_pretrained(source: str, data_dir: Path, backbone: str = "resnet18") -> Pretrained | None:
    """Loads the weights that `--weights` names; None for "none".

    Args:
        source: "imagenet", "none", or the path of a safetensors file or a state dict. The state dict may be in a
            checkpoint, and its names may have a prefix, such as the `module.` of torch's DataParallel.
        data_dir: folder of ImageNet's weights, to which they are downloaded if they are missing.
        backbone: key of BACKBONES, the network that the weights are for.

    Raises:
        UserError: the file is missing and cannot be downloaded, is damaged, is larger than 1 GiB, or contains several
            networks or anything but tensors.
    """
    if source == "none":
        return None
    path = _imagenet(data_dir, backbone) if source == "imagenet" else Path(source)
    if not path.is_file():
        raise UserError(f"--weights {path}: there is no such file; expected imagenet, none, or the path of a file")
    if path.stat().st_size > _LARGEST_FILE:
        raise UserError(f"{path} has {path.stat().st_size} bytes, more than any {backbone}")
    read = _read_safetensors if path.suffix == ".safetensors" else _read_state_dict
    return Pretrained(path, _without_prefix(read(path), path, backbone), files.sha256(path), backbone)


def _without_prefix(tensors: Mapping[str, Tensor], path: Path, backbone: str) -> Mapping[str, Tensor]:
    """Takes off the prefix that a wrapper, such as DataParallel or torch.compile, puts before all names.

    Raises:
        UserError: the file holds several networks, each with a prefix of its own.
    """
    # On the meta device, torch would import its compiler. The random numbers of the training stay the same.
    with torch.random.fork_rng(devices=[]):
        weights = [name for name in new_network(backbone).state_dict() if name.endswith(".weight")]
    first, second = weights[0], weights[2]  # in a ResNet: conv1.weight and layer1.0.conv1.weight
    found = [name.removesuffix(first) for name in tensors if name.endswith(first)]
    prefixes = [prefix for prefix in found if f"{prefix}{second}" in tensors]
    if not prefixes or "" in prefixes:
        return tensors
    if len(prefixes) > 1:
        shown = ", ".join(map(repr, prefixes[:3]))
        raise UserError(f"{path} holds {len(prefixes)} networks, with the prefixes {shown}; save only one")
    [prefix] = prefixes
    if distributed.is_main():
        others = next((f"; other weights are not used: {n!r}, …" for n in tensors if not n.startswith(prefix)), "")
        print(f"{path}: the prefix {prefix!r} is removed from the names of the weights{others}", file=sys.stderr)
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def load_backbone(model: nn.Module, pretrained: Pretrained) -> None:
    """Copies all weights except those of the last layer into `model`.

    Raises:
        UserError: names or shapes differ, or a weight is not finite; the message names the layers.
    """
    own = model.state_dict()
    last_layer = f"{BACKBONES[pretrained.backbone].last_layer}."
    # The counters num_batches_tracked are not used here, and files from before PyTorch 0.4.1 lack them.
    counts = {name: tensor for name, tensor in own.items() if name.endswith("num_batches_tracked")}
    theirs = {name: tensor for name, tensor in pretrained.tensors.items() if not name.startswith(last_layer)}
    new = {name: tensor for name, tensor in own.items() if name.startswith(last_layer)}
    checkpoints.load_into(model, {**counts, **theirs, **new}, pretrained.path)
    for name, tensor in model.state_dict().items():
        if not tensor.isfinite().all():
            raise UserError(f"the weights in {pretrained.path} hold numbers that are not finite: {name}")


def new_network(backbone: str, classes: int = 1000) -> nn.Module:
    """Returns torchvision's network with random weights; `backbone` is a key of BACKBONES."""
    import_torchvision()
    from torchvision.models import get_model

    network: nn.Module = get_model(backbone, weights=None, num_classes=classes)
    return network


def _imagenet(data_dir: Path, backbone: str) -> Path:
    """Returns the file of ImageNet weights: in `data_dir`, in torch's cache, or downloaded to `data_dir`."""
    import_torchvision()
    from torchvision.models import get_model_weights

    weights = get_model_weights(backbone)["IMAGENET1K_V1"]
    url = weights.url
    name = url.rpartition("/")[2]
    prefix = name.removesuffix(".pth").rpartition("-")[2]  # torchvision names its files after their SHA-256
    path = data_dir / name
    for place in (path, Path(torch.hub.get_dir()) / "checkpoints" / name):
        if place.is_file():
            if not files.sha256(place).startswith(prefix):
                raise UserError(f"{place} is damaged: its SHA-256 should start with {prefix}; remove it and try again")
            return place
    about = f"{weights.meta['_file_size']:.0f} MB; torchvision names no licence for weights"
    wanted = [Download(name, [url], sha256=prefix, about=about)]
    hint = (
        f"{download.by_hand(data_dir, wanted)}, use --weights PATH with a safetensors file or state dict of "
        f"{backbone}, or --weights none"
    )
    return download.place(data_dir, wanted, hint)[0]


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with checkpoints.open_safetensors(path) as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except (safetensors.SafetensorError, ValueError) as error:
        raise UserError(f"{path} is damaged or not a safetensors file: {error}") from error


def _read_state_dict(path: Path) -> dict[str, Tensor]:
    """Reads a state dict that torch.save wrote, alone or in a checkpoint.

    In a checkpoint, it is the part that one of _PARTS names, or the only part that consists of tensors.
    """
    content: Any = None
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                claimed = sum(entry.file_size for entry in archive.infolist())
            if claimed > _LARGEST_FILE:
                raise UserError(f"{path} claims {claimed} bytes when unpacked, more than any backbone")
        content = checkpoints.load_pickled(path)
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception:  # noqa: BLE001, S110 (a wrong byte can cause any exception)
        pass
    if isinstance(content, Mapping):
        parts = {key: part for key, part in content.items() if isinstance(part, Mapping)}
        networks = [key for key, part in parts.items() if part and all(map(_is_plain, part.values()))]
        found = [key for key in _PARTS if key in parts] or (networks if len(networks) == 1 else [])
        content = parts[found[0]] if found else content
    if not isinstance(content, Mapping) or not all(map(_is_plain, content.values())):
        raise UserError(
            f"{path} is not a plain state dict or is damaged: expected names and tensors, as "
            "torch.save(model.state_dict(), …) writes them; no code in it was run"
        )
    return {str(name): tensor for name, tensor in content.items()}


def _is_plain(value: object) -> bool:
    """Whether `value` is a dense tensor of real numbers."""
    if not isinstance(value, Tensor):
        return False
    return value.layout == torch.strided and not value.is_quantized and not value.is_complex()
