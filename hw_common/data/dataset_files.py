"""The files of a data set in a folder or in a tar archive, which is read without unpacking.

The names of the files come from an untrusted file of the data set; `is_inside` checks them.
"""

import bz2
import codecs
import errno
import gzip
import hashlib
import io
import lzma
import os
import re
import tarfile
import unicodedata
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, cast

import regex

from hw_common.data.file_names import is_junk, spellings
from hw_common.runs.errors import UserError

LARGEST_FILE = 200_000_000  # bytes
LARGEST_PACKED = 500_000_000  # bytes; size of an unpacked archive, which is kept in memory
_Open = Callable[[Path], IO[bytes]]
_PACKED: tuple[tuple[_Open, bytes], ...] = (  # each compression with the first bytes of its files
    (lambda path: cast(IO[bytes], gzip.open(path)), b"\x1f\x8b"),
    (lambda path: cast(IO[bytes], bz2.open(path)), b"BZh"),
    (lambda path: cast(IO[bytes], lzma.open(path)), b"\xfd7zXZ\x00"),
)
_DAMAGED = (
    *(tarfile.TarError, OSError, ValueError, EOFError, MemoryError, OverflowError, RecursionError),
    *(zlib.error, lzma.LZMAError),
)


def label_of(path: Path) -> str:
    """Returns a name of the data set for use in file names; the folder `x` and the archive `x.tar.gz` both give `x`."""
    name = unicodedata.normalize("NFC", re.sub(r"\.tar(\.\w+)?$", "", path.resolve().name))
    return regex.sub(r"[^\w.+-]+", "_", name).strip(".-")[:60] or "dataset"


def decode_text(content: bytes, unit: str = "line") -> str:
    """Returns the text of a UTF-8 file, or of a UTF-16 file that begins with a byte order mark, without the mark.

    Raises:
        ValueError: the file is in another encoding; the message says `unit` and the number of the first wrong line.
    """
    encoding = "UTF-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "UTF-8"
    content = content.removeprefix(codecs.BOM_UTF8)
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].decode(encoding, errors="ignore").count("\n") + 1
        wrong = f"byte 0x{content[error.start]:02x}"
        raise ValueError(f"{unit} {line} is not {encoding} ({wrong}); save it as UTF-8") from None


@dataclass(frozen=True)
class DatasetFile:
    """A file of a data set, before it is read."""

    name: str  # name of the file in the data set
    where: str  # the file's path, for messages
    read: Callable[[], bytes]  # reads its bytes; raises UserError if that fails
    sha256: str | None = None  # hash of its bytes, if it is known before the file exists

    @classmethod
    def from_path(cls, path: Path, name: str | None = None) -> "DatasetFile":
        """The file at `path`, which need not exist yet."""
        return cls(name or path.name, str(path), partial(read_file, path))

    def read_text(self, unit: str = "line") -> tuple[str, str]:
        """Returns the text, see `decode_text`, and the SHA-256 of the bytes.

        Raises:
            UserError: the file cannot be read, or is in another encoding.
        """
        content = self.read()
        try:
            return decode_text(content, unit), hashlib.sha256(content).hexdigest()
        except ValueError as error:
            raise UserError(f"{self.where} is damaged: {error}") from error


# Finds a file by its path inside a data set; None if there is none.
FindFile = Callable[[str], DatasetFile | None]


def is_inside(name: str) -> bool:
    """Whether the untrusted path `name`, relative to a folder, stays inside this folder."""
    path = PurePosixPath(name)
    is_plain = not any(unicodedata.category(character) == "Cc" for character in name)  # no zero byte, no line break
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and is_plain


