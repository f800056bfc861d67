"""A copy of what a student hands in. The files run in the copy, so that they cannot read or change anything else."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from hw_common.runs.errors import UserError

_LARGEST_FILE, _LARGEST_COPY, _MOST_FILES = 2**20, 2**25, 1000  # bytes, bytes, files
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
                if source.is_symlink() or not source.is_file() or source.stat().st_size > _LARGEST_FILE:
                    continue
                total, count = total + source.stat().st_size, count + 1
                if total > _LARGEST_COPY or count > _MOST_FILES:
                    break
                target.mkdir(mode=0o755, exist_ok=True, parents=True)
                shutil.copyfile(source, target / file)
                (target / file).chmod(0o644)
        yield copy


def find(folder: Path, names: Sequence[str]) -> Path:
    """The folder in `folder`, at any depth, that holds most of the files called `names`.

    Raises:
        UserError: `folder` is not a folder, or holds none of the files.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; name the one that holds {', '.join(names)}")
    best, most = folder, 0
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(f for f in folders if f not in _LEFT_OUT and not f.startswith((".", "__MACOSX")))
        found = len(set(names).intersection(files))
        if found > most:
            best, most = Path(place), found
    if not most:
        raise UserError(f"{folder} holds none of {', '.join(names)}")
    return best
