"""Makes the page of a sheet from the HTML that typst compiles: its sections with their code, numbers and figures."""

import base64
import copy
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import lxml.html
from lxml.html import HtmlElement

from hw_report.book import code
from hw_report.index import Answer
from hw_report.table import measured

_SUFFIXES = {"image/svg+xml": ".svg", "image/png": ".png", "image/jpeg": ".jpg"}  # endings of files by their types
_FOLDED = {"mistakes": "Common mistakes", "grading": "Points (a suggestion)"}  # titles of folded parts by their class
_LONG_FORMULA = 12  # characters; a longer formula within a line can be scrolled on a narrow screen
_WIDE_TABLE = 6  # columns; a table with more is set in smaller type
# Typst gives accents as characters that combine with the letter before them; in MathML they stand by themselves.
_ACCENTS = str.maketrans(
    {"\u0304": "\u00af", "\u0305": "\u203e", "\u0302": "^", "\u0303": "~", "\u20d6": "←", "\u20d7": "→"}
)
_BRACKETS, _TALL = set("()[]{}|‖"), ("mfrac", "munder", "munderover", "mtable", "msqrt")
_OPTION = re.compile(r"(?<![\w-])(--?[a-z][\w-]*)")
_OPENING = re.compile(r"\S*[(\[«]$")  # an opening bracket stays on one line with the formula after it
_CLOSING = re.compile(r"^[.,;:?!)\]»’]\S*")  # a punctuation mark stays on one line with the formula before it
# Pixels on the page for each point of a figure. The labels of most figures have 7 to 9 points, and so 11 to 14 pixels.
_SCALE = 1.6


@dataclass(frozen=True)
class Section:
    """A section of a page: a question with its answer, or a heading with an introduction."""

    anchor: str  # the section's id on the page; for a question, its number without brackets, such as "3.1b"
    level: int  # 2 for the top headings
    title: str
    element: HtmlElement
    answer: Answer | None  # the index's row, if the section is a question
    asked: str = ""  # the question as text
    text: str = ""  # the section as text, for the search


@dataclass(frozen=True)
class Page:
    """The sections of a sheet's page, and the figures that it shows."""

    sections: Sequence[Section]
    style: str  # the rules that typst gives for MathML
    figures: dict[str, bytes] = field(default_factory=dict)  # files of pictures by their names

    def html(self, section: Section) -> str:
        """A section as HTML."""
        return lxml.html.tostring(section.element, encoding="unicode")


def read(
    html: bytes, sheet: str, facts: Mapping[str, Any], answers: Sequence[Answer], part: Callable[..., str]
) -> Page:
    """The page of a sheet.

    Args:
        html: the sheet, compiled to HTML.
        sheet: name of the sheet.
        facts: the content of data.json.
        answers: the sheet's rows of the index.
        part: renders a part of a question, given the name of a template's macro and its arguments.
    """
    document = lxml.html.document_fromstring(html.decode(), parser=lxml.html.HTMLParser(encoding="utf-8"))
    page = Page(_sections(document.body, {answer.section: answer for answer in answers}), document.findtext(".//style"))
    for section in page.sections:
        _figures(section.element, sheet, page.figures)
        _tables(section.element)
        _formulas(section.element)
    questions = [section for section in page.sections if section.answer]
    for section in questions:
        _question(section, sheet, facts["index"][section.element.get("data-label")]["code"], part)
    for section in page.sections:
        _commands(section.element)
    return page


def _sections(body: HtmlElement, answers: Mapping[str, Answer]) -> list[Section]:
    """Cuts the body at its headings; leaves out headings with neither text nor subordinate headings below them."""
    parts: list[HtmlElement] = []
    for element in list(body):
        if element.get("class") == "section" or not parts:
            parts.append(lxml.html.Element("section"))
        parts[-1].append(element)
    levels = [int(part[0].tag[1]) if part[0].tag[0] == "h" else 2 for part in parts] + [0]
    kept = [
        (part, level) for part, level, following in zip(parts, levels, levels[1:], strict=False)
        if len(part) > 1 or following > level
    ]  # fmt: skip
    return [_section(part, level, number, answers) for number, (part, level) in enumerate(kept, start=1)]


def _section(element: HtmlElement, level: int, number: int, answers: Mapping[str, Answer]) -> Section:
    heading = element[0]
    label = heading.attrib.pop("data-label", "")
    answer = answers.get(label)
    anchor = code.anchor(answer.question) if answer else f"part-{number}"
    element.set("id", anchor)
    element.set("class", "question" if answer else "part")
    element.set("data-label", label)
    asked = " ".join(_text(found) for found in element.find_class("asked"))
    return Section(anchor, level, _text(heading, "points"), element, answer, asked, _text(element, "asked", "section"))


def _text(element: HtmlElement, *without: str) -> str:
    """The text of an element, without the formulas in it and the elements in it whose class is in `without`."""
    element = copy.deepcopy(element)
    unwanted = [*element.iter("math"), *(found for name in without for found in element.find_class(name))]
    for found in unwanted:
        if found is not element:
            found.drop_tree()
    return " ".join(" ".join(element.itertext()).split())


