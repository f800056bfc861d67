"""The transfer of one file over HTTP: it is continued after an interruption, retried after a fault, and checked."""

import contextlib
import hashlib
import http.client
import queue
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from hw_common.runs import files

_BLOCK = 2**18  # bytes read at a time
_TIMEOUT = 20.0  # seconds that a server may be silent
_SLOWEST = 1000  # bytes per second; a slower server counts as hanging
_TRIES = 6  # number of tries for each address
_DELAY = 1.0  # seconds before the second try; it doubles with each further try
_LONGEST_DELAY = 60.0  # seconds; a server may ask for more
_TEMPORARY = (408, 425, 429, 500, 502, 503, 504)  # HTTP statuses after which a later try may succeed
_ADVICE = "free disk space or choose another --data_dir, and run the same command again to continue the download"
_KEPT_PART = 2**20  # bytes; smaller parts are downloaded again instead of being kept


@dataclass(frozen=True)
class Download:
    """One file of a data set."""

    name: str  # path of the file in the data set's folder
    urls: Sequence[str]  # addresses, tried in this order
    md5: str | None = None  # published MD5; if no hash was published, the content has to be checked when it is read
    sha256: str | None = None  # published SHA-256 or its first digits
    size: int | None = None  # published size in bytes
    about: str = ""  # size and licence in words, for messages


@dataclass(frozen=True)
class Session:
    """State that the threads of a download share."""

    stop: threading.Event = field(default_factory=threading.Event)  # set when the threads have to end
    reached: threading.Event = field(default_factory=threading.Event)  # set once a server has answered
    # For the main thread: the number of bytes received (negative if they were discarded), the path of a complete file,
    # or the error that ended a thread.
    events: "queue.SimpleQueue[int | Path | Exception]" = field(default_factory=queue.SimpleQueue)


