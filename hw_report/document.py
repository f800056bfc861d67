"""A sheet's PDF: its typst source, compiled with the numbers and figures that were collected for it."""

import calendar
import importlib.util
import shutil
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hw_common.runs import files
from hw_common.runs.errors import UserError
from hw_report.collect import FIGURE_SUFFIX, Collector, Numbers, read_record
from hw_report.index import INDEX
from hw_report.published import PUBLISHED
from hw_report.sheets import Sheet
from hw_report.sources import Experiment

DATA = "data.json"
_FIGURES = "figures"


def path_of(sheet: Sheet, results_dir: Path) -> Path:
    """Where a sheet's PDF is."""
    return results_dir / "reports" / f"{sheet.name}.pdf"


def check(sheets: Iterable[Sheet]) -> None:
    """Finds out before hours of work whether the PDFs can be written.

    Raises:
        UserError: typst or a source is missing.
    """
    if importlib.util.find_spec("typst") is None:
        raise UserError("the package typst, which writes the PDFs, is missing; install it with: pip install typst")
    for sheet in sheets:
        if not sheet.source.is_file():
            raise UserError(f"{sheet.source} is missing; get it back with: git checkout -- reports/{sheet.name}.typ")


def render(sheet: Sheet, profile: str, collected: Mapping[str, Collector], group: str | None = None) -> bytes:
    """A sheet's PDF, the same bytes for the same runs.

    Args:
        sheet: whose.
        profile: "sample" or "full".
        collected: what is known of each of its experiments, by name.
        group: who turns it in.

    Raises:
        UserError: the source asks for something that was not collected, or is no typst.
    """
    facts = {**describe(sheet, profile, collected), "group": group}
    with tempfile.TemporaryDirectory(prefix="hw_report-") as folder:
        _stage(Path(folder), sheet, facts, collected.values())
        return _compile(Path(folder), sheet, facts["date"])


def describe(sheet: Sheet, profile: str, collected: Mapping[str, Collector]) -> dict[str, Any]:
    """What data.json holds: everything that the sheet's source may say that is not its own words."""
    numbers = {key: found for collector in collected.values() for key, found in collector.numbers.items()}
    pictures = {key: picture for collector in collected.values() for key, picture in collector.pictures.items()}
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
        "records": {path.stem: read_record(path) for path in sheet.records()},
        "index": {
            answer.section: {"code": answer.code(), "command": f"python -m {answer.command}"}
            for answer in INDEX.get(sheet.name, ())
        },
        "published": {key: {"text": text, "what": what} for key, (text, what) in PUBLISHED.items()},
    }


def _versions(numbers: Iterable[Numbers]) -> dict[str, str]:
    """Of Python and the libraries, in the latest run."""
    latest = max(numbers, key=lambda found: found.run.config["started"], default=None)
    return dict(latest.run.config.get("versions", {})) if latest else {}


def _part(profile: str, experiment: Experiment, collector: Collector) -> dict[str, Any]:
    """A line of the first page: an experiment, its data, seeds and date."""
    numbers = list(collector.numbers.values())
    run = numbers[0].run
    own = f"python -m {run.config['command']} (run folder {run.folder.name})"
    return {
        "name": experiment.name,
        "title": experiment.title,
        "data": ", ".join(dict.fromkeys(found.data for found in numbers)),
        "sample": any(found.sample for found in numbers),
        "seeds": sorted({seed for found in numbers for seed in found.seeds}),
        "date": max(found.date for found in numbers),
        "command": own if collector.own else experiment.command.shown(profile),
    }


def _stage(folder: Path, sheet: Sheet, facts: Mapping[str, Any], collected: Iterable[Collector]) -> None:
    """Puts into `folder` everything that the sheet's source may read; typst sees nothing outside of it."""
    for source in sheet.source.parent.glob("*.typ"):
        shutil.copy(source, folder)
    files.write_json(folder / DATA, facts)
    (folder / _FIGURES).mkdir()
    for collector in collected:
        for key, picture in collector.pictures.items():
            shutil.copyfile(picture.path, folder / _FIGURES / f"{key}{FIGURE_SUFFIX}")


def _compile(folder: Path, sheet: Sheet, date: str) -> bytes:
    import typst

    # Only fonts that come with typst and a fixed date: the same bytes on every machine.
    compiler = typst.Compiler(
        folder / sheet.source.name, root=folder, ignore_system_fonts=True, sys_inputs={"data": DATA}
    )
    timestamp = calendar.timegm(time.strptime(date, "%Y-%m-%d"))
    try:
        pdf, warnings = compiler.compile_with_warnings(format="pdf", timestamp=timestamp)
    except typst.TypstError as error:
        raise UserError(f"reports/{sheet.source.name} does not compile: {_on_one_line(error)}") from error
    for warning in warnings:
        print(f"reports/{sheet.source.name}: {_on_one_line(warning)}")
    return pdf


def _on_one_line(problem: Any) -> str:
    said: Sequence[str] = [problem.message, *(f"hint: {hint}" for hint in problem.hints)]
    return " ".join("; ".join(said).split())
