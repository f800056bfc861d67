"""What a training run leaves behind beside its weights: generated captions in the course's format, and figures."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from hw_caption import metrics, plots
from hw_caption.data import CaptionData, Inputs
from hw_caption.images import decode
from hw_caption.plots import Shown
from hw_caption.presets import HOMEWORK, SHOWN, TITLES
from hw_caption.writing import Writer
from hw_common.data.dataset_files import DatasetFile
from hw_common.runs import files
from hw_common.runs.errors import UserError
from hw_common.runs.run_folder import METRICS, Run

_DRAWN = 320  # height and width of an image in a figure, in pixels


def images_to_show(
    found: CaptionData, wanted: Sequence[str] | None
) -> list[tuple[DatasetFile, Sequence[Sequence[str]]]]:
    """Images with their references: those called `wanted`; by default those of Q3.1(c), else the first test images.

    Raises:
        UserError: the data set has no image of that name.
    """
    splits = (found.test, found.val, found.train)
    known = {
        image.name: (image, references)
        for split in splits
        for image, references in zip(split.images, split.captions, strict=True)
    }
    for name in wanted or ():
        if name not in known:
            raise UserError(
                f"--show: {found.name} has no image {name!r}; its test images begin with {found.test.names[0]}"
            )
    if wanted is None:
        wanted = SHOWN if all(name in known for name in SHOWN) else found.test.names[: len(SHOWN)]
    return [known[name] for name in wanted]


def write_captions(path: Path, names: Sequence[str], captions: Sequence[Sequence[str]]) -> None:
    """Writes generated captions as the course's code does: a list of {"image_name", "caption": tokens}."""
    rows = [{"image_name": name, "caption": list(caption)} for name, caption in zip(names, captions, strict=True)]
    files.write_json(path, rows)


def draw_images(
    folder: Path,
    images: Sequence[tuple[DatasetFile, Sequence[Sequence[str]]]],
    writer: Writer,
    inputs: Inputs,
    way: str,
    what: str,
) -> None:
    """Draws each image beside its caption and, with attention, where each word looks.

    Args:
        folder: of the run.
        images: see `images_to_show`.
        writer: with the weights to draw for.
        inputs: what is known of the images.
        way: of decoding.
        what: title of the figures.
    """
    captions = writer.write(inputs, [image.name for image, _ in images], way)
    shown = []
    for (image, references), caption in zip(images, captions, strict=True):
        bleu = metrics.course_bleu([references], [caption])
        looks = writer.look(inputs, image.name, caption)
        shown.append(Shown(image.name, decode(image, _DRAWN), caption, references, bleu, looks))
    plots.captions(folder, shown, what)
    for image, stem in zip(shown, plots.stems([image.name for image in shown]), strict=True):
        if image.looks is not None:
            plots.attention(folder, stem, image, what)


def draw_curves(
    folder: Path, kind: str, rows: Sequence[Mapping[str, float]], hashes: Mapping[str, str], what: str
) -> None:
    """Draws the curves of a run and, where there is a finished one of the other decoder, both in one figure.

    Args:
        folder: of the run.
        kind: its decoder, a key of TITLES.
        rows: one per epoch.
        hashes: of its data.
        what: data and sheet, for the titles.
    """
    plots.training_curves(folder, {TITLES[kind]: [rows]}, f"{TITLES[kind]}, {what}")
    other = next(name for name in TITLES if name != kind)
    sibling = folder.with_name(folder.name.replace(kind, other))
    if sibling == folder or not (sibling / METRICS).is_file():
        return
    try:
        run = Run.open(sibling, HOMEWORK)
    except UserError:  # damaged, or none: no reason to stop at this run's end
        return
    if run.is_finished and run.config.get("data") == dict(hashes):
        rows_of = {kind: rows, other: files.read_csv(sibling / METRICS)}
        plots.training_curves(folder, {TITLES[name]: [rows_of[name]] for name in TITLES}, what, "curves-both")
