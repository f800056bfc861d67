"""The PDF and the HTML of a sheet: its typst file, compiled with the collected numbers and figures."""

import calendar
import importlib.util
import shutil
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from hw_common.runs import files
from hw_common.runs.errors import UserError
from hw_report.collect import FIGURE_SUFFIX, Collector, Numbers, RecordCollector, read_record
from hw_report.experiments import Experiment
from hw_report.index import INDEX
from hw_report.listing import listings
from hw_report.published import PUBLISHED
from hw_report.sheets import REPOSITORY, Sheet, records_of

DATA = "data.json"
_FIGURES, _FONTS = "figures", "fonts"
_ALWAYS = "html export is under active development and incomplete"  # a warning of every compilation to HTML
_LAST_OWN = 0x52F  # typst's own fonts have Latin, Greek and Cyrillic letters, which come first in Unicode


def path_of(sheet: Sheet, results_dir: Path, profile: str) -> Path:
    """The path of a sheet's PDF; the PDFs of the profiles sample and full are in subfolders."""
    folder = results_dir / "reports"
    return (folder if profile == "record" else folder / profile) / f"{sheet.name}.pdf"


def check(sheets: Iterable[Sheet]) -> None:
    """Checks, before hours of training, that the PDFs can be written.

    Raises:
        UserError: typst or a typst file is missing.
    """
    if importlib.util.find_spec("typst") is None:
        raise UserError("the package typst, which writes the reports, is missing; install it with: pip install typst")
    for sheet in sheets:
        if not sheet.report_file.is_file():
            raise UserError(
                f"{sheet.report_file} is missing; get it back with: git checkout -- reports/{sheet.name}.typ"
            )


def render(sheet: Sheet, profile: str, collected: Mapping[str, Collector], group: str | None = None) -> bytes:
    """The PDF of a sheet, with the same bytes for the same runs.

    Args:
        sheet: the sheet.
        profile: "record", "sample" or "full".
        collected: numbers and figures of each of its experiments, by name.
        group: name of the group on the first page.

    Raises:
        UserError: the typst file does not compile, for example because it asks for a number that was not collected.
    """
    facts = {**describe(sheet, profile, collected), "group": group}
    with tempfile.TemporaryDirectory(prefix="hw_report-") as folder:
        _stage(Path(folder), sheet, facts, collected.values())
        _stage_fonts(Path(folder), group or "")
        return _compile(Path(folder), sheet, "pdf", facts["date"])


def render_html(sheet: Sheet, facts: Mapping[str, Any], collected: Mapping[str, Collector]) -> bytes:
    """The HTML of a sheet for the book, with its figures embedded; reports/style.typ chooses the elements.

    Args:
        sheet: the sheet.
        facts: the content of data.json; see `describe`.
        collected: numbers and figures of each of its experiments, by name.

    Raises:
        UserError: the typst file does not compile.
    """
    with tempfile.TemporaryDirectory(prefix="hw_report-") as folder:
        _stage(Path(folder), sheet, {**facts, "group": None}, collected.values())
        return _compile(Path(folder), sheet, "html", facts["date"])


def describe(sheet: Sheet, profile: str, collected: Mapping[str, Collector]) -> dict[str, Any]:
    """The content of data.json: every number, figure and name that the typst file can show."""
    numbers = {key: found for collector in collected.values() for key, found in collector.numbers.items()}
    pictures = {key: picture for collector in collected.values() for key, picture in collector.pictures.items()}
    from hw_report.drawings import networks  # imports torch, which is slow

    answers = INDEX.get(sheet.name, ())
    code = listings(answers, REPOSITORY)
    return {
        "sheet": sheet.name,
        "title": sheet.title,
        "course": sheet.course,
        "profile": profile,
        "sample": any(found.sample for found in numbers.values()),
        "date": max((found.date for found in numbers.values()), default=""),
        "versions": _versions(numbers.values()),
        "packages": list(sheet.packages),
        "parts": [_part(profile, part, collected[part.name]) for part in sheet.its_experiments()],
        "summaries": {key: found.as_json() for key, found in numbers.items()},
        "figures": {
            key: {"file": f"{_FIGURES}/{key}{FIGURE_SUFFIX}", "from": picture.of} for key, picture in pictures.items()
        },
        "records": {path.name: read_record(path) for path in sheet.records()},
        "from-records": _from_records(sheet),
        "index": {
            answer.section: {"code": code[answer.section], "command": f"python -m {answer.command}"}
            for answer in answers
        },
        "published": dict(PUBLISHED),
        "networks": networks(sheet.name),
    }


