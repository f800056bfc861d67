"""The figures of this homework."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hw_common.runs import figures


def training_curves(folder: Path, rows: Sequence[Mapping[str, float]], what: str) -> None:
    """Loss and accuracy against the epoch, as curves.png and curves.pdf.

    The training loss is the mean over the epoch, while the weights change.
    """
    epochs = [row["epoch"] for row in rows]
    panels = {
        "loss": {part: (epochs, [row[f"{part}_loss"] for row in rows]) for part in ("training", "validation")},
        "validation accuracy": {"validation": (epochs, [row["validation_accuracy"] for row in rows])},
    }
    figures.save(figures.curves(panels, "epoch", what), folder, "curves")


def approximation(folder: Path, rows: Sequence[Mapping[str, Any]], what: str) -> None:
    """The error of linear attention against ‖q‖‖k‖, with its bound, as approximation.png and .pdf.

    Args:
        folder: where to.
        rows: with "terms", "r", "error" and "bound", infinite where there is none.
        what: for the title.
    """
    series: dict[str, tuple[list[float], list[float]]] = {}
    for row in rows:
        x, y = series.setdefault(f"{row['terms']} terms", ([], []))
        x.append(row["r"])
        y.append(row["error"])
    figure = figures.curves(
        {"largest error of Z / largest |V|": series}, "‖q‖‖k‖", f"linear against softmax attention\n{what}"
    )
    [axes] = figure.axes
    for line, (label, (x, _)) in zip(list(axes.lines), series.items(), strict=True):
        bounds = [row["bound"] for row in rows if f"{row['terms']} terms" == label]
        look = {"color": line.get_color(), "marker": line.get_marker(), "markersize": 5, "markerfacecolor": "none"}
        axes.plot(x, bounds, **look, linewidth=0.8, linestyle=":", label=f"bound for {label}")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.legend(fontsize=8, frameon=False)
    figures.save(figure, folder, "approximation")


def scaling(folder: Path, summary: Mapping[str, Any], what: str) -> None:
    """Time and memory against the length, and the crossover against D, as scaling.png and .pdf.

    Args:
        folder: where to.
        summary: of `scaling_report.report`.
        what: for the title.
    """
    dimensions = sorted({point["D"] for point in summary["points"]})
    shown = 16 if 16 in dimensions else dimensions[-1]  # all of them would be too many lines
    panels: dict[str, dict[str, tuple[list[float], list[float]]]] = {"seconds": {}, "MB beyond the inputs": {}}
    for point in summary["points"]:
        if point["D"] == shown:
            label = "softmax" if point["K"] is None else f"linear, {point['K']} terms (M = {point['M']})"
            megabytes = max(point["bytes"] / 1e6, 0.1)  # less cannot be told from nothing
            for panel, value in zip(panels.values(), (point["seconds"], megabytes), strict=True):
                x, y = panel.setdefault(label, ([], []))
                x.append(point["L"])
                y.append(value)
    panels["L from which linear is faster"] = _crossovers(summary["crossovers"])
    figure = figures.curves(panels, f"L (D = {shown})", f"softmax and linear attention: {what}")
    for axes in figure.axes:
        axes.set_xscale("log", base=2)
        axes.set_yscale("log", base=2 if axes is figure.axes[-1] else 10)
    axes = figure.axes[-1]
    axes.set_xlabel("D")
    axes.set_xticks(dimensions, [str(D) for D in dimensions])
    axes.minorticks_off()
    for length, features in zip(axes.lines[::2], axes.lines[1::2], strict=True):
        features.set(color=length.get_color(), linestyle=":", linewidth=0.8, markerfacecolor="none")
    if axes.lines:
        axes.legend(fontsize=8, frameon=False)
    figures.save(figure, folder, "scaling")


def _crossovers(rows: Sequence[Mapping[str, Any]]) -> dict[str, tuple[list[float], list[float]]]:
    """Measured lengths and M against D, for each number of terms; those that are extrapolated are left out."""
    series: dict[str, tuple[list[float], list[float]]] = {}
    for terms in sorted({row["K"] for row in rows}):
        chosen = [row for row in rows if row["K"] == terms and row["how"] == "measured"]
        if chosen:
            series[f"{terms} terms"] = ([row["D"] for row in chosen], [row["length"] for row in chosen])
            series[f"M of {terms} terms"] = ([row["D"] for row in chosen], [row["M"] for row in chosen])
    return series
