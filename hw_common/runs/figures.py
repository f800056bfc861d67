"""Figures in one style: readable in grey and by colour-blind people, as .png for screens and .pdf for reports."""

import io
import math
import textwrap
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import NullFormatter

from hw_common.runs import files, fonts

RcParams = dict[Any, Any]  # keys and values of Matplotlib's rcParams

# The palette of Okabe and Ito. In grey, lines differ by lightness, dashes and markers.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000")
_DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
# Reports show a figure in its own size, so it must fit the text of an A4 page, and its letters must be readable there.
PAGE_WIDTH = 6.37  # inches
SMALLEST = 7  # size of the smallest letters, in points
_STYLE: RcParams = {
    "font.size": 8,
    "xtick.labelsize": SMALLEST,
    "ytick.labelsize": SMALLEST,
    "legend.fontsize": SMALLEST,
    "figure.titlesize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.titlesize": SMALLEST,
    "legend.frameon": False,
    "pdf.fonttype": 42,
    "text.parse_math": False,  # the user's names and captions may contain dollar signs
}
_LINE_HEIGHT = 0.125  # inches for a line of text above an image
_TITLE_LINE, _TITLE_CHARACTER = 0.15, 0.065  # inches for a line of a title, and for a character of it
_GAP = 0.1  # distance between maps, relative to their width and height
GREY, HEAT, SIGNED = "gray", "viridis", "PuOr"

Series = Mapping[str, tuple[Sequence[float], Sequence[float]]]


def save(figure: Figure, folder: Path, stem: str) -> list[Path]:
    """Writes `<stem>.png` and `<stem>.pdf` into `folder` and returns the paths.

    The same figure always gives the same bytes.
    """
    paths = []
    for suffix, content in (("png", to_png(figure)), ("pdf", _draw(figure, "pdf", metadata={"CreationDate": None}))):
        paths.append(folder / f"{stem}.{suffix}")
        files.write_bytes(paths[-1], content)
    return paths


def to_png(figure: Figure) -> bytes:
    """Draws `figure` as a PNG file."""
    fonts.make_drawable(figure)
    if any(axes.lines for axes in figure.axes):
        with style():
            figure.draw_without_rendering()  # the layout depends on the ticks, and the ticks of a plot on the layout
    content = _draw(figure, "png", dpi=200)
    figure.set_layout_engine("none")  # a PDF file reuses the layout, which saves half of the time
    return content


def _draw(figure: Figure, kind: str, **options: Any) -> bytes:
    assert figure.get_figwidth() <= PAGE_WIDTH, f"a figure is wider than a page: {figure.get_figwidth()} inches"
    buffer = io.BytesIO()
    with style():
        figure.savefig(buffer, format=kind, **options)
        small = [
            text.get_text()
            for text in figure.findobj(Text)
            if text.get_text() and float(text.get_fontsize()) < SMALLEST
        ]
    assert not small, f"a figure has letters that are too small to read: {small}"
    return buffer.getvalue()


def style() -> AbstractContextManager[None]:
    """The context in which a figure's axes and texts must be made to get the style of all figures."""
    return mpl.rc_context(_STYLE)


def new_figure(width: float, height: float, title: str) -> Figure:
    """An empty figure in the style of all figures, with a title whose lines are broken to fit.

    `width` is in inches, and so is `height`, the height without the title.
    """
    lines = [line for part in title.split("\n") for line in textwrap.wrap(part, int(width / _TITLE_CHARACTER))]
    with style():
        figure = Figure(figsize=(min(width, PAGE_WIDTH), height + _TITLE_LINE * len(lines)), layout="constrained")
        figure.suptitle("\n".join(lines))
        return figure


