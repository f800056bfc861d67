"""Figures of a training run: confusion matrix and predictions."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from hw_common.runs import figures, image_grids
from hw_common.training.batches import generator_for


def confusion_matrix(folder: Path, counts: Sequence[Sequence[int]], classes: Sequence[str], title: str) -> None:
    """Draws the number of pictures of each true class (row) by predicted class (column), as confusion.png and .pdf."""
    matrix = np.asarray(counts)
    share = matrix / matrix.sum(axis=1, keepdims=True)  # every class has validation pictures
    cell = 1.0 if len(classes) <= 5 else 0.6
    figure = image_grids.heatmap_grid(
        [share],
        1,
        title=title,
        limits=(0, 1),
        colour_bar="share of the class",
        cell=min(max(2.2, cell * len(classes)), 4.8),
    )
    axes = figure.axes[0]
    axes.set_xticks(range(len(classes)), classes, rotation=0 if len(classes) <= 5 else 90, parse_math=False)
    axes.set_yticks(range(len(classes)), classes, parse_math=False)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if len(classes) <= 20:  # numbers in more cells would be too small to read
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
    """Draws a row of random pictures and a row of the most confident mistakes, with predicted class and probability.

    A wrong prediction is followed by the true class.

    Args:
        pictures: pictures, (N, 3, H, W) uint8.
        labels: true class of each picture, (N,).
        probabilities: predicted probabilities, (N, classes).
        classes: names of the classes.
        title: title of the figure.
        num_images: number of pictures in a row.
        seed: random seed of the first row.
    """
    confidence, predicted = probabilities.max(dim=1)
    columns = min(num_images, len(labels))
    random = torch.randperm(len(labels), generator=generator_for(seed))[:columns]
    wrong = torch.nonzero(predicted != labels).flatten()
    wrong = wrong[confidence[wrong].argsort(descending=True)][:columns]
    chosen = [*random.tolist(), *wrong.tolist()]
    titles = []
    for i in chosen:
        guess, true = int(predicted[i]), int(labels[i])
        titles.append(f"{classes[guess]} {confidence[i]:.2f}" + ("" if guess == true else f"\nis {classes[true]}"))
    rows = ["random", "surest mistakes"] if len(wrong) else ["random"]
    images = [pictures[i].permute(1, 2, 0).numpy() for i in chosen]
    return image_grids.image_grid(images, columns, title=title, titles=titles, row_labels=rows, cell=1.5)
