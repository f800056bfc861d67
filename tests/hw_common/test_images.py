"""Image files, decoded without trusting them; tests/test_pictures.py has the table of formats."""

import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from picture_files import COLOUR, GREY, encoded, png, tiff
from PIL import Image

from hw_common.data import images
from hw_common.runs.errors import UserError

COMPRESSED, BIG = {259: ("H", [8])}, ">"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is not an image that Pillow can read"),
        (b"no image", "is not an image that Pillow can read"),
        (encoded(COLOUR, "PNG")[:-30], "is damaged: "),
        (encoded(COLOUR, "JPEG")[:-30], "is damaged: "),
        (encoded(COLOUR, "EPS"), "is an EPS file, which contains a program; convert it to PNG"),
        (b"\x89HDF\r\n\x1a\n", "is a HDF5 file, which Pillow cannot decode"),
        (encoded(GREY.astype(np.float32), "TIFF"),
         "has floating-point numbers as pixels and does not say which value is white; convert it to an"),
        (encoded(GREY.astype(np.int32), "TIFF"), "has whole numbers of 32 bits as pixels and does not say which"),
        (tiff([b"".join(struct.pack("<I", n) for n in range(64))], 32), "has whole numbers of 32 bits as pixels"),
        (tiff([bytes(112)], 14), "is a TIFF file that is damaged or has pixels of a kind that Pillow cannot read"),
        (tiff([bytes(128)], 16, {339: ("H", [3])}), "pixels of a kind that Pillow cannot read; convert it to PNG"),
        (tiff([(COLOUR[:, :, c] * 257.0).astype("<u2").tobytes() for c in range(3)], 16,
              {262: ("H", [2]), 277: ("H", [3]), 258: ("H", [16] * 3), 284: ("H", [2])}),
         "has colours of 16 bits in separate planes, which Pillow decodes wrongly; convert it to PNG"),
        (tiff([GREY.tobytes(), GREY.tobytes()], 8,
              {**COMPRESSED, 277: ("H", [2]), 258: ("H", [8] * 2), 338: ("H", [2]), 284: ("H", [2])}),
         "has colours or transparency in separate planes, which Pillow decodes wrongly"),
        (tiff([COLOUR[:, :, c].tobytes() for c in range(3)], 8,
              {262: ("H", [8]), 277: ("H", [3]), 258: ("H", [8] * 3), 284: ("H", [2])}),
         "has colours or transparency in separate planes, which Pillow decodes wrongly"),
        (tiff([GREY.astype("<f4").tobytes()], 32,
              {339: ("H", [3]), 340: ("f", [0.0]), 341: ("f", [float("inf")])}),
         "has floating-point numbers as pixels and does not say which value is white"),
        (tiff([GREY.astype(">i2").tobytes()], 16, {**COMPRESSED, 339: ("H", [2])}, BIG),
         "has compressed big-endian numbers, which Pillow decodes wrongly"),
        (png(8, 0, [bytes(9)] * 3, 9, (b"IHDR", struct.pack(">IIBBBBB", 9000, 9000, 8, 0, 0, 0, 0))),
         "has 9000×9000 pixels, more than the limit of 50 million"),
    ],
)  # fmt: skip
def test_what_cannot_be_shown_is_refused_with_its_reason(content, reason):
    with pytest.raises(UserError) as caught:
        images.decode(content, "picture")
    assert str(caught.value).startswith("picture ") and reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_program_is_no_image(monkeypatch):
    """Pillow would have Ghostscript run an EPS file."""
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *arguments: pytest.fail("it was run"))
    with pytest.raises(UserError, match="drawing is an EPS file"):
        images.decode(encoded(COLOUR, "EPS"), "drawing")


@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01"])
@pytest.mark.filterwarnings("ignore:Corrupt EXIF:UserWarning")
def test_damaged_exif_data_do_not_hide_the_picture(exif):
    shown = images.decode(encoded(COLOUR, "PNG", exif=exif), "picture")
    assert np.array_equal(np.asarray(shown), COLOUR)


@pytest.mark.filterwarnings("ignore:Image was not the expected size:UserWarning")
def test_an_icon_may_hold_a_larger_picture_than_it_says(monkeypatch):
    monkeypatch.setattr(images, "LARGEST_IMAGE", 100)
    icon = encoded(Image.new("RGB", (20, 20)), "ICO", sizes=[(20, 20)])
    assert icon[6:8] == b"\x14\x14"
    with pytest.raises(UserError, match="20×20 pixels, more than the limit"):
        images.decode(icon[:6] + b"\x08\x08" + icon[8:], "icon")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_is_reduced_as_it_is_shown(orientation):
    """Reducing and turning give the same size in either order, also where JPEG is decoded at half of its size."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo = encoded(Image.linear_gradient("L").resize((1001, 1005)), "JPEG", exif=exif)
    assert images.decode(photo, "photo", 250).size == ((250, 251) if orientation < 5 else (251, 250))


@pytest.mark.parametrize(
    "declared", [{274: ("H", [6])}, {700: ("B", b'<x tiff:Orientation="6"/>')}], ids=["tag", "XMP"]
)
def test_a_tiff_file_is_reduced_as_it_is_shown(declared):
    grey = bytes(8 * 60)
    shown = images.decode(tiff([grey], 8, declared, width=60), "scan", 4)
    assert shown.size == (4, 30)


DECODE = """
import sys
from pathlib import Path
from hw_common.data.images import decode
from hw_common.runs.errors import UserError
for name in sys.argv[1:]:
    try:
        decode(Path(name).read_bytes(), name)
    except UserError as error:
        print(error)
"""


def test_bad_images_are_refused_without_warnings_beside_the_line(tmp_path):
    """Pillow, its logger and libtiff, which is written in C, would print lines of their own."""
    whole = encoded(COLOUR, "TIFF")
    stream = zlib.compress(GREY.tobytes())
    contents = {
        "half.png": encoded(COLOUR, "PNG")[:100],
        "bomb.png": encoded(Image.new("1", (12_000, 12_000)), "PNG"),
        "directory.tif": whole[: int.from_bytes(whole[4:8], "little") + 30],
        "stream.tif": tiff([GREY.tobytes()], 8, COMPRESSED).replace(stream, bytes(len(stream))),
        "samples.tif": tiff([GREY.tobytes()], 8, {277: ("H", [60_000])}),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    finished = subprocess.run(
        [sys.executable, "-c", DECODE, *contents], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert [line.split()[0] for line in finished.stdout.splitlines()] == list(contents)
    assert (finished.returncode, finished.stderr) == (0, "")
