"""`python -m hw_report book`: writes the pages of the book into a folder."""

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from hw_common.runs import files
from hw_common.runs.errors import UserError
from hw_report import document
from hw_report.book import code, pages
from hw_report.build import Settings
from hw_report.collect import NotThere
from hw_report.index import INDEX
from hw_report.sheets import REPOSITORY, SHEETS, Sheet
from hw_report.table import measured

_OURS = "book.json"  # lists the files of a book; a folder without it is not ours


def write(settings: Settings) -> Path:
    """Writes the book into RESULTS_DIR/book and returns the path of its first page.

    Raises:
        UserError: typst, a run or a record is missing, or the folder has files that are not of an earlier book.
    """
    document.check(SHEETS.values())
    settings.check_use(list(SHEETS.values()))
    folder = settings.results_dir / "book"
    _check_ours(folder)
    content = _Book(settings).content()
    replace(folder, content)
    return folder / "index.html"


class _Book:
    """The files of a book, by their paths in its folder."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.templates = jinja2.Environment(
            loader=jinja2.PackageLoader("hw_report.book"), autoescape=True, trim_blocks=True, lstrip_blocks=True,
            undefined=jinja2.StrictUndefined,
        )  # fmt: skip
        self.templates.globals["sheets"] = list(SHEETS.values())
        self.templates.globals["page_of"] = code.page_of
        self.templates.globals["anchor"] = code.anchor
        self.files: dict[str, bytes] = {}
        self.found: list[dict[str, str]] = []  # entries of the search's index

    def content(self) -> dict[str, bytes]:
        """All files of the book."""
        for sheet in SHEETS.values():
            self._sheet(sheet)
        answers = [answer for own in INDEX.values() for answer in own]
        for name, text in code.files_of(answers, REPOSITORY).items():
            html = code.highlighted(text, 1, anchors="L")
            self._page(code.page_of(name), "source.html.j2", root="../", file=name, html=html, lines=text.count("\n"))
        main = [
            (sheet, answer, *measured(answer, number))
            for sheet, own in INDEX.items() for answer in own for number in answer.numbers if number.main
        ]  # fmt: skip
        self._page("index.html", "index.html.j2", root="", index=INDEX, main=main)
        static = Path(__file__).parent / "static"
        self.files |= {
            f"static/{path.relative_to(static).as_posix()}": path.read_bytes() for path in static.rglob("*.*")
        }
        index = json.dumps(self.found, ensure_ascii=False, separators=(",", ":"))
        self.files["static/search-index.js"] = f"window.searchIndex = {index};\n".encode()
        return self.files

    def _sheet(self, sheet: Sheet) -> None:
        try:
            collected = self.settings.collect_all(sheet)
        except NotThere as error:
            by_hand = self.settings.build_by_hand(sheet)
            raise UserError(f"{error}; this makes everything that is missing: {by_hand}") from error
        facts = document.describe(sheet, self.settings.profile, collected)
        html = document.render_html(sheet, facts, collected)
        page = pages.read(html, sheet.name, facts, INDEX[sheet.name], self._part)
        self.files |= page.figures
        self.files["static/math.css"] = page.style.encode()
        self._page(f"{sheet.name}.html", "sheet.html.j2", root="", sheet=sheet, page=page, facts=facts)
        self.found += [_found(sheet, section, facts) for section in page.sections if section.answer]

    def _part(self, name: str, **options: Any) -> str:
        return str(getattr(self.templates.get_template("parts.html.j2").module, name)(**options))

    def _page(self, path: str, template: str, **options: Any) -> None:
        self.files[path] = self.templates.get_template(template).render(**options).encode()


def _found(sheet: Sheet, section: pages.Section, facts: Mapping[str, Any]) -> dict[str, str]:
    """The entry of a question in the index of the search."""
    assert section.answer is not None
    listing = facts["index"][section.answer.section]["code"]
    return {
        "href": f"{sheet.name}.html#{section.anchor}",
        "sheet": f"{sheet.course}",
        "title": section.title,
        "asked": f"{section.answer.asked}. {section.asked}",
        "text": section.text,
        "code": "\n".join(f"{piece['file']} {piece['name']}\n{piece['text']}" for piece in listing),
    }


def _check_ours(folder: Path) -> None:
    """Checks that nothing is lost if `folder` is replaced.

    Raises:
        UserError: the folder has files that are not of an earlier book.
    """
    if not os.path.lexists(folder):
        return
    listed: set[str] = set()
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # without a list, no file counts as ours
        listed = {_OURS, *json.loads((folder / _OURS).read_text(encoding="utf-8"))["files"]}
    there = [folder] if folder.is_symlink() or not folder.is_dir() else folder.rglob("*")
    for path in there:
        if path.is_symlink() or not path.is_dir() and path.relative_to(folder).as_posix() not in listed:
            raise UserError(
                f"{path} is not a file of an earlier book, but this command replaces the whole folder {folder}; move "
                "the file elsewhere, or choose another --results_dir"
            )


def replace(folder: Path, content: Mapping[str, bytes]) -> None:
    """Writes a whole book beside `folder` and then puts it in its place.

    Raises:
        UserError: the disk is full, or the folder is not writable; the earlier book is unchanged.
    """
    with files.new_folder(folder, "choose another --results_dir, or free disk space") as new:
        for name, data in {**content, _OURS: json.dumps({"files": sorted(content)}, indent=1).encode()}.items():
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            (new / name).write_bytes(data)
