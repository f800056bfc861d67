"""`python -m hw_report submission`: the zip to turn in, with the PDF of a sheet, its notebook and its code."""

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

from hw_common.runs import files
from hw_common.runs.errors import UserError
from hw_report import document, notebook
from hw_report.build import Settings
from hw_report.collect import NotThere
from hw_report.sheets import REPOSITORY, Sheet

_SHARED = ("pyproject.toml", "requirements.lock", "LICENSE")
_NOT_CODE = {"__pycache__"}
_OLDEST = (1980, 1, 1, 0, 0, 0)  # the earliest time in a zip
_README = """\
# {sheet}: {course}, {title}

`{sheet}.pdf` has the answers; this folder has the code. It needs Python 3.11 or newer.{note}

    python3 -m venv .venv && . .venv/bin/activate
    pip install --require-hashes -r requirements.lock
    pip install --no-deps --no-build-isolation --editable .

These commands run on built-in samples, without downloads; `--profile full` uses the sheet's own data:

{commands}

`--help` explains the flags of each command.
"""


_SCRIPT = """\
\"\"\"`python {name}` does the same as `python -m {module}`.\"\"\"

import runpy

if __name__ == "{main}":
    runpy.run_module("{module}", run_name="{main}", alter_sys=True)
"""


def submit(sheet: Sheet, group: str, settings: Settings) -> Path:
    """Writes RESULTS_DIR/submissions/<sheet>/<group>.zip and returns its path.

    The same runs and code give the same bytes, except for the times that a notebook measures.

    Args:
        sheet: the sheet to turn in.
        group: name of the group, of the zip and of the folder in it.
        settings: settings that choose the runs of the PDF.

    Raises:
        UserError: typst, a run or a file of the code is missing, or a cell of the notebook failed.
    """
    document.check([sheet])
    settings.check_use([sheet])
    content = code(sheet)
    try:
        collected = settings.collect_all(sheet)
    except NotThere as error:
        raise UserError(f"{error} (or everything that is missing, with: {settings.build_by_hand(sheet)})") from error
    content[f"{sheet.name}.pdf"] = document.render(sheet, settings.profile, collected, group)
    if sheet.notebook:
        [run] = [c.numbers[sheet.notebook_shows].run for c in collected.values() if sheet.notebook_shows in c.numbers]
        print(f"running {sheet.notebook}; it shows {run.folder}", flush=True)
        content[sheet.notebook] = notebook.with_outputs(
            REPOSITORY / sheet.notebook, run, settings.options.get("data_dir")
        ).encode()
    path = settings.results_dir / "submissions" / sheet.name / f"{group}.zip"
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_bytes(path, _zip({f"{group}/{name}": data for name, data in content.items()}))
    return path


def code(sheet: Sheet) -> dict[str, bytes]:
    """The content of the files that run a sheet's experiments, by path in the repository.

    Raises:
        UserError: a package or file is missing.
    """
    found = {"README.md": _readme(sheet).encode()}
    found |= {
        name: _SCRIPT.format(name=name, module=module, main="__main__").encode() for name, module in sheet.scripts
    }
    for name in filter(None, (*_SHARED, sheet.notebook)):
        path = REPOSITORY / name
        if not path.is_file():
            raise UserError(f"{path} is missing; get it back with: git checkout -- {name}")
        found[name] = path.read_bytes()
    for package in ("hw_common", *sheet.packages, *sheet.tools):
        paths = [path for path in (REPOSITORY / package).rglob("*") if _is_code(path)]
        if not paths:
            raise UserError(f"the package {package} is missing; get it back with: git checkout -- {package}")
        found |= {path.relative_to(REPOSITORY).as_posix(): path.read_bytes() for path in paths}
    return found


def _is_code(path: Path) -> bool:
    """Whether a file is part of the code, and not a file that Python or an editor left there."""
    inside = path.relative_to(REPOSITORY).parts
    hidden = any(part.startswith(".") or part in _NOT_CODE for part in inside)
    return path.is_file() and not path.is_symlink() and not hidden


def _readme(sheet: Sheet) -> str:
    commands = dict.fromkeys(experiment.command.shown("sample") for experiment in sheet.its_experiments())
    return _README.format(
        sheet=sheet.name,
        course=sheet.course,
        title=sheet.title,
        note=f"\n\n{sheet.note}" if sheet.note else "",
        commands="\n".join(f"    {command}" for command in commands),
    )


def _zip(content: Mapping[str, bytes]) -> bytes:
    """A zip with the same bytes for the same content: sorted files, all with the same date and mode."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(content):
            entry = zipfile.ZipInfo(name, _OLDEST)
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content[name])
    return buffer.getvalue()
