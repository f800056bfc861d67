"""The figures of training runs and of comparisons."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from hw_common.runs import figures, image_grids
from hw_ocr.crf import LinearChainCRF
from hw_ocr.data import ALPHABET, Letters

_MAX_WORDS = 27  # more would not fit the page of a report
_TINT = np.array([0xF6, 0xC1, 0x6B]) / 255  # background of a misread letter
_MISREAD = "#A33F00"  # text colour of a wrong prediction


def training_curves(folder: Path, rows: Sequence[Mapping[str, float]], title: str) -> None:
    """Draws loss and accuracy per epoch, as curves.png and curves.pdf (dsl-2019-hw3, Figures 3, 4 and 10 to 13).

    The training loss of an epoch is the mean over its steps, so it lags behind the validation loss.
    """
    epochs = [row["epoch"] for row in rows]
    panels = {
        "loss per letter": {
            f"{part} loss": (epochs, [row[f"{part}_loss"] for row in rows]) for part in ("training", "validation")
        },
        "validation accuracy": {
            "by letter": (epochs, [row["validation_accuracy"] for row in rows]),
            "by whole word": (epochs, [row["validation_word_accuracy"] for row in rows]),
        },
    }
    figures.save(figures.curves(panels, "epoch", title), folder, "curves")


def convolutions(model: nn.Module) -> dict[str, nn.Conv2d]:
    """The first and the last convolution of `model` by the names of their layers; empty for a BiLSTM."""
    found = [(path, module) for path, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    return {path.split(".")[-2]: module for path, module in (found[:1] + found[-1:])}


def count_confusions(labels: Tensor, predicted: Tensor) -> Tensor:
    """Counts how often each letter (row) was predicted as each letter (column): (26, 26) int64 from two (n,) int64."""
    letters = len(ALPHABET)
    return torch.bincount(labels * letters + predicted, minlength=letters**2).view(letters, letters)


def confusion_rows(counts: Tensor) -> list[dict[str, Any]]:
    """The rows of confusion.csv from `counts` (26, 26)."""
    return [{"true": ALPHABET[i], **dict(zip(ALPHABET, row, strict=True))} for i, row in enumerate(counts.tolist())]


def confusion_matrix(folder: Path, counts: Tensor, title: str) -> None:
    """Draws which letters were mistaken for which, as confusion.png and .pdf.

    Args:
        folder: folder of the figure.
        counts: (26, 26), from `count_confusions`.
        title: network and data set.
    """
    shares = counts / counts.sum(1, keepdim=True).clamp(min=1)
    mistakes = shares.clone().fill_diagonal_(0)
    heading = (
        "test letters misread, best epoch: share of each true letter that is read as another;\n"
        f"on the diagonal, the percentage read right\n{title}"
    )
    limits = (0, max(0.05, mistakes.max().item()))
    figure = _letter_pairs(mistakes, heading, figures.HEAT, limits, "share misread", "true letter", "read as")
    axes = figure.axes[0]
    for i, right in enumerate(shares.diagonal().tolist()):
        if counts[i].sum() > 0:
            axes.text(i, i, f"{100 * right:.0f}", ha="center", va="center", fontsize=7, color="white")
    figures.save(figure, folder, "confusion")


def transitions(folder: Path, crf: LinearChainCRF, title: str) -> None:
    """Draws the transition scores of a CRF, as transitions.png and .pdf."""
    scores = crf.transitions.detach().float().cpu()  # (from, to)
    largest = scores.abs().max().item() or 1.0
    heading = f"transition scores of the CRF, best epoch\n{title}"
    figure = _letter_pairs(scores, heading, figures.SIGNED, (-largest, largest), "score", "letter", "next letter")
    figures.save(figure, folder, "transitions")


def _letter_pairs(
    values: Tensor, title: str, colours: str, limits: tuple[float, float], colour_bar: str, rows: str, columns: str
) -> Figure:
    """A heat map of `values` (26, 26) with the letters at both axes; `rows` and `columns` are the axes' labels."""
    figure = image_grids.heatmap_grid(
        [values.numpy()], 1, title=title, colours=colours, limits=limits, colour_bar=colour_bar, cell=4.5
    )
    axes = figure.axes[0]
    axes.set_xticks(range(len(ALPHABET)), list(ALPHABET))
    axes.set_yticks(range(len(ALPHABET)), list(ALPHABET))
    axes.set_ylabel(rows)
    axes.set_xlabel(columns)
    return figure


