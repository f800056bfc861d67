"""Untrusted image files; each homework tests its own preprocessing."""

import io

import numpy as np
import pytest
from PIL import Image

from hw_common.data import images
from hw_common.runs.errors import UserError


def encoded(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def test_sixteen_bits_become_eight():
    levels = np.array([[0, 255, 256, 65535]], dtype=np.uint16)
    with images.opened(encoded(Image.fromarray(levels), "PNG"), "deep") as image:
        assert np.asarray(image).tolist() == [[0, 0, 1, 255]]


@pytest.mark.parametrize("mode", ["I", "F"])
def test_thirty_two_bits_are_refused(mode):
    with (
        pytest.raises(UserError, match="deep has pixels of 32 bits; convert it to 8 or 16 bits"),
        images.opened(encoded(Image.new(mode, (2, 2)), "TIFF"), "deep"),
    ):
        pass


def test_what_is_transparent_lies_on_the_background():
    image = Image.fromarray(np.array([[[200, 0, 0, 255], [200, 0, 0, 0]]], dtype=np.uint8))
    assert np.asarray(images.on_background(image, "white")).tolist() == [[[200, 0, 0], [255, 255, 255]]]
    assert np.asarray(images.on_background(image.convert("RGB"), "white")).tolist() == [[[200, 0, 0]] * 2]


def test_a_program_is_no_image(monkeypatch):
    """Pillow would have Ghostscript run an EPS file."""
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *arguments: pytest.fail("it was run"))
    with (
        pytest.raises(UserError, match="drawing is an EPS file"),
        images.opened(encoded(Image.new("RGB", (2, 2)), "EPS"), "drawing") as image,
    ):
        image.load()


@pytest.mark.parametrize("content", [b"", b"no image", encoded(Image.new("RGB", (9, 9)), "PNG")[:-30]])
def test_what_is_no_image_is_named(content):
    with (
        pytest.raises(UserError, match="^picture (is not an image|is damaged)"),
        images.opened(content, "picture") as image,
    ):
        image.load()
