"""The images of a data set as arrays, wherever their bytes lie."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from hw_common.data import images as image_files
from hw_common.data.dataset_files import DatasetFile
from hw_common.data.thread_map import thread_map, with_progress_bar

VIEWS = 8


def decode(image: DatasetFile, size: int) -> np.ndarray:
    """An image as (size, size, 3) uint8 in RGB.

    Grey images get three equal channels, transparent ones lie on black. Resizing is bilinear with antialiasing and
    does not keep the proportions.

    Raises:
        UserError: no image, damaged, or larger than 50 million pixels.
    """
    return decode_bytes(image.read(), image.where, size)


def decode_bytes(content: bytes, where: str, size: int) -> np.ndarray:
    """What `decode` does, with bytes that are read already; `where` names them in messages."""
    with image_files.opened(content, where) as picture:
        if picture.has_transparency_data:  # resized with it: the colour of what is transparent must not shine through
            picture = picture.convert("RGBA")
        else:
            picture = picture.convert("RGB")
        if picture.size != (size, size):
            picture = picture.resize((size, size), Image.Resampling.BILINEAR)
        return np.asarray(image_files.on_background(picture, "black"))


def decode_all(images: Sequence[DatasetFile], size: int, title: str) -> np.ndarray:
    """Many images as (number, size, size, 3) uint8, with a progress bar called `title`."""
    pixels = np.empty((len(images), size, size, 3), dtype=np.uint8)
    decoded = thread_map(lambda image: decode(image, size), images)
    for row, image in enumerate(with_progress_bar(decoded, len(images), title)):
        pixels[row] = image
    return pixels


def turn(pixels: np.ndarray, view: int) -> np.ndarray:
    """Image (H, H, 3) as one of the VIEWS symmetries of the square shows it: aerial images have no top.

    Views 0-3 are turned by that many quarters, views 4-7 are the same mirrored; 0 is the image itself.
    """
    turned = np.rot90(pixels, view % 4)
    return turned if view < 4 else turned[:, ::-1]
