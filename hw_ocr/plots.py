"""The figures of a training run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from hw_common.runs import figures
from hw_ocr.crf import LinearChainCRF
from hw_ocr.data import ALPHABET, Letters

_MISREAD_SHOWN = 42
_TINT = np.array([0xF6, 0xC1, 0x6B]) / 255  # behind a misread letter
_MISREAD = "#A33F00"  # its name


def training_curves(folder: Path, rows: Sequence[Mapping[str, float]], what: str) -> None:
    """Loss and accuracy against the epoch, as curves.png and curves.pdf (dsl-2019-hw3, Figures 3, 4 and 10 to 13).

    The training loss is the mean over the epoch, while the weights change.
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
    figures.save(figures.curves(panels, "epoch", what), folder, "curves")


def convolutions(model: nn.Module) -> dict[str, nn.Conv2d]:
    """The first and the last convolution of `model`, under the report's names of their layers; none in a BiLSTM."""
    found = [(path, module) for path, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    return {path.split(".")[-2]: module for path, module in (found[:1] + found[-1:])}


def count_confusions(labels: Tensor, predicted: Tensor) -> Tensor:
    """How often each letter (rows) is read as each letter (columns): (26, 26) int64 from two (n,) int64."""
    letters = len(ALPHABET)
    return torch.bincount(labels * letters + predicted, minlength=letters**2).view(letters, letters)


def confusion_rows(counts: Tensor) -> list[dict[str, Any]]:
    """`counts` (26, 26) as rows of a table."""
    return [{"true": ALPHABET[i], **dict(zip(ALPHABET, row, strict=True))} for i, row in enumerate(counts.tolist())]


def confusion_matrix(folder: Path, counts: Tensor, what: str) -> None:
    """Which letters are taken for which, as confusion.png and .pdf.

    Args:
        folder: where to.
        counts: (26, 26), see `count_confusions`.
        what: network and data, for the title.
    """
    shares = counts / counts.sum(1, keepdim=True).clamp(min=1)
    mistakes = shares.clone().fill_diagonal_(0)
    figure = figures.heatmap_grid(
        [mistakes.numpy()],
        columns=1,
        title=f"test letters misread, best epoch: share of each row's letter that is read as the column's;\n"
        f"on the diagonal, the percentage read right\n{what}",
        limits=(0, max(0.05, mistakes.max().item())),
        colour_bar="share misread",
        cell=6.2,
    )
    axes = figure.axes[0]
    _name_letters(axes, rows="true letter", columns="read as")
    for i, right in enumerate(shares.diagonal().tolist()):
        if counts[i].sum() > 0:
            axes.text(i, i, f"{100 * right:.0f}", ha="center", va="center", fontsize=6, color="white")
    figures.save(figure, folder, "confusion")


def transitions(folder: Path, crf: LinearChainCRF, what: str) -> None:
    """What a CRF has learned about which letter follows which, as transitions.png and .pdf."""
    scores = crf.transitions.detach().float().cpu().numpy()  # (from, to)
    largest = float(np.abs(scores).max()) or 1.0
    figure = figures.heatmap_grid(
        [scores],
        columns=1,
        title=f"transition scores of the CRF, best epoch\n{what}",
        colours=figures.SIGNED,
        limits=(-largest, largest),
        colour_bar="score",
        cell=6.2,
    )
    _name_letters(figure.axes[0], rows="letter", columns="next letter")
    figures.save(figure, folder, "transitions")


def _name_letters(axes: Axes, rows: str, columns: str) -> None:
    axes.set_xticks(range(len(ALPHABET)), list(ALPHABET), fontsize=8)
    axes.set_yticks(range(len(ALPHABET)), list(ALPHABET), fontsize=8)
    axes.set_ylabel(rows)
    axes.set_xlabel(columns)


def misread_words(folder: Path, letters: Letters, predicted: Tensor, what: str) -> None:
    """A page of words of `letters` with at least one misread letter, as misread.png and .pdf.

    Each letter's image stands above what it is and what it was read as. Where there are more words than fit on a page,
    they are taken evenly from all of them.

    Args:
        folder: where to.
        letters: (n) in words.
        predicted: (n,) int64, what they are read as.
        what: network and data, for the title.
    """
    lengths = letters.lengths.tolist()
    words = zip(letters.images.split(lengths), letters.labels.split(lengths), predicted.split(lengths), strict=True)
    wrong = [word for word in words if bool((word[1] != word[2]).any())]
    if len(wrong) > _MISREAD_SHOWN:
        shown = [wrong[i * len(wrong) // _MISREAD_SHOWN] for i in range(_MISREAD_SHOWN)]
    else:
        shown = wrong
    shown = sorted(shown, key=lambda word: len(word[1]))
    count = f"{len(shown)} of the {len(wrong)}" if len(shown) < len(wrong) else f"the {len(wrong)}"
    title = f"{count} misread of {len(lengths)} test words, best epoch; below each letter, what it is and was read as"
    page, places = _page([images.numpy() for images, _, _ in shown])
    figure = figures.image_grid([page], columns=1, title=f"{title}\n{what}", cell=8)
    figure.set_size_inches(8, 0.6 + 8 * page.shape[0] / page.shape[1])
    axes = figure.axes[0]
    for (_, true, read), (top, left) in zip(shown, places, strict=True):
        for i, (label, guess) in enumerate(zip(true.tolist(), read.tolist(), strict=True)):
            column, wrongly = left + 9 * i, label != guess
            if wrongly:
                cell = page[top : top + 16, column : column + 8]
                cell *= _TINT
            style = {"ha": "center", "va": "center", "fontsize": 6.5, "family": "monospace"}
            axes.text(column + 3.5, top + 19, ALPHABET[label], color="black", **style)
            weight, colour = ("bold", _MISREAD) if wrongly else ("normal", "black")
            axes.text(column + 3.5, top + 26, ALPHABET[guess], color=colour, weight=weight, **style)
    axes.images[0].set_data(page)
    figures.save(figure, folder, "misread")


def _page(words: Sequence[np.ndarray], columns: int = 3) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """White paper with the letters (T, 16, 8) of `words`, column by column, and room for two lines below each.

    Returns:
        (height, width, 3) float, and the top left corner of each word.
    """
    rows = max(1, -(-len(words) // columns))
    widths = [max((len(word) for word in words[rows * c : rows * (c + 1)]), default=1) for c in range(columns)]
    lefts = np.cumsum([2, *(9 * width + 12 for width in widths)])
    page = np.ones((34 * rows, max(int(lefts[-1]), 250), 3))
    places = []
    for number, word in enumerate(words):
        top, left = 2 + 34 * (number % rows), int(lefts[number // rows])
        for i, letter in enumerate(word):
            page[top : top + 16, left + 9 * i : left + 9 * i + 8] -= letter[:, :, None]
        places.append((top, left))
    return page, places


def comparison(folder: Path, table: Sequence[Mapping[str, Any]], what: str) -> None:
    """Accuracies of several networks, by letter and by whole word, as comparison.png and .pdf.

    Args:
        folder: where to.
        table: rows with "network" and, for the last epoch, means and standard deviations over seeds.
        what: data, for the title.
    """
    figure = Figure(figsize=(10, 1.4 + 0.35 * len(table)), layout="constrained")
    figure.suptitle(what, fontsize=11)
    places = np.arange(len(table))
    for axes, metric in zip(figure.subplots(1, 2, sharey=True), ("accuracy", "word_accuracy"), strict=True):
        for part, marker, colour, lift in (("validation", "o", "#0072B2", -0.12), ("test", "s", "#D55E00", 0.12)):
            values = [row[f"final_{part}_{metric}"] for row in table]
            spread = [row[f"final_{part}_{metric}_std"] for row in table]
            axes.errorbar(values, places + lift, xerr=spread, fmt=marker, color=colour, capsize=3, label=part)
        published = [(row[f"published_test_{metric}"], place) for row, place in zip(table, places, strict=True)]
        published = [(value, place) for value, place in published if value is not None]
        if published:
            axes.plot(*zip(*published, strict=True), "kx", markersize=8, label="test, published")
        axes.set_xlabel("accuracy by letter" if metric == "accuracy" else "accuracy by whole word")
        axes.set_yticks(places, [row["network"] for row in table])
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    axes.invert_yaxis()
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    figures.save(figure, folder, "comparison")
