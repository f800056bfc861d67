"""A copy of what a student hands in. The files run in the copy, so that they cannot read or change anything else."""

import contextlib
import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from hw_common.data.file_names import is_junk
from hw_common.runs.errors import UserError

_LARGEST_FILE, _LARGEST_NOTEBOOK, _LARGEST_COPY = 2**20, 2**24, 2**25  # bytes
_MOST_FILES, _MOST_FOUND = 1000, 100_000  # limits on the files that are copied, and on those that are listed
SUFFIXES = (".py", ".ipynb")  # suffixes of files that may hold the classes
_ARCHIVES = (".zip", ".rar", ".7z", ".gz", ".tar", ".tgz")
_LEFT_OUT = {"node_modules", "venv", "env"}


@contextlib.contextmanager
def copied(source: Path) -> Iterator[Path]:
    """Copies a student's file or folder, without links, large files and hidden folders; deletes the copy at the end.

    Data sets are left out on purpose: the check needs none of them.
    """
    with tempfile.TemporaryDirectory(prefix="student-", ignore_cleanup_errors=True) as name:
        # The process gets the inner folder. The outer one keeps its owner, so that nobody can replace the inner one.
        copy, total = Path(name).resolve() / "files", 0
        copy.parent.chmod(0o755)
        copy.mkdir(mode=0o755)
        root = source.parent if source.is_file() else source
        found = itertools.islice(_files(source), _MOST_FOUND)
        # Python files and notebooks come first, so that a data set cannot use up the room for them.
        for path in sorted(found, key=lambda path: (path.suffix not in SUFFIXES, path))[:_MOST_FILES]:
            total += path.stat().st_size
            if total > _LARGEST_COPY:
                break
            target = copy / path.relative_to(root)
            target.parent.mkdir(mode=0o755, exist_ok=True, parents=True)
            shutil.copyfile(path, target)
            target.chmod(0o644)
        yield copy


def _files(source: Path) -> Iterator[Path]:
    """The files of a student, without links, large files and hidden folders."""
    walk = [(str(source.parent), [], [source.name])] if source.is_file() else os.walk(source)
    for place, folders, files in walk:
        folders[:] = sorted(f for f in folders if f not in _LEFT_OUT and not is_junk(f))
        for path in (Path(place, file) for file in files):
            largest = _LARGEST_NOTEBOOK if path.suffix == ".ipynb" else _LARGEST_FILE
            if not path.is_symlink() and path.is_file() and path.stat().st_size <= largest:
                yield path


def find(folder: Path, names: Sequence[str], anywhere: bool = False) -> Path:
    """The folder in `folder`, at any depth, that holds the most of the files called `names`.

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
            raise UserError(f"{folder} holds no Python files and no notebooks{unpack_advice(folder)}")
        return folder
    best, most = folder, 0
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(f for f in folders if f not in _LEFT_OUT and not is_junk(f))
        found = len(set(names).intersection(files))
        if found > most:
            best, most = Path(place), found
    if not most:
        raise UserError(f"{folder} holds none of {', '.join(names)}{unpack_advice(folder)}")
    return best


def unpack_advice(folder: Path) -> str:
    """What to do about an archive that has not been unpacked; empty if there is none."""
    packed = next((path for path in folder.rglob("*") if path.suffix.lower() in _ARCHIVES), None)
    return f"; unpack {packed.name} first" if packed else ""
