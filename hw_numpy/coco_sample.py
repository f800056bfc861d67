"""The sample data for captioning: pictures of two coloured shapes, each with two captions."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray
from PIL import Image, ImageDraw

from hw_numpy import coco_files
from hw_numpy.coco_files import Example

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
# Relation of the first shape to the second, and the positions of both, relative to width and height.
_POSITIONS = {
    "left of": ((0.27, 0.5), (0.73, 0.5)),
    "right of": ((0.73, 0.5), (0.27, 0.5)),
    "above": ((0.5, 0.27), (0.5, 0.73)),
    "below": ((0.5, 0.73), (0.5, 0.27)),
}
_OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
_BACKGROUND = (128, 124, 118)


def write_sample(folder: Path, seed: int = 0) -> dict[str, Any]:
    """Writes the sample as caption files into `folder`, which exists.

    Args:
        folder: folder for the files.
        seed: seed of the pictures and their captions.

    Returns:
        Facts about the result, as in coco2014_source.json.
    """
    generator = np.random.default_rng(seed)
    examples, pictures = [], []
    for part, count in _IMAGES.items():
        for _ in range(count):
            captions, picture = _draw_example(generator)
            examples.append(Example(part, captions))
            pictures.append(picture)
    for picture, path in zip(pictures, coco_files.image_paths(examples), strict=True):
        coco_files.save_copy(picture, folder / path)
    features = np.stack([_features(picture) for picture in pictures])
    description = f"the pixels of images of {_FEATURE_SIZE}×{_FEATURE_SIZE} pixels"
    return coco_files.write(folder, "sample shapes", description, examples, features)


def _draw_example(generator: np.random.Generator) -> tuple[list[list[str]], Image.Image]:
    """Two captions and the picture that they describe."""
    relation = str(generator.choice(list(_POSITIONS)))
    size, other_size = (str(word) for word in generator.choice(list(_RADII), 2))
    colour, other_colour = (str(word) for word in generator.choice(list(_COLOURS), 2, replace=False))
    shape, other_shape = (str(word) for word in generator.choice(_SHAPES, 2))
    picture = Image.new("RGB", (_SIZE, _SIZE), _BACKGROUND)
    draw = ImageDraw.Draw(picture)
    for position, kind, words in zip(
        _POSITIONS[relation], (shape, other_shape), ((size, colour), (other_size, other_colour)), strict=True
    ):
        x, y = (_SIZE * share + generator.uniform(-4, 4) for share in position)
        _draw_shape(draw, kind, x, y, _RADII[words[0]], _COLOURS[words[1]])
    this, that = f"a {size} {colour} {shape}", f"a {other_size} {other_colour} {other_shape}"
    captions = [f"there is {this} {relation} {that}", f"{that} is {_OPPOSITE[relation]} {this}"]
    return [caption.split() for caption in captions], picture


def _draw_shape(
    draw: ImageDraw.ImageDraw, shape: str, x: float, y: float, radius: float, colour: tuple[int, int, int]
) -> None:
    box = (x - radius, y - radius, x + radius, y + radius)
    if shape == "circle":
        draw.ellipse(box, fill=colour)
    elif shape == "square":
        draw.rectangle(box, fill=colour)
    elif shape == "triangle":
        draw.polygon([(x, y - radius), (x - radius, y + radius), (x + radius, y + radius)], fill=colour)
    else:
        arm = radius / 3
        draw.rectangle((x - radius, y - arm, x + radius, y + arm), fill=colour)
        draw.rectangle((x - arm, y - radius, x + arm, y + radius), fill=colour)


def _features(picture: Image.Image) -> ndarray:
    """The pixels of the picture, reduced to 24×24 pixels, with values from 0 to 1."""
    small = picture.resize((_FEATURE_SIZE, _FEATURE_SIZE), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float64).ravel() / 255
