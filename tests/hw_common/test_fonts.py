"""Names in any script in figures: drawn with a font that has them, escaped otherwise, with one line at most."""

from pathlib import Path

import pytest
from matplotlib import font_manager
from matplotlib.figure import Figure

from hw_common.runs import figures, fonts
from hw_transfer import plots

GLYPH = "\u210a"  # a character that STIX has and DejaVu, the usual font, has not
pytestmark = pytest.mark.filterwarnings("error")  # Matplotlib warns of each missing character


@pytest.fixture(autouse=True)
def stix(monkeypatch):
    """STIX is the only installed font, and no character was needed before."""
    entries = [e for e in font_manager.fontManager.ttflist if (e.name, e.style) == ("STIXGeneral", "normal")]
    monkeypatch.setattr(fonts, "_installed", lambda: entries)
    monkeypatch.setattr(fonts, "_found", {})


def saved(tmp_path: Path, *texts: str, **options) -> Figure:
    figure = Figure(figsize=(4, 3))
    for text in texts:
        figure.text(0.1, 0.5, text, **options)
    figures.save(figure, tmp_path, "figure")
    return figure


def test_a_name_is_drawn_with_an_installed_font_that_has_it(tmp_path, capsys):
    [text, plain] = saved(tmp_path, f"class {GLYPH}", "class").texts
    assert text.get_text() == f"class {GLYPH}" and text.get_fontfamily() == ["sans-serif", "STIXGeneral"]
    assert plain.get_fontfamily() == ["sans-serif"]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("caf\udce9", r"caf\xe9"),
        ("猫 & 犬", r"\u732b & \u72ac"),
        ("👩\u200d👧", "\\U0001f469\u200d\\U0001f467"),
        ("एक", r"\u090f\u0915"),
        ("\ud800\t\x1b", r"\ud800\t\x1b"),
        ("café cafe\u0301 חתול قطة at\u202f9 a\nb", "café cafe\u0301 חתול قطة at\u202f9 a\nb"),
    ],
)
@pytest.mark.parametrize("weight", ["normal", "bold"])
def test_what_no_font_has_is_escaped(tmp_path, name, shown, weight):
    assert saved(tmp_path, name, weight=weight).texts[0].get_text() == shown


def test_one_line_says_that_names_are_escaped(tmp_path, capsys):
    for text in ("猫", "犬", f"{GLYPH}鳥", "caf\udce9"):
        saved(tmp_path, text)
    line = r"some characters in the figures are in no installed font; they are written as \u732b"
    assert capsys.readouterr().err == f"{line}\n"


def test_bytes_that_are_not_utf_8_are_escaped_without_a_line(tmp_path, capsys):
    assert saved(tmp_path, "caf\udce9").texts[0].get_text() == r"caf\xe9"
    assert capsys.readouterr().err == ""


def test_tick_labels_are_escaped_too(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(plots.figures, "save", lambda figure, *_: drawn.append(figure))
    plots.confusion_matrix(tmp_path, [[1, 2], [3, 4]], ["猫", f"caf\udce9 {GLYPH}"], "title")
    monkeypatch.undo()
    monkeypatch.setattr(fonts, "_installed", list)
    figures.save(drawn[0], tmp_path, "confusion")
    for axis in (drawn[0].axes[0].xaxis, drawn[0].axes[0].yaxis):
        assert [label.get_text() for label in axis.get_ticklabels()] == [r"\u732b", r"caf\xe9 \u210a"]


def test_the_fonts_of_the_system_are_found_and_those_of_matplotlib_are_not(tmp_path, monkeypatch):
    monkeypatch.undo()
    damaged = tmp_path / "damaged.ttf"
    damaged.write_bytes(b"no font")
    dejavu = font_manager.findfont("DejaVu Sans")
    copy, boxes = tmp_path / "copy.ttf", tmp_path / "LastResort.otf"
    for path in (copy, boxes):
        path.write_bytes(Path(dejavu).read_bytes())
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [str(damaged), str(copy), str(boxes)])
    before = list(font_manager.fontManager.ttflist)
    try:
        found = [entry.fname for entry in fonts._installed()]
    finally:
        font_manager.fontManager.ttflist[:] = before
    assert str(copy) in found and not {dejavu, str(boxes), str(damaged)} & {*found}
