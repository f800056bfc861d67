"""Equivariance: how feature maps change when the image is shifted by one pixel (ist-2021-22-hw2, Question 2.1).

A convolution with stride 1 multiplies the patch at every position by the same kernel. Hence it is equivariant to
translations: if the image is shifted, the feature maps shift with it, except at the edges. With a stride or pooling
of 2, this holds for shifts by even numbers of pixels. Convolutions are not equivariant to rotations or changes of size.

This is useful for classification because the class of an object does not depend on its position: a detector that was
learned at one position works at all of them, with few parameters. Pooling then makes the output change less with the
position, because the largest value of a window often stays in the window.
"""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

from hw_cnn.data import Split, to_input
from hw_cnn.feature_maps import NamedMaps, collect_maps
from hw_cnn.finished import Finished
from hw_cnn.models import convolutions
from hw_common.runs import figures, image_grids


def draw_equivariance(finished: Finished, test: Split, *, seed: int, images: int = 200) -> list[Path]:
    """Shifts images one pixel to the right, measures the change of the feature maps, and draws some of them.

    `images` test images are chosen at random with `seed`. Returns the paths of the new files in the run's
    folder: the figure, and equivariance.json with the result of `relative_changes`.
    """
    chosen = torch.randperm(len(test), generator=torch.Generator().manual_seed(seed))[:images]
    pixels = test.images[chosen]
    shifted = F.pad(pixels, (1, 0))[..., :-1]
    before, after = (
        [(layer, F.relu(maps)) for layer, maps in collect_maps(finished.model, to_input(x, finished.network))]
        for x in (pixels, shifted)
    )
    # With stride 2, the feature maps would move by half a pixel, so they cannot be compared pixel by pixel.
    is_stride_one = convolutions(finished.model)[before[0][0]].stride in (1, (1, 1))
    rows = relative_changes(before, after, is_stride_one)
    for row in rows:
        aligned = row.get("change_when_shifted_along")
        text = f", {aligned:.2e} if the original maps are shifted too" if aligned is not None else ""
        print(f"{row['layer']}: relative change {row['change']:.4f}{text}")
    figure = _draw_shift(finished.title, (pixels[0], shifted[0]), before[:2], after[:2], is_stride_one)
    numbers = {"images": len(chosen), "shift": "one pixel to the right", "layers": rows}
    return finished.add_figure("equivariance", figure, numbers)


def relative_changes(before: NamedMaps, after: NamedMaps, is_stride_one: bool) -> list[dict[str, Any]]:
    """Compares the feature maps of images with those of the same images shifted one pixel to the right.

    Args:
        before: feature maps of the images; for convolutions, the output of the ReLU.
        after: feature maps of the shifted images.
        is_stride_one: whether the first convolution has stride 1.

    Returns:
        A row for each layer. "change" is ‖after − before‖ / ‖before‖, averaged over the images; pooling reduces the
        change. For a first layer of stride 1, "change_when_shifted_along" is the same quantity with `before` shifted
        by one pixel too. This number is zero up to rounding, since convolution commutes with shifts. Pixels at the
        edges are left out, because the shift moves pixels into and out of the image there.
    """
    rows = []
    for i, ((layer, first), (_, second)) in enumerate(zip(before, after, strict=True)):
        row: dict[str, Any] = {"layer": layer, "change": _relative_change(first, second)}
        if i == 0 and is_stride_one:
            row["change_when_shifted_along"] = _relative_change(first[..., 2:-3], second[..., 3:-2])
        rows.append(row)
    return rows


def _relative_change(first: Tensor, second: Tensor) -> float:
    """Returns ‖second − first‖ / ‖first‖ of each image's maps without their edges, averaged over the images."""
    first, second = first[..., 1:-1, 1:-1].flatten(1), second[..., 1:-1, 1:-1].flatten(1)
    return ((second - first).norm(dim=1) / first.norm(dim=1).clamp(min=1e-12)).mean().item()


def _draw_shift(
    title: str, images: tuple[Tensor, Tensor], before: NamedMaps, after: NamedMaps, is_stride_one: bool
) -> Figure:
    """Draws an image and one feature map of each layer: before the shift, after the shift, and their difference."""
    grey = [image.permute(1, 2, 0).float().mean(dim=2) for image in images]
    rows: list[tuple[str, Tensor, Tensor]] = [("image", grey[0], grey[1])]
    for (layer, first), (_, second) in zip(before, after, strict=True):
        strongest = int(first[0].var(dim=(1, 2)).argmax())
        rows.append((f"{layer},\nchannel {strongest}", first[0, strongest], second[0, strongest]))
    cells: list[np.ndarray] = []
    titles: list[str] = []
    for number, (_, one, other) in enumerate(rows):
        cells += [one.numpy(), other.numpy(), _on_common_scale(other - one, one)]
        titles += ["before", "after the shift", "difference"]
        # Only the image and the maps of a first convolution of stride 1 move by exactly one pixel.
        if number == 0 or (number == 1 and is_stride_one):
            cells.append(_on_common_scale(other[:, 1:] - one[:, :-1], one))
            titles.append("after minus\nshifted before")
        else:
            cells.append(np.full((1, 1), np.nan))
            titles.append("")
    return image_grids.image_grid(
        cells,
        columns=4,
        title=f"a shift by one pixel to the right\n{title}",
        titles=titles,
        row_labels=[label for label, _, _ in rows],
        colours=figures.HEAT,
        cell=1.05,
    )


def _on_common_scale(difference: Tensor, values: Tensor) -> np.ndarray:
    """Returns colours (H, W, 3): white for 0; the colour map's two ends stand for ± (max − min) of `values`."""
    span = float(values.max() - values.min()) or 1.0
    return mpl.colormaps[figures.SIGNED]((difference / span / 2 + 0.5).clamp(0, 1).numpy())[:, :, :3]
