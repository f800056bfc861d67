"""Image files to arrays: decoded once into memory, in parallel, without trusting what they claim to be."""

import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from hw_common.errors import UserError
from hw_common.runs import available_cores

LARGEST_IMAGE = 50_000_000  # pixels; a file of a few kilobytes can claim many gigabytes
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # decode() refuses these itself
warnings.filterwarnings("ignore", category=UserWarning, module="PIL")  # a damaged file is one line, decode()'s


def decode(path: Path, channels: int, size: int) -> np.ndarray:
    """One image file as (size, size, channels) uint8, in grey or RGB.

    Raises:
        UserError: no image, damaged, or larger than 50 million pixels.
    """
    try:
        with Image.open(path) as image:
            if image.width * image.height > LARGEST_IMAGE:
                raise UserError(f"{path} has {image.width}×{image.height} pixels, more than the limit of 50 million")
            if image.mode.startswith("I;16"):  # Pillow clips these at 255 instead of scaling
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            image = image.convert("L" if channels == 1 else "RGB")
            if image.size != (size, size):
                image = image.resize((size, size), Image.Resampling.BILINEAR)
            return np.asarray(image).reshape(size, size, channels)
    except Image.DecompressionBombError as error:
        raise UserError(f"{path} claims too many pixels: {error}") from error
    except UnidentifiedImageError as error:
        raise UserError(f"{path} is not an image that Pillow can read") from error
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    # Pillow's ways to say «damaged»
    except (OSError, SyntaxError, ValueError, IndexError, MemoryError, RuntimeError) as error:
        raise UserError(f"{path} is damaged: {error}") from error


def decode_all(paths: Sequence[Path], channels: int, size: int, title: str) -> np.ndarray:
    """Many image files as (number, size, size, channels) uint8, with a progress bar called `title`."""
    pixels = np.empty((len(paths), size, size, channels), dtype=np.uint8)

    def work(index: int) -> None:
        pixels[index] = decode(paths[index], channels, size)

    with ThreadPoolExecutor(available_cores()) as pool:
        jobs = pool.map(work, range(len(paths)))
        try:
            for _ in tqdm(jobs, total=len(paths), desc=title, unit="image", disable=None, leave=False):
                pass
        finally:
            pool.shutdown(cancel_futures=True)
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
