"""Atomic files: they appear whole or not at all, even if the process is killed or several processes write them.

All files of a run folder are written by `write_bytes`.
"""

import contextlib
import csv
import hashlib
import io
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from hw_common.runs.errors import UserError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

TEMPORARY_SUFFIX = ".tmp"
_ATTEMPTS, _SECONDS_BETWEEN = 10, 0.1  # attempts to replace a file that another program reads


@contextlib.contextmanager
def disk_errors(path: Path, advice: str) -> Iterator[None]:
    """Turns an OSError of a block that writes `path`, for example on a full disk, into a UserError with `advice`."""
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; {advice}") from error


@contextlib.contextmanager
def new_folder(folder: Path, advice: str) -> Iterator[Path]:
    """Yields an empty folder beside `folder`; once the block has filled it, it replaces `folder` as a whole.

    Raises:
        UserError: the disk is full, or a folder is not writable; the message ends with `advice`. After this and any
            other error of the block, the earlier `folder` is unchanged.
    """
    suffix = secrets.token_hex(4)
    new, old = (folder.with_name(f".{folder.name}.{word}-{suffix}") for word in ("new", "old"))
    with disk_errors(folder, advice):
        try:
            new.mkdir(parents=True)
            yield new
            if folder.exists():
                os.replace(folder, old)
            try:
                os.replace(new, folder)
            except OSError:
                if old.exists():
                    os.replace(old, folder)
                raise
        finally:
            shutil.rmtree(new, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


def write_bytes(path: Path, data: "ReadableBuffer") -> None:
    """Writes `data` to `path` atomically.

    The steps are: a temporary file in the same folder, flush, fsync, replace, fsync of the folder. Each call has a
    temporary file of its own, so that several processes can write `path` at the same time.

    Raises:
        UserError: the disk is full, or the folder is not writable. The previous file at `path` is unchanged.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")
    advice = "the previous file is unchanged, so free disk space or choose another --results_dir, and continue"
    with disk_errors(path, advice):
        try:
            with open(temporary, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            _replace(temporary, path)
        except BaseException:  # including Ctrl-C during a write
            _remove(temporary)
            raise
        _sync_folder(path.parent)


def acquire(lock: FileLock, message: str) -> None:
    """Acquires `lock`; if another process holds it, prints `message` and waits."""
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(message, flush=True)
        lock.acquire()


def is_temporary(path: Path, target: str) -> bool:
    """Whether `path` may be a temporary file that a killed process left while it wrote the file called `target`."""
    return path.name.startswith(f".{target}.") and path.name.endswith(TEMPORARY_SUFFIX)


def _replace(temporary: Path, path: Path) -> None:
    """Renames `temporary` to `path`. Windows refuses this while another program reads the old file at `path`."""
    for _ in range(_ATTEMPTS - 1):
        with contextlib.suppress(PermissionError):
            os.replace(temporary, path)
            return
        time.sleep(_SECONDS_BETWEEN)
    os.replace(temporary, path)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):  # the disk may have become read-only
        path.unlink()


def _sync_folder(folder: Path) -> None:
    """Makes sure that a rename in `folder` survives a power cut. Windows cannot open folders."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_writable(folder: Path) -> None:
    """Raises OSError if `folder` is not writable. A run calls this before it trains for hours."""
    probe = folder / f".probe{TEMPORARY_SUFFIX}"
    probe.touch()
    probe.unlink()


def remove_stale(folder: Path) -> None:
    """Removes temporary files of killed processes from `folder`; the caller must hold the folder's lock."""
    for leftover in folder.glob(f".*{TEMPORARY_SUFFIX}"):
        _remove(leftover)


def write_text(path: Path, text: str) -> None:
    """Writes `text` in UTF-8; bytes of file names that are not UTF-8 are escaped."""
    write_bytes(path, text.encode(errors="backslashreplace"))


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as indented JSON.

    Raises:
        UserError: a number is not finite, which JSON does not allow; or the file cannot be written.
    """
    try:
        text = json.dumps(value, indent=2, allow_nan=False)
    except ValueError as error:
        raise UserError(f"cannot write {path}: a number in it is not finite ({error})") from error
    write_bytes(path, (text + "\n").encode())


def read_json(path: Path) -> Any:
    """Reads a JSON file from an untrusted source.

    Raises:
        UserError: the file is missing, not UTF-8 or not JSON. NaN and infinity are not JSON.
    """

    def refuse(constant: str) -> None:
        raise ValueError(f"it contains {constant}, which is not JSON")

    try:
        return json.loads(path.read_bytes(), parse_constant=refuse)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged: {error}") from error


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes `rows` as CSV with the keys of the first row as header; floats are written with all digits.

    Columns of lists, such as the values of single seeds, are left out.
    """
    text = io.StringIO()
    if rows:
        names = [name for name, value in rows[0].items() if not isinstance(value, list)]
        writer = csv.DictWriter(text, fieldnames=names, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    write_text(path, text.getvalue())


def read_csv(path: Path) -> list[dict[str, float]]:
    """Reads a table of numbers that `write_csv` wrote.

    Raises:
        UserError: the file is missing, or a cell is not a number.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            return [{name: float(cell) for name, cell in row.items()} for row in csv.DictReader(file)]
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except (TypeError, ValueError) as error:
        raise UserError(f"{path} is damaged: {error}") from error


def sha256(path: Path) -> str:
    """Returns the SHA-256 of a file in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
