"""The figures of a training run."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import regex
from PIL import Image

from hw_common.runs import figures, image_grids

_COLUMNS = 6  # pictures in a row of an attention figure
_LINE = 76  # characters in a line of text
_CAPTION_LINE = 12  # height of a line of a generated caption, in points
_REFERENCE_LINE = 1.4 * 1.2 * figures.SMALLEST  # height of a line of a reference
_MAX_STEM = 60  # maximum number of characters that a file name keeps of an image's name; they take at most 240 bytes


@dataclass(frozen=True)
class CaptionedPicture:
    """An image with its captions, to be drawn."""

    name: str  # the image's name
    pixels: np.ndarray  # (H, H, 3) uint8, in the square form that the encoder sees
    caption: Sequence[str]  # words of the generated caption
    references: Sequence[Sequence[str]]  # words of the reference captions
    bleu: float  # the course's BLEU-4 of the caption
    attention_maps: np.ndarray | None  # (words, rows, columns), the attention weights before each word, if any


def training_curves(
    folder: Path, runs: Mapping[str, Sequence[Sequence[Mapping[str, float]]]], title: str, stem: str = "curves"
) -> None:
    """Draws training loss and validation BLEU-4 against the epoch (ist-2021-22-hw2 Q3.1a and b).

    The training loss is the mean over the epoch, with dropout.

    Args:
        folder: folder for <stem>.png and <stem>.pdf.
        runs: maps a decoder's title to its runs; a run is a list of metrics by epoch. If there are several runs, their
            mean and standard deviation are drawn.
        title: data and sheet, for the figure's title.
        stem: name of the figure.
    """
    panels = {"training loss": "training_loss", "validation BLEU-4, greedy": "validation_greedy_bleu4"}
    figures.save(figures.curves_over_seeds(runs, panels, title), folder, stem)


def captions(folder: Path, pictures: Sequence[CaptionedPicture], title: str) -> None:
    """Draws each image beside its generated caption and its references (ist-2021-22-hw2 Q3.1c)."""
    generated = [textwrap.fill(" ".join(picture.caption) or "(no words)", _LINE - 10) for picture in pictures]
    below = [_CAPTION_LINE * (text.count("\n") + 1) for text in generated]  # points
    lines = [_references(picture) for picture in pictures]
    heights = [
        max(1.65, (above + _REFERENCE_LINE * len(text)) / 72 + 0.3) for above, text in zip(below, lines, strict=True)
    ]
    with figures.style():
        figure = figures.new_figure(figures.PAGE_WIDTH, sum(heights) + 0.1, title)
        grid = figure.subplots(len(pictures), 2, squeeze=False, width_ratios=(1, 3.1), height_ratios=heights)
        for row, picture in enumerate(pictures):
            left, right = grid[row]
            left.imshow(picture.pixels)
            left.set_anchor("N")
            left.set_xlabel(picture.name)
            image_grids.bare(left)
            right.axis("off")
            right.text(0, 1, generated[row], fontsize=8.5, weight="bold", va="top", transform=right.transAxes)
            right.annotate("\n".join(lines[row]), (0, 1), (0, -below[row]), va="top", linespacing=1.4,
                           xycoords="axes fraction", textcoords="offset points")  # fmt: skip
    figures.save(figure, folder, "captions")


def _references(picture: CaptionedPicture) -> list[str]:
    """The score of a caption and its references, in lines."""
    lines = [f"BLEU-4 against the references: {picture.bleu:.3f}"]
    for reference in picture.references:
        lines += textwrap.wrap(" ".join(reference), _LINE, initial_indent="– ", subsequent_indent="   ")
    return lines


def stems(names: Sequence[str]) -> list[str]:
    """Unique file names, without suffix, for the attention figures of the images `names`."""
    found: list[str] = []
    for name in names:
        stem = "attention-" + regex.sub(r"[^\w.+-]", "_", name)[:_MAX_STEM]  # regex keeps combining marks
        taken = sum(other == stem or other.startswith(f"{stem}~") for other in found)
        found.append(f"{stem}~{taken + 1}" if taken else stem)
    return found


def attention(folder: Path, stem: str, picture: CaptionedPicture, maps: np.ndarray, title: str) -> None:
    """Draws the image once for each word; regions with larger attention weights are brighter.

    Args:
        folder: folder for the figure, as .png and .pdf.
        stem: name of the figure.
        picture: the image and its caption.
        maps: (words, rows, columns), the attention weights before each word.
        title: data and sheet, for the figure's title.
    """
    pictures = [picture.pixels, *(highlight(picture.pixels, weights) for weights in maps)]
    title = f"Attention before each word: brighter regions have larger weights; % is the largest weight\n{title}"
    words = [f"{word} {weights.max():.0%}" for word, weights in zip(picture.caption, maps, strict=True)]
    columns = min(_COLUMNS, len(pictures))
    figure = image_grids.image_grid(pictures, columns, title=title, titles=[picture.name, *words])
    figures.save(figure, folder, stem)


def highlight(pixels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Darkens and greys the image `pixels` (H, H, 3) where `weights` (rows, columns) are small."""
    scaled = Image.fromarray((255 * weights / weights.max()).astype(np.uint8))
    height, width = pixels.shape[:2]
    light = np.asarray(scaled.resize((width, height), Image.Resampling.BICUBIC), dtype=float)[..., None] / 255
    grey = pixels.mean(axis=2, keepdims=True)
    highlighted: np.ndarray = (light * pixels + (1 - light) * 0.5 * grey).astype(np.uint8)
    return highlighted
