"""Downloads of data files.

An existing file is used without network access. A missing file is downloaded from the data set's own addresses, checked
against its published size and hash, and then moved to its place. An interrupted download is continued by the next call.
"""

import contextlib
import queue
import shutil
import tarfile
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock
from tqdm import tqdm

from hw_common.data import transfer
from hw_common.data.transfer import Download
from hw_common.runs import files
from hw_common.runs.errors import Stopped, UserError, signal_of

_THREADS = 8  # files that are downloaded at the same time
_OTHERWISE = "name another folder with --data_dir, or use --dataset sample"


def place(folder: Path, wanted: Sequence[Download], hint: str | None = None) -> list[Path]:
    """Returns the paths of `wanted` in `folder`; downloads missing files, several at a time.

    If several processes need the same files at the same time, one of them downloads and the others wait for it.

    Args:
        folder: folder of the data set.
        wanted: the files.
        hint: what the user can do after a failure, for messages; by default, where to fetch the files by hand, another
            --data_dir, or --dataset sample.

    Raises:
        UserError: a file cannot be downloaded; the message ends with the hint unless the disk is full.
        Stopped: SIGINT or SIGTERM arrived; complete files and large parts are kept.
    """
    missing = [download for download in wanted if not (folder / download.name).is_file()]
    if missing:
        _place(folder, missing, hint or f"{by_hand(folder, missing)}, {_OTHERWISE}")
    return [folder / download.name for download in wanted]


def place_folder(
    folder: Path, wanted: Sequence[Download], hint: str, finish: Callable[[Path], Any] | None = None
) -> Path:
    """Downloads the files of a data set to `<folder>.part`, which is renamed to `folder` once it is complete.

    Args:
        folder: folder of the data set.
        wanted: the files.
        hint: what the user can do if the download fails, for messages.
        finish: called with the folder that has all files, before it gets its final name. It may be called again if it
            was interrupted.

    Raises:
        UserError, Stopped: see `place`.
    """
    part = folder.with_name(f"{folder.name}.part")
    with _locked(folder, hint):
        if not folder.is_dir():  # another process may have been faster
            _place(part, wanted, hint)
            with files.disk_errors(part, "free disk space, and run the same command again"):
                if finish is not None:
                    finish(part)
                part.rename(folder)
    return folder


def by_hand(folder: Path, missing: Sequence[Download]) -> str:
    """Says from which addresses the user can fetch the files, and where to put them."""
    first = missing[0]
    about = f" ({first.about})" if first.about else ""
    if len(missing) == 1:
        return f"fetch it from {' or '.join(first.urls)}{about} and put it into {folder}"
    places = " or ".join(url.removesuffix(first.name) for url in first.urls)
    return f"fetch {', '.join(download.name for download in missing)} from {places}{about} and put them into {folder}"


def _place(folder: Path, wanted: Sequence[Download], hint: str) -> None:
    with _locked(folder / wanted[0].name, hint):
        missing = [download for download in wanted if not (folder / download.name).is_file()]
        if missing:  # another process may have been faster
            _download(folder, missing, hint)


@contextlib.contextmanager
def _locked(path: Path, hint: str) -> Iterator[None]:
    """Locks `path`, which need not exist, against other processes; new folders that stay empty are removed."""
    new_folders = [folder for folder in (path.parent, *path.parent.parents) if not folder.exists()]
    lock_file = path.with_name(f".{path.name}.lock")
    lock = FileLock(lock_file)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.acquire(lock, f"{path}: waiting for another process that downloads it")
    except OSError as error:
        raise UserError(f"{path} is missing and its folder cannot be written: {error.strerror}; {hint}") from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # Windows does not remove an open file
            lock_file.unlink()
        lock.release()
        for new in new_folders:
            with contextlib.suppress(OSError):  # fails after a successful download, since the folder is not empty
                new.rmdir()


