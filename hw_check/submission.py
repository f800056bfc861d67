"""A copy of what a student hands in. The files run in the copy, so that they cannot read or change anything else."""

import ast
import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from hw_common.runs.errors import UserError

_LARGEST_FILE, _LARGEST_NOTEBOOK, _LARGEST_COPY, _MOST_FILES = 2**20, 2**24, 2**25, 1000  # bytes, except the last
_LEFT_OUT = {"__pycache__", "node_modules", "venv", "env"}


@contextlib.contextmanager
def copied(folder: Path) -> Iterator[Path]:
    """Copies a student's folder, without links, large files and hidden folders; deletes the copy at the end.

    Data sets are left out on purpose: the check needs none of them.
    """
    with tempfile.TemporaryDirectory(prefix="student-", ignore_cleanup_errors=True) as name:
        copy, total, count = Path(name).resolve(), 0, 0
        copy.chmod(0o755)
        for place, folders, files in os.walk(folder):
            folders[:] = sorted(f for f in folders if f not in _LEFT_OUT and not f.startswith("."))
            target = copy / Path(place).relative_to(folder)
            for file in sorted(files):
                source = Path(place, file)
                largest = _LARGEST_NOTEBOOK if source.suffix == ".ipynb" else _LARGEST_FILE
                if source.is_symlink() or not source.is_file() or source.stat().st_size > largest:
                    continue
                total, count = total + source.stat().st_size, count + 1
                if total > _LARGEST_COPY or count > _MOST_FILES:
                    break
                target.mkdir(mode=0o755, exist_ok=True, parents=True)
                shutil.copyfile(source, target / file)
                (target / file).chmod(0o644)
        yield copy


def write_definitions(folder: Path) -> None:
    """Writes, for every notebook in `folder`, a Python file with its imports, classes, functions and constants.

    What else the cells do, such as training, is left out. A notebook that cannot be read is skipped.
    """
    for notebook in sorted(folder.rglob("*.ipynb")):
        target = notebook.with_suffix(".py")
        if target.exists():
            continue
        kept: list[str] = []
        try:
            cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
            for cell in cells:
                if cell["cell_type"] == "code":
                    kept += _definitions("".join(cell["source"]))
        except (ValueError, LookupError, TypeError, OSError, RecursionError):
            continue
        target.write_text("\n\n".join(kept), encoding="utf-8")


def _definitions(cell: str) -> Iterator[str]:
    """The text of every definition in a notebook's cell, without the commands that only notebooks know."""
    lines = ["pass" if line.lstrip().startswith(("%", "!")) else line for line in cell.split("\n")]
    try:
        nodes = ast.parse("\n".join(lines)).body
    except (SyntaxError, ValueError):
        return
    for node in nodes:
        is_constant = isinstance(node, ast.Assign) and _is_constant(node.value)
        if is_constant or isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef):
            yield ast.unparse(node)


def _is_constant(node: ast.expr) -> bool:
    try:
        ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False
    return True


def find(folder: Path, names: Sequence[str], anywhere: bool = False) -> Path:
    """The folder in `folder`, at any depth, that holds most of the files called `names`.

    Args:
        folder: what a student has handed in.
        names: names of the course's files.
        anywhere: whether the classes may also be in other files; then it is `folder` itself.

    Raises:
        UserError: `folder` is not a folder, or holds none of the files.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; name the one that holds {', '.join(names)}")
    if anywhere:
        if not any(folder.rglob("*.py")) and not any(folder.rglob("*.ipynb")):
            raise UserError(f"{folder} holds no Python files and no notebooks")
        return folder
    best, most = folder, 0
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(f for f in folders if f not in _LEFT_OUT and not f.startswith((".", "__MACOSX")))
        found = len(set(names).intersection(files))
        if found > most:
            best, most = Path(place), found
    if not most:
        raise UserError(f"{folder} holds none of {', '.join(names)}")
    return best
