"""Opens untrusted image files; every error of a file is a UserError that names it."""

import contextlib
import io
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from hw_common.runs.errors import UserError

LARGEST_IMAGE = 50_000_000  # pixels; a header of a few bytes can claim gigabytes
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # `opened` refuses such images itself
warnings.filterwarnings("ignore", category=UserWarning, module="PIL")  # `opened` reports damaged files itself


@contextlib.contextmanager
def opened(source: Path | bytes, name: str | Path | None = None) -> Iterator[Image.Image]:
    """Opens an image for a with block. If Pillow fails to decode it in the block, its error becomes a UserError, too.

    Args:
        source: path or content of the file.
        name: name of the file in messages; its path by default.

    Raises:
        UserError: the file is not an image, is damaged or unreadable, or has more than 50 million pixels.
    """
    name = name or (source if isinstance(source, Path) else "the image")
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as file:
            image: Image.Image = file
            if image.format == "EPS":  # a program, which Pillow would run with Ghostscript
                raise UserError(f"{name} is an EPS file, which contains a program; convert it to PNG")
            if image.width * image.height > LARGEST_IMAGE:
                raise UserError(f"{name} has {image.width}×{image.height} pixels, more than the limit of 50 million")
            if image.mode in ("I", "F") or image.mode.startswith("I;32"):  # it is undefined which value is white
                raise UserError(f"{name} has pixels of 32 bits; convert it to 8 or 16 bits")
            if image.mode.startswith("I;16"):  # Pillow would clip these values at 255 instead of scaling them
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            yield image
    except Image.DecompressionBombError as error:
        raise UserError(f"{name} claims too many pixels: {error}") from error
    except UnidentifiedImageError as error:
        raise UserError(f"{name} is not an image that Pillow can read") from error
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise UserError(f"cannot read {name}: {error.strerror}") from error
    # The exceptions that Pillow raises for damaged files.
    except (OSError, SyntaxError, ValueError, IndexError, MemoryError, RuntimeError) as error:
        raise UserError(f"{name} is damaged: {error}") from error


def on_background(image: Image.Image, colour: str) -> Image.Image:
    """Returns `image` in RGB, with its transparent parts on a background of `colour`."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    layers = Image.new("RGBA", image.size, colour), image.convert("RGBA")
    return Image.alpha_composite(*layers).convert("RGB")
