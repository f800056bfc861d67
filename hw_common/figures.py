"""One look for all figures: readable in grey, by colour-blind people, on screen (.png) and in a report (.pdf)."""

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from hw_common import files

# Okabe and Ito's colours; lightness, dashes and markers tell them apart in grey.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000")
_DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_STYLE = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.titlesize": 10,
    "legend.frameon": False,
    "pdf.fonttype": 42,
}
GREY, HEAT, SIGNED = "gray", "viridis", "PuOr"

Series = Mapping[str, tuple[Sequence[float], Sequence[float]]]


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), layout="constrained")


def save(figure: Figure, folder: Path, stem: str) -> list[Path]:
    """Writes `<stem>.png` and `<stem>.pdf` into `folder`, the same bytes for the same figure; returns the paths."""
    paths = []
    for suffix, options in (("png", {"dpi": 150}), ("pdf", {"metadata": {"CreationDate": None}})):
        buffer = io.BytesIO()
        with mpl.rc_context(_STYLE):
            figure.savefig(buffer, format=suffix, **options)
        paths.append(folder / f"{stem}.{suffix}")
        files.write_bytes(paths[-1], buffer.getbuffer())
    return paths


def curves(panels: Mapping[str, Series], xlabel: str, title: str, spread: Mapping[str, Series] | None = None) -> Figure:
    """Line plots side by side, one panel per quantity.

    Args:
        panels: y label to {line's label: (x values, y values)}.
        xlabel: label of all x axes.
        title: of the whole figure; says which data it shows.
        spread: standard deviations with the same keys, (x values, deviations); drawn as a band.
    """
    with mpl.rc_context(_STYLE):
        figure = _figure(4.6 * len(panels), 3.4)
        figure.suptitle(title, fontsize=11)
        for axes, (ylabel, series) in zip(
            figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
        ):
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
            if len(series) > 1:
                axes.legend(fontsize=8)
        return figure


def image_grid(
    images: Sequence[np.ndarray],
    columns: int,
    *,
    title: str,
    titles: Sequence[str] = (),
    row_labels: Sequence[str] = (),
    colours: str = GREY,
    cell: float = 1.2,
) -> Figure:
    """Images in rows of `columns`.

    Args:
        images: (height, width, 3) as uint8 or floats from 0 to 1; or (height, width), each shown in `colours` between
            its own extremes.
        columns: images per row.
        title: of the whole figure.
        titles: one above each image.
        row_labels: one at the left of each row.
        colours: GREY or HEAT.
        cell: width of an image in inches.
    """
    return _grid(images, columns, title, titles, row_labels, cell, {"cmap": colours}, None)


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
    """Arrays of numbers as colours on one common scale.

    Args:
        maps: (height, width) each.
        columns: maps per row.
        title: of the whole figure.
        colours: GREY, HEAT, or SIGNED for values around zero.
        limits: values of the first and the last colour; the extremes of all maps by default.
        colour_bar: what the numbers are; None draws no bar.
        cell: width of a map in inches.
    """
    low, high = limits or (min(float(m.min()) for m in maps), max(float(m.max()) for m in maps))
    options = {"cmap": colours, "vmin": low, "vmax": high if high > low else low + 1}
    return _grid(maps, columns, title, (), (), cell, options, colour_bar)


def _grid(
    pictures: Sequence[np.ndarray],
    columns: int,
    title: str,
    titles: Sequence[str],
    row_labels: Sequence[str],
    cell: float,
    options: Mapping[str, Any],
    colour_bar: str | None,
) -> Figure:
    rows = math.ceil(len(pictures) / columns)
    with mpl.rc_context(_STYLE):
        height = rows * (cell + (0.32 if titles else 0.08)) + 0.5
        figure = _figure(max(columns * cell + (0.9 if colour_bar else 0.1), 4.5), height)
        figure.suptitle(title, fontsize=9)
        grid = figure.subplots(rows, columns, squeeze=False)
        shown = None
        for i, axes in enumerate(grid.flat):
            axes.set_xticks([])
            axes.set_yticks([])
            axes.grid(False)
            axes.spines[:].set_visible(False)
            if i >= len(pictures):
                continue
            picture = np.asarray(pictures[i])
            shown = axes.imshow(picture, interpolation="nearest", **options)
            if titles:
                axes.set_title(titles[i], fontsize=7, pad=2)
            if row_labels and i % columns == 0:
                axes.set_ylabel(row_labels[i // columns], fontsize=8)
        if colour_bar and shown is not None:
            figure.colorbar(shown, ax=grid, label=colour_bar, shrink=0.8)
        return figure
