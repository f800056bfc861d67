"""The figures of a digit classification."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from hw_common.runs import figures

Rows = Sequence[Mapping[str, float]]


def learning_curves(folder: Path, loss_history: Sequence[float], rows: Rows, what: str) -> None:
    """Loss of every step and accuracies of every epoch (eecs545-w20-hw4 Q2c, Q3c), as curves.png and curves.pdf."""
    epochs = [row["epoch"] for row in rows]
    steps = (np.arange(len(loss_history)) + 1) * len(epochs) / len(loss_history)
    panels = {
        "training loss": {
            "of each step": (steps, loss_history),
            "mean of each epoch": (np.array(epochs) - 0.5, [row["training_loss"] for row in rows]),
        },
        "accuracy": {
            "training (up to 1 000 images)": (epochs, [row["training_accuracy"] for row in rows]),
            "validation": (epochs, [row["validation_accuracy"] for row in rows]),
        },
    }
    figure = figures.curves(panels, "epoch", what)
    loss_panel = figure.axes[0]
    loss_panel.set_yscale("log")  # or the first steps are all there is to see
    loss_panel.lines[0].set(linewidth=0.4, marker="")  # thousands of steps, behind their means
    loss_panel.legend(fontsize=8, frameon=False)
    figures.save(figure, folder, "curves")


def selection(folder: Path, candidates: Rows, what: str) -> None:
    """Validation accuracy against hidden units, a line per filter size, as selection.png and selection.pdf.

    Args:
        folder: gets the figure.
        candidates: the best epoch of each, with hidden_dim, validation_accuracy and, for the CNN, filter_size.
        what: data and sheet, for the title.
    """
    lines: dict[str, tuple[list[float], list[float]]] = {}
    for row in sorted(candidates, key=lambda row: row["hidden_dim"]):
        size = row.get("filter_size")
        x, y = lines.setdefault(f"filters of {size}×{size}" if size else "two-layer network", ([], []))
        x.append(row["hidden_dim"])
        y.append(row["validation_accuracy"])
    title = f"{what}, choice on validation"
    figures.save(figures.curves({"best validation accuracy": lines}, "hidden units", title), folder, "selection")
