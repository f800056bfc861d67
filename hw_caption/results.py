"""Writes a run's captions in the course's format, and its figures."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from hw_caption import metrics
from hw_caption.data import CaptionData, Inputs
from hw_caption.decoding import CaptionGenerator
from hw_caption.images import decode
from hw_caption.presets import HOMEWORK, SHOWN, TITLES
from hw_common.data.dataset_files import DatasetFile
from hw_common.runs import files
from hw_common.runs.errors import UserError
from hw_common.runs.run_folder import METRICS, Run

_DRAWN_SIZE = 224  # height and width of an image in a figure, in pixels

ImageWithReferences = tuple[DatasetFile, Sequence[Sequence[str]]]


def images_to_show(found: CaptionData, names: Sequence[str] | None) -> list[ImageWithReferences]:
    """Returns the images to draw, with their references.

    Args:
        found: the data set.
        names: names of the images; None for the three images of Q3.1(c), which `hw_caption.presets.SHOWN` lists, or
            for the first test images of a data set that does not have them.

    Raises:
        UserError: the data set has no image with one of the names.
    """
    known = {
        image.name: (image, references)
        for split in (found.test, found.val, found.train)
        for image, references in zip(split.images, split.captions, strict=True)
    }
    if unknown := [name for name in names or () if name not in known]:
        first = found.test.names[0]
        raise UserError(
            f"--show: {found.name} has no image {unknown[0]!r}; the name of its first test image is {first}"
        )
    if names is None:
        names = SHOWN if all(name in known for name in SHOWN) else found.test.names[: len(SHOWN)]
    return [known[name] for name in names]


def write_captions(path: Path, names: Sequence[str], captions: Sequence[Sequence[str]]) -> None:
    """Writes generated captions in the course's format: a list of {"image_name": name, "caption": words}."""
    rows = [{"image_name": name, "caption": list(caption)} for name, caption in zip(names, captions, strict=True)]
    files.write_json(path, rows)


def draw_images(
    folder: Path,
    images: Sequence[ImageWithReferences],
    generator: CaptionGenerator,
    inputs: Inputs,
    decoding: str,
    title: str,
) -> None:
    """Draws each image beside its caption and, for a decoder with attention, the attention weights of each word.

    Args:
        folder: the run folder.
        images: the images to draw, chosen by `images_to_show`.
        generator: generates the captions with the trained model.
        inputs: the images' features or pixels.
        decoding: "greedy", "beam" or "consensus".
        title: title of the figures.
    """
    from hw_caption import plots  # imports matplotlib

    captions = generator.generate(inputs, [image.name for image, _ in images], decoding)
    pictures = [
        plots.CaptionedPicture(
            name=image.name,
            pixels=decode(image, _DRAWN_SIZE),
            caption=caption,
            references=references,
            bleu=metrics.course_bleu([references], [caption]),
            attention_maps=generator.attention_maps(inputs, image.name, caption),
        )
        for (image, references), caption in zip(images, captions, strict=True)
    ]
    plots.captions(folder, pictures, title)
    for picture, stem in zip(pictures, plots.stems([picture.name for picture in pictures]), strict=True):
        if picture.attention_maps is not None:
            plots.attention(folder, stem, picture, picture.attention_maps, title)


def draw_curves(
    folder: Path, decoder: str, rows: Sequence[Mapping[str, float]], hashes: Mapping[str, str], title: str
) -> None:
    """Draws a run's curves, and draws both decoders in one figure if the other decoder was trained too.

    Args:
        folder: the run folder. The run of the other decoder is expected beside it, with the other decoder's name in
            place of `decoder` in the folder's name.
        decoder: the run's decoder, a key of TITLES.
        rows: metrics of each epoch.
        hashes: hashes of the run's data; a run on other data is not drawn.
        title: data and sheet, for the titles.
    """
    from hw_caption import plots  # imports matplotlib

    plots.training_curves(folder, {TITLES[decoder]: [rows]}, f"{TITLES[decoder]}, {title}")
    other = next(name for name in TITLES if name != decoder)
    sibling = folder.with_name(folder.name.replace(decoder, other))
    if sibling == folder or not (sibling / METRICS).is_file():
        return
    try:
        run = Run.open(sibling, HOMEWORK)
    except UserError:  # this run must finish even if the other run's folder is damaged
        return
    if run.is_finished and run.config.get("data") == dict(hashes):
        by_decoder = {decoder: rows, other: files.read_csv(sibling / METRICS)}
        plots.training_curves(folder, {TITLES[name]: [by_decoder[name]] for name in TITLES}, title, "curves-both")
