"""Python code as highlighted HTML: the pieces under an answer, and a page for each file that they come from."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pygments
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from hw_report.index import Answer


def highlighted(text: str, first_line: int, anchors: str = "") -> str:
    """The lines of `text` as spans with Pygments' classes, each after its number.

    Args:
        text: Python code.
        first_line: number of its first line.
        anchors: if given, line 45 gets the id `<anchors>-45`.
    """
    formatter = HtmlFormatter(nowrap=False, linenos="inline", linenostart=first_line, linespans=anchors, wrapcode=True)
    return pygments.highlight(text, PythonLexer(stripnl=False), formatter)


def anchor(question: str) -> str:
    """The address of a question on its page, for example 3.1b for 3.1(b)."""
    return "".join(character for character in question if character not in "() ")


def page_of(file: str) -> str:
    """The name of the page with a source file, for example code/hw_cnn.models.html for hw_cnn/models.py."""
    return f"code/{file.removesuffix('.py').replace('/', '.')}.html"


def pieces(listing: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The pieces of an answer, as `listing.listings` gives them, with their HTML and the links to their lines."""
    found = []
    for piece in listing:
        last = piece["line"] + piece["text"].count("\n")
        html = highlighted(piece["text"], piece["line"]) if piece["text"] else ""
        href = f"{page_of(piece['file'])}#L-{piece['line']}"
        found.append({**piece, "html": html, "href": href, "last": last, "shown_anchor": anchor(piece["shown_at"])})
    return found


def files_of(answers: Sequence[Answer], repository: Path) -> dict[str, str]:
    """The text of every source file that the index names, by its path in the repository."""
    names = sorted({file for answer in answers for file, _ in answer.code()})
    return {name: (repository / name).read_text(encoding="utf-8") for name in names}
