"""Picture files to arrays: decoded once into memory, in parallel, without trusting what they claim to be."""

import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from hw_common.data import images
from hw_common.data.thread_map import in_parallel, with_bar
from hw_common.runs.errors import UserError

# The sheet's photos are about 500×375: they stay whole. Random crops to 224 take half of them or more, on average.
SHORTER_SIDE = 384
_LONGEST = 20  # times the shorter side: resizing the shorter side to 256 must not make a giant of the longer one
_LARGEST_TOTAL = 8 * 2**30  # bytes of all pictures together


@dataclass(frozen=True)
class PictureFile:
    """A file of a folder or of an archive.

    Attributes:
        name: for messages.
        read: returns its bytes.
    """

    name: str
    read: Callable[[], bytes]


def decode(file: PictureFile) -> np.ndarray:
    """One picture as (height, width, 3) uint8, its shorter side at most SHORTER_SIDE pixels.

    Raises:
        UserError: no picture, damaged, larger than 50 million pixels, or longer than 20 times its width.
    """
    with images.opened(_read(file), file.name) as image:
        shorter, longer = sorted(image.size)
        if longer > _LONGEST * shorter:
            raise UserError(f"{file.name} has {image.width}×{image.height} pixels: too long to be a picture")
        size = image.size
        if shorter > SHORTER_SIDE:
            size = tuple(max(1, round(side * SHORTER_SIDE / shorter)) for side in image.size)
            image.draft("RGB", size)  # lets JPEG decode large photos at a half, a quarter or an eighth
        image = image.convert("RGB")
        return np.asarray(image if image.size == size else image.resize(size, Image.Resampling.BILINEAR))


def _read(file: PictureFile) -> bytes:
    try:
        return file.read()
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise UserError(f"cannot read {file.name}: {error.strerror}") from error
    # what zipfile and tarfile say of a damaged archive
    except (OSError, ValueError, RuntimeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{file.name} is damaged: {error}") from error


def decode_all(picture_files: Sequence[PictureFile], title: str) -> list[np.ndarray]:
    """Many pictures, each as `decode` returns it, with a progress bar called `title`.

    Raises:
        UserError: as `decode`; or they take more than 8 GB together.
    """
    pictures: list[np.ndarray] = []
    total = 0
    for picture in with_bar(in_parallel(decode, picture_files), len(picture_files), title):
        pictures.append(picture)
        total += picture.nbytes
        if total > _LARGEST_TOTAL:
            raise UserError(f"{title}: they take more than 8 GB of memory when decoded; use fewer")
    return pictures