def _download(folder: Path, missing: Sequence[Download], hint: str) -> None:
    first, count = missing[0], len(missing)
    size = sum(download.size or 0 for download in missing)
    about = f"{size / 1e6:.0f} MB" if count > 1 and size else first.about
    name = first.name if count == 1 else f"{count} files"
    print(f"downloading {name}{f' ({about})' if about else ''} to {folder}", flush=True)
    _check_space(folder, missing, size)
    session = transfer.Session()
    todo: queue.SimpleQueue[Download] = queue.SimpleQueue()
    for download in missing:
        todo.put(download)
    # Daemon threads: after Ctrl-C, nothing waits for a server that does not answer.
    threads = [
        threading.Thread(target=_work, args=(session, todo, folder), daemon=True) for _ in range(min(_THREADS, count))
    ]
    done = 0
    bar = tqdm(total=size or None, desc=name, unit="B", unit_scale=True, disable=None, leave=False)
    try:
        with bar:
            for thread in threads:
                thread.start()
            while done < count:
                done += _take_event(session, bar)
    except KeyboardInterrupt as interrupt:
        message = f"stopped after {done} of {count} files of {folder}; the same command continues the download"
        raise Stopped(signal_of(interrupt), message) from None
    except transfer.Failed as failed:
        kept = f"; {done} of {count} files are complete, and the same command continues the download" if done else ""
        raise UserError(f"{failed.path} is missing and could not be downloaded ({failed}){kept}; {hint}") from failed
    finally:
        session.stop.set()
        deadline = time.monotonic() + 1  # after that, threads that wait for a server are left running
        for thread in filter(threading.Thread.is_alive, threads):
            thread.join(max(0.0, deadline - time.monotonic()))
        for download in missing:
            path = folder / download.name
            transfer.remove_small_part(path)
            if path.parent != folder:
                with contextlib.suppress(OSError):  # fails if something was downloaded, which is kept
                    path.parent.rmdir()


def _work(session: transfer.Session, todo: "queue.SimpleQueue[Download]", folder: Path) -> None:
    """Downloads files of `todo` until there are no more; an error goes to the session's queue."""
    while not session.stop.is_set():
        try:
            download = todo.get_nowait()
        except queue.Empty:
            return
        try:
            session.events.put(transfer.fetch(folder / download.name, download, session))
        except Exception as error:  # noqa: BLE001 (the main thread raises it)
            session.events.put(error)
            return


def _take_event(session: transfer.Session, bar: tqdm) -> int:
    """Waits for the next event of a thread; returns the number of files that it completed: 0 or 1."""
    try:
        event = session.events.get(timeout=0.5)  # without a timeout, Ctrl-C would not be noticed on Windows
    except queue.Empty:
        return 0
    if isinstance(event, BaseException):
        raise event
    if isinstance(event, int):
        bar.update(event)
        return 0
    return 1


def _check_space(folder: Path, missing: Sequence[Download], size: int) -> None:
    there = sum(transfer.size_of_part(folder / download.name) for download in missing)
    free = shutil.disk_usage(folder if folder.exists() else folder.parent).free
    if free < size - there:
        raise UserError(
            f"{folder} needs {(size - there) / 1e6:.0f} MB more, but its disk has {free / 1e6:.0f} MB free; free disk "
            "space or choose another --data_dir, and run the same command again"
        )


def unpack(archive: Path, member: str) -> Path:
    """Unpacks `member` of a tar archive atomically into the archive's folder; returns its path.

    Raises:
        UserError: the archive is damaged, has no such member, or has a path outside its folder.
    """
    target = archive.parent / member
    try:
        folder = tempfile.mkdtemp(prefix=".unpack-", dir=archive.parent)
    except OSError as error:
        raise UserError(f"cannot unpack {archive} into its own folder: {error.strerror}") from error
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
            while tar.fileobj.read(2**20):  # reads to the end, where gzip checks its checksum
                pass
        if not target.is_dir():  # another process may have been faster
            (Path(folder) / member).rename(target)
    except (tarfile.TarError, EOFError, OSError, ValueError, OverflowError, zlib.error) as error:
        raise UserError(f"cannot unpack {member} from {archive}: {error}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return target