def _figures(section: HtmlElement, sheet: str, files: dict[str, bytes]) -> None:
    """Moves pictures into files, with links that enlarge them; the caption is the text alternative of a drawing."""
    for figure in section.iter("figure"):
        for picture in list(figure.iter("img")):
            kind, _, data = picture.get("src").removeprefix("data:").partition(";base64,")
            name = f"figures/{sheet}-{len(files) + 1}{_SUFFIXES[kind]}"
            files[name] = base64.b64decode(data)
            picture.attrib.pop("style", None)
            picture.set("src", name)
            picture.set("loading", "lazy")
            for side in ("width", "height"):
                picture.set(side, str(round(_SCALE * float(picture.get(side)))))
            link = _wrap(picture, "a", "zoom")
            link.set("href", name)
        for drawing in figure.iter("svg"):
            drawing.set("role", "img")
            drawing.set("aria-label", _text(figure.find("figcaption")))


def _tables(section: HtmlElement) -> None:
    """Aligns the cells of each table as in its typst source."""
    for place in section.find_class("table"):
        sides = place.attrib.pop("data-align").split()
        if len(sides) > _WIDE_TABLE:
            place.set("class", "table wide")
        for row in place.iter("tr"):
            for side, cell in zip(sides, row, strict=False):
                if side == "right":
                    cell.set("class", "right")
                if cell.tag == "th":
                    cell.set("scope", "col")


def _formulas(section: HtmlElement) -> None:
    """Gives formulas a box that can be scrolled where they are too wide, and keeps punctuation beside them."""
    for accent in section.iter("mover"):
        accent[-1].text = (accent[-1].text or "").translate(_ACCENTS)
    for operator in section.iter("mo"):
        # Chromium leaves gaps beside stretchy brackets, so only brackets around something tall are stretchy.
        if operator.text in _BRACKETS and not any(True for _ in operator.getparent().iter(*_TALL)):
            operator.set("stretchy", "false")
    for formula in list(section.iter("math")):
        if formula.get("display") == "block":
            _wrap(formula, "div", "formula")
        else:
            box = _wrap(formula, "span", "long") if len(formula.text_content()) > _LONG_FORMULA else formula
            _keep_punctuation(box)


def _keep_punctuation(formula: HtmlElement) -> None:
    """Puts a formula within a line, and the punctuation that touches it, into an element that stays on one line."""
    previous, parent = formula.getprevious(), formula.getparent()
    before = (parent.text if previous is None else previous.tail) or ""
    opening, closing = _OPENING.search(before), _CLOSING.match(formula.tail or "")
    if not opening and not closing:
        return
    kept = _wrap(formula, "span", "kept")
    if closing:
        formula.tail, kept.tail = closing[0], kept.tail[closing.end() :]
    if opening:
        kept.text, rest = opening[0], before[: opening.start()]
        if previous is None:
            parent.text = rest
        else:
            previous.tail = rest


def _commands(section: HtmlElement) -> None:
    """Keeps options such as --no-join on one line."""
    for found in list(section.iter("code")):
        if len(found) or found.getparent().tag == "pre":
            continue
        found.text, *options = _OPTION.split(found.text or "")
        for name, following in zip(options[::2], options[1::2], strict=True):
            option = lxml.html.Element("span", {"class": "kept"})
            option.text, option.tail = name, following
            found.append(option)


def _wrap(element: HtmlElement, tag: str, name: str) -> HtmlElement:
    """Wraps an element in a new one, which takes its place."""
    box = lxml.html.Element(tag, {"class": name})
    element.addprevious(box)
    box.tail, element.tail = element.tail, None
    box.append(element)
    return box


def _question(section: Section, sheet: str, listing: Sequence[Mapping[str, Any]], part: Callable[..., str]) -> None:
    """Adds what a question's source lacks (link, code, numbers, command); folds «Common mistakes» and «Points»."""
    element, answer = section.element, section.answer
    assert answer is not None
    element.attrib.pop("data-label")
    element.set("data-sheet", sheet)
    element.set("data-question", answer.question)
    options = {"answer": answer, "section": section}
    element[0].append(_fragment(part("anchor", **options)))
    for place in element.find_class("asked"):
        if place.getnext().get("class") == "code":
            continue  # the answer follows the code
        place.addnext(_fragment(part("label", text="Answer", **options)))
    for place in element.find_class("code"):
        _replace(place, part("code", pieces=code.pieces(listing), **options))
    numbers = [(*measured(answer, number), number.command) for number in answer.numbers]
    for place in element.find_class("check"):
        place.addprevious(_fragment(part("numbers", numbers=numbers, sheet=sheet, **options)))
        _replace(place, part("check", body=_inside(place), **options))
    for name, title in _FOLDED.items():
        for place in element.find_class(name):
            _replace(place, part("folded", kind=name, title=title, body=_inside(place), **options))


def _inside(element: HtmlElement) -> str:
    children: Iterator[str] = (lxml.html.tostring(child, encoding="unicode") for child in element)
    return (element.text or "") + "".join(children)


def _fragment(html: str) -> HtmlElement:
    return lxml.html.fragment_fromstring(html.strip())


def _replace(element: HtmlElement, html: str) -> None:
    new = _fragment(html)
    new.tail = element.tail
    element.getparent().replace(element, new)
