"""The figures of a training run."""

import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from hw_common.runs import figures

_COLUMNS = 7  # pictures in a row of an attention figure
_LINE = 88  # characters
_LONGEST_STEM = 60  # characters of an image's name in that of a file, of at most four bytes each


@dataclass(frozen=True)
class Shown:
    """An image with its captions, to be drawn.

    Attributes:
        name: of the image.
        pixels: (H, H, 3) uint8, as square as the encoder sees it.
        caption: the generated words.
        references: words of its reference captions.
        bleu: the course's BLEU-4 of the caption.
        looks: (words, rows, columns), the attention's weights before each word; None without attention.
    """

    name: str
    pixels: np.ndarray
    caption: Sequence[str]
    references: Sequence[Sequence[str]]
    bleu: float
    looks: np.ndarray | None


def training_curves(
    folder: Path, runs: Mapping[str, Sequence[Sequence[Mapping[str, float]]]], what: str, stem: str = "curves"
) -> None:
    """Training loss and validation BLEU-4 against the epoch (ist-2021-22-hw2 Q3.1a and b).

    Args:
        folder: gets <stem>.png and <stem>.pdf.
        runs: title of a decoder to its runs, each with a row for each epoch; of several runs, mean and standard
            deviation are drawn. The loss is the mean over the epoch, with dropout.
        what: data and sheet, for the title.
        stem: name of the figure.
    """
    panels: dict[str, Any] = {}
    spread: dict[str, Any] = {}
    for label, name in (("training loss", "training_loss"), ("validation BLEU-4, greedy", "validation_greedy_bleu4")):
        panels[label], spread[label] = {}, {}
        for decoder, of_decoder in runs.items():
            epochs = [row["epoch"] for row in of_decoder[0]]
            values = np.array([[row[name] for row in rows] for rows in of_decoder])  # (runs, epochs)
            panels[label][decoder] = (epochs, values.mean(axis=0))
            if len(values) > 1:
                spread[label][decoder] = (epochs, values.std(axis=0, ddof=1))
    figures.save(figures.curves(panels, "epoch", what, spread), folder, stem)


def captions(folder: Path, shown: Sequence[Shown], what: str) -> None:
    """Each image beside its generated caption and its references (ist-2021-22-hw2 Q3.1c), as captions.png and .pdf."""
    with mpl.rc_context(figures.AS_WRITTEN):
        figures.save(_captions(shown, what), folder, "captions")


def _captions(shown: Sequence[Shown], what: str) -> Figure:
    figure = Figure(figsize=(9.5, 2.3 * len(shown) + 0.5), layout="constrained")
    figure.suptitle(what, fontsize=11)
    grid = figure.subplots(len(shown), 2, squeeze=False, width_ratios=(1, 3.4))
    for (left, right), image in zip(grid, shown, strict=True):
        left.imshow(image.pixels)
        left.set_xlabel(image.name, fontsize=9)
        left.set_xticks([])
        left.set_yticks([])
        right.axis("off")
        generated = textwrap.fill(" ".join(image.caption) or "(no words)", _LINE - 10)
        right.text(0, 1, generated, fontsize=11, weight="bold", va="top", transform=right.transAxes)
        below = 1 - 0.1 * (generated.count("\n") + 1)
        lines = [f"BLEU-4 against the references: {image.bleu:.3f}"]
        for reference in image.references:
            lines += textwrap.wrap(" ".join(reference), _LINE, initial_indent="– ", subsequent_indent="   ")
        right.text(0, below, "\n".join(lines), fontsize=9, va="top", linespacing=1.5, transform=right.transAxes)
    return figure


def stems(names: Sequence[str]) -> list[str]:
    """Names of files for the attention figures of these images; no two are the same, and none is too long."""
    found: list[str] = []
    for name in names:
        stem = "attention-" + re.sub(r"[^\w.+-]", "_", name)[:_LONGEST_STEM]
        taken = sum(other == stem or other.startswith(f"{stem}~") for other in found)
        found.append(f"{stem}~{taken + 1}" if taken else stem)
    return found


def attention(folder: Path, stem: str, image: Shown, what: str) -> None:
    """Where the decoder looks before it writes each word: bright regions count, with the share of the brightest one.

    Args:
        folder: gets the figure, as .png and .pdf.
        stem: what it is called there.
        image: with `looks`.
        what: data and sheet, for the title.
    """
    pictures = [image.pixels, *(_lit(image.pixels, look) for look in image.looks)]
    title = f"Where it looks before each word: bright regions count; % is the share of the brightest one\n{what}"
    words = [f"{word} {look.max():.0%}" for word, look in zip(image.caption, image.looks, strict=True)]
    columns = min(_COLUMNS, len(pictures))
    figure = figures.image_grid(pictures, columns, title=title, titles=[image.name, *words], cell=1.25)
    figures.save(figure, folder, stem)


def _lit(pixels: np.ndarray, look: np.ndarray) -> np.ndarray:
    """`pixels` (H, H, 3), lit where `look` (rows, columns) is large and darkened and greyed elsewhere."""
    scaled = Image.fromarray((255 * look / look.max()).astype(np.uint8))
    light = np.asarray(scaled.resize(pixels.shape[1::-1], Image.Resampling.BICUBIC), dtype=float)[..., None] / 255
    grey = pixels.mean(axis=2, keepdims=True)
    return (light * pixels + (1 - light) * 0.5 * grey).astype(np.uint8)
