"""The same small picture in many image formats, each with the pixels that a viewer shows; used by all picture tests."""

import io
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageCms, features

# 8×8 pixels without any symmetry, in 16 grey levels that are multiples of 17, so that 4 bits hold them exactly.
GREY = (np.arange(64).reshape(8, 8) * 7 % 16 * 17).astype(np.uint8)
COLOUR = np.stack([GREY, GREY.T, 255 - GREY], axis=2)
_OPAQUE = np.ones((8, 8), dtype=bool)
_OPAQUE[5:, 2:] = False
HOLED = np.where(_OPAQUE[:, :, None], COLOUR, np.uint8(255))  # COLOUR with a hole, through which one sees white
_ALPHA = (_OPAQUE * 255).astype(np.uint8)
_RGBA = np.dstack([np.where(_OPAQUE[:, :, None], COLOUR, np.uint8(0)), _ALPHA])  # hides black where it is transparent


def encoded(pixels: np.ndarray | Image.Image, kind: str, **options: Any) -> bytes:
    """An image file written by Pillow."""
    buffer = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(bits: int, kind: int, rows: Sequence[bytes], width: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG file of any depth and any colour type, `kind`; the `chunks` stand before its pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, len(rows), bits, kind, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunk(*c) for c in chunks) + pixels + chunk(b"IEND", b"")


Tags = dict[int, tuple[str, Sequence[float]]]  # number → type (B, H and L: 8, 16 and 32 bits, f: float) and values


def tiff(planes: Sequence[bytes], bits: int, tags: Tags | None = None, order: str = "<", width: int = 8) -> bytes:
    """A TIFF file of 8 rows, one strip for each of `planes`; grey, black is 0 and uncompressed unless `tags` differ."""
    entries: Tags = {
        256: ("L", [width]), 257: ("L", [8]), 258: ("H", [bits]), 259: ("H", [1]), 262: ("H", [1]), 277: ("H", [1]),
        278: ("L", [8]), 284: ("H", [1]), **(tags or {}),
    }  # fmt: skip
    if entries[259][1] == [8]:
        planes = [zlib.compress(plane) for plane in planes]
    entries |= {273: ("L", [0] * len(planes)), 279: ("L", [len(plane) for plane in planes])}
    sizes = {number: struct.calcsize(f"<{len(v)}{kind}") for number, (kind, v) in entries.items()}
    after = 8 + 2 + 12 * len(entries) + 4
    place = after + sum(size for size in sizes.values() if size > 4)
    entries[273] = ("L", [place + sum(map(len, planes[:number])) for number in range(len(planes))])
    table = apart = b""
    for number, (kind, values) in sorted(entries.items()):
        raw = struct.pack(f"{order}{len(values)}{kind}", *values)
        here = raw.ljust(4, b"\0") if len(raw) <= 4 else struct.pack(f"{order}I", after + len(apart))
        apart += raw if len(raw) > 4 else b""
        table += struct.pack(f"{order}HHI", number, {"B": 1, "H": 3, "L": 4, "f": 11}[kind], len(values)) + here
    start = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8)
    return start + struct.pack(f"{order}H", len(entries)) + table + bytes(4) + apart + b"".join(planes)


