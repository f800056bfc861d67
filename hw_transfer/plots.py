"""The figures of a training run."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from hw_common.runs import figures
from hw_common.training.batches import generator_for


def confusion_matrix(folder: Path, counts: Sequence[Sequence[int]], classes: Sequence[str], title: str) -> None:
    """How many pictures of each class (row) are taken for each class (column), as confusion.png and confusion.pdf."""
    matrix = np.asarray(counts)
    share = matrix / matrix.sum(axis=1, keepdims=True)  # every class has validation pictures
    cell = 1.0 if len(classes) <= 5 else 0.6
    figure = figures.heatmap_grid(
        [share], 1, title=title, limits=(0, 1), colour_bar="part of the class", cell=max(3.0, cell * len(classes))
    )
    axes = figure.axes[0]
    axes.set_xticks(range(len(classes)), classes, rotation=0 if len(classes) <= 5 else 90, parse_math=False)
    axes.set_yticks(range(len(classes)), classes, parse_math=False)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if len(classes) <= 20:  # more numbers could not be read
        for (row, column), count in np.ndenumerate(matrix):
            colour = "black" if share[row, column] > 0.5 else "white"
            axes.text(column, row, str(count), ha="center", va="center", color=colour)
    figures.save(figure, folder, "confusion")


def predictions(
    pictures: Tensor,
    labels: Tensor,
    probabilities: Tensor,
    classes: Sequence[str],
    title: str,
    num_images: int = 6,
    seed: int = 0,
) -> Figure:
    """Pictures with what they are taken for and how surely: random ones, then the surest mistakes.

    Args:
        pictures: (N, 3, H, W) uint8.
        labels: (N,) true classes.
        probabilities: (N, classes) as predicted.
        classes: their names.
        title: of the figure.
        num_images: in a row.
        seed: picks the random ones.
    """
    sure, predicted = probabilities.max(dim=1)
    columns = min(num_images, len(labels))
    random = torch.randperm(len(labels), generator=generator_for(seed))[:columns]
    wrong = torch.nonzero(predicted != labels).flatten()
    wrong = wrong[sure[wrong].argsort(descending=True)][:columns]
    chosen = [*random.tolist(), *wrong.tolist()]
    titles = [
        f"{classes[predicted[i]]} {sure[i]:.2f}" + ("" if predicted[i] == labels[i] else f", is {classes[labels[i]]}")
        for i in chosen
    ]
    rows = ["random", "surest mistakes"] if len(wrong) else ["random"]
    images = [pictures[i].permute(1, 2, 0).numpy() for i in chosen]
    return figures.image_grid(images, columns, title=title, titles=titles, row_labels=rows, cell=1.5)
