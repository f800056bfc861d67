"""Decodes untrusted image files to the pixels that an image viewer shows on a white page.

All homeworks decode through this file, so the same picture gives the same pixels everywhere. The orientation in the
file's EXIF or XMP data is applied, transparent parts become white, and grey levels of any depth are scaled to 8 bits by
the depth that the file declares. An animation or a file of several pages gives its first picture. Colour profiles (ICC)
are ignored: RGB and grey levels are taken as sRGB.

Every error of a file is a UserError that names it.
"""

import contextlib
import ctypes
import io
import logging
import math
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageFile, TiffImagePlugin, UnidentifiedImageError, _imaging

from hw_common.runs.errors import UserError

DECODER = "as shown on white, 1"  # stored with cached features; must be changed whenever the decoder changes
LARGEST_IMAGE = 50_000_000  # pixels; a header of a few bytes can claim gigabytes

# `decode` reports large and damaged files itself, so Pillow, its logger and its C library libtiff need not.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
logging.getLogger("PIL").addHandler(logging.NullHandler())
with contextlib.suppress(OSError, AttributeError):  # AttributeError: libtiff is linked into Pillow and not exported
    ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler(None)

# Tags of TIFF (TIFF 6.0, sections 8 and 19).
_BITS, _PHOTOMETRIC, _PLANES, _SAMPLE_FORMAT, _DARKEST, _BRIGHTEST = 258, 262, 284, 339, 340, 341
_WHITE_IS_ZERO, _SEPARATE_PLANES, _SIGNED = 0, 2, 2
# Grey TIFF files that Pillow can unpack, but does not list: (byte order, photometric interpretation, sample format,
# fill order, bits, extra samples) → (mode, layout of the bytes).
for _order, _sixteen in ((b"II", "I;16"), (b"MM", "I;16B")):
    for _photometric in (_WHITE_IS_ZERO, 1):
        TiffImagePlugin.OPEN_INFO.setdefault((_order, _photometric, (1,), 1, (12,), ()), ("I;16", "I;12"))
        TiffImagePlugin.OPEN_INFO.setdefault((_order, _photometric, (1,), 1, (16,), ()), (_sixteen, _sixteen))

_SCALED_TO_16_BITS = ("PNG", "PPM", "JPEG2000")  # formats whose deep grey levels Pillow scales to 16 bits