def curves(
    panels: Mapping[str, Series],
    xlabel: str,
    title: str,
    spread: Mapping[str, Series] | None = None,
    legends: bool = True,
) -> Figure:
    """Draws line plots, one panel beside the other.

    Args:
        panels: maps the y label of each panel to its lines: a dict from the line's label to (x values, y values).
        xlabel: label of all x axes.
        title: title of the whole figure; names the data.
        spread: standard deviations of lines, with the same keys; drawn as bands.
        legends: whether each panel with several lines gets a legend; False if the caller adds the legends.
    """
    with style():
        figure = new_figure(4.2 if len(panels) == 1 else PAGE_WIDTH, 2.4, title)
        grid = figure.subplots(1, len(panels), squeeze=False)[0]
        for axes, (ylabel, series) in zip(grid, panels.items(), strict=True):
            for i, (label, (x, y)) in enumerate(series.items()):
                colour = _COLOURS[i % len(_COLOURS)]
                axes.plot(
                    x,
                    y,
                    label=label,
                    color=colour,
                    linestyle=_DASHES[i % len(_DASHES)],
                    markersize=3.5,
                    marker=_MARKERS[i % len(_MARKERS)],
                    markevery=max(1, len(x) // 15),
                    linewidth=1.5,
                )
                if spread and label in spread.get(ylabel, {}):
                    deviation = np.asarray(spread[ylabel][label][1])
                    axes.fill_between(
                        x, np.asarray(y) - deviation, np.asarray(y) + deviation, color=colour, alpha=0.15, linewidth=0
                    )
            axes.set_xlabel(xlabel)
            axes.set_ylabel(ylabel)
            axes.xaxis.get_major_locator().set_params(integer=True)
        if legends:
            _add_legends(figure)
        return figure


def _add_legends(figure: Figure) -> None:
    """Adds a legend to each panel, below it if there are more than 3 lines.

    If there are more than 3 lines or 2 panels, panels with equal lines share one legend below the figure.
    """
    legends = [axes.get_legend_handles_labels() for axes in figure.axes]
    labels = [names for _, names in legends]
    crowded = max(map(len, labels)) > 3
    shared = len(labels) > 1 and len(labels[0]) > 1 and all(names == labels[0] for names in labels)
    if shared and (crowded or len(labels) > 2):
        figure.legend(*legends[0], loc="outside lower center", ncols=4)
        return
    if crowded:
        figure.set_figheight(figure.get_figheight() + _LINE_HEIGHT * max(map(len, labels)))
    for axes, names in zip(figure.axes, labels, strict=True):
        if len(names) > 1:
            axes.legend(**({"loc": "upper center", "bbox_to_anchor": (0.5, -0.2)} if crowded else {}))


def log_scale(axes: Axes, which: Literal["x", "y"], base: float = 10) -> None:
    """Makes an axis logarithmic. Its labels are plain numbers, because exponents would be too small to read."""
    getattr(axes, f"set_{which}scale")("log", base=base)
    axis = getattr(axes, f"{which}axis")
    low, high = axis.get_view_interval()
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter("{x:g}" if high < base * low else NullFormatter())


def curves_over_seeds(
    runs: Mapping[str, Sequence[Sequence[Mapping[str, float]]]],
    panels: Mapping[str, str | Mapping[str, str]],
    title: str,
) -> Figure:
    """Draws metrics against the epoch: the mean over the seeds as a line, one standard deviation as a band.

    Args:
        runs: the runs of each network, one per seed, by the network's label. A run is a list of metrics, one row per
            epoch.
        panels: y label of each panel, with the key of its metric in the rows; or with several keys by their labels.
        title: title of the whole figure; names the data.
    """
    means: dict[str, dict[str, tuple[list[float], list[float]]]] = {}
    spread: dict[str, dict[str, tuple[list[float], list[float]]]] = {}
    for ylabel, metrics in panels.items():
        means[ylabel], spread[ylabel] = {}, {}
        for network, of_network in runs.items():
            epochs = [row["epoch"] for row in of_network[0]]
            for label, metric in ({"": metrics} if isinstance(metrics, str) else metrics).items():
                line = network if not label else label if len(runs) == 1 else f"{network}, {label}"
                values = np.array([[row[metric] for row in rows] for rows in of_network])  # (runs, epochs)
                means[ylabel][line] = (epochs, values.mean(axis=0).tolist())
                if len(values) > 1:
                    spread[ylabel][line] = (epochs, values.std(axis=0, ddof=1).tolist())
    return curves(means, "epoch", title, spread)


def training_curves(rows: Sequence[Mapping[str, float]], title: str) -> Figure:
    """Draws loss and accuracy against the epoch, for training and validation.

    Validation values can be better than training values: they are computed after the epoch and without dropout and
    augmentation, whereas training values are means over the epoch, during which the weights change.

    Args:
        rows: metrics of each epoch: training_loss, training_accuracy, validation_loss and validation_accuracy.
        title: title of the whole figure; names the data.
    """
    epochs = [row["epoch"] for row in rows]
    panels = {
        quantity: {
            f"{part} {quantity}": (epochs, [row[f"{part}_{quantity}"] for row in rows])
            for part in ("training", "validation")
        }
        for quantity in ("loss", "accuracy")
    }
    return curves(panels, "epoch", title)


def image_grid(
    images: Sequence[np.ndarray],
    columns: int,
    *,
    title: str,
    titles: Sequence[str] = (),
    row_labels: Sequence[str] = (),
    colours: str = GREY,
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
    cell = min(cell, (PAGE_WIDTH - 0.1 - 0.35 * bool(row_labels)) / columns)
    tall = sum((height or cell) + 0.06 + _LINE_HEIGHT * lines for lines in above)
    figure = new_figure(max(columns * cell + 0.1 + 0.35 * bool(row_labels), 4.2), tall + 0.1, title)
    with style():
        grid = figure.subplots(rows, columns, squeeze=False)
        for i, axes in enumerate(grid.flat):
            _bare(axes)
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
    colours: str = HEAT,
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
    figure = new_figure(*size, title)
    with style():
        # All maps share one coordinate system, because an Axes for each map takes ten times as long to draw.
        axes = figure.subplots()
        _bare(axes)
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
    later layer combines the maps of the layer before, so its picture is harder to interpret. In general, bottom layers
    respond to edges and colours, the layers above to textures and parts of objects, and top layers to whole objects.

    The sheets (ist-2021-22-hw2 Q2.3, dsl-2019-hw3 Q1.3) draw input channel 0 only. For layers with several input
    channels, such as the second convolution, the mean over the channels is drawn below, as the title explains. The
    colours range from -w to w, where w is the largest absolute weight drawn, so grey, or white in the heat map, is 0.

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
    for suffix, colours, bar in (("grey", GREY, None), ("heat", SIGNED, "weight")):
        figure = heatmap_grid(
            maps,
            columns,
            title=f"{len(weights)} kernels of {name}: {shown}\n{network}",
            colours=colours,
            limits=(-largest, largest),
            colour_bar=bar,
            cell=5.4 / max(columns, 10),
        )
        save(figure, folder, f"kernels-{name}-{suffix}")


def _bare(axes: Axes) -> None:
    """Removes ticks, grid and frame."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
    axes.spines[:].set_visible(False)