def _from_records(sheet: Sheet) -> dict[str, Any]:
    """The numbers that the profile "record" shows, by key; the other profiles show some of them beside their own."""
    found: dict[str, Any] = {}
    for experiment in sheet.its_experiments():
        head = Path(experiment.homework)  # stands for a run folder, but is never read
        collector = RecordCollector(experiment.homework, head, "", records=records_of(experiment))
        experiment.collect(collector)
        found |= {key: numbers.as_json() for key, numbers in collector.numbers.items()}
    return found


def _versions(numbers: Iterable[Numbers]) -> dict[str, str]:
    """Versions of Python and the libraries in the latest run."""
    latest = max(numbers, key=lambda found: found.run.config["started"], default=None)
    return dict(latest.run.config.get("versions", {})) if latest else {}


def _part(profile: str, experiment: Experiment, collector: Collector) -> dict[str, Any]:
    """A line of the first page: an experiment with its data, seeds and date, which are empty if it was not recorded."""
    numbers = list(collector.numbers.values())
    configs = [found.run.config for found in numbers]
    commands = [experiment.command.shown("full" if profile == "record" else profile)]
    if collector.own:
        commands = [f"python -m {configs[0]['command']} (run folder {numbers[0].run.folder.name})"]
    return {
        "name": experiment.name,
        "title": experiment.title,
        "data": ", ".join(dict.fromkeys(found.data for found in numbers)),
        "sample": any(found.sample for found in numbers),
        "seeds": sorted({seed for found in numbers for seed in found.seeds}),
        "date": max((found.date for found in numbers), default=""),
        "commands": list(dict.fromkeys(line for config in configs if (line := config.get("command_line")))) or commands,
    }


def _stage(folder: Path, sheet: Sheet, facts: Mapping[str, Any], collected: Iterable[Collector]) -> None:
    """Copies everything that the typst file needs into `folder`; typst cannot read files outside of it."""
    for source in sheet.report_file.parent.glob("*.typ"):
        shutil.copy(source, folder)
    files.write_json(folder / DATA, facts)
    (folder / _FIGURES).mkdir()
    for collector in collected:
        for key, picture in collector.pictures.items():
            shutil.copyfile(picture.path, folder / _FIGURES / f"{key}{FIGURE_SUFFIX}")


def _stage_fonts(folder: Path, group: str) -> None:
    """Copies fonts for the name of the group into `folder`, unless it is in a script that typst's own fonts have.

    Raises:
        UserError: there is no font for a character of the name.
    """
    (folder / _FONTS).mkdir()
    for character in sorted({character for character in group if ord(character) > _LAST_OWN}):
        from hw_common.runs.fonts import font_file  # imports Matplotlib, which is slow

        path = font_file(character)
        if path is None:
            raise UserError(
                f"--group {group}: no installed font has {character}; install a font that has it, or use Latin letters"
            )
        shutil.copy(path, folder / _FONTS)


def _compile(folder: Path, sheet: Sheet, target: Literal["pdf", "html"], date: str) -> bytes:
    import typst

    # The fonts of typst and a fixed date give the same bytes on every machine.
    compiler = typst.Compiler(
        folder / sheet.report_file.name,
        root=folder,
        font_paths=[folder / _FONTS],
        ignore_system_fonts=True,
        sys_inputs={"data": DATA, "target": target},
    )
    timestamp = calendar.timegm(time.strptime(date or "1970-01-01", "%Y-%m-%d"))
    try:
        document, warnings = compiler.compile_with_warnings(format=target, timestamp=timestamp)
    except typst.TypstError as error:
        raise UserError(f"reports/{sheet.report_file.name} does not compile: {_on_one_line(error)}") from error
    for warning in warnings:
        if warning.message != _ALWAYS:
            print(f"reports/{sheet.report_file.name}: {_on_one_line(warning)}")
    assert isinstance(document, bytes)  # not None, because no output file is named
    return document


def _on_one_line(problem: Any) -> str:
    said: Sequence[str] = [problem.message, *(f"hint: {hint}" for hint in problem.hints)]
    return " ".join("; ".join(said).split())
