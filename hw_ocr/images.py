"""Image files to letters as the networks know them: 16×8 pixels of ink or paper.

The letters of the data set are as large as they can be with their shape kept, that is 16 pixels high or 8 wide, and
centred; letters from image files are brought to the same size and place.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from hw_common.data import images
from hw_common.runs.errors import UserError
from hw_ocr.sources import HEIGHT, WIDTH

_LEAST_CONTRAST = 32  # grey levels between paper and ink
_MOST_LETTERS = 200
# Of the ink that the fullest pixel of a letter has, how much makes a pixel ink: thin strokes must not break when a
# large letter shrinks, where two pixels share the width of one stroke.
_INK_SHARE = 0.4


def read_letters(path: Path) -> np.ndarray:
    """The letters in an image file, cut apart where a column of pixels has no ink: (T, 16, 8) uint8 of 0 and 1.

    Any size, grey or in colour, bright on dark or dark on bright. Letters that touch are not told apart; an image of
    16×8 pixels is taken for a letter of the data set as it is.

    Raises:
        UserError: no image, damaged, too large, without ink, or with more than 200 letters.
    """
    with images.opened(path) as image:
        ink = find_ink(np.asarray(images.on_background(image, "white").convert("L")))
    if ink is None:
        raise UserError(f"{path} shows no letter: expected ink at least {_LEAST_CONTRAST} of 255 grey levels off paper")
    if ink.shape == (HEIGHT, WIDTH):
        return (ink > 0.5).astype(np.uint8)[None]
    cut = cut_at_blank_columns(ink)
    if len(cut) > _MOST_LETTERS:
        raise UserError(f"{path} falls into {len(cut)} pieces, expected one word of at most {_MOST_LETTERS} letters")
    return np.stack([fit(letter) for letter in cut])


def find_ink(grey: np.ndarray) -> np.ndarray | None:
    """How much ink each pixel has, float32 from 0 (paper) to 1; None if all of it is paper.

    Paper is what most pixels show (of the data set's 51 699 letters, two have more ink than paper); ink is what differs
    from it, darker or brighter.

    Args:
        grey: (height, width) uint8.
    """
    distance = np.abs(grey.astype(np.int16) - int(np.median(grey)))
    return (distance / np.float32(distance.max())) if distance.max() >= _LEAST_CONTRAST else None


def cut_at_blank_columns(ink: np.ndarray) -> list[np.ndarray]:
    """The pieces of `ink` (height, width) between columns without ink, from left to right, without paper around."""
    filled = ink > 0.5
    edges = np.flatnonzero(np.diff(filled.any(axis=0).astype(np.int8), prepend=0, append=0))
    pieces = []
    for left, right in zip(edges[::2], edges[1::2], strict=True):
        rows = np.flatnonzero(filled[:, left:right].any(axis=1))
        pieces.append(ink[rows[0] : rows[-1] + 1, left:right])
    return pieces


def fit(letter: np.ndarray) -> np.ndarray:
    """`letter` (height, width) as large as fits into 16×8 pixels with its shape kept, centred; uint8 of 0 and 1."""
    height, width = letter.shape
    scale = min(HEIGHT / height, WIDTH / width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    # The mean of the pixels that become one; where a small letter grows, copies.
    scaled = np.asarray(Image.fromarray(letter.astype(np.float32)).resize(size, Image.Resampling.BOX))
    placed = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    top, left = (HEIGHT - size[1]) // 2, (WIDTH - size[0]) // 2
    placed[top : top + size[1], left : left + size[0]] = scaled >= _INK_SHARE * scaled.max()
    return placed
