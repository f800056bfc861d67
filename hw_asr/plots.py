"""Figures of a training run and of a comparison."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from rapidfuzz.distance import Levenshtein

from hw_asr.audio import FRAMES_PER_SECOND
from hw_asr.similarity import SIMILARITIES
from hw_common.runs import figures

Runs = Mapping[str, Sequence[Sequence[Mapping[str, float]]]]  # metrics by decoder, run and epoch
SIMILARITY_TITLES = {"jaccard": "Jaccard", "cosine": "cosine", "damerau_levenshtein": "Damerau-Levenshtein"}
_WRONG = "#A33F00"
_LARGEST_RATE = 1.2  # end of the axis of error rates
_MAX_LINE = 90  # characters to which a text in a figure is truncated
_CHARACTER = 0.063  # inches for a character of a transcript
_LABEL = 10  # characters for the label to the left of a transcript


@dataclass(frozen=True)
class Prediction:
    """The text that a network generates for a clip."""

    name: str  # the clip's id
    reference: str  # the transcript
    hypothesis: str  # the generated text
    spectrogram: np.ndarray  # (mels, frames)
    attention_weights: np.ndarray  # cross-attention: (generated characters and STOP, encoder positions)


def training_curves(folder: Path, runs: Runs, count_padding: bool, title: str) -> None:
    """Draws training and validation loss, and error rates, as curves.png and .pdf (ist-2023-24-hw2 Q3.1 and Q3.2).

    The training loss of an epoch is the mean over its steps.

    Args:
        folder: folder of the figure.
        runs: the runs of each decoder, by the decoder's title; several runs are drawn as mean and standard deviation.
        count_padding: whether both losses include padding.
        title: title of the figure.
    """
    label = "loss per position, padding counted" if count_padding else "loss per character"
    validation = "validation_loss" if count_padding else "validation_loss_without_padding"
    panels = {
        label: {"training": "training_loss", "validation": validation},
        "validation error rate": {"of characters": "validation_cer", "of words": "validation_wer"},
    }
    figure = figures.curves_over_seeds(runs, panels, title)
    rates = figure.axes[1]
    # A decoder that repeats itself makes more errors than there are characters; such an epoch would hide the rest.
    if rates.get_ylim()[1] > _LARGEST_RATE:
        rates.set_ylim(0, _LARGEST_RATE)
        rates.set_ylabel(f"{rates.get_ylabel()}, cut off at {_LARGEST_RATE:g}")
    figures.save(figure, folder, "curves")


def similarities(folder: Path, runs: Runs, title: str) -> None:
    """Draws the similarities of validation clips as similarities.png and .pdf; see `training_curves`."""
    names = {SIMILARITY_TITLES[name]: f"validation_{name}" for name in SIMILARITIES}
    panels: Mapping[str, str | Mapping[str, str]] = {"validation similarity": names}
    if len(runs) > 1:
        panels = {f"{similarity}, validation": metric for similarity, metric in names.items()}
    figures.save(figures.curves_over_seeds(runs, panels, title), folder, "similarities")


def predictions(folder: Path, clips: Sequence[Prediction], title: str) -> None:
    """Draws references and generated texts as predictions.png and .pdf in `folder`, with wrong characters in colour."""
    width = min(_MAX_LINE, max(len(line) for clip in clips for line in (clip.reference, clip.hypothesis)))
    in_page = figures.PAGE_WIDTH / _CHARACTER
    columns = 2 if 2 * (width + _LABEL) <= in_page else 1
    rows = -(-len(clips) // columns)
    title = f"test clips, best epoch: reference and generated text\n{title}"
    figure = figures.new_figure(figures.PAGE_WIDTH, 0.1 + 0.36 * rows, title)
    axes = figure.subplots()
    axes.set_axis_off()
    axes.set_xlim(0, in_page)
    axes.set_ylim(2.4 * rows, -0.6)
    for number, clip in enumerate(clips):
        left = _LABEL + number // rows * in_page / columns
        for line, (name, characters, wrong) in enumerate(_lines(clip)):
            y = 2.4 * (number % rows) + line
            axes.text(left - 1, y, name, ha="right", va="center", fontsize=figures.SMALLEST, color="0.4")
            for position, character in enumerate(characters):
                is_wrong = position in wrong
                visible = "_" if is_wrong and character == " " else character
                axes.text(left + position + 0.5, y, visible, ha="center", va="center", fontsize=figures.SMALLEST,
                          family="monospace", color=_WRONG if is_wrong else "black",
                          weight="bold" if is_wrong else "normal")  # fmt: skip
    figures.save(figure, folder, "predictions")


def _lines(clip: Prediction) -> list[tuple[str, str, set[int]]]:
    """The two lines of a clip: label, characters, and positions of the wrong characters."""
    edits = Levenshtein.editops(clip.reference, clip.hypothesis)
    missed = {edit.src_pos for edit in edits if edit.tag != "insert"}
    added = {edit.dest_pos for edit in edits if edit.tag != "delete"}
    return [("reference", _truncate(clip.reference), missed), ("generated", _truncate(clip.hypothesis), added)]


def _truncate(characters: str) -> str:
    return characters if len(characters) <= _MAX_LINE else characters[: _MAX_LINE - 1] + "…"


def alignment(folder: Path, clips: Sequence[Prediction], title: str) -> None:
    """Draws spectrograms and cross-attention weights of clips, side by side, as alignment.png and .pdf in `folder`.

    Each row of weights is divided by its largest weight.
    """
    figures.save(draw_alignment(clips, f"cross-attention, test clips, best epoch\n{title}"), folder, "alignment")


def draw_alignment(clips: Sequence[Prediction], title: str) -> Figure:
    """Draws the figure of `alignment` with another title."""
    rows = max(len(clip.attention_weights) for clip in clips)
    heights = (0.8, min(max(1.5, 0.11 * rows), 5.5))  # inches for the spectrograms and for the weights
    figure = figures.new_figure(figures.PAGE_WIDTH, 0.7 + sum(heights), title)
    with figures.style():
        grid = figure.subplots(2, len(clips), squeeze=False, sharex="col", gridspec_kw={"height_ratios": heights})
    for (above, below), clip in zip(grid.T, clips, strict=True):
        seconds = clip.spectrogram.shape[1] / FRAMES_PER_SECOND
        above.imshow(clip.spectrogram, origin="lower", aspect="auto", cmap=figures.HEAT,
                     extent=(0, seconds, 0, len(clip.spectrogram)))  # fmt: skip
        above.set_title(f"{clip.name}: {_truncate(clip.reference)[:32]}", fontsize=figures.SMALLEST, parse_math=False)
        weights = clip.attention_weights / clip.attention_weights.max(axis=1, keepdims=True)
        below.imshow(weights, aspect="auto", cmap=figures.HEAT, interpolation="nearest",
                     extent=(0, seconds, len(weights) - 0.5, -0.5))  # fmt: skip
        labels = [*clip.hypothesis.replace(" ", "_"), "stop"][: len(weights)]
        step = math.ceil(len(labels) / 50)  # more than 50 labels would overlap
        below.set_yticks(range(0, len(labels), step), labels[::step], fontsize=figures.SMALLEST, family="monospace")
        below.set_xlabel("seconds")
        above.grid(False)
        below.grid(False)
    grid[0, 0].set_ylabel("mel band")
    grid[1, 0].set_ylabel("generated character")
    return figure
