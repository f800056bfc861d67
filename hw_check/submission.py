"""A copy of what a student hands in. The files run in the copy, so that they cannot read or change anything else."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from hw_common.data.file_names import is_junk
from hw_common.runs.errors import UserError

_LARGEST_FILE, _LARGEST_NOTEBOOK, _LARGEST_COPY, _MOST_FILES = 2**20, 2**24, 2**25, 1000  # bytes, except the last
SUFFIXES = (".py", ".ipynb")  # suffixes of files that may hold the classes
_LEFT_OUT = {"node_modules", "venv", "env"}


@contextlib.contextmanager
def copied(source: Path) -> Iterator[Path]:
    """Copies a student's file or folder, without links, large files and hidden folders; deletes the copy at the end.

    Data sets are left out on purpose: the check needs none of them.
    """
    with tempfile.TemporaryDirectory(prefix="student-", ignore_cleanup_errors=True) as name:
        copy, total, count = Path(name).resolve(), 0, 0
        copy.chmod(0o755)
        root, walk = source, os.walk(source)
        if source.is_file():
            root, walk = source.parent, iter([(str(source.parent), [], [source.name])])
        for place, folders, files in walk:
            folders[:] = sorted(f for f in folders if f not in _LEFT_OUT and not is_junk(f))
            target = copy / Path(place).relative_to(root)
            for file in sorted(files):
                path = Path(place, file)
                largest = _LARGEST_NOTEBOOK if path.suffix == ".ipynb" else _LARGEST_FILE
                if path.is_symlink() or not path.is_file() or path.stat().st_size > largest:
                    continue
                total, count = total + path.stat().st_size, count + 1
                if total > _LARGEST_COPY or count > _MOST_FILES:
                    break
                target.mkdir(mode=0o755, exist_ok=True, parents=True)
                shutil.copyfile(path, target / file)
                (target / file).chmod(0o644)
        yield copy


def find(folder: Path, names: Sequence[str], anywhere: bool = False) -> Path:
    """The folder in `folder`, at any depth, that holds most of the files called `names`.

    Args:
        folder: what a student has handed in, or a single file of it.
        names: names of the course's files.
        anywhere: whether the classes may also be in other files; then the result is `folder` itself.

    Raises:
        UserError: `folder` does not exist, or holds none of the files.
    """
    if folder.is_file() and (folder.suffix in SUFFIXES if anywhere else folder.name in names):
        return folder
    if not folder.is_dir():
        kind = "a folder, a .py file or a notebook" if anywhere else "a folder"
        raise UserError(f"{folder} is not {kind}; name the one that holds {', '.join(names)}")
    if anywhere:
        if not any(folder.rglob("*.py")) and not any(folder.rglob("*.ipynb")):
            raise UserError(f"{folder} holds no Python files and no notebooks")
        return folder
    best, most = folder, 0
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(f for f in folders if f not in _LEFT_OUT and not is_junk(f))
        found = len(set(names).intersection(files))
        if found > most:
            best, most = Path(place), found
    if not most:
        raise UserError(f"{folder} holds none of {', '.join(names)}")
    return best