_TRANSPOSED = {  # by EXIF's orientation; the last four exchange width and height
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode(content: bytes, name: str, shorter_side: int | None = None) -> Image.Image:
    """Decodes an image file to RGB with 8 bits per channel, as an image viewer shows it on a white page.

    Args:
        content: content of the file.
        name: name of the file in messages.
        shorter_side: larger pictures are reduced, bilinearly, until their shorter side has this length in pixels.

    Raises:
        UserError: the file is not an image, is damaged, has more than 50 million pixels, has pixels without a known
            range, or is of a kind that Pillow cannot decode or decodes wrongly.
    """
    with _errors_named(content, name), Image.open(io.BytesIO(content)) as image:
        _check(image, name)
        size = image.size
        if shorter_side is not None and min(size) > shorter_side:
            # JPEG decodes large photos at a half, a quarter or an eighth of their size.
            image.draft("RGB", _reduced(size, shorter_side))
        is_reduced = image.size != size
        image.load()
        _check(image, name)  # again, because the size of an icon or of a rotated TIFF file is only known now
        size = size if is_reduced else image.size
        orientation = _orientation(image)
        shown = _on_white(_to_eight_bits(image, content, name))
        if orientation in _TRANSPOSED:
            shown = shown.transpose(_TRANSPOSED[orientation])
            size = size[::-1] if orientation >= 5 else size
    if shorter_side is None or min(size) <= shorter_side:
        return shown
    return shown.resize(_reduced(size, shorter_side), Image.Resampling.BILINEAR)


def _check(image: Image.Image, name: str) -> None:
    if image.format == "EPS":  # such a file is a program, which Pillow would run with Ghostscript
        raise UserError(f"{name} is an EPS file, which contains a program; convert it to PNG")
    if isinstance(image, ImageFile.StubImageFile):
        raise UserError(f"{name} is a {image.format} file, which Pillow cannot decode; convert it to PNG")
    if image.width * image.height > LARGEST_IMAGE:
        raise UserError(f"{name} has {image.width}×{image.height} pixels, more than the limit of 50 million")
    if isinstance(image, TiffImagePlugin.TiffImageFile) and (layout := _misread_layout(image)):
        raise UserError(f"{name} has {layout}, which Pillow decodes wrongly; convert it to PNG")


def _misread_layout(image: TiffImagePlugin.TiffImageFile) -> str | None:
    """The layout of a TIFF file if Pillow would decode it to wrong pixels without an error."""
    is_packed = image.info.get("compression") != "raw"
    if image.tag_v2.get(_PLANES) == _SEPARATE_PLANES:
        if not is_packed and _tag(image, _BITS) == 16 and image.mode != "I;16":
            return "colours of 16 bits in separate planes"
        if image.mode in ("LA", "La", "LAB"):
            return "colours or transparency in separate planes"
    if is_packed and image.tag_v2.prefix == b"MM" and image.mode in ("I", "F"):
        return "compressed big-endian numbers"
    return None


def _reduced(size: tuple[int, int], shorter_side: int) -> tuple[int, int]:
    width, height = (round(side * shorter_side / min(size)) for side in size)
    return width, height


def _orientation(image: Image.Image) -> int:
    """EXIF's orientation; 1, which means upright, if the file has none or its EXIF data are damaged."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # Pillow raises many kinds of exceptions; viewers also show pictures with damaged EXIF data
        return 1


def _to_eight_bits(image: Image.Image, content: bytes, name: str) -> Image.Image:
    """Returns an image of 8 bits per channel; Pillow would clip deep grey levels at 255 instead of scaling them."""
    _correct_transparency(image, content)
    is_signed = _tag(image, _SAMPLE_FORMAT) == _SIGNED
    if not (image.mode.startswith(("I", "F")) or (image.mode == "L" and is_signed)):
        return image
    levels = np.asarray(image)
    if image.mode == "L":
        levels = levels.view(np.int8)
    shares = _scaled(image, levels, is_signed, name)
    grey = Image.fromarray(255 - shares if _tag(image, _PHOTOMETRIC) == _WHITE_IS_ZERO else shares)
    transparent = image.info.get("transparency")
    if transparent is not None:  # a PNG file can declare one grey level transparent
        grey.putalpha(Image.fromarray(levels != transparent).convert("L"))
    return grey


def _scaled(image: Image.Image, levels: np.ndarray, is_signed: bool, name: str) -> np.ndarray:
    """Scales grey levels to uint8 by the range or by the number of bits that the file declares."""
    darkest, brightest = _tag(image, _DARKEST), _tag(image, _BRIGHTEST)
    if darkest is not None and brightest is not None and 0 < float(brightest) - float(darkest) < math.inf:
        with np.errstate(all="ignore"):  # a file may hold NaN, which becomes black, and infinity
            shares = levels.astype(np.float64)
            shares -= float(darkest)
            shares *= 255 / (float(brightest) - float(darkest))
            return np.nan_to_num(shares, copy=False).clip(0, 255, out=shares).round(out=shares).astype(np.uint8)
    bits = _tag(image, _BITS) or (16 if image.format in _SCALED_TO_16_BITS or image.mode.startswith("I;16") else 32)
    if image.mode == "F" or bits > 16 or image.format not in ("TIFF", *_SCALED_TO_16_BITS):
        kind = "floating-point numbers" if image.mode == "F" else f"whole numbers of {bits} bits"
        raise UserError(
            f"{name} has {kind} as pixels and does not say which value is white; convert it to an 8-bit PNG"
        )
    if is_signed:
        levels = levels.astype(np.int32) + 2 ** (bits - 1)
    return (levels >> (bits - 8)).astype(np.uint8)


def _correct_transparency(image: Image.Image, content: bytes) -> None:
    """Scales the transparent colour of a PNG file to 8 bits, like the pixels; Pillow leaves it at the file's depth."""
    transparent = image.info.get("transparency")
    if image.format != "PNG":
        return
    bits = content[24]
    if image.mode == "L" and isinstance(transparent, int):
        image.info["transparency"] = transparent * 255 // (2**bits - 1)
    elif image.mode == "RGB" and isinstance(transparent, tuple) and bits == 16:
        image.info["transparency"] = tuple(level >> 8 for level in transparent)


def _tag(image: Image.Image, number: int) -> Any:
    """The value of a TIFF tag, the first if it has several; None if the file has none or is not a TIFF file."""
    value = getattr(image, "tag_v2", {}).get(number)
    return value[0] if isinstance(value, tuple) else value


def _on_white(image: Image.Image) -> Image.Image:
    """Returns `image` in RGB, with its transparent parts on white."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    if image.mode == "La":  # Pillow cannot convert this mode to RGBA directly
        image = image.convert("LA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA")).convert("RGB")


@contextlib.contextmanager
def _errors_named(content: bytes, name: str) -> Iterator[None]:
    """Turns every error that Pillow raises for a file into a UserError that names the file."""
    try:
        yield
    except UserError:
        raise
    except Image.DecompressionBombError as error:
        raise UserError(f"{name} claims too many pixels: {error}") from error
    except UnidentifiedImageError as error:
        if content[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):  # TIFF and BigTIFF
            raise UserError(
                f"{name} is a TIFF file that is damaged or has pixels of a kind that Pillow cannot read; "
                "convert it to PNG"
            ) from error
        raise UserError(f"{name} is not an image that Pillow can read") from error
    except Exception as error:  # Pillow's decoders raise exceptions of almost every type
        raise UserError(f"{name} is damaged: {str(error) or type(error).__name__}") from error
