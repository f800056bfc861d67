"""Letters from image files, in the format of the data set: 16×8 pixels of ink or paper.

The letters of the data set are centred and either 16 pixels high or 8 pixels wide. Letters from image files are scaled
and centred in the same way.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from hw_common.data import images
from hw_common.data.dataset_files import read_file
from hw_common.runs.errors import UserError
from hw_ocr.readers import HEIGHT, WIDTH

_MIN_CONTRAST = 32  # grey levels between paper and ink
_MAX_LETTERS = 200
# A pixel of a scaled letter becomes ink if it is at least this dark, relative to the letter's darkest pixel. A higher
# threshold would break thin strokes whose width is divided between two pixels.
_INK_SHARE = 0.4


def read_letters(path: Path) -> np.ndarray:
    """The letters of the word in the image file `path`; see `decode_letters`."""
    return decode_letters(read_file(path), str(path))


def decode_letters(content: bytes, where: str) -> np.ndarray:
    """The letters of the word in an image, (T, 16, 8) uint8 of 0 and 1.

    The image may have any size, be grey or in colour, and be dark on bright or bright on dark. It is cut into letters
    at the columns of pixels without ink, so letters that touch count as one. An image of 16×8 pixels is one letter and
    is not scaled.

    Args:
        content: the bytes of the image file.
        where: name of the file for messages.

    Raises:
        UserError: the file is not an image, is damaged or too large, or shows no ink or more than 200 letters.
    """
    ink = find_ink(np.asarray(images.decode(content, where).convert("L")))
    if ink is None:
        raise UserError(f"{where} shows no letter: expected a contrast of at least {_MIN_CONTRAST} of 255 grey levels")
    if ink.shape == (HEIGHT, WIDTH):
        return (ink > 0.5).astype(np.uint8)[None]
    cut = cut_at_blank_columns(ink)
    if len(cut) > _MAX_LETTERS:
        raise UserError(f"{where} shows {len(cut)} letters, expected one word of at most {_MAX_LETTERS}")
    return np.stack([fit(letter) for letter in cut])


def find_ink(grey: np.ndarray) -> np.ndarray | None:
    """The amount of ink of each pixel, float32 from 0 (paper) to 1; None if the image shows no ink.

    The median grey level is assumed to be paper (only two of the data set's letters have more ink than paper).
    The amount of ink is the absolute difference from it, so ink may be darker or brighter than paper.

    Args:
        grey: (height, width) uint8.
    """
    distance = np.abs(grey.astype(np.int16) - int(np.median(grey)))
    return (distance / np.float32(distance.max())) if distance.max() >= _MIN_CONTRAST else None


def cut_at_blank_columns(ink: np.ndarray) -> list[np.ndarray]:
    """The parts of `ink` (height, width) between columns without ink, from left to right, cropped to their ink."""
    filled = ink > 0.5
    edges = np.flatnonzero(np.diff(filled.any(axis=0).astype(np.int8), prepend=0, append=0))
    pieces = []
    for left, right in zip(edges[::2], edges[1::2], strict=True):
        rows = np.flatnonzero(filled[:, left:right].any(axis=1))
        pieces.append(ink[rows[0] : rows[-1] + 1, left:right])
    return pieces


def fit(letter: np.ndarray) -> np.ndarray:
    """`letter` (height, width) scaled to the largest size within 16×8 pixels, centred; uint8 of 0 and 1."""
    height, width = letter.shape
    scale = min(HEIGHT / height, WIDTH / width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    # Box filter: each new pixel is the mean of the old pixels that it covers, or a copy if the letter is enlarged.
    scaled = np.asarray(Image.fromarray(letter.astype(np.float32)).resize(size, Image.Resampling.BOX))
    placed = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    top, left = (HEIGHT - size[1]) // 2, (WIDTH - size[0]) // 2
    placed[top : top + size[1], left : left + size[0]] = scaled >= _INK_SHARE * scaled.max()
    return placed
