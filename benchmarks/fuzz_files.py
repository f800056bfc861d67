"""Valid files for `fuzz_readers.py`, and functions that pack damaged content into files with right checksums."""

import gzip
import io
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import cnn_files
import numpy as np


def unchanged(content: bytes) -> bytes:
    return content


@dataclass(frozen=True)
class Seed:
    """The valid file `pack(content)`; `fuzz.py` damages `content` before it is packed."""

    name: str
    content: bytes
    pack: Callable[[bytes], bytes] = unchanged


def png_with_checksums(content: bytes) -> bytes:
    """A PNG file with right checksums, so that the damage reaches more of the decoder."""
    data, start = bytearray(content), 8
    while start + 12 <= len(data):
        end = start + 8 + int.from_bytes(data[start : start + 4], "big")
        if end + 4 <= len(data):
            data[end : end + 4] = zlib.crc32(data[start + 4 : end]).to_bytes(4, "big")
        start = end + 4
    return bytes(data)


def npz(compression: int) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", compression) as archive:
        for name, array in cnn_files.npz_arrays().items():
            archive.writestr(f"{name}.npy", npy(array))
    return content.getvalue()


def npy(array: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def npz_with_member(member: bytes) -> bytes:
    """An npz file whose first array is the damaged `member`, with a right checksum."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for number, (name, array) in enumerate(cnn_files.npz_arrays().items()):
            archive.writestr(f"{name}.npy", npy(array) if number else member)
    return content.getvalue()


def pickle_of(content: bytes) -> tuple[bytes, Callable[[bytes], bytes]]:
    """The pickle inside a file of torch.save, and a function that puts another one in its place."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = next(name for name in members if name.endswith("data.pkl"))
    return members[name], lambda pickled: zipped({**members, name: pickled}, zipfile.ZIP_STORED)


def tar(members: Mapping[str, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=form) as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return content.getvalue()


def zipped(members: Mapping[str, bytes], compression: int) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return content.getvalue()


def tar_with_checksums(content: bytes) -> bytes:
    """A tar archive with right checksums in its headers, so that the damage reaches more of the reader."""
    data = bytearray(content)
    for start in range(0, len(data) - 511, 512):
        if data[start + 257 : start + 262] == b"ustar":
            data[start + 148 : start + 156] = b" " * 8
            data[start + 148 : start + 156] = f"{sum(data[start : start + 512]):06o}\0 ".encode()
    return bytes(data)


def tar_gz_with_checksums(content: bytes) -> bytes:
    return gzip.compress(tar_with_checksums(content))
