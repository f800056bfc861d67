"""Installed fonts for names in any script. In figures, characters that no font has are escaped."""

import contextlib
import functools
import sys
from collections.abc import Iterable
from pathlib import Path

import matplotlib as mpl
from matplotlib import font_manager
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Text

# The installed font for each character that was needed; None if there is none.
_found: dict[str, font_manager.FontEntry | None] = {}


def make_drawable(figure: Figure) -> None:
    r"""Gives each text of `figure` fonts that have its characters; characters that no font has are escaped.

    Bytes of a file name that is not UTF-8 are escaped too, as in `caf\xe9`. The first time that no font has a
    character, a line on standard error says so.
    """
    missing = {text: found for text in figure.findobj(Text) if (found := _missing(text))}
    if not missing:
        return
    said = any(_is_lost(character) for character in _found)
    _search(set().union(*missing.values()))
    lost = sorted(filter(_is_lost, _found))
    if lost and not said:
        line = f"some characters in the figures are in no installed font; they are written as {_escape(lost[0])}"
        print(line, file=sys.stderr)
    for text, characters in missing.items():
        families = dict.fromkeys(entry.name for c in sorted(characters) if (entry := _found[c]) is not None)
        text.set_fontfamily([*text.get_fontfamily(), *families])
        text.set_text(_escaped(text.get_text()))
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        _escape_labels(axis)


def _missing(text: Text) -> set[str]:
    """The characters of `text` that its own font lacks."""
    shown = text.get_text()
    if shown.isascii() and shown.isprintable():
        return set()
    glyphs = _glyphs(font_manager.findfont(text.get_fontproperties()))
    return {character for character in shown if ord(character) not in glyphs and character != "\n"}


@functools.cache
def _glyphs(path: str) -> frozenset[int]:
    """The characters that a font has."""
    return frozenset(font_manager.get_font(path).get_charmap())


def font_file(character: str) -> Path | None:
    """A font file that has `character`: Matplotlib's own or an installed one. None if there is none."""
    default = font_manager.findfont("DejaVu Sans")
    if ord(character) in _glyphs(default):
        return Path(default)
    _search([character])
    entry = _found[character]
    return None if entry is None else Path(entry.fname)


def _search(characters: Iterable[str]) -> None:
    """Records in `_found` an installed font for each of `characters`."""
    new = {character for character in characters if character not in _found}
    for entry in _installed() if new else ():
        with contextlib.suppress(OSError, RuntimeError):  # raised for a damaged font
            glyphs = font_manager.get_font(entry.fname).get_charmap()
            for character in [character for character in new if ord(character) in glyphs]:
                _found[character] = entry
                new.remove(character)
        if not new:
            break
    _found.update(dict.fromkeys(new))


def _installed() -> list[font_manager.FontEntry]:
    """The fonts of the system, upright ones of normal weight first.

    Fonts that come with Matplotlib are left out, and so is Last Resort of macOS, which draws a box for each character.
    """
    known = {entry.fname for entry in font_manager.fontManager.ttflist}
    for path in sorted(set(font_manager.findSystemFonts()) - known):  # fonts that were installed after Matplotlib
        with contextlib.suppress(Exception):  # Matplotlib cannot use all formats of fonts
            font_manager.fontManager.addfont(path)
    own = mpl.get_data_path()
    entries = [
        entry for entry in font_manager.fontManager.ttflist
        if not entry.fname.startswith(own) and "lastresort" not in Path(entry.fname).name.lower()
    ]  # fmt: skip
    return sorted(entries, key=lambda entry: (entry.style != "normal", entry.weight != 400, entry.fname))


def _escape_labels(axis: Axis) -> None:
    """Escapes the tick labels of `axis` and fixes them; otherwise, Matplotlib would replace them when it draws."""
    labels = [label.get_text() for label in axis.get_ticklabels()]
    shown = [_escaped(label) for label in labels]
    if shown != labels:
        axis.set_ticklabels(shown)


def _escaped(text: str) -> str:
    """`text` with escapes for the characters that no font has."""
    return "".join(_escape(c) if c in _found and _found[c] is None else c for c in text)


def _escape(character: str) -> str:
    if _is_byte(character):
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


def _is_lost(character: str) -> bool:
    """Whether a search found no font for `character`; characters that stand for bytes do not count."""
    return _found.get(character, True) is None and not _is_byte(character)


def _is_byte(character: str) -> bool:
    """Whether `character` stands for a byte that is not UTF-8 in the name of a file."""
    return 0xDC80 <= ord(character) <= 0xDCFF
