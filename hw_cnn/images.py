"""Decodes image files, in grey or RGB, at a network's input size."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from hw_common.data.class_folders import ImageFile
from hw_common.data.thread_map import thread_map, with_progress_bar


def decode(file: ImageFile, channels: int, size: int) -> np.ndarray:
    """Reads one image as (size, size, channels) uint8, in grey or RGB.

    Raises:
        UserError: the file is not an image, is damaged, or has more than 50 million pixels.
    """
    image = file.decode().convert("L" if channels == 1 else "RGB")
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(size, size, channels)


def decode_all(files: Sequence[ImageFile], channels: int, size: int, title: str) -> np.ndarray:
    """Reads many images as (number, size, size, channels) uint8, with a progress bar called `title`."""
    pixels = np.empty((len(files), size, size, channels), dtype=np.uint8)
    decoded = thread_map(lambda file: decode(file, channels, size), files)
    for row, image in enumerate(with_progress_bar(decoded, len(files), title)):
        pixels[row] = image
    return pixels
