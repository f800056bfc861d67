"""The sample for captioning: pictures of coloured shapes with two captions each, drawn from a seed."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray
from PIL import Image, ImageDraw

from hw_numpy.coco_build import image_paths, save_copy, write_files
from hw_numpy.coco_sources import Example

_IMAGES = {"train": 200, "val": 40}
_SIZE, _FEATURE_SIZE = 96, 24  # pixels
_COLOURS = {
    "red": (213, 50, 40),
    "blue": (0, 90, 178),
    "green": (0, 140, 90),
    "yellow": (240, 220, 60),
    "white": (250, 250, 250),
    "black": (15, 15, 15),
}
_RADII = {"small": 10, "large": 19}  # pixels
_SHAPES = ("circle", "square", "triangle", "cross")
# Relation of the first shape to the second, and where both are, as shares of width and height.
_PLACES = {
    "left of": ((0.27, 0.5), (0.73, 0.5)),
    "right of": ((0.73, 0.5), (0.27, 0.5)),
    "above": ((0.5, 0.27), (0.5, 0.73)),
    "below": ((0.5, 0.73), (0.5, 0.27)),
}
_OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
_GROUND = (128, 124, 118)


def write_sample(folder: Path, seed: int = 0) -> dict[str, Any]:
    """Writes the sample as caption files like the course's into `folder`, which exists.

    Args:
        folder: where to.
        seed: of the pictures; the captions follow from what is on them.

    Returns:
        What is worth knowing about it, as `coco_build.write_files`.
    """
    generator = np.random.default_rng(seed)
    examples, pictures = [], []
    for part, count in _IMAGES.items():
        for _ in range(count):
            captions, picture = _draw(generator)
            examples.append(Example("", part, captions))
            pictures.append(picture)
    for picture, path in zip(pictures, image_paths(examples), strict=True):
        save_copy(picture, folder / path)
    features = np.stack([_features(picture) for picture in pictures])
    what = f"the pixels of images of {_FEATURE_SIZE}×{_FEATURE_SIZE} pixels"
    return write_files(folder, "sample shapes", what, examples, features)


def _draw(generator: np.random.Generator) -> tuple[list[list[str]], Image.Image]:
    """Two captions and the picture that they describe."""
    relation = str(generator.choice(list(_PLACES)))
    size, other_size = (str(word) for word in generator.choice(list(_RADII), 2))
    colour, other_colour = (str(word) for word in generator.choice(list(_COLOURS), 2, replace=False))
    shape, other_shape = (str(word) for word in generator.choice(_SHAPES, 2))
    picture = Image.new("RGB", (_SIZE, _SIZE), _GROUND)
    pencil = ImageDraw.Draw(picture)
    for place, kind, words in zip(
        _PLACES[relation], (shape, other_shape), ((size, colour), (other_size, other_colour)), strict=True
    ):
        x, y = (_SIZE * share + generator.uniform(-4, 4) for share in place)
        _draw_shape(pencil, kind, x, y, _RADII[words[0]], _COLOURS[words[1]])
    this, that = f"a {size} {colour} {shape}", f"a {other_size} {other_colour} {other_shape}"
    captions = [f"there is {this} {relation} {that}", f"{that} is {_OPPOSITE[relation]} {this}"]
    return [caption.split() for caption in captions], picture


def _draw_shape(
    pencil: ImageDraw.ImageDraw, shape: str, x: float, y: float, radius: float, colour: tuple[int, int, int]
) -> None:
    box = (x - radius, y - radius, x + radius, y + radius)
    if shape == "circle":
        pencil.ellipse(box, fill=colour)
    elif shape == "square":
        pencil.rectangle(box, fill=colour)
    elif shape == "triangle":
        pencil.polygon([(x, y - radius), (x - radius, y + radius), (x + radius, y + radius)], fill=colour)
    else:
        arm = radius / 3
        pencil.rectangle((x - radius, y - arm, x + radius, y + arm), fill=colour)
        pencil.rectangle((x - arm, y - radius, x + arm, y + radius), fill=colour)


def _features(picture: Image.Image) -> ndarray:
    """The pixels of a smaller picture, from 0 to 1."""
    small = picture.resize((_FEATURE_SIZE, _FEATURE_SIZE), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float64).ravel() / 255
