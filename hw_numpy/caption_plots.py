"""The figures of image captioning."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy import ndarray

from hw_common.runs import figures

_COLUMNS = 4
_CELL = 2.3  # inches
_LINE_WIDTH = 38  # letters


def learning_curve(folder: Path, loss_history: Sequence[float], epoch_losses: Sequence[float], what: str) -> None:
    """Training loss of every step and every epoch (eecs545-w20-hw4 Q4d), as curves.png and curves.pdf.

    Args:
        folder: gets the figure.
        loss_history: of every step.
        epoch_losses: mean of every epoch, while the parameters changed.
        what: data and sheet, for the title.
    """
    steps = (np.arange(len(loss_history)) + 1) * len(epoch_losses) / len(loss_history)
    lines = {
        "of each step": (steps, loss_history),
        "mean of each epoch": (np.arange(len(epoch_losses)) + 0.5, epoch_losses),
    }
    figure = figures.curves({"training loss": lines, "training loss, logarithmic": lines}, "epoch", what)
    figure.axes[1].set_yscale("log")
    figures.save(figure, folder, "curves")


def captions(folder: Path, panels: Sequence[tuple[str, ndarray, str, str]], what: str) -> None:
    """Images with the generated caption and the true one under each (Q4d), as captions.png and captions.pdf.

    Args:
        folder: gets the figure.
        panels: of each image its part, its pixels (height, width, 3) uint8, the generated and the true caption.
        what: data and sheet, for the title.
    """
    texts = [f"{_wrapped('generated', ours)}\n{_wrapped('true', true)}" for _, _, ours, true in panels]
    pictures, parts = [picture for _, picture, _, _ in panels], [part for part, *_ in panels]
    title = f"{what}: generated captions and true ones"
    figure = figures.image_grid(pictures, _COLUMNS, title=title, titles=parts, cell=_CELL)
    for axes, text in zip(figure.axes, texts, strict=False):
        axes.set_anchor("N")  # images of a row begin at the same height
        axes.set_xlabel(text, fontsize=7, loc="left", parse_math=False)  # a caption may have a dollar sign
    rows = range(0, len(texts), _COLUMNS)
    lines = sum(1 + max(text.count("\n") for text in texts[row : row + _COLUMNS]) for row in rows)
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height - 0.15 * len(rows) + 0.117 * lines)  # a line of this size; less air elsewhere
    figures.save(figure, folder, "captions")


def _wrapped(kind: str, caption: str) -> str:
    return "\n".join(textwrap.wrap(f"{kind}: {caption.removesuffix(' <END>')}", _LINE_WIDTH))
