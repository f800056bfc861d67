"""The figures of the digit classification and of the captioning."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy import ndarray

from hw_common.runs import figures, image_grids

Rows = Sequence[Mapping[str, float]]
Series = dict[str, tuple[Sequence[float], Sequence[float]]]
_COLUMNS = 4  # images in a row of the figure of captions
_IMAGE_SIZE = 1.5  # inches
_LINE_WIDTH = 26  # characters


def learning_curves(folder: Path, loss_history: Sequence[float], rows: Rows, title: str) -> None:
    """Draws the loss of every step and the accuracies of every epoch (Q2c, Q3c), as curves.png and curves.pdf.

    Args:
        folder: folder for the figure.
        loss_history: loss of every step.
        rows: metrics of every epoch.
        title: beginning of the figure's title: data set and question of the sheet.
    """
    epochs = [row["epoch"] for row in rows]
    accuracies: Series = {
        "training (up to 1 000 images)": (epochs, [row["training_accuracy"] for row in rows]),
        "validation": (epochs, [row["validation_accuracy"] for row in rows]),
    }
    losses = _losses(loss_history, [row["training_loss"] for row in rows])
    figure = figures.curves({"training loss": losses, "accuracy": accuracies}, "epoch", title)
    loss_panel = figure.axes[0]
    figures.log_scale(loss_panel, "y")  # the loss of the first steps is many times that of later steps
    loss_panel.lines[0].set(linewidth=0.4, marker="")  # a thin line, because there are thousands of steps
    loss_panel.legend(fontsize=figures.SMALLEST, frameon=False)
    figures.save(figure, folder, "curves")


def curves_over_seeds(folder: Path, runs: Mapping[str, Sequence[Rows]], title: str) -> None:
    """Draws loss and accuracies of the chosen networks (Q2c, Q3c), as curves.png and curves.pdf.

    Args:
        folder: folder for the figure.
        runs: metrics of every epoch for each seed, by the network's title.
        title: title of the figure.
    """
    panels = {"training loss": "training_loss", "validation accuracy": "validation_accuracy"}
    figure = figures.curves_over_seeds(runs, panels, title)
    figures.log_scale(figure.axes[0], "y")
    figures.save(figure, folder, "curves")


def selection(folder: Path, candidates: Mapping[str, Rows], title: str) -> None:
    """Draws validation accuracy against hidden units, a line per filter size, as selection.png and selection.pdf.

    Args:
        folder: folder for the figure.
        candidates: for each network, by its title, the metrics of each candidate's best epoch, with hidden_dim and, for
            the CNN, filter_size. If they have a standard deviation, it is drawn as a band.
        title: beginning of the figure's title.
    """
    means: dict[str, Series] = {}
    spread: dict[str, Series] = {}
    for network, rows in candidates.items():
        means[network], spread[network] = {}, {}
        for size in sorted({row.get("filter_size", 0) for row in rows}):
            line = sorted((row for row in rows if row.get("filter_size", 0) == size), key=lambda row: row["hidden_dim"])
            label, units = f"filters of {size}×{size}" if size else network, [row["hidden_dim"] for row in line]
            means[network][label] = (units, [row["validation_accuracy"] for row in line])
            spread[network][label] = (units, [row.get("validation_accuracy_std", 0) for row in line])
    figure = figures.curves(means, "hidden units", f"{title}, best epoch of each candidate", spread)
    with figures.style():
        for axes, (network, rows) in zip(figure.axes, candidates.items(), strict=True):
            axes.set(title=network, ylabel="validation accuracy")
            figures.log_scale(axes, "x")
            axes.set_xticks(sorted({row["hidden_dim"] for row in rows}))
            axes.minorticks_off()
    figures.save(figure, folder, "selection")


def learning_curve(folder: Path, loss_history: Sequence[float], epoch_losses: Sequence[float], title: str) -> None:
    """Draws the training loss of every step and every epoch (Q4d), as curves.png and curves.pdf.

    Args:
        folder: folder for the figure.
        loss_history: loss of every step.
        epoch_losses: mean loss of every epoch.
        title: beginning of the figure's title: data set and question of the sheet.
    """
    losses = _losses(loss_history, epoch_losses)
    figure = figures.curves({"training loss": losses, "training loss, logarithmic": losses}, "epoch", title)
    figures.log_scale(figure.axes[1], "y")
    figures.save(figure, folder, "curves")


def _losses(loss_history: Sequence[float], epoch_losses: Sequence[float]) -> Series:
    """Lines with the loss of each step, and with the mean of each epoch in the middle of the epoch."""
    steps = (np.arange(len(loss_history)) + 1) * len(epoch_losses) / len(loss_history)
    middles = np.arange(len(epoch_losses)) + 0.5
    return {"of each step": (steps.tolist(), loss_history), "mean of each epoch": (middles.tolist(), epoch_losses)}


def captions(folder: Path, panels: Sequence[tuple[str, ndarray, str, str]], title: str) -> None:
    """Draws images with the generated caption and the true one below each (Q4d), as captions.png and captions.pdf.

    Args:
        folder: folder for the figure.
        panels: for each image its split (training or validation), pixels (height, width, 3) uint8, generated and true
            caption.
        title: beginning of the figure's title: data set and question of the sheet.
    """
    texts = [f"{_wrapped('generated', generated)}\n{_wrapped('true', true)}" for _, _, generated, true in panels]
    pictures, parts = [picture for _, picture, _, _ in panels], [part for part, *_ in panels]
    title += ": generated captions and true ones"
    figure = image_grids.image_grid(pictures, _COLUMNS, title=title, titles=parts, cell=_IMAGE_SIZE)
    for axes, text in zip(figure.axes, texts, strict=False):
        axes.set_anchor("N")  # aligns the upper edges of the images in a row
        # A caption may contain a dollar sign.
        axes.set_xlabel(text, fontsize=figures.SMALLEST, loc="left", parse_math=False)
    rows = range(0, len(texts), _COLUMNS)
    lines = sum(1 + max(text.count("\n") for text in texts[row : row + _COLUMNS]) for row in rows)
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + 0.117 * lines)  # 0.117 inches for each line of text
    figures.save(figure, folder, "captions")


def _wrapped(kind: str, caption: str) -> str:
    return "\n".join(textwrap.wrap(f"{kind}: {caption.removesuffix(' <END>')}", _LINE_WIDTH))
