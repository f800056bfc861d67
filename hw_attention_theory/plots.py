"""The figures of training, of the claims and of the scaling with the sequence length."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hw_common.runs import figures


def training_curves(folder: Path, rows: Sequence[Mapping[str, float]], title: str) -> None:
    """Draws loss and accuracy per epoch, as curves.png and curves.pdf.

    The training loss of an epoch is the mean over its steps, so it lags behind the validation loss.
    """
    epochs = [row["epoch"] for row in rows]
    panels = {
        "loss": {part: (epochs, [row[f"{part}_loss"] for row in rows]) for part in ("training", "validation")},
        "validation accuracy": {"validation": (epochs, [row["validation_accuracy"] for row in rows])},
    }
    figures.save(figures.curves(panels, "epoch", title), folder, "curves")


def approximation(folder: Path, rows: Sequence[Mapping[str, Any]], title: str) -> None:
    """Draws the error of linear attention and its bound against ‖q‖‖k‖, as approximation.png and .pdf.

    Args:
        folder: folder of the figure.
        rows: "terms", "r", "error" and "bound" of each point; an infinite bound is not drawn.
        title: sizes of the measured attention.
    """
    series: dict[str, tuple[list[float], list[float]]] = {}
    for row in rows:
        x, y = series.setdefault(f"{row['terms']} terms", ([], []))
        x.append(row["r"])
        y.append(row["error"])
    title = f"linear against softmax attention\n{title}"
    figure = figures.curves({"largest error of Z / largest |V|": series}, "‖q‖‖k‖", title, legends=False)
    [axes] = figure.axes
    for line, (label, (x, _)) in zip(list(axes.lines), series.items(), strict=True):
        bounds = [row["bound"] for row in rows if f"{row['terms']} terms" == label]
        [bound] = axes.plot(x, bounds, linewidth=0.8, linestyle=":", markersize=5, markerfacecolor="none")
        bound.set(color=line.get_color(), marker=line.get_marker(), label=f"bound for {label}")
    figures.log_scale(axes, "x", base=2)
    figures.log_scale(axes, "y")
    axes.legend(fontsize=figures.SMALLEST, frameon=False)
    figures.save(figure, folder, "approximation")


def scaling(folder: Path, summary: Mapping[str, Any], title: str) -> None:
    """Draws time and memory against the length, and the crossover against D, as scaling.png and .pdf.

    Args:
        folder: folder of the figure.
        summary: summary of `scaling_report.report`.
        title: sheet, threads and precision.
    """
    dimensions = sorted({point["D"] for point in summary["points"]})
    shown = 16 if 16 in dimensions else dimensions[-1]  # lines for all dimensions would be too many
    panels: dict[str, dict[str, tuple[list[float], list[float]]]] = {"seconds": {}, "MB beyond the inputs": {}}
    for point in summary["points"]:
        if point["D"] == shown:
            label = "softmax" if point["K"] is None else f"linear, {point['K']} terms (M = {point['M']})"
            megabytes = max(point["bytes"] / 1e6, 0.1)  # smaller differences are not measurable
            for panel, value in zip(panels.values(), (point["seconds"], megabytes), strict=True):
                x, y = panel.setdefault(label, ([], []))
                x.append(point["L"])
                y.append(value)
    for point in summary["points"]:  # drawn last, so that the lines above look the same in both panels
        if point["D"] == shown and point.get("plain_bytes"):
            x, y = panels["MB beyond the inputs"].setdefault(f"the same without chunks, {point['K']} terms", ([], []))
            x.append(point["L"])
            y.append(point["plain_bytes"] / 1e6)
    panels["L from which linear is faster"] = _crossovers(summary["crossovers"])
    figure = figures.curves(panels, f"L (D = {shown})", f"softmax and linear attention: {title}", legends=False)
    for axes in figure.axes:
        figures.log_scale(axes, "x", base=2)
        figures.log_scale(axes, "y", base=2 if axes is figure.axes[-1] else 10)
    axes = figure.axes[-1]
    axes.set_xlabel("D")
    axes.set_xticks(dimensions, [str(D) for D in dimensions])
    axes.minorticks_off()
    for length, features in zip(axes.lines[::2], axes.lines[1::2], strict=True):
        features.set(color=length.get_color(), linestyle=":", linewidth=0.8, markerfacecolor="none")
    figure.set_figheight(figure.get_figheight() + 0.8)
    with figures.style():
        figure.legend(*figure.axes[1].get_legend_handles_labels(), loc="outside lower left", ncols=2)
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower right")
    figures.save(figure, folder, "scaling")


def _crossovers(rows: Sequence[Mapping[str, Any]]) -> dict[str, tuple[list[float], list[float]]]:
    """The measured crossovers and M against D, for each number of terms; extrapolated crossovers are not shown."""
    series: dict[str, tuple[list[float], list[float]]] = {}
    for terms in sorted({row["K"] for row in rows}):
        chosen = [row for row in rows if row["K"] == terms and row["how"] == "measured"]
        if chosen:
            for label, name in ((f"{terms} terms", "length"), (f"M of {terms} terms", "M")):
                series[label] = ([row["D"] for row in chosen], [row[name] for row in chosen])
    return series
