"""Figures of pictures and maps: grids of images, maps with one colour scale, the kernels of a convolution."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hw_common.runs import figures

_GAP = 0.1  # distance between maps, relative to their width and height


def image_grid(
    images: Sequence[np.ndarray],
    columns: int,
    *,
    title: str,
    titles: Sequence[str] = (),
    row_labels: Sequence[str] = (),
    colours: str = figures.GREY,
    cell: float = 1.2,
    height: float | None = None,
) -> Figure:
    """Draws images in rows of `columns`.

    Args:
        images: colour images (height, width, 3), uint8 or floats from 0 to 1; or maps (height, width), whose colours
            range from their own minimum to their own maximum.
        columns: number of images in a row.
        title: title of the whole figure.
        titles: title above each image, of any number of lines.
        row_labels: label to the left of each row.
        colours: colour map of images without colours, GREY or HEAT.
        cell: largest width of an image in inches; images are narrower if a row would be wider than a page.
        height: height of an image in inches; by default its width.
    """
    rows = math.ceil(len(images) / columns)
    lines = [title.count("\n") + 1 if title else 0 for title in titles]
    above = [max(lines[row * columns : (row + 1) * columns], default=0) for row in range(rows)]
    cell = min(cell, (figures.PAGE_WIDTH - 0.1 - 0.35 * bool(row_labels)) / columns)
    tall = sum((height or cell) + 0.06 + figures.LINE_HEIGHT * lines for lines in above)
    figure = figures.new_figure(max(columns * cell + 0.1 + 0.35 * bool(row_labels), 4.2), tall + 0.1, title)
    with figures.style():
        grid = figure.subplots(rows, columns, squeeze=False)
        for i, axes in enumerate(grid.flat):
            bare(axes)
            if i >= len(images):
                continue
            axes.imshow(np.asarray(images[i]), interpolation="nearest", cmap=colours)
            if titles:
                axes.set_title(titles[i], pad=2)
            if row_labels and i % columns == 0:
                axes.set_ylabel(row_labels[i // columns])
        return figure


def heatmap_grid(
    maps: Sequence[np.ndarray],
    columns: int,
    *,
    title: str,
    colours: str = figures.HEAT,
    limits: tuple[float, float] | None = None,
    colour_bar: str | None = None,
    cell: float = 1.0,
) -> Figure:
    """Draws maps with one common colour scale.

    Args:
        maps: arrays (height, width) of the same shape.
        columns: number of maps in a row.
        title: title of the whole figure.
        colours: colour map: GREY, HEAT, or SIGNED for values around zero.
        limits: values of the first and the last colour; minimum and maximum of all maps by default.
        colour_bar: label of the colour bar; None draws no bar.
        cell: width of a map in inches.
    """
    low, high = limits or (min(float(m.min()) for m in maps), max(float(m.max()) for m in maps))
    rows, (height, width) = math.ceil(len(maps) / columns), maps[0].shape
    size = (max(columns * cell + (0.9 if colour_bar else 0.1), 3.15), rows * (cell + 0.06) + 0.1)
    figure = figures.new_figure(*size, title)
    with figures.style():
        # All maps share one coordinate system, because an Axes for each map takes ten times as long to draw.
        axes = figure.subplots()
        bare(axes)
        step = 1 + _GAP
        for i, values in enumerate(maps):
            left, top = i % columns * width * step - 0.5, i // columns * height * step - 0.5
            shown = axes.imshow(
                values,
                interpolation="nearest",
                cmap=colours,
                vmin=low,
                vmax=high if high > low else low + 1,
                extent=(left, left + width, top + height, top),
            )
        axes.set_xlim(-0.5, ((columns - 1) * step + 1) * width - 0.5)
        axes.set_ylim(((rows - 1) * step + 1) * height - 0.5, -0.5)
        if colour_bar:
            figure.colorbar(shown, ax=axes, label=colour_bar, shrink=0.8)
        return figure


def kernels(folder: Path, name: str, weights: np.ndarray, network: str) -> None:
    """Draws the kernels of a convolution in grey and as a heat map with a colour bar.

    A kernel of the first layer shows the pattern of pixels to which it responds most, such as an edge. A kernel of a
    later layer combines the previous layer's maps, so its picture is harder to interpret. In general, bottom layers
    respond to edges and colours, the layers above to textures and parts of objects, and top layers to whole objects.

    The courses (ist-2021-22-hw2 Q2.3, dsl-2019-hw3 Q1.3) draw input channel 0 only. For layers with several input
    channels, such as the second convolution, the mean over the channels is drawn below, as the title explains. The
    colours range from -w to w, where w is the largest absolute weight drawn: 0 is grey, or white in the heat map, and
    positive weights are bright, or violet. At the end of training, hw_ocr draws its first and last convolution, and
    hw_cnn those that flags name, with the weights of the best epoch.

    Args:
        folder: folder for kernels-<name>-grey and kernels-<name>-heat, each as .png and .pdf.
        name: name of the layer.
        weights: kernels (output channels, input channels, height, width).
        network: name of the network and its data, for the title.
    """
    widest = 8 if len(weights) <= 16 else 16  # kernels in a row
    columns = max(n for n in range(1, widest + 1) if len(weights) % n == 0)
    maps, shown = [*weights[:, 0]], "input channel 0"
    if weights.shape[1] > 1:
        maps += [*weights.mean(axis=1)]
        shown += f" above, mean of {weights.shape[1]} input channels below"
    largest = float(np.abs(maps).max())
    for suffix, colours, bar in (("grey", figures.GREY, None), ("heat", figures.SIGNED, "weight")):
        figure = heatmap_grid(
            maps,
            columns,
            title=f"{len(weights)} kernels of {name}: {shown}\n{network}",
            colours=colours,
            limits=(-largest, largest),
            colour_bar=bar,
            cell=5.4 / max(columns, 10),
        )
        figures.save(figure, folder, f"kernels-{name}-{suffix}")


def bare(axes: Axes) -> None:
    """Removes ticks, grid and frame."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
    axes.spines[:].set_visible(False)
