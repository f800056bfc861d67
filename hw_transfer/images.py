"""Decodes image files into memory, on all cores."""

from collections.abc import Sequence

import numpy as np

from hw_common.data.class_folders import ImageFile
from hw_common.data.thread_map import thread_map, with_progress_bar
from hw_common.runs.errors import UserError

# The sheet's photos (about 500×375) keep their size, so that random crops are seldom enlarged to 224²: on average, a
# crop has half of a photo's pixels.
SHORTER_SIDE = 384
_MAX_ASPECT_RATIO = 20  # without a limit, resizing the shorter side to 256 could make the longer side huge
_LARGEST_TOTAL = 8 * 2**30  # bytes of all pictures together


def decode(file: ImageFile) -> np.ndarray:
    """Reads one picture as (height, width, 3) uint8, reduced so that its shorter side has at most SHORTER_SIDE pixels.

    Raises:
        UserError: the file is not an image, is damaged, has more than 50 million pixels, or has one side that is more
            than 20 times as long as the other.
    """
    picture = np.asarray(file.decode(SHORTER_SIDE))
    shorter, longer = sorted(picture.shape[:2])
    if longer > _MAX_ASPECT_RATIO * shorter:
        raise UserError(f"{file.name} is {longer / shorter:.1f} times as long as it is wide, expected at most 20 times")
    return picture


def decode_all(files: Sequence[ImageFile], title: str) -> list[np.ndarray]:
    """Reads many pictures, each as `decode` does, with a progress bar called `title`.

    Raises:
        UserError: `decode` refuses a picture, or the pictures take more than 8 GB together.
    """
    pictures: list[np.ndarray] = []
    total = 0
    for picture in with_progress_bar(thread_map(decode, files), len(files), title):
        pictures.append(picture)
        total += picture.nbytes
        if total > _LARGEST_TOTAL:
            raise UserError(f"{title}: the pictures take more than 8 GB of memory when decoded; use fewer")
    return pictures
