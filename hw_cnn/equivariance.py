"""Equivariance: how feature maps change when the image is shifted by one pixel (ist-2021-22-hw2, Question 2.1)."""

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
from hw_common.runs import figures, files


def draw_equivariance(finished: Finished, test: Split, *, seed: int, images: int = 200) -> list[Path]:
    """Shifts images one pixel to the right, measures the change of the feature maps, and draws some of them.

    Args:
        finished: trained network; the figure goes into its run folder.
        test: test images to choose from.
        seed: random seed of that choice.
        images: number of images to measure on.

    Returns:
        The paths of the figure's files and of equivariance.json, which holds the result of `relative_changes`.
    """
    chosen = torch.randperm(len(test), generator=torch.Generator().manual_seed(seed))[:images]
    pixels = test.images[chosen]
    shifted = F.pad(pixels, (1, 0))[..., :-1]
    before, after = (
        [(layer, F.relu(maps)) for layer, maps in collect_maps(finished.model, to_input(x, finished.network))]
        for x in (pixels, shifted)
    )
    # A convolution of stride 2 halves the shift of one pixel, so that its maps cannot be compared pixel by pixel.
    shifts_along = convolutions(finished.model)[before[0][0]].stride in (1, (1, 1))
    rows = relative_changes(before, after, shifts_along)
    for row in rows:
        along = row.get("change_when_shifted_along")
        text = f", shifted along {along:.2e}" if along is not None else ""
        print(f"{row['layer']}: change {row['change']:.4f}{text}")
    folder, stem = finished.run.folder, finished.run.free_stem("equivariance")
    figure = _draw_shift(finished.title, (pixels[0], shifted[0]), before[:2], after[:2], shifts_along)
    paths = figures.save(figure, folder, stem)
    files.write_json(
        folder / f"{stem}.json", {"images": len(chosen), "shift": "one pixel to the right", "layers": rows}
    )
    return [*paths, folder / f"{stem}.json"]


def relative_changes(before: NamedMaps, after: NamedMaps, shifts_along: bool) -> list[dict[str, Any]]:
    """Compares the feature maps of images with those of the same images shifted one pixel to the right.

    Args:
        before: feature maps of the images; those of convolutions after the ReLU.
        after: feature maps of the shifted images.
        shifts_along: whether the first convolution has stride 1.

    Returns:
        A row for each layer. "change" is ‖after − before‖ / ‖before‖, averaged over the images; pooling makes it
        smaller. For the first layer, "change_when_shifted_along" is the same quantity with `before` shifted by one
        pixel too; it is zero up to rounding, since the convolution of a shifted image is the shifted convolution.
        Pixels at the edges are left out, because the shift moves pixels into and out of the image there.
    """
    rows = []
    for i, ((layer, first), (_, second)) in enumerate(zip(before, after, strict=True)):
        row: dict[str, Any] = {"layer": layer, "change": _relative_change(first, second)}
        if i == 0 and shifts_along:
            row["change_when_shifted_along"] = _relative_change(first[..., 2:-3], second[..., 3:-2])
        rows.append(row)
    return rows


def _relative_change(first: Tensor, second: Tensor) -> float:
    """Returns ‖second − first‖ / ‖first‖ of each image's maps without their edges, averaged over the images."""
    first, second = first[..., 1:-1, 1:-1].flatten(1), second[..., 1:-1, 1:-1].flatten(1)
    return ((second - first).norm(dim=1) / first.norm(dim=1).clamp(min=1e-12)).mean().item()


def _draw_shift(
    title: str, images: tuple[Tensor, Tensor], before: NamedMaps, after: NamedMaps, shifts_along: bool
) -> Figure:
    """Draws an image and one channel of each map: before the shift, after it, and their difference."""
    grey = [image.permute(1, 2, 0).float().mean(dim=2) for image in images]
    rows: list[tuple[str, Tensor, Tensor]] = [("image", grey[0], grey[1])]
    for (layer, first), (_, second) in zip(before, after, strict=True):
        strongest = int(first[0].var(dim=(1, 2)).argmax())
        rows.append((f"{layer}, channel {strongest}", first[0, strongest], second[0, strongest]))
    cells: list[np.ndarray] = []
    titles: list[str] = []
    for number, (_, one, other) in enumerate(rows):
        cells += [one.numpy(), other.numpy(), _on_common_scale(other - one, one)]
        titles += ["before", "after the shift", "difference"]
        # The image and the first convolution, if its stride is 1, shift by one pixel; pooling moves in steps of two.
        if number == 0 or (number == 1 and shifts_along):
            cells.append(_on_common_scale(other[:, 1:] - one[:, :-1], one))
            titles.append("difference when\nshifted along")
        else:
            cells.append(np.full((1, 1), np.nan))
            titles.append("")
    return figures.image_grid(
        cells,
        columns=4,
        title=f"a shift by one pixel to the right\n{title}",
        titles=titles,
        row_labels=[label for label, _, _ in rows],
        colours=figures.HEAT,
        cell=1.6,
    )


def _on_common_scale(difference: Tensor, values: Tensor) -> np.ndarray:
    """Returns colours (H, W, 3) for a difference: white at zero, purple and orange at the span of `values`."""
    span = float(values.max() - values.min()) or 1.0
    return mpl.colormaps[figures.SIGNED]((difference / span / 2 + 0.5).clamp(0, 1).numpy())[:, :, :3]