def file_finder(path: Path, root_files: tuple[str, ...]) -> FindFile:
    """Returns a function that finds the files of a data set.

    A compressed archive is read into memory at once. Files of other archives are read when they are needed.

    Args:
        path: folder or tar archive.
        root_files: names of files that mark the root of the data set in an archive.

    Raises:
        UserError: `path` does not exist, is neither a folder nor a tar archive, is damaged, or is too large.
    """
    if path.is_dir():
        return partial(_find_in_folder, path)
    if not path.exists():
        raise UserError(f"{path} does not exist; expected a folder or a tar archive")
    try:
        with open(path, "rb") as file:
            start = file.read(6)
        unpack = next((opener for opener, magic in _PACKED if start.startswith(magic)), None)
        readers = _members(path) if unpack is None else _packed_members(path, unpack)
    except _DAMAGED as error:
        raise UserError(f"{path} is damaged or not a tar archive: {error}") from error
    parents = [PurePosixPath(name).parent for name in readers if PurePosixPath(name).name in root_files]
    parents = [parent for parent in parents if not any(map(is_junk, parent.parts))]
    # If several folders hold such a file, the one with the shortest path is the root.
    root = min(parents, key=lambda parent: (len(parent.parts), str(parent)), default=PurePosixPath())
    return partial(_find_in_archive, path, readers, root)


def _find_in_folder(folder: Path, relative: str) -> DatasetFile | None:
    for path in (folder / spelling for spelling in spellings(relative)):
        try:
            if path.is_file():
                return DatasetFile.from_path(path, relative)
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
    return None


def _find_in_archive(
    path: Path, readers: Mapping[str, Callable[[], bytes]], root: PurePosixPath, relative: str
) -> DatasetFile | None:
    for member in (str(root / spelling) for spelling in spellings(relative)):
        if member in readers:
            return DatasetFile(relative, f"{path}/{member}", readers[member])
    return None


def _members(path: Path) -> Mapping[str, Callable[[], bytes]]:
    """Returns a reader for each file of an uncompressed tar archive."""
    with open(path, "rb") as file:
        return {name: partial(read_file, path, offset, size) for name, offset, size in _contents(file)}


def _packed_members(path: Path, unpack: _Open) -> Mapping[str, Callable[[], bytes]]:
    """Returns a reader for each file of a compressed tar archive, which is unpacked into memory."""
    with unpack(path) as file:
        archive = file.read(LARGEST_PACKED + 1)  # reads to the end, where gzip checks its checksum
    if len(archive) > LARGEST_PACKED:
        raise UserError(f"{path} holds more than {LARGEST_PACKED} bytes; unpack it and name its folder")
    contents = list(_contents(io.BytesIO(archive)))  # BytesIO shares the bytes instead of copying them
    if any(offset + size > len(archive) for _, offset, size in contents):
        raise UserError(f"{path} is cut short")
    view = memoryview(archive)
    return {name: partial(bytes, view[offset : offset + size]) for name, offset, size in contents}


def _contents(file: IO[bytes]) -> Iterator[tuple[str, int, int]]:
    """Yields name, offset and size of each file in an uncompressed tar archive."""
    with tarfile.open(fileobj=file, mode="r:") as archive:
        for member in archive:
            if member.size < 0:  # tarfile would go back by this size and loop forever
                raise tarfile.ReadError(f"{member.name} has {member.size} bytes")
            if member.isreg() and not member.issparse():
                yield str(PurePosixPath(member.name)), member.offset_data, member.size
        check_end(archive)


def check_end(archive: tarfile.TarFile) -> None:
    """Checks that the end of a tar archive, a block of zeros, follows the last member that `tarfile` found.

    Without this check, a cut or damaged archive would be read as a shorter one: `tarfile` stops at a damaged header.

    Raises:
        tarfile.ReadError: something else follows, or nothing.
    """
    assert archive.fileobj is not None  # the archive is open
    archive.fileobj.seek(archive.offset)
    if archive.fileobj.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
        raise tarfile.ReadError(f"there is neither a file nor the archive's end at byte {archive.offset}")


def read_file(path: Path, offset: int = 0, size: int | None = None) -> bytes:
    """Reads the file or pipe `path`, or `size` bytes of a file from `offset` on.

    Raises:
        UserError: the file cannot be read, is larger than 200 MB, or ends before `offset + size`.
    """
    try:
        with open(path, "rb") as file:
            if not file.seekable():
                return _read_pipe(file, path)
            # Python allocates as many bytes as read() is asked for, so a size beyond the end of the file is refused.
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


def _read_pipe(file: IO[bytes], path: Path) -> bytes:
    content = bytearray()
    while block := file.read(2**20):
        content += block
        if len(content) > LARGEST_FILE:
            raise UserError(f"{path} gives more than the limit of {LARGEST_FILE} bytes")
    return bytes(content)
