"""Image folders: which files there are, and their pixels as the networks take them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from hw_common.data import images
from hw_common.data.thread_map import in_parallel, with_bar
from hw_common.runs.errors import UserError


def decode(path: Path, channels: int, size: int) -> np.ndarray:
    """One image file as (size, size, channels) uint8, in grey or RGB.

    Raises:
        UserError: no image, damaged, or larger than 50 million pixels.
    """
    with images.opened(path) as image:
        image = image.convert("L" if channels == 1 else "RGB")
        if image.size != (size, size):
            image = image.resize((size, size), Image.Resampling.BILINEAR)
        return np.asarray(image).reshape(size, size, channels)


def decode_all(paths: Sequence[Path], channels: int, size: int, title: str) -> np.ndarray:
    """Many image files as (number, size, size, channels) uint8, with a progress bar called `title`."""
    pixels = np.empty((len(paths), size, size, channels), dtype=np.uint8)
    decoded = in_parallel(lambda path: decode(path, channels, size), paths)
    for row, image in enumerate(with_bar(decoded, len(paths), title)):
        pixels[row] = image
    return pixels


def find_classes(folder: Path) -> list[str]:
    """Names of the class folders in `folder`, sorted; hidden ones left out."""
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def list_images(folder: Path, classes: Sequence[str]) -> tuple[list[Path], np.ndarray]:
    """All files in `folder/<class>` in sorted order, hidden ones left out, and their class numbers.

    Raises:
        UserError: a class has no files.
    """
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = sorted(e for e in (folder / name).iterdir() if e.is_file() and not e.name.startswith("."))
        if not found:
            raise UserError(f"the class folder {folder / name} is empty")
        paths += found
        labels += [label] * len(found)
    return paths, np.array(labels, dtype=np.int64)