def packed(levels: np.ndarray, bits: int) -> list[bytes]:
    """Each row of `levels` as a bit string of `bits` bits per level, the highest bit first."""
    rows = ["".join(f"{level:0{bits}b}" for level in row.tolist()) for row in levels]
    return [int(row.ljust(-(-len(row) // 8) * 8, "0"), 2).to_bytes(-(-len(row) // 8), "big") for row in rows]


@dataclass(frozen=True)
class Picture:
    """An image file and what it shows."""

    content: bytes
    shown: np.ndarray  # (8, 8) or (8, 8, 3) uint8
    tolerance: int = 0  # largest difference from `shown`, in grey levels

    @property
    def rgb(self) -> np.ndarray:
        """`shown` as (8, 8, 3)."""
        return self.shown if self.shown.ndim == 3 else np.repeat(self.shown[:, :, None], 3, axis=2)


_TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {  # what a camera with this EXIF orientation stores
    2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud, 5: lambda a: a.swapaxes(0, 1), 6: np.rot90,
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1), 8: lambda a: np.rot90(a, 3),
}  # fmt: skip


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def _turned(orientation: int) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(_TURNS[orientation](COLOUR)))


def _lab(grey: Image.Image) -> Image.Image:
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    lab = ImageCms.profileToProfile(grey.convert("RGB"), *profiles, outputMode="LAB")
    assert lab is not None
    return lab


def _bmp_with_alpha() -> bytes:
    """COLOUR with its hole as a BMP file with masks for four channels; without an alpha mask, alpha is unused."""
    masks = struct.pack("<4I", 0xFF, 0xFF00, 0xFF0000, 0xFF000000)
    header = struct.pack("<IiiHHIIiiII", 108, 8, -8, 1, 32, 3, 256, 0, 0, 0, 0) + masks + bytes(52)
    return b"BM" + struct.pack("<IHHI", 14 + len(header) + 256, 0, 0, 14 + len(header)) + header + _RGBA.tobytes()


def _on_white(grey: np.ndarray) -> np.ndarray:
    return np.where(_OPAQUE, grey, np.uint8(255))


_GREY_IMAGE, _PALETTE = Image.fromarray(GREY), Image.fromarray(COLOUR).quantize(64)
_DEEP, _HOLED_IMAGE = GREY.astype(np.uint16) * 257, Image.fromarray(_RGBA)
_DEEP_COLOUR = [row.tobytes() for row in (COLOUR * 257.0).astype(">u2")]
_INVERSE, _ZLIB, _ALPHA_TAG = (262, ("H", [0])), (259, ("H", [8])), (338, ("H", [2]))
_RGB = {262: ("H", [2]), 277: ("H", [3]), 258: ("H", [8] * 3)}
_TWELVE = GREY.astype(int) * 4095 // 255
# A chunk tRNS makes one grey level transparent. In the pictures with such a chunk, this level is the hole.
_KEY = GREY[0, 1]
_KEYED = np.where(GREY == _KEY, np.uint8(255), GREY)
_PAGES = Image.fromarray(COLOUR), [Image.fromarray(255 - COLOUR)]
FORMATS: dict[str, Picture] = {
    "png": Picture(encoded(COLOUR, "PNG"), COLOUR),
    "png grey": Picture(encoded(GREY, "PNG"), GREY),
    "png grey 16 bits": Picture(encoded(_DEEP, "PNG"), GREY),
    "png grey 16 bits, low byte 0": Picture(encoded(GREY.astype(np.uint16) << 8, "PNG"), GREY),
    "png grey 4 bits": Picture(png(4, 0, packed(GREY // 17, 4), 8), GREY),
    "png grey 2 bits": Picture(png(2, 0, packed(GREY // 64, 2), 8), GREY // 64 * 85),
    "png 1 bit": Picture(png(1, 0, packed(GREY // 128, 1), 8), GREY // 128 * 255),
    "png colours 16 bits": Picture(png(16, 2, _DEEP_COLOUR, 8), COLOUR),
    "png palette": Picture(encoded(_PALETTE, "PNG"), COLOUR),
    "png alpha": Picture(encoded(_RGBA, "PNG"), HOLED),
    "png alpha 16 bits": Picture(png(16, 6, [row.tobytes() for row in (_RGBA * 257.0).astype(">u2")], 8), HOLED),
    "png grey alpha": Picture(
        encoded(Image.merge("LA", [_GREY_IMAGE, Image.fromarray(_ALPHA)]), "PNG"), _on_white(GREY)
    ),
    "png grey alpha 16 bits": Picture(
        png(16, 4, [row.tobytes() for row in (np.dstack([GREY, _ALPHA]) * 257.0).astype(">u2")], 8), _on_white(GREY)
    ),
    "png half transparent": Picture(
        encoded(np.dstack([GREY * 0, GREY * 0, GREY * 0, 255 - GREY]), "PNG"), GREY, tolerance=1
    ),
    "png transparent grey": Picture(encoded(GREY, "PNG", transparency=int(_KEY)), _KEYED),
    "png transparent grey 16 bits": Picture(encoded(_DEEP, "PNG", transparency=int(_KEY) * 257), _KEYED),
    "png transparent grey 4 bits": Picture(
        png(4, 0, packed(GREY // 17, 4), 8, (b"tRNS", struct.pack(">H", _KEY // 17))), _KEYED
    ),
    "png transparent colour 16 bits": Picture(
        png(16, 2, _DEEP_COLOUR, 8, (b"tRNS", struct.pack(">3H", *(COLOUR[0, 1] * 257.0).astype(int)))),
        np.where((COLOUR == COLOUR[0, 1]).all(axis=2, keepdims=True), np.uint8(255), COLOUR),
    ),
    "png palette with alpha": Picture(
        encoded(_HOLED_IMAGE.quantize(65, method=Image.Quantize.FASTOCTREE), "PNG"), HOLED
    ),
    "apng": Picture(encoded(_PAGES[0], "PNG", save_all=True, append_images=_PAGES[1]), COLOUR),
    "gif": Picture(encoded(_PALETTE, "GIF"), COLOUR),
    "gif transparent": Picture(encoded(_HOLED_IMAGE, "GIF"), HOLED),
    "gif animated": Picture(
        encoded(_GREY_IMAGE, "GIF", save_all=True, append_images=[Image.fromarray(255 - GREY)]), GREY
    ),
    "bmp": Picture(encoded(COLOUR, "BMP"), COLOUR),
    "bmp alpha": Picture(_bmp_with_alpha(), HOLED),
    "ico": Picture(encoded(_RGBA, "ICO", sizes=[(8, 8)]), HOLED),
    "tga alpha": Picture(encoded(_RGBA, "TGA"), HOLED),
    "ppm": Picture(encoded(COLOUR, "PPM"), COLOUR),
    "pgm 16 bits": Picture(b"P5 8 8 65535\n" + _DEEP.astype(">u2").tobytes(), GREY),
    "pgm 12 bits": Picture(b"P5 8 8 4095\n" + _TWELVE.astype(">u2").tobytes(), GREY, tolerance=1),
    "pgm text": Picture(b"P2 8 8 255\n" + " ".join(map(str, GREY.ravel())).encode(), GREY),
    "tiff": Picture(encoded(COLOUR, "TIFF"), COLOUR),
    "tiff lzw": Picture(encoded(COLOUR, "TIFF", compression="tiff_lzw"), COLOUR),
    "tiff alpha": Picture(encoded(_RGBA, "TIFF"), HOLED),
    "tiff premultiplied alpha": Picture(
        tiff([_RGBA.tobytes()], 8, {**_RGB, 277: ("H", [4]), 258: ("H", [8] * 4), 338: ("H", [1])}), HOLED
    ),
    "tiff grey premultiplied alpha": Picture(
        tiff([np.dstack([np.where(_OPAQUE, GREY, np.uint8(0)), _ALPHA]).tobytes()], 8,
             {277: ("H", [2]), 258: ("H", [8] * 2), 338: ("H", [1])}),
        _on_white(GREY),
    ),
    "tiff grey alpha": Picture(
        tiff([np.dstack([GREY, _ALPHA]).tobytes()], 8, dict([(277, ("H", [2])), (258, ("H", [8] * 2)), _ALPHA_TAG])),
        _on_white(GREY),
    ),
    "tiff palette": Picture(encoded(_PALETTE, "TIFF"), COLOUR),
    "tiff planes": Picture(
        tiff([COLOUR[:, :, c].tobytes() for c in range(3)], 8, {**_RGB, 284: ("H", [2])}), COLOUR
    ),
    "tiff colours 16 bits": Picture(
        tiff([(COLOUR * 257.0).astype("<u2").tobytes()], 16, {**_RGB, 258: ("H", [16] * 3)}), COLOUR
    ),
    "tiff pages": Picture(encoded(_PAGES[0], "TIFF", save_all=True, append_images=_PAGES[1]), COLOUR),
    "tiff cmyk": Picture(encoded(Image.fromarray(COLOUR).convert("CMYK"), "TIFF"), COLOUR),
    "tiff lab": Picture(encoded(_lab(_GREY_IMAGE), "TIFF"), GREY, tolerance=3),
    "tiff 1 bit": Picture(encoded(Image.fromarray(GREY > 127), "TIFF"), GREY // 128 * 255),
    "tiff 4 bits": Picture(tiff([b"".join(packed(GREY // 17, 4))], 4), GREY),
    "tiff signed 8 bits": Picture(
        tiff([(GREY.astype(int) - 128).astype(np.int8).tobytes()], 8, {339: ("H", [2])}), GREY
    ),
    "tiff floats with a range": Picture(
        tiff([(GREY / 100 - 1).astype("<f4").tobytes()], 32,
             {339: ("H", [3]), 340: ("f", [-1.0]), 341: ("f", [1.55])}), GREY
    ),
    "tiff floats, white is 0": Picture(
        tiff([(2.55 - GREY / 100).astype(">f4").tobytes()], 32,
             dict([(339, ("H", [3])), (340, ("f", [0.0])), (341, ("f", [2.55])), _INVERSE]), order=">"), GREY
    ),
    "jpeg": Picture(encoded(COLOUR, "JPEG", quality=100, subsampling=0), COLOUR, tolerance=3),
    "jpeg grey": Picture(encoded(GREY, "JPEG", quality=100), GREY, tolerance=2),
    "jpeg cmyk": Picture(encoded(Image.fromarray(COLOUR).convert("CMYK"), "JPEG", quality=100), COLOUR, tolerance=4),
    "mpo": Picture(
        encoded(_PAGES[0], "MPO", save_all=True, append_images=_PAGES[1], quality=100, subsampling=0), COLOUR, 3
    ),
}  # fmt: skip
for order, name in (("<", "little-endian"), (">", "big-endian")):
    for white, photometric in (("black is 0", {}), ("white is 0", dict([_INVERSE]))):
        _levels, _twelve = (255 - GREY, 4095 - _TWELVE) if photometric else (GREY, _TWELVE)
        FORMATS |= {
            f"tiff 16 bits, {white}, {name}": Picture(
                tiff([(_levels * 257.0).astype(f"{order}u2").tobytes()], 16, photometric, order), GREY
            ),
            f"tiff 12 bits, {white}, {name}": Picture(
                tiff([b"".join(packed(_twelve, 12))], 12, photometric, order), GREY
            ),
            f"tiff 12 bits compressed, {white}, {name}": Picture(
                tiff([b"".join(packed(_twelve, 12))], 12, dict([_ZLIB, *photometric.items()]), order), GREY
            ),
        }
    FORMATS[f"tiff signed 16 bits, {name}"] = Picture(
        tiff([((GREY - 128.0) * 256).astype(f"{order}i2").tobytes()], 16, {339: ("H", [2])}, order), GREY
    )
for orientation in _TURNS:
    turned, exif = _turned(orientation), _exif(orientation)
    FORMATS[f"png exif {orientation}"] = Picture(encoded(turned, "PNG", exif=exif), COLOUR)
    FORMATS[f"jpeg exif {orientation}"] = Picture(
        encoded(turned, "JPEG", exif=exif, quality=100, subsampling=0), COLOUR, tolerance=3
    )
FORMATS["tiff exif 6"] = Picture(encoded(_turned(6), "TIFF", exif=_exif(6)), COLOUR)
FORMATS["tiff exif 8, 16 bits"] = Picture(
    tiff([np.rot90(_DEEP, 3).astype("<u2").tobytes()], 16, {274: ("H", [8])}), GREY
)
if features.check("webp"):
    FORMATS |= {
        "webp": Picture(encoded(COLOUR, "WEBP", lossless=True), COLOUR),
        "webp alpha": Picture(encoded(_RGBA, "WEBP", lossless=True, exact=True), HOLED),
        "webp exif 3": Picture(encoded(_turned(3), "WEBP", lossless=True, exif=_exif(3)), COLOUR),
        "webp animated": Picture(
            encoded(_PAGES[0], "WEBP", lossless=True, save_all=True, append_images=_PAGES[1]), COLOUR
        ),
    }
if features.check("jpg_2000"):
    FORMATS["jpeg2000 16 bits"] = Picture(encoded(_DEEP, "JPEG2000"), GREY)
