"""dsl-2019-hw3 Q1.1: how much feature maps change when a letter is shifted or rotated, before and after pooling.

A classifier of pixel pairs has to learn a shifted letter anew. A convolution is equivariant instead: its map of a
shifted letter is the shifted map. The map moves with the letter, so it is not invariant.

The published report (dsl-2019-hw3) argues, with two figures of Goodfellow, Bengio and Courville (2016, Section 9.3),
that max-pooling makes a network less sensitive to shifts and rotations: if a letter is shifted by a pixel, the largest
value of a window often stays in the window, and a maximum over channels stays the same if another channel has learned
the rotated pattern. Here both effects are measured on a trained network.
"""

import dataclasses
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hw_common.runs import figures, image_grids
from hw_common.runs.errors import UserError
from hw_ocr.data import Letters
from hw_ocr.experiment import evaluate

# Pixels of blank paper around each letter, so that no ink is shifted over an edge. It is a multiple of 4, because two
# poolings reduce the size by a factor of 4.
_MARGIN = 8
_SHOWN_MARGIN = 4  # pixels of this margin that figures show
# A value counts as changed if it changes by more than this share of the largest value of the letter's map.
_TOLERANCE = 0.05
CONVOLVED, POOLED, OVER_CHANNELS = "convolution and ReLU", "after 2×2 max-pooling", "after max over channels"
ORIGINAL = "as it is"

Maps = dict[tuple[str, str], Tensor]  # maps (B, channels, height, width) by layer and stage


def shift(images: Tensor, pixels: int) -> Tensor:
    """Shifts (B, 1, H, W) to the right and fills the left edge with paper."""
    return F.pad(images, (pixels, 0))[..., : images.shape[3]]


def rotate(images: Tensor, degrees: float) -> Tensor:
    """Rotates (B, 1, H, W) counter-clockwise about the centre, with bilinear interpolation."""
    angle = torch.tensor(degrees).deg2rad()
    cos, sin, (height, width) = angle.cos(), angle.sin(), images.shape[2:]
    # affine_grid's coordinates go from -1 to 1 along both axes, so the rotation has to be scaled by their lengths.
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

# The panels of the figure of accuracies: title of the x axis -> x value -> the change that it stands for.
_AXES: Mapping[str, Mapping[float, str]] = MappingProxyType({
    "shift in pixels": {0: ORIGINAL, 1: "shifted by 1 pixel", 2: "shifted by 2 pixels"},
    "rotation in degrees": {0: ORIGINAL, 10: "rotated by 10°", 20: "rotated by 20°"},
})  # fmt: skip


def choose_letters(images: Tensor, count: int, seed: int) -> Tensor:
    """`count` random images out of (n, 16, 8) with a margin of blank paper, (count, 1, 16 + 16, 8 + 16) float."""
    chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[:count]
    return F.pad(images[chosen].float(), (_MARGIN,) * 4)[:, None]


def check_convolutional(network: nn.Module) -> None:
    """Raises UserError if the network has no convolutions."""
    if not _convolutional_layers(network):
        raise UserError("this network has no convolutions; name a run of the network cnn or conv-bilstm")


def _convolutional_layers(network: nn.Module) -> dict[str, nn.Sequential]:
    """The layers of `network` that begin with a convolution, by name, in the order of the forward pass."""
    return {
        path.rpartition(".")[2]: module
        for path, module in network.named_modules()
        if isinstance(module, nn.Sequential) and isinstance(module[0], nn.Conv2d)
    }


@torch.inference_mode()
def collect_maps(network: nn.Module, images: Tensor) -> Maps:
    """Input and output of each pooling layer, and its input's maximum over channels, for `images` (B, 1, H, W)."""
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


def collect_all(network: nn.Module, letters: Tensor) -> dict[str, Maps]:
    """The maps of `letters` after each of CHANGES, minus the maps of blank paper, so that only ink has an effect."""
    blank = collect_maps(network, torch.zeros_like(letters[:1]))
    collected = {name: collect_maps(network, change(letters)) for name, change in CHANGES.items()}
    return {name: {key: maps[key] - blank[key] for key in maps} for name, maps in collected.items()}


def measure(collected: Mapping[str, Maps]) -> list[dict[str, Any]]:
    """Compares each kind of map with the maps of the unchanged letters.

    Returns:
        For each layer and stage, and for each change, two means over the letters. `relative_change` is the norm of the
        map's difference divided by the norm of the map. `values_changed` is the share of the large values that change
        noticeably. A value is large if it exceeds 5 % of the largest value of the letter's map, before or after the
        change; a change is noticeable if it exceeds the same 5 %.
    """
    measured = []
    for (layer, stage), before in collected[ORIGINAL].items():
        after = {name: maps[layer, stage] for name, maps in collected.items() if name != ORIGINAL}
        changes = {name: _compare(before.flatten(1), maps.flatten(1)) for name, maps in after.items()}
        measured.append({"layer": layer, "stage": stage, "changes": changes})
    return measured


