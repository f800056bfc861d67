"""Where the files of a data set lie: in a folder, or inside a tar archive, which is read in place.

Whatever names them comes from a file too, so `is_inside` decides which names are looked for.
"""

import bz2
import gzip
import io
import lzma
import os
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from hw_common.runs.errors import UserError

LARGEST_FILE = 200_000_000  # bytes
LARGEST_PACKED = 500_000_000  # bytes of what a compressed archive unpacks to, which is held in memory
_PACKED = {gzip.open: b"\x1f\x8b", bz2.open: b"BZh", lzma.open: b"\xfd7zXZ\x00"}
_DAMAGED = (tarfile.TarError, OSError, ValueError, EOFError, MemoryError, RecursionError, zlib.error, lzma.LZMAError)


def label_of(path: Path) -> str:
    """The name of a data set's folder or archive as a part of other file names: the same for both."""
    return re.sub(r"[^\w.+-]+", "_", re.sub(r"\.tar(\.\w+)?$", "", path.resolve().name)).strip(".-")[:60] or "dataset"


@dataclass(frozen=True)
class DatasetFile:
    """A file that is not read yet.

    Attributes:
        name: what the data set calls it.
        where: where it lies, for messages.
        read: returns its bytes, or raises UserError.
    """

    name: str
    where: str
    read: Callable[[], bytes]

    @classmethod
    def from_path(cls, path: Path, name: str | None = None) -> "DatasetFile":
        """The file at `path`, which need not be there yet."""
        return cls(name or path.name, str(path), partial(_read, path))


# A path inside a data set to its file; None where there is none.
FindFile = Callable[[str], DatasetFile | None]


def is_inside(name: str) -> bool:
    """Whether the path `name`, which comes from a file, stays inside the folder that it is taken to be in."""
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and name.isprintable()


def file_finder(path: Path, root_files: tuple[str, ...]) -> FindFile:
    """Opens the folder or tar archive `path`; a compressed archive is read whole, others as files are asked for.

    Args:
        path: of it.
        root_files: the folder of an archive that has one of these is the root of the data set.

    Raises:
        UserError: it does not exist, is no folder and no tar archive, is damaged, or is too large to be held in memory.
    """
    if path.is_dir():
        return partial(_find_in_folder, path)
    if not path.exists():
        raise UserError(f"{path} does not exist; expected a folder or a tar archive")
    try:
        with open(path, "rb") as file:
            start = file.read(6)
        unpack = next((opener for opener, magic in _PACKED.items() if start.startswith(magic)), None)
        readers = _members(path) if unpack is None else _packed_members(path, unpack)
    except _DAMAGED as error:
        raise UserError(f"{path} is damaged or no tar archive: {error}") from error
    parents = [PurePosixPath(name).parent for name in readers if PurePosixPath(name).name in root_files]
    # The one nearest to the top.
    root = min(parents, key=lambda parent: (len(parent.parts), str(parent)), default=PurePosixPath())
    return partial(_find_in_archive, path, readers, root)


def _find_in_folder(folder: Path, relative: str) -> DatasetFile | None:
    path = folder / relative
    try:
        return DatasetFile.from_path(path, relative) if path.is_file() else None
    except OSError:  # a name that is too long
        return None


def _find_in_archive(
    path: Path, readers: Mapping[str, Callable[[], bytes]], root: PurePosixPath, relative: str
) -> DatasetFile | None:
    member = str(root / relative)
    return DatasetFile(relative, f"{path}/{member}", readers[member]) if member in readers else None


def _members(path: Path) -> Mapping[str, Callable[[], bytes]]:
    """Each file of a plain tar archive."""
    with open(path, "rb") as file:
        return {name: partial(_read, path, offset, size) for name, offset, size in _contents(file)}


def _packed_members(path: Path, unpack: Callable[[Path], IO[bytes]]) -> Mapping[str, Callable[[], bytes]]:
    """Each file of a compressed tar archive, unpacked into memory."""
    with unpack(path) as file:
        archive = file.read(LARGEST_PACKED + 1)  # at its end, gzip compares its checksum
    if len(archive) > LARGEST_PACKED:
        raise UserError(f"{path} holds more than {LARGEST_PACKED} bytes; unpack it and name its folder")
    contents = list(_contents(io.BytesIO(archive)))  # shares the bytes
    if any(offset + size > len(archive) for _, offset, size in contents):
        raise UserError(f"{path} is cut short")
    view = memoryview(archive)
    return {name: partial(bytes, view[offset : offset + size]) for name, offset, size in contents}


def _contents(file: IO[bytes]) -> Iterator[tuple[str, int, int]]:
    """Name, place and size of each file in a tar archive that is not packed."""
    with tarfile.open(fileobj=file, mode="r:") as archive:
        for member in archive:
            if member.size < 0:  # tarfile would go back by it, and round for ever
                raise tarfile.ReadError(f"{member.name} has {member.size} bytes")
            if member.isreg() and not member.issparse():
                yield str(PurePosixPath(member.name)), member.offset_data, member.size


def _read(path: Path, offset: int = 0, size: int | None = None) -> bytes:
    """The bytes of `path`, or `size` of them from `offset` on."""
    try:
        with open(path, "rb") as file:
            # Asked for no more than there is: Python sets aside what it is asked for.
            there = max(0, os.fstat(file.fileno()).st_size - offset)
            wanted = there if size is None else size
            if wanted > LARGEST_FILE:
                raise UserError(f"{path} is larger than the limit of {LARGEST_FILE} bytes")
            if wanted > there:
                raise UserError(f"{path} is cut short")
            file.seek(offset)
            return file.read(wanted)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
