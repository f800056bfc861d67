"""Loads pictures for figures from files and from the web, without trusting their content (eecs545-w20-hw4 Q4d)."""

import contextlib
import hashlib
import http.client
import sys
import threading
import urllib.request
from pathlib import Path

import numpy as np
from numpy import ndarray
from PIL import Image

from hw_common.data import images
from hw_common.runs import files
from hw_common.runs.errors import UserError

_LARGEST_FILE = 20_000_000  # bytes
_SHOWN_SIZE = 512  # pixels


def image_from_url(
    url: str,
    base_dir: Path | None = None,
    cache_dir: Path | None = None,
    seconds: float = 5.0,
    largest: int = _LARGEST_FILE,
) -> ndarray:
    """Loads the picture at an address. If that fails, returns a grey panel and prints the reason on standard error.

    Args:
        url: an address that begins with http:// or https://, or the path of a file in `base_dir`.
        base_dir: folder of the files; files outside it are not read.
        cache_dir: folder in which downloads are kept; made when needed. With None, downloads are not kept.
        seconds: time limit of a download.
        largest: limit of a file's size in bytes.

    Returns:
        Pixels (height, width, 3) uint8, at most 512 high and wide.
    """
    try:
        return load_image(url, base_dir, cache_dir, seconds, largest)
    except UserError as error:
        print(f"a grey panel replaces a picture: {' '.join(str(error).split())}", file=sys.stderr)
        return np.full((192, 256, 3), 200, dtype=np.uint8)


def load_image(url: str, base_dir: Path | None, cache_dir: Path | None, seconds: float, largest: int) -> ndarray:
    """Loads a picture like `image_from_url`, with the same arguments.

    Raises:
        UserError: there is no picture, it is too large, or its download takes too long.
    """
    if not url.lower().startswith(("http://", "https://")):
        return _shown(images.decode(_read_inside(url, base_dir, largest), repr(url)))
    cached = cache_dir / hashlib.sha256(url.encode()).hexdigest() if cache_dir is not None else None
    if cached is not None and cached.is_file():
        with contextlib.suppress(UserError, OSError):  # a damaged file is downloaded again
            return _shown(images.decode(_read(cached, largest), str(cached)))
    data = download(url, seconds, largest)
    picture = _shown(images.decode(data, repr(url)))
    if cached is not None:
        with contextlib.suppress(UserError, OSError):  # the cache is not essential
            cached.parent.mkdir(exist_ok=True)
            files.write_bytes(cached, data)
    return picture


def _read_inside(name: str, folder: Path | None, largest: int) -> bytes:
    """The content of the file `name` in `folder`; paths that lead out of the folder are refused."""
    if folder is None:
        raise UserError(f"{name!r} is not an address: expected http:// or https://")
    try:
        path = (folder / name).resolve()
        if not path.is_relative_to(folder.resolve()):
            raise UserError(f"{name!r} leads out of {folder} and is not read")
        return _read(path, largest)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise UserError(f"cannot read {name!r} in {folder}: {getattr(error, 'strerror', None) or error}") from error


def _read(path: Path, largest: int) -> bytes:
    if not path.is_file():
        raise UserError(f"there is no file {path}")
    with open(path, "rb") as file:
        return _at_most(largest, file.read(largest + 1), str(path))


def _at_most(largest: int, data: bytes, what: str) -> bytes:
    if len(data) > largest:
        raise UserError(f"{what} has more than {largest} bytes")
    return data


def download(url: str, seconds: float, largest: int) -> bytes:
    """Downloads an address that begins with http:// or https://, and follows redirections to such addresses only.

    Raises:
        UserError: the download fails, takes longer than `seconds` in all, or has more than `largest` bytes.
    """
    opener = urllib.request.OpenerDirector()  # build_opener would add handlers for files, FTP and data
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    outcome: list[bytes | Exception] = []

    def fetch() -> None:
        try:
            with opener.open(urllib.request.Request(url, headers={"User-Agent": "hw_numpy"}), timeout=seconds) as reply:
                outcome.append(reply.read(largest + 1))
        except (OSError, ValueError, http.client.HTTPException) as error:
            outcome.append(error)

    # A socket's time limit applies to each packet, so a server could send single bytes for ever.
    thread = threading.Thread(target=fetch, daemon=True)
    thread.start()
    thread.join(seconds)
    if not outcome:
        raise UserError(f"{url!r} took longer than {seconds:g} s")
    if isinstance(outcome[0], Exception):
        raise UserError(f"cannot load {url!r}: {outcome[0] or type(outcome[0]).__name__}") from outcome[0]
    return _at_most(largest, outcome[0], repr(url))


def _shown(image: Image.Image) -> ndarray:
    image.thumbnail((_SHOWN_SIZE, _SHOWN_SIZE))
    return np.asarray(image)
