"""Letters from image files."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hw_ocr import images


def glyph(seed, height, width):
    """Random ink, a quarter of the pixels, that touches all four edges and leaves no column blank."""
    generator = np.random.default_rng(seed)
    ink = generator.random((height, width)) < 0.15
    ink[generator.integers(0, height, width), np.arange(width)] = True
    ink[0, 0] = ink[-1, -1] = True
    return ink.astype(np.uint8)


def word_image(glyphs, gap=1):
    """Glyphs beside one another, on the same line, with paper around."""
    height = max(len(ink) for ink in glyphs)
    columns = [np.pad(ink, ((height - len(ink), 0), (gap, 0))) for ink in glyphs]
    return np.pad(np.concatenate(columns, axis=1), 2)


def save(path, ink, paper=(255, 255, 255), pen=(0, 0, 0), times=1, **options):
    pixels = np.where(np.kron(ink, np.ones((times, times)))[..., None] > 0, pen, paper).astype(np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return path


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 99), st.integers(2, 16), st.integers(1, 8)), min_size=1, max_size=5),
       st.integers(1, 4), st.integers(1, 3))  # fmt: skip
def test_words_are_cut_into_their_letters(sizes, gap, times):
    glyphs = [glyph(*size) for size in sizes]
    cut = images.cut_at_blank_columns(np.kron(word_image(glyphs, gap), np.ones((times, times))))
    assert [piece.tolist() for piece in cut] == [np.kron(ink, np.ones((times, times))).tolist() for ink in glyphs]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 99), st.integers(1, 16), st.integers(1, 5), st.booleans())
def test_enlarged_letters_are_found_as_they_were(seed, size, times, tall):
    ink = glyph(seed, 16, max(1, size // 2)) if tall else glyph(seed, size, 8)
    found = images.fit(np.kron(ink, np.ones((times, times))))
    height, width = ink.shape
    top, left = (16 - height) // 2, (8 - width) // 2
    assert found[top : top + height, left : left + width].tolist() == ink.tolist()
    assert found.sum() == ink.sum()


@given(st.integers(1, 300), st.integers(1, 300))
@settings(max_examples=50, deadline=None)
def test_every_letter_fills_the_height_or_the_width(height, width):
    found = images.fit(np.ones((height, width)))
    rows, columns = np.flatnonzero(found.any(1)), np.flatnonzero(found.any(0))
    assert found.shape == (16, 8)
    assert len(rows) == 16 or len(columns) == 8
    assert abs(rows[0] - (15 - rows[-1])) <= 1 and abs(columns[0] - (7 - columns[-1])) <= 1


def test_thin_strokes_of_a_large_letter_do_not_break():
    ink = np.zeros((320, 160))
    ink[:, 79:82] = ink[0, :] = 1  # a stroke of 3 pixels, where 20 become one
    found = images.fit(ink)
    assert found.any(axis=1).all()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"paper": (0, 0, 0), "pen": (255, 255, 255)},
        {"paper": (20, 20, 90), "pen": (200, 230, 60), "times": 7},
        {"paper": (200, 200, 200), "pen": (160, 160, 160), "times": 2},
    ],
    ids=["black on white", "white on black", "large and in colour", "pale"],
)
def test_any_size_and_colour_shows_the_same_letters(tmp_path, options):
    glyphs = [glyph(1, 16, 5), glyph(2, 16, 8), glyph(3, 16, 1)]
    found = images.read_letters(save(tmp_path / "word.png", word_image(glyphs), **options))
    assert [letter.sum() for letter in found] == [ink.sum() for ink in glyphs]
    assert found[1].tolist() == glyphs[1].tolist()


def test_transparent_and_deep_images(tmp_path):
    ink = word_image([glyph(2, 16, 8)])
    expected = images.read_letters(save(tmp_path / "plain.png", ink)).tolist()
    Image.fromarray(np.stack([ink * 0, ink * 0, ink * 0, ink * 255], axis=2).astype(np.uint8)).save(tmp_path / "a.png")
    Image.fromarray((65535 - 60000 * ink.astype(np.uint16)).astype(np.uint16)).save(tmp_path / "deep.png")
    Image.fromarray(1 - ink).convert("1").save(tmp_path / "bits.png")
    for name in ("a.png", "deep.png"):
        assert images.read_letters(tmp_path / name).tolist() == expected


def test_an_image_of_the_data_sets_size_is_taken_as_it_is(tmp_path):
    ink = np.zeros((16, 8), dtype=int)
    ink[3:5, 1] = ink[9, 5] = 1
    assert images.read_letters(save(tmp_path / "letter.png", ink)).tolist() == [ink.tolist()]