def _compare(before: Tensor, after: Tensor) -> dict[str, float]:
    """The two numbers of `measure`, from maps (B, values) of unchanged and changed letters."""
    threshold = _TOLERANCE * before.abs().amax(1, keepdim=True).clamp(min=1e-12)
    influenced = (before.abs() > threshold) | (after.abs() > threshold)
    changed = influenced & ((after - before).abs() > threshold)
    shares = changed.sum(1) / influenced.sum(1).clamp(min=1)
    relative = (after - before).norm(dim=1) / before.norm(dim=1).clamp(min=1e-12)
    return {"values_changed": shares.double().mean().item(), "relative_change": relative.double().mean().item()}


def measure_products(letters: Tensor) -> dict[str, float]:
    """The relative change of the products of all pixel pairs, for each change of `letters`; a mean over the letters.

    Let p(x) be the products of all pixel pairs of an image x, squares included. Then p(x)·p(y) = ((x·y)² + x²·y²) / 2,
    where x² is the image of squared pixels, so p is never computed.
    """

    def dot(x: Tensor, y: Tensor) -> Tensor:
        products = (x * y).flatten(1).double()
        return (products.sum(1) ** 2 + (products**2).sum(1)) / 2

    before = dot(letters, letters)
    changed = {name: change(letters) for name, change in CHANGES.items() if name != ORIGINAL}
    squares = {name: before + dot(after, after) - 2 * dot(letters, after) for name, after in changed.items()}
    return {
        name: (square.clamp(min=0) / before.clamp(min=1e-12)).sqrt().mean().item() for name, square in squares.items()
    }


@torch.inference_mode()
def accuracies(network: nn.Module, letters: Letters) -> dict[str, float]:
    """The accuracy of a network on `letters` after each of CHANGES; the letters have no margin and can lose ink."""
    changed = {
        name: dataclasses.replace(letters, images=change(letters.images[:, None].float())[:, 0])
        for name, change in CHANGES.items()
    }
    return {name: evaluate(network, changed[name], "test")["test_accuracy"] for name in changed}


def draw_accuracies(accuracies: Mapping[str, Mapping[str, float]], folder: Path, stem: str, title: str) -> list[Path]:
    """Draws accuracy against shift and rotation, a line for each network; the keys of `accuracies` are the titles.

    Returns:
        The paths of the figures.
    """
    panels = {
        axis: {
            network: (list(names), [found[name] for name in names.values()]) for network, found in accuracies.items()
        }
        for axis, names in _AXES.items()
    }
    figure = figures.curves(panels, "", title)
    for axes, axis in zip(figure.axes, _AXES, strict=True):
        axes.set(xlabel=axis, ylabel="test accuracy", xticks=list(_AXES[axis]))
    return figures.save(figure, folder, stem)


def draw(
    letter: Tensor, collected: Mapping[str, Maps], measured: list[dict[str, Any]], folder: Path, stem: str, title: str
) -> list[Path]:
    """Draws the first letter and, for each layer and stage, its map with the largest norm, after each of CHANGES.

    Args:
        letter: (1, 1, H, W), the first of the letters.
        collected: result of `collect_all`.
        measured: result of `measure`; its numbers are written above the maps.
        folder: folder of the figures.
        stem: file name of the figures, without suffix.
        title: network and data set.

    Returns:
        The paths of the figures.
    """
    cells = [_colour_map([_without_margin(change(letter)[0, 0])], "gray_r")[0] for change in CHANGES.values()]
    titles = list(CHANGES)
    rows = ["letter"]
    for row in measured:
        key = row["layer"], row["stage"]
        strongest = int(collected[ORIGINAL][key][0].flatten(1).norm(dim=1).argmax())
        cells += _colour_map([_without_margin(maps[key][0, strongest]) for maps in collected.values()], figures.HEAT)
        changes = row["changes"].values()
        titles += ["", *(f"{c['values_changed']:.0%} by {c['relative_change']:.0%}" for c in changes)]
        rows.append(f"{row['layer']},\n{textwrap.fill(row['stage'], 12)}")
    heading = (
        f"a letter is shifted and rotated: percentage of the values of its maps that change, and by how much\n{title}"
    )
    figure = image_grids.image_grid(cells, len(CHANGES), title=heading, titles=titles, row_labels=rows, height=0.7)
    return figures.save(figure, folder, stem)


def _without_margin(image: Tensor) -> Tensor:
    """Removes most of the margin from a map (H, W) of any resolution."""
    margin = (_MARGIN - _SHOWN_MARGIN) * image.shape[0] // (16 + 2 * _MARGIN)
    return image[margin:-margin, margin:-margin]


def _colour_map(maps: list[Tensor], colours: str) -> list[np.ndarray]:
    """Maps (H, W) as colours (H, W, 3), all on the same scale."""
    low, high = min(m.min().item() for m in maps), max(m.max().item() for m in maps)
    span = high - low or 1.0
    return [mpl.colormaps[colours](((m - low) / span).numpy())[:, :, :3] for m in maps]
