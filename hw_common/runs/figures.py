"""One look for all figures: readable in grey, by colour-blind people, on screen (.png) and in a report (.pdf)."""

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hw_common.runs import files

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
AS_WRITTEN = {"text.parse_math": False}  # names and captions of the user's own may hold dollar signs
_GAP = 0.1  # between maps, in their widths and heights
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
        figure.set_layout_engine("none")  # the first one has laid it out: half of the time
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
        figure.suptitle(title, fontsize=11, parse_math=False)
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


def curves_over_seeds(
    runs: Mapping[str, Sequence[Sequence[Mapping[str, float]]]], panels: Mapping[str, str], title: str
) -> Figure:
    """Draws metrics against the epoch: the mean over the seeds as a line, one standard deviation as a band.

    Args:
        runs: for each line's label, the runs with different seeds; a run is its metrics, one row for each epoch.
        panels: name of the metric in these rows, by the y label of its panel.
        title: title of the whole figure; names the data.
    """
    means: dict[str, Series] = {}
    spread: dict[str, Series] = {}
    for ylabel, metric in panels.items():
        values = {
            label: np.array([[row[metric] for row in rows] for rows in of_label]) for label, of_label in runs.items()
        }
        epochs = {label: [row["epoch"] for row in of_label[0]] for label, of_label in runs.items()}
        means[ylabel] = {label: (epochs[label], v.mean(axis=0).tolist()) for label, v in values.items()}
        spread[ylabel] = {
            label: (epochs[label], v.std(axis=0, ddof=1).tolist()) for label, v in values.items() if len(v) > 1
        }
    return curves(means, "epoch", title, spread)


def training_curves(rows: Sequence[Mapping[str, float]], title: str) -> Figure:
    """Loss and accuracy against the epoch, training and validation.

    Training values are means over the epoch, while the weights change, with dropout and on augmented images;
    validation values are those of its end, so that they can be the better ones.

    Args:
        rows: one for each epoch, with training_loss, training_accuracy, validation_loss and validation_accuracy.
        title: of the whole figure; says which data it shows.
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
    rows = math.ceil(len(images) / columns)
    with mpl.rc_context({**_STYLE, **AS_WRITTEN}):
        figure = _figure(max(columns * cell + 0.1, 4.5), rows * (cell + (0.32 if titles else 0.08)) + 0.5)
        figure.suptitle(title, fontsize=9)
        for i, axes in enumerate(figure.subplots(rows, columns, squeeze=False).flat):
            _bare(axes)
            if i >= len(images):
                continue
            axes.imshow(np.asarray(images[i]), interpolation="nearest", cmap=colours)
            if titles:
                axes.set_title(titles[i], fontsize=7, pad=2)
            if row_labels and i % columns == 0:
                axes.set_ylabel(row_labels[i // columns], fontsize=8)
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
    """Arrays of numbers as colours on one common scale.

    Args:
        maps: (height, width), the same for all.
        columns: maps per row.
        title: of the whole figure.
        colours: GREY, HEAT, or SIGNED for values around zero.
        limits: values of the first and the last colour; the extremes of all maps by default.
        colour_bar: what the numbers are; None draws no bar.
        cell: width of a map in inches.
    """
    low, high = limits or (min(float(m.min()) for m in maps), max(float(m.max()) for m in maps))
    rows, (height, width) = math.ceil(len(maps) / columns), maps[0].shape
    with mpl.rc_context({**_STYLE, **AS_WRITTEN}):
        figure = _figure(max(columns * cell + (0.9 if colour_bar else 0.1), 4.5), rows * (cell + 0.08) + 0.5)
        figure.suptitle(title, fontsize=9)
        # All in one coordinate system: one for each map would take ten times as long to draw.
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


def kernels(folder: Path, name: str, weights: np.ndarray, what: str) -> None:
    """The kernels of a convolution, in grey and as a heat map with a colour bar.

    The courses draw input channel 0 only; where there are more, their mean stands below, and the title says so.

    Args:
        folder: gets kernels-<name>-grey and kernels-<name>-heat, each as .png and .pdf.
        name: of the layer.
        weights: (output channels, input channels, height, width).
        what: network and data, for the title.
    """
    columns = max(n for n in range(1, 9) if len(weights) % n == 0)
    maps, shown = [*weights[:, 0]], "input channel 0"
    if weights.shape[1] > 1:
        maps += [*weights.mean(axis=1)]
        shown += f" above, mean of {weights.shape[1]} input channels below"
    largest = float(np.abs(maps).max())
    for suffix, colours, bar in (("grey", GREY, None), ("heat", SIGNED, "weight")):
        figure = heatmap_grid(
            maps,
            columns,
            title=f"{len(weights)} kernels of {name}: {shown}\n{what}",
            colours=colours,
            limits=(-largest, largest),
            colour_bar=bar,
            cell=0.75,
        )
        save(figure, folder, f"kernels-{name}-{suffix}")


def _bare(axes: Axes) -> None:
    """Leaves nothing but the pictures."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
    axes.spines[:].set_visible(False)
