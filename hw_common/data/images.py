"""Image files, opened without trusting what they claim to be; whatever is wrong with one is a line that names it."""

import contextlib
import io
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from hw_common.runs.errors import UserError

LARGEST_IMAGE = 50_000_000  # pixels; a file of a few kilobytes can claim many gigabytes
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # opened() refuses these itself
warnings.filterwarnings("ignore", category=UserWarning, module="PIL")  # a damaged file is one line, opened()'s


@contextlib.contextmanager
def opened(source: Path | bytes, name: str | Path | None = None) -> Iterator[Image.Image]:
    """Opens an image; inside, whatever Pillow finds damaged while decoding is a UserError too.

    Args:
        source: path of a file, or the bytes of one.
        name: what messages call it; the path by default.

    Raises:
        UserError: no image, damaged, not readable, or larger than 50 million pixels.
    """
    name = name or source
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            if image.format == "EPS":  # a program, which Pillow has Ghostscript run
                raise UserError(f"{name} is an EPS file, which would have to be run to be seen; convert it to PNG")
            if image.width * image.height > LARGEST_IMAGE:
                raise UserError(f"{name} has {image.width}×{image.height} pixels, more than the limit of 50 million")
            if image.mode in ("I", "F") or image.mode.startswith("I;32"):  # what is white in them, nobody knows
                raise UserError(f"{name} has pixels of 32 bits; convert it to 8 or 16 bits")
            if image.mode.startswith("I;16"):  # Pillow clips these at 255 instead of scaling
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            yield image
    except Image.DecompressionBombError as error:
        raise UserError(f"{name} claims too many pixels: {error}") from error
    except UnidentifiedImageError as error:
        raise UserError(f"{name} is not an image that Pillow can read") from error
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise UserError(f"cannot read {name}: {error.strerror}") from error
    # Pillow's ways to say «damaged»
    except (OSError, SyntaxError, ValueError, IndexError, MemoryError, RuntimeError) as error:
        raise UserError(f"{name} is damaged: {error}") from error


def on_background(image: Image.Image, colour: str) -> Image.Image:
    """`image` in RGB, what is transparent in it as if it lay on `colour`."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    layers = Image.new("RGBA", image.size, colour), image.convert("RGBA")
    return Image.alpha_composite(*layers).convert("RGB")