def misread_words(folder: Path, letters: Letters, predicted: Tensor, title: str) -> None:
    """Draws a page of words with at least one misread letter, as misread.png and .pdf.

    Below the image of each letter are its label and the predicted letter. If there are more words than fit on the page,
    it shows an evenly spaced selection.

    Args:
        folder: folder of the figure.
        letters: the words, n letters in all.
        predicted: (n,) int64, the predicted letters.
        title: network and data set.
    """
    lengths = letters.lengths.tolist()
    words = zip(letters.images.split(lengths), letters.labels.split(lengths), predicted.split(lengths), strict=True)
    wrong = [word for word in words if bool((word[1] != word[2]).any())]
    number = min(len(wrong), _MAX_WORDS)
    shown = sorted((wrong[i * len(wrong) // number] for i in range(number)), key=lambda word: len(word[1]))
    count = f"{len(shown)} of the {len(wrong)}" if len(shown) < len(wrong) else f"the {len(wrong)}"
    heading = f"{count} misread of {len(lengths)} test words, best epoch; below each letter, its label and prediction"
    page, corners = _page([images.numpy() for images, _, _ in shown])
    height = 6.2 * page.shape[0] / page.shape[1]
    figure = image_grids.image_grid([page], columns=1, title=f"{heading}\n{title}", cell=6.2, height=height)
    axes = figure.axes[0]
    for (_, true, read), (top, left) in zip(shown, corners, strict=True):
        for i, (label, guess) in enumerate(zip(true.tolist(), read.tolist(), strict=True)):
            column, misread = left + 9 * i, label != guess
            if misread:
                cell = page[top : top + 16, column : column + 8]
                cell *= _TINT
            style: dict[str, Any] = {
                "ha": "center",
                "va": "center",
                "fontsize": figures.SMALLEST,
                "family": "monospace",
            }
            axes.text(column + 3.5, top + 19, ALPHABET[label], color="black", **style)
            weight, colour = ("bold", _MISREAD) if misread else ("normal", "black")
            axes.text(column + 3.5, top + 26, ALPHABET[guess], color=colour, weight=weight, **style)
    axes.images[0].set_data(page)
    figures.save(figure, folder, "misread")


def _page(words: Sequence[np.ndarray], columns: int = 3) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """A page (height, width, 3) with the letters (T, 16, 8) of each word, and the top left corner of each word.

    The words are placed column by column, with space for two lines of text below each word. A corner is (row, column).
    """
    rows = max(1, -(-len(words) // columns))
    widths = [max((len(word) for word in words[rows * c : rows * (c + 1)]), default=1) for c in range(columns)]
    lefts = np.cumsum([2, *(9 * width + 12 for width in widths)])
    page = np.ones((34 * rows, max(int(lefts[-1]), 250), 3))
    corners = []
    for number, word in enumerate(words):
        top, left = 2 + 34 * (number % rows), int(lefts[number // rows])
        for i, letter in enumerate(word):
            page[top : top + 16, left + 9 * i : left + 9 * i + 8] -= letter[:, :, None]
        corners.append((top, left))
    return page, corners


def comparison(folder: Path, table: Sequence[Mapping[str, Any]], title: str) -> None:
    """Draws the accuracies of several networks, by letter and by whole word, as comparison.png and .pdf.

    Args:
        folder: folder of the figure.
        table: a row for each network, with its name and the accuracies of `compare.report` after the last epoch.
        title: title of the figure; names the data set.
    """
    figure = figures.new_figure(figures.PAGE_WIDTH, 0.9 + 0.25 * len(table), title)
    heights = np.arange(len(table))
    with figures.style():
        panels = figure.subplots(1, 2, sharey=True)
        for axes, metric in zip(panels, ("accuracy", "word_accuracy"), strict=True):
            for part, marker, colour, lift in (("validation", "o", "#0072B2", -0.12), ("test", "s", "#D55E00", 0.12)):
                values = [row[f"final_{part}_{metric}"] for row in table]
                spread = [row[f"final_{part}_{metric}_std"] for row in table]
                style = {"fmt": marker, "color": colour, "markersize": 4, "capsize": 2}
                axes.errorbar(values, heights + lift, xerr=spread, label=part, **style)
            published = [(row[f"published_test_{metric}"], height) for row, height in zip(table, heights, strict=True)]
            published = [(value, height) for value, height in published if value is not None]
            if published:
                axes.plot(*zip(*published, strict=True), "kx", markersize=6, label="test, published")
            axes.set_xlabel("accuracy by letter" if metric == "accuracy" else "accuracy by whole word")
            axes.set_yticks(heights, [row["network"] for row in table])
            axes.locator_params(axis="x", nbins=6)
        panels[0].invert_yaxis()
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    figures.save(figure, folder, "comparison")
