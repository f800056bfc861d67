"""How much the feature maps of a network change when a letter moves or turns, before and after pooling.

dsl-2019-hw3 Q1.1 argues with two figures of Goodfellow, Bengio and Courville (2016, Section 9.3) that max-pooling makes
a network less sensitive to both. Here the same is measured on our own networks.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hw_common.runs import figures
from hw_common.runs.errors import UserError
from hw_ocr import data
from hw_ocr.finished import Finished

# Blank paper around each letter, so that nothing moves over an edge; a multiple of 4, as much as two poolings reduce.
_MARGIN = 8
_SHOWN_MARGIN = 4
# A value has changed if it differs by more than this share of the largest that the letter causes.
_TOLERANCE = 0.05
CONVOLVED, POOLED, OVER_CHANNELS = "convolution and ReLU", "after 2×2 max-pooling", "after max over channels"
ORIGINAL = "as it is"

Maps = dict[tuple[str, str], Tensor]  # by layer and stage: (B, channels, height, width)


def shift(images: Tensor, pixels: int) -> Tensor:
    """Moves (B, 1, H, W) to the right; paper comes in."""
    return F.pad(images, (pixels, 0))[..., : images.shape[3]]


def rotate(images: Tensor, degrees: float) -> Tensor:
    """Turns (B, 1, H, W) counter-clockwise about the middle; grey where new pixels lie between old ones (bilinear)."""
    angle = torch.tensor(degrees).deg2rad()
    cos, sin, (height, width) = angle.cos(), angle.sin(), images.shape[2:]
    # affine_grid counts both axes from -1 to 1, whatever their length.
    turn = torch.stack([
        torch.stack([cos, -sin * height / width, torch.tensor(0.0)]),
        torch.stack([sin * width / height, cos, torch.tensor(0.0)]),
    ])  # fmt: skip
    grid = F.affine_grid(turn.expand(len(images), 2, 3), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


CHANGES: Mapping[str, Callable[[Tensor], Tensor]] = MappingProxyType({
    ORIGINAL: lambda images: images,
    "shifted by 1 pixel": lambda images: shift(images, 1),
    "shifted by 2 pixels": lambda images: shift(images, 2),
    "rotated by 10°": lambda images: rotate(images, 10),
    "rotated by 20°": lambda images: rotate(images, 20),
})  # fmt: skip


def choose_letters(finished: Finished, data_dir: Path | None, count: int, seed: int) -> Tensor:
    """`count` test letters of the run's data set, with blank paper around: (B, 1, 16 + 16, 8 + 16) float.

    Raises:
        UserError: the network has no convolutions, or the data cannot be read.
    """
    if not _convolutional_layers(finished.network):
        raise UserError(f"{finished.run.folder} has no convolutions; name a run of the network cnn or conv-bilstm")
    arguments = finished.arguments
    test = data.load(arguments.dataset, data_dir or arguments.data_dir, arguments.seed).test
    chosen = torch.randperm(len(test), generator=torch.Generator().manual_seed(seed))[:count]
    return F.pad(test.images[chosen].float(), (_MARGIN,) * 4)[:, None]


def _convolutional_layers(network: nn.Module) -> dict[str, nn.Sequential]:
    """The layers of `network` that begin with a convolution, in forward order."""
    return {
        path.rpartition(".")[2]: module
        for path, module in network.named_modules()
        if isinstance(module, nn.Sequential) and isinstance(module[0], nn.Conv2d)
    }


@torch.inference_mode()
def collect_maps(network: nn.Module, images: Tensor) -> Maps:
    """What the pooling layers of `network` take and give for `images` (B, 1, H, W), and the maximum over channels."""
    maps: Maps = {}
    x = images
    for name, layer in _convolutional_layers(network).items():
        for module in layer:
            if isinstance(module, nn.MaxPool2d):
                maps[name, CONVOLVED] = x
                maps[name, POOLED] = module(x)
                maps[name, OVER_CHANNELS] = x.amax(1, keepdim=True)
            x = module(x)
    return maps


def collect_all(finished: Finished, letters: Tensor) -> dict[str, Maps]:
    """The maps of `letters`, less what blank paper causes, as they are and with each change."""
    blank = collect_maps(finished.network, torch.zeros_like(letters[:1]))
    collected = {name: collect_maps(finished.network, change(letters)) for name, change in CHANGES.items()}
    return {name: {key: maps[key] - blank[key] for key in maps} for name, maps in collected.items()}


def measure(collected: Mapping[str, Maps]) -> list[dict[str, Any]]:
    """How much each kind of map differs from that of the unchanged letter, as means over the letters.

    `values_changed`: the share of the values which differ by more than 5 % of the letter's largest, among those that
    are larger than that, before or after. `relative_change`: norm of the difference by norm of the map.
    """
    measured = []
    for (layer, stage), before in collected[ORIGINAL].items():
        changes = {
            name: _compare(before.flatten(1), maps[layer, stage].flatten(1))
            for name, maps in collected.items()
            if name != ORIGINAL
        }
        measured.append({"layer": layer, "stage": stage, "changes": changes})
    return measured


def _compare(before: Tensor, after: Tensor) -> dict[str, float]:
    """The two numbers of `measure` for maps (B, values)."""
    threshold = _TOLERANCE * before.abs().amax(1, keepdim=True).clamp(min=1e-12)
    influenced = (before.abs() > threshold) | (after.abs() > threshold)
    changed = influenced & ((after - before).abs() > threshold)
    shares = changed.sum(1) / influenced.sum(1).clamp(min=1)
    relative = (after - before).norm(dim=1) / before.norm(dim=1).clamp(min=1e-12)
    return {"values_changed": shares.double().mean().item(), "relative_change": relative.double().mean().item()}


def draw(
    letter: Tensor, collected: Mapping[str, Maps], measured: list[dict[str, Any]], folder: Path, stem: str, what: str
) -> list[Path]:
    """The first letter, its strongest map of each kind, and what the changes do to them; returns the figures' paths.

    Args:
        letter: (1, 1, H, W).
        collected: see `collect_all`.
        measured: see `measure`; stands above the maps.
        folder: where to.
        stem: name of the figures.
        what: network and data, for the title.
    """
    cells = [_in_colours([_without_margin(change(letter)[0, 0])], "gray_r")[0] for change in CHANGES.values()]
    titles = list(CHANGES)
    rows = ["letter"]
    for row in measured:
        key = row["layer"], row["stage"]
        strongest = int(collected[ORIGINAL][key][0].flatten(1).norm(dim=1).argmax())
        cells += _in_colours([_without_margin(maps[key][0, strongest]) for maps in collected.values()], figures.HEAT)
        changes = row["changes"].values()
        titles += ["", *(f"{c['values_changed']:.0%} of the values\nby {c['relative_change']:.0%}" for c in changes)]
        rows.append(f"{row['layer']},\n{row['stage'].replace(' max', chr(10) + 'max')}")
    title = f"a letter moves and turns: how many values of its feature maps change, and by how much\n{what}"
    figure = figures.image_grid(cells, len(CHANGES), title=title, titles=titles, row_labels=rows, cell=1.5)
    return figures.save(figure, folder, stem)


def _without_margin(image: Tensor) -> Tensor:
    """Cuts most of the blank paper off a map (H, W), at its own scale."""
    margin = (_MARGIN - _SHOWN_MARGIN) * image.shape[0] // (16 + 2 * _MARGIN)
    return image[margin:-margin, margin:-margin]


def _in_colours(maps: list[Tensor], colours: str) -> list[np.ndarray]:
    """Maps (H, W) as (H, W, 3), on one scale."""
    low, high = min(m.min().item() for m in maps), max(m.max().item() for m in maps)
    span = high - low or 1.0
    return [mpl.colormaps[colours](((m - low) / span).numpy())[:, :, :3] for m in maps]
