"""Files that appear whole or not at all, whatever kills the process that writes them, and however many write them.

Everything that a run folder holds goes through `write_bytes`, so there is one place to get right and one to test.
"""

import contextlib
import csv
import fcntl
import hashlib
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from hw_common.runs.errors import UserError

TEMPORARY_SUFFIX = ".tmp"


def write_bytes(path: Path, data: bytes) -> None:
    """Puts `data` at `path`, whole: temporary file beside it, flush, fsync, replace, fsync of the folder.

    Raises:
        UserError: the disk is full, or the folder cannot be written. What stood at `path` is still there.
    """
    temporary = path.with_name(f".{path.name}{TEMPORARY_SUFFIX}")
    try:
        with _open_alone(temporary) as file:
            try:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
                os.replace(temporary, path)  # before anybody else may open it
            except BaseException:  # Ctrl-C in the middle of a write, too
                _remove(temporary)
                raise
        _sync_folder(path.parent)
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror}; what was there before is untouched, "
            "so make room or choose another --results_dir and go on"
        ) from error


def _open_alone(path: Path) -> BinaryIO:
    """Opens `path` for writing, empty, once no other process is writing it."""
    while True:
        file = open(path, "ab")  # noqa: SIM115
        with contextlib.suppress(OSError):  # some network disks have no locks
            fcntl.flock(file, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                os.ftruncate(file.fileno(), 0)
                return file
        file.close()  # the other process has put it into its place


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):  # on a disk that became read-only it cannot be, and was never made
        path.unlink()


def _sync_folder(folder: Path) -> None:
    """Makes a rename in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_writable(folder: Path) -> None:
    """Finds out before hours of work whether `folder` can be written; raises OSError if not."""
    probe = folder / f".probe{TEMPORARY_SUFFIX}"
    probe.touch()
    probe.unlink()


def remove_stale(folder: Path) -> None:
    """Removes what a killed `write_bytes` left in `folder`; call it only while holding the folder's lock."""
    for leftover in folder.glob(f".*{TEMPORARY_SUFFIX}"):
        leftover.unlink()


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as indented JSON.

    Raises:
        UserError: a number in it is not finite, which JSON cannot say; or as `write_bytes`.
    """
    try:
        text = json.dumps(value, indent=2, allow_nan=False)
    except ValueError as error:
        raise UserError(f"cannot write {path}: a number for it is not finite ({error})") from error
    write_bytes(path, (text + "\n").encode())


def read_json(path: Path) -> Any:
    """Reads a JSON file that may come from anywhere.

    Raises:
        UserError: it is missing, not UTF-8 or not JSON (NaN and infinity count as not JSON).
    """

    def refuse(constant: str) -> None:
        raise ValueError(f"it holds {constant}, which is not JSON")

    try:
        return json.loads(path.read_bytes(), parse_constant=refuse)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged: {error}") from error


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes `rows` as CSV with the keys of the first row as header; floats keep all their digits."""
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    write_bytes(path, text.getvalue().encode())


def read_csv(path: Path) -> list[dict[str, float]]:
    """Reads a table of numbers that `write_csv` wrote.

    Raises:
        UserError: it is missing, or a cell is no number.
    """
    try:
        with open(path, newline="") as file:
            return [{name: float(cell) for name, cell in row.items()} for row in csv.DictReader(file)]
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except (TypeError, ValueError) as error:
        raise UserError(f"{path} is damaged: {error}") from error


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
