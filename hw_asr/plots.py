"""The figures of a training run and of a comparison."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from rapidfuzz.distance import Levenshtein

from hw_asr.pieces import FRAMES_A_SECOND
from hw_asr.similarity import SIMILARITIES
from hw_common.runs import figures

Runs = Mapping[str, Sequence[Sequence[Mapping[str, float]]]]
SIMILARITY_TITLES = {"jaccard": "Jaccard", "cosine": "cosine", "damerau_levenshtein": "Damerau-Levenshtein"}
_WRONG = "#A33F00"
_LONGEST_LINE = 90  # characters of a transcript in a figure


@dataclass(frozen=True)
class Shown:
    """What a network makes of a clip.

    Attributes:
        name: of the clip.
        target: what is said.
        written: what the network writes.
        spectrogram: (mels, frames).
        looks: (characters and STOP, positions), where the network listens before it writes each; each row's sum is 1.
    """

    name: str
    target: str
    written: str
    spectrogram: np.ndarray
    looks: np.ndarray


def training_curves(folder: Path, runs: Runs, count_padding: bool, what: str) -> None:
    """Training against validation loss, and error rates, as curves.png and .pdf (ist-2023-24-hw2 Q3.1 and Q3.2).

    The training loss is the mean over the epoch, while the weights change.

    Args:
        folder: where to.
        runs: title of a decoder to its runs, each with a row for each epoch; of several runs, mean and standard
            deviation are drawn.
        count_padding: whether the training loss does; the validation loss beside it does too, then.
        what: data and sheet, for the title.
    """
    label = "loss per position, padding counted" if count_padding else "loss per character"
    validation = "validation_loss" if count_padding else "validation_loss_without_padding"
    panels = {
        label: {"training": "training_loss", "validation": validation},
        "validation error rate": {"of characters": "validation_cer", "of words": "validation_wer"},
    }
    _save_curves(folder, "curves", runs, panels, what)


def similarities(folder: Path, runs: Runs, what: str) -> None:
    """The similarities on validation, as similarities.png and .pdf; arguments as of `training_curves` (Q3.1, Q3.2)."""
    names = {SIMILARITY_TITLES[name]: f"validation_{name}" for name in SIMILARITIES}
    if len(runs) == 1:
        panels = {"validation similarity": names}
    else:
        panels = {f"{title}, validation": {"": name} for title, name in names.items()}
    _save_curves(folder, "similarities", runs, panels, what)


def _save_curves(folder: Path, stem: str, runs: Runs, panels: Mapping[str, Mapping[str, str]], what: str) -> None:
    """Draws `panels`, y label to {line's label: metric}, a line for each decoder."""
    means: dict[str, Any] = {}
    deviations: dict[str, Any] = {}
    for panel, lines in panels.items():
        means[panel], deviations[panel] = {}, {}
        for decoder, of_decoder in runs.items():
            epochs = [row["epoch"] for row in of_decoder[0]]
            for line, name in lines.items():
                label = line if len(runs) == 1 else f"{decoder}, {line}".removesuffix(", ")
                values = np.array([[row[name] for row in rows] for rows in of_decoder])  # (runs, epochs)
                means[panel][label] = (epochs, values.mean(axis=0))
                if len(values) > 1:
                    deviations[panel][label] = (epochs, values.std(axis=0, ddof=1))
    figures.save(figures.curves(means, "epoch", what, deviations), folder, stem)


def predictions(folder: Path, shown: Sequence[Shown], what: str) -> None:
    """What is said beside what is written, as predictions.png and .pdf; wrong characters stand out.

    Args:
        folder: where to.
        shown: clips.
        what: network and data, for the title.
    """
    width = min(_LONGEST_LINE, max(len(line) for clip in shown for line in (clip.target, clip.written)))
    columns = 2 if width <= _LONGEST_LINE // 2 else 1
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(0.3 + columns * max(3.5, 0.085 * (width + 10)), 0.6 + 0.46 * rows))
    figure.suptitle(f"test clips, best epoch: what is said, and what is written\n{what}", fontsize=9)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1 - 0.5 / figure.get_figheight()))
    axes.set_axis_off()
    axes.set_xlim(0, figure.get_figwidth() / 0.085)
    axes.set_ylim(2.4 * rows, -0.6)
    for number, clip in enumerate(shown):
        left = 9 + number // rows * axes.get_xlim()[1] / columns
        for lift, name, characters, wrong in _lines(clip):
            height = 2.4 * (number % rows) + lift
            axes.text(left - 1, height, name, ha="right", va="center", fontsize=7, color="0.4")
            for place, character in enumerate(characters):
                style = {"color": _WRONG, "weight": "bold"} if place in wrong else {"color": "black"}
                visible = "_" if place in wrong and character == " " else character
                axes.text(left + place + 0.5, height, visible, ha="center", va="center", fontsize=8,
                          family="monospace", **style)  # fmt: skip
    figures.save(figure, folder, "predictions")


def _lines(clip: Shown) -> list[tuple[float, str, str, set[int]]]:
    """The two lines of a clip: how deep, its name, the characters, and the places of those that are wrong."""
    operations = Levenshtein.editops(clip.target, clip.written)
    missed = {edit.src_pos for edit in operations if edit.tag != "insert"}
    added = {edit.dest_pos for edit in operations if edit.tag != "delete"}
    return [(0, "said", _cut(clip.target), missed), (1, "written", _cut(clip.written), added)]


def _cut(characters: str) -> str:
    return characters if len(characters) <= _LONGEST_LINE else characters[: _LONGEST_LINE - 1] + "…"


def alignment(folder: Path, shown: Sequence[Shown], what: str) -> None:
    """Where the decoder listens before each character, below the spectrogram, as alignment.png and .pdf.

    Cross-attention, the mean over heads; every row is scaled to its largest weight.

    Args:
        folder: where to.
        shown: clips, side by side.
        what: network and data, for the title.
    """
    rows = max(len(clip.looks) for clip in shown)
    figure = Figure(figsize=(5.2 * len(shown), 2.4 + min(0.14 * rows, 9)), layout="constrained")
    figure.suptitle(f"cross-attention, test clips, best epoch\n{what}", fontsize=9)
    heights = (1.3, max(1.5, min(0.14 * rows, 9)))
    grid = figure.subplots(2, len(shown), squeeze=False, sharex="col", gridspec_kw={"height_ratios": heights})
    for (above, below), clip in zip(grid.T, shown, strict=True):
        seconds = clip.spectrogram.shape[1] / FRAMES_A_SECOND
        above.imshow(clip.spectrogram, origin="lower", aspect="auto", cmap=figures.HEAT,
                     extent=(0, seconds, 0, len(clip.spectrogram)))  # fmt: skip
        above.set_title(f"{clip.name}: {_cut(clip.target)[:48]}", fontsize=8, parse_math=False)
        looks = clip.looks / clip.looks.max(axis=1, keepdims=True)
        below.imshow(looks, aspect="auto", cmap=figures.HEAT, interpolation="nearest",
                     extent=(0, seconds, len(looks) - 0.5, -0.5))  # fmt: skip
        names = [*clip.written.replace(" ", "_"), "stop"][: len(looks)]
        small = 7 if len(looks) <= 64 else 4
        below.set_yticks(range(len(names)), names, fontsize=small, family="monospace")
        below.set_xlabel("seconds")
    grid[0, 0].set_ylabel("mel band")
    grid[1, 0].set_ylabel("written character")
    figures.save(figure, folder, "alignment")