class Failed(Exception):
    """A file could not be downloaded from any address, or the download was stopped."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(reason)
        self.path = path


class _Temporary(Exception):
    """A fault that may be gone at the next try, which should begin after `delay` seconds."""

    def __init__(self, reason: str, delay: float = 0) -> None:
        super().__init__(reason)
        self.delay = delay


class _Stale(_Temporary):
    """The server has no bytes after those downloaded earlier, so the earlier bytes may belong to another file."""


class _Refused(Exception):
    """A fault that another try at the same address would not change."""


def size_of_part(path: Path) -> int:
    """Number of bytes of the file `path` that an earlier call has downloaded."""
    with contextlib.suppress(OSError):
        return _part(path).stat().st_size
    return 0


def remove_small_part(path: Path) -> None:
    """Removes the part of the file `path` that was downloaded, unless it is large enough to be continued later."""
    if size_of_part(path) < _KEPT_PART:
        with contextlib.suppress(OSError):
            _part(path).unlink()


def _part(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


def fetch(path: Path, download: Download, session: Session) -> Path:
    """Downloads a file to `path` and returns `path`.

    Raises:
        Failed: no address has the file.
        UserError: the file cannot be written.
    """
    transfer = _Transfer(path, download, session)
    reason = "no address"
    for url in download.urls:
        for attempt in range(_TRIES):
            try:
                transfer.run(url)
                return path
            except _Refused as refused:
                reason = str(refused)
                break
            except _Temporary as fault:
                reason = str(fault)
                if attempt + 1 < _TRIES:
                    session.stop.wait(max(_DELAY * 2**attempt, fault.delay))
    raise Failed(path, reason)


class _Transfer:
    """The transfer of one file to `path`, by way of a part file beside it."""

    def __init__(self, path: Path, download: Download, session: Session) -> None:
        self.path = path
        self.part = _part(path)
        self.download = download
        self.session = session
        self.counted = 0  # number of bytes reported to the main thread

    def run(self, url: str) -> None:
        """Downloads what is missing of the file and moves the complete file to its place.

        Raises:
            _Refused, _Temporary: the server fails, or the file has another size or hash than the published one.
            UserError: the file cannot be written.
        """
        # Only errors of the disk are OSErrors here, because `_answer` and `_read` convert errors of the server.
        with files.disk_errors(self.part, _ADVICE):
            self.part.parent.mkdir(parents=True, exist_ok=True)
            with open(self.part, "ab") as file:
                continued = self._request(url, file)
            fault = _fault(self.part, self.download)
            if fault is None:
                self.part.replace(self.path)
                return
            self.part.unlink()
        # If the download was continued, the first part may have been another file's.
        raise (_Temporary if continued else _Refused)(f"the file at {url} {fault}")

    def _request(self, url: str, file: IO[bytes]) -> bool:
        """Completes `file`; returns whether its first bytes stem from an earlier request."""
        start = file.tell()
        self._check_stop()
        try:
            response = _answer(url, start, self.session)
        except _Stale:
            file.truncate(0)
            raise
        with response:
            continued = response.status == http.HTTPStatus.PARTIAL_CONTENT
            if start and not continued:
                file.truncate(0)
            self._receive(response, file, start if continued else 0, url)
        return continued

    def _receive(self, response: http.client.HTTPResponse, file: IO[bytes], received: int, url: str) -> None:
        """Writes the bytes of `response` to `file`, of which `received` bytes are already there."""
        length = response.length  # from the header Content-Length; None if there is no such header
        expected = self.download.size if length is None else received + length
        if self.download.size not in (None, expected):
            raise _Refused(f"the file at {url} has {expected} bytes, not the published {self.download.size}")
        started, before = time.monotonic(), received
        self._count(received)
        while block := self._read(response, url):
            self._check_stop()
            file.write(block)
            received += len(block)
            self._count(received)
            if received - before < _SLOWEST * (time.monotonic() - started - _TIMEOUT):
                raise _Temporary(f"{url} sends less than {_SLOWEST} bytes per second")
            if expected is not None and received > expected:
                raise _Refused(f"the file at {url} has more than the expected {expected} bytes")
        if expected is not None and received < expected:
            raise _Temporary(f"{url} breaks off after {received} of {expected} bytes")

    def _read(self, response: http.client.HTTPResponse, url: str) -> bytes:
        try:
            return response.read1(_BLOCK)  # unlike read, read1 returns as soon as there is something
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _Temporary(f"{url}: {_text_of(error)}") from error

    def _check_stop(self) -> None:
        if self.session.stop.is_set():
            raise Failed(self.path, "the download was stopped")

    def _count(self, received: int) -> None:
        self.session.events.put(received - self.counted)
        self.counted = received


def _answer(url: str, start: int, session: Session) -> http.client.HTTPResponse:
    """Asks a server for a file from byte `start` on."""
    headers = {"User-Agent": "dl-homeworks", **({"Range": f"bytes={start}-"} if start else {})}
    try:
        request = urllib.request.Request(url, headers=headers)
        response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        session.reached.set()
        error.close()
        reason = f"{url} answers {error.code} {error.reason}"
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and start:
            raise _Stale(reason) from error
        if error.code in _TEMPORARY:
            raise _Temporary(reason, _seconds(error.headers.get("Retry-After"))) from error
        raise _Refused(reason) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = f"{url}: {_text_of(getattr(error, 'reason', error))}"
        # Without a network, no try succeeds. If a server has answered before, a later try may succeed.
        no_network = isinstance(error, urllib.error.URLError) and not session.reached.is_set()
        raise (_Refused if no_network or isinstance(error, ValueError) else _Temporary)(reason) from error
    session.reached.set()
    return response


def _fault(path: Path, download: Download) -> str | None:
    """Compares the file at `path` with its published size and hashes; None if they are equal."""
    if download.size not in (None, path.stat().st_size):
        return f"has {path.stat().st_size} bytes, not the published {download.size}"
    for name, published in (("sha256", download.sha256), ("md5", download.md5)):
        if published is not None:
            with open(path, "rb") as file:
                found = hashlib.file_digest(file, name).hexdigest()
            if not found.startswith(published):
                return f"does not have the published {name.upper()} {published}"
    return None


def _seconds(retry_after: str | None) -> float:
    """The seconds that the header Retry-After asks for, at most 60; 0 if it is missing or contains a date."""
    return min(float(retry_after), _LONGEST_DELAY) if retry_after is not None and retry_after.isdecimal() else 0.0


def _text_of(error: object) -> str:
    return getattr(error, "strerror", None) or (str(error).splitlines() or [type(error).__name__])[0]
