"""Downloads of data files.

An existing file is used without network. A missing file is downloaded from the data set's own addresses, checked
against its hash and then moved into its folder.
"""

import contextlib
import http.client
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hw_common.runs.errors import UserError


@dataclass(frozen=True)
class Download:
    """One file of a data set."""

    name: str  # name of the file in the data set's folder
    urls: Sequence[str]  # addresses, tried in this order
    md5: str | None  # published MD5; None if none was published, so that the content has to be checked when it is read


def place(folder: Path, wanted: Iterable[Download]) -> list[Path]:
    """Returns the paths of `wanted` in `folder`; downloads missing files.

    Raises:
        UserError: a download failed or has another hash; the message says where to put the file by hand.
    """
    paths = []
    for download in wanted:
        path = folder / download.name
        if not path.is_file():
            _download(path, download)
        paths.append(path)
    return paths


def _download(path: Path, download: Download) -> None:
    from torchvision.datasets.utils import check_integrity, download_url  # slow to import

    by_hand = "put the file there by hand, name the folder that has it with --data_dir, or use --dataset sample"
    new_folders = [folder for folder in (path.parent, *path.parent.parents) if not folder.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = tempfile.mkdtemp(prefix=".download-", dir=path.parent)
    except OSError as error:
        raise UserError(f"{path} is missing and its folder cannot be written: {error.strerror}; {by_hand}") from error
    reason = "no address"
    try:
        for url in download.urls:
            (Path(folder) / download.name).unlink(missing_ok=True)
            try:
                download_url(url, folder, download.name)
            except (OSError, RuntimeError, ValueError, http.client.HTTPException) as error:
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                continue
            if check_integrity(f"{folder}/{download.name}", download.md5):
                (Path(folder) / download.name).replace(path)
                return
            reason = f"the file at {url} does not have the published MD5 {download.md5}"
        raise UserError(f"{path} is missing and could not be downloaded ({reason}); {by_hand}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if not path.exists():
            for new in new_folders:
                with contextlib.suppress(OSError):
                    new.rmdir()


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
            while tar.fileobj.read(2**20):  # to the end, where gzip checks its checksum
                pass
        if not target.is_dir():  # another process may have been faster
            (Path(folder) / member).rename(target)
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise UserError(f"cannot unpack {member} from {archive}: {error}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return target
