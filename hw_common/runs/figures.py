"""Figures in one style: readable in grey and by colour-blind people, as .png for screens and .pdf for reports."""

import io
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
# Reports show figures at their own size, so they must fit the text width of A4 and their letters must be readable.
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
LINE_HEIGHT = 0.125  # inches for a line of text above an image
_TITLE_LINE, _TITLE_CHARACTER = 0.15, 0.065  # inches for a line of a title, and for a character of it
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
            figure.draw_without_rendering()  # an extra pass, because layout and ticks of a plot depend on each other
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

    `width`, at most that of a page, and `height` are in inches; `height` does not include the title.
    """
    width = min(width, PAGE_WIDTH)
    lines = [line for part in title.split("\n") for line in textwrap.wrap(part, int(width / _TITLE_CHARACTER))]
    with style():
        figure = Figure(figsize=(width, height + _TITLE_LINE * len(lines)), layout="constrained")
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

    Panels with the same lines share one legend below the figure if there are more than 3 lines or more than 2 panels.
    """
    legends = [axes.get_legend_handles_labels() for axes in figure.axes]
    labels = [names for _, names in legends]
    crowded = max(map(len, labels)) > 3
    shared = len(labels) > 1 and len(labels[0]) > 1 and all(names == labels[0] for names in labels)
    if shared and (crowded or len(labels) > 2):
        figure.legend(*legends[0], loc="outside lower center", ncols=4)
        return
    if crowded:
        figure.set_figheight(figure.get_figheight() + LINE_HEIGHT * max(map(len, labels)))
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
        panels: maps the y label of each panel to a metric of the rows, or to several metrics by the labels of lines.
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
