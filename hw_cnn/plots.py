"""The figures of a training run."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from torch import nn

from hw_cnn.models import convolutions
from hw_common import figures


def training_curves(folder: Path, rows: Sequence[Mapping[str, float]], what: str) -> None:
    """Loss and accuracy against the epoch, training and validation, as curves.png and curves.pdf.

    ist-2021-22-hw2 Q2.2, ist-2023-24-hw2 Q2.1, convnets-2024-a2 Task 1.2. Training values are means over the epoch,
    while the weights change, with dropout; validation values are those of its end.
    """
    epochs = [row["epoch"] for row in rows]
    panels = {
        quantity: {
            f"{part} {quantity}": (epochs, [row[f"{part}_{quantity}"] for row in rows])
            for part in ("training", "validation")
        }
        for quantity in ("loss", "accuracy")
    }
    figures.save(figures.curves(panels, "epoch", what), folder, "curves")


def kernels(folder: Path, model: nn.Module, layer: str, what: str) -> None:
    """The kernels of the convolution `layer`, in grey and as a heat map with a colour bar (ist-2021-22-hw2 Q2.3).

    The course draws input channel 0 only; where there are more, their mean stands beside it, and the title says so.

    Args:
        folder: gets kernels-<layer>-grey and kernels-<layer>-heat, each as .png and .pdf.
        model: has the layer.
        layer: name as in `models.convolutions`.
        what: data and sheet, for the title.
    """
    weights = convolutions(model)[layer].weight.detach().float().cpu().numpy()  # (out, in, height, width)
    views = {"input channel 0": weights[:, 0]}
    if weights.shape[1] > 1:
        views[f"mean of {weights.shape[1]} input channels"] = weights.mean(axis=1)
    columns = 8
    maps = [kernel for view in views.values() for kernel in view]
    stem = "kernels-" + layer.replace("[", ".").replace("]", "")
    title = f"{len(weights)} kernels of {layer}: {' above, '.join(views)}{' below' if len(views) > 1 else ''}\n{what}"
    for suffix, colours, bar in (("grey", figures.GREY, None), ("heat", figures.SIGNED, "weight")):
        largest = float(np.abs(maps).max())
        figure = figures.heatmap_grid(
            maps,
            columns,
            title=title,
            colours=colours,
            limits=(-largest, largest),
            colour_bar=bar,
            cell=0.75,
        )
        figures.save(figure, folder, f"{stem}-{suffix}")
