"""Decodes image files to the square arrays that the encoder takes."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from hw_common.data import images as image_files
from hw_common.data.dataset_files import DatasetFile
from hw_common.data.thread_map import thread_map, with_progress_bar

VIEWS = 8


def decode(image: DatasetFile, size: int) -> np.ndarray:
    """Returns an image as (size, size, 3) uint8 in RGB.

    Grey images get three equal channels. Resizing is bilinear with antialiasing and does not keep the proportions.

    Raises:
        UserError: the file is not an image, is damaged, or has more than 50 million pixels.
    """
    return decode_bytes(image.read(), image.where, size)


def decode_bytes(content: bytes, where: str, size: int) -> np.ndarray:
    """Decodes the content of an image file like `decode`; `where` names the file in messages."""
    picture = image_files.decode(content, where)
    if picture.size != (size, size):
        picture = picture.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(picture)


def decode_all(images: Sequence[DatasetFile], size: int, title: str) -> np.ndarray:
    """Decodes many images to (images, size, size, 3) uint8, with a progress bar called `title`."""
    pixels = np.empty((len(images), size, size, 3), dtype=np.uint8)
    decoded = thread_map(lambda image: decode(image, size), images)
    for row, image in enumerate(with_progress_bar(decoded, len(images), title)):
        pixels[row] = image
    return pixels


def turn(pixels: np.ndarray, view: int) -> np.ndarray:
    """Returns one of the VIEWS = 8 flips and rotations of a square image (H, H, 3). Aerial images have no upright side.

    Views 0 to 3 are rotations by 0, 90, 180 and 270 degrees; views 4 to 7 are their mirror images.
    """
    turned = np.rot90(pixels, view % 4)
    return turned if view < 4 else turned[:, ::-1]
