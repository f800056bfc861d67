"""Checks the lengths in the headers of sound files against the bytes.

A program that writes into a pipe cannot go back to fill in the length. Its files are whole, but their headers hold 0
or the largest possible number. `checked` gives such a file its true length, so that libsndfile reads all of it. If the
header does state a length and the file is shorter, it was cut short. It is refused, because a transcript of half a
recording looks like a transcript of the whole.
"""

import re
import struct
import zlib
from collections.abc import Callable, Iterator

from hw_asr import mp3
from hw_common.runs.errors import UserError

FORMATS = ("WAV", "WAVEX", "W64", "AIFF", "AU", "CAF", "NIST", "FLAC", "OGG", "MP3")  # their lengths are checked
_SLACK = 16  # a length may be too large by this many bytes, as after rounding to whole samples or blocks
_MAX_PARTS = 100_000  # chunks or pages; ten minutes of Ogg have at most 60 000 pages
_MP3_IN_WAV = 0x55  # WAVE_FORMAT_MPEGLAYER3
_WAV_CHUNKS = (b"fmt ", b"data", b"LIST", b"fact")
_LARGEST_FLAC_FRAME = 2**20  # bytes; larger frames are not searched for


def checked(content: bytes, where: str) -> bytes:
    """Returns a sound file with true lengths in its header.

    Files of formats that are not in `FORMATS` are returned as they are. An MP3 stream inside a WAV file is returned as
    an MP3 file.

    Args:
        content: the bytes of the file.
        where: the path of the file, for messages.

    Raises:
        UserError: the file is shorter than its header says, is damaged, or holds several recordings.
    """
    content = content[mp3.after_id3(content) :]
    checks: dict[bytes, Callable[[bytes, str], bytes]] = {
        b"RIFF": _wav, b"RIFX": _wav, b"RF64": _wav, b"BW64": _wav, b"FORM": _aiff, b"riff": _w64, b".snd": _au,
        b"caff": _caf, b"NIST": _nist, b"fLaC": _flac, b"OggS": _ogg,
    }  # fmt: skip
    try:
        return checks.get(content[:4], mp3.checked)(content, where)
    except (struct.error, IndexError):  # the header itself is cut short; libsndfile says what is missing
        return content


def _true_size(promised: int, found: int, where: str, bits: int = 32) -> int:
    """Returns the number of bytes of sound: `promised` by the header, or `found` if the header states no real length.

    A length that was never filled in is 0 or lies near the largest signed or unsigned number of `bits` bits.
    """
    largest, near = 2 ** (bits - 1), 2 ** (bits - 8)
    never_filled_in = promised == 0 or abs(promised - largest) <= near or promised >= 2 * largest - near
    if never_filled_in or found < promised <= found + _SLACK:
        return found
    if promised > found:
        raise UserError(f"{where} is cut short: its header says {promised} bytes of sound, but the file has {found}")
    return promised


def _chunks(content: bytes, order: str) -> Iterator[tuple[bytes, int, int]]:
    """Yields name, offset of the content, and size of each chunk of a RIFF or FORM file."""
    offset = 12
    for _ in range(_MAX_PARTS):
        if offset + 8 > len(content):
            break
        name, size = struct.unpack_from(f"{order}4sI", content, offset)
        yield name, offset + 8, size
        offset += 8 + size
        if size % 2 and content[offset : offset + 4] not in _WAV_CHUNKS:  # some programs leave the padding out
            offset += 1


def _wav(content: bytes, where: str) -> bytes:
    if content[8:12] != b"WAVE":
        return content
    order = ">" if content[:4] == b"RIFX" else "<"
    chunks: dict[bytes, tuple[int, int]] = {}
    for name, offset, size in _chunks(content, order):
        chunks.setdefault(name, (offset, size))
        if name == b"data" and b"fmt " in chunks:
            break
    if b"data" not in chunks or b"fmt " not in chunks:
        raise _no_chunk(where, "data" if b"data" not in chunks else "fmt")
    begin, promised = chunks[b"data"]
    bits = 32
    if b"ds64" in chunks and promised == 0xFFFFFFFF:  # an RF64 file, whose chunk ds64 has the true size
        promised, bits = struct.unpack_from("<Q", content, chunks[b"ds64"][0] + 8)[0], 64
    size = _true_size(promised, len(content) - begin, where, bits)
    if promised == 0 and _is_chunk(content, begin, order):
        size = 0  # 0 is the true size, because another chunk follows
    end = begin + size + size % 2
    if content[end : end + 4] == content[:4]:
        raise _several(where)
    form = content[chunks[b"fmt "][0] :][: chunks[b"fmt "][1]]
    if form and struct.unpack_from(f"{order}H", form)[0] == _MP3_IN_WAV:
        return mp3.checked(content[begin : begin + size], where)
    # The file is rebuilt, as libsndfile finds neither data before fmt nor a chunk after a missing padding byte.
    parts = [(b"fmt ", form), (b"data", content[begin : begin + size])]
    if b"fact" in chunks:
        parts.insert(1, (b"fact", content[chunks[b"fact"][0] :][: chunks[b"fact"][1]]))
    body = b"".join(struct.pack(f"{order}4sI", name, len(part)) + part + bytes(len(part) % 2) for name, part in parts)
    return struct.pack(f"{order}4sI", b"RIFX" if order == ">" else b"RIFF", 4 + len(body)) + b"WAVE" + body


def _no_chunk(where: str, name: str) -> UserError:
    return UserError(f"{where} is damaged: it has no chunk {name!r}")


def _several(where: str) -> UserError:
    return UserError(f"{where} holds several recordings one after another; save each as a separate file")


def _is_chunk(content: bytes, offset: int, order: str) -> bool:
    """Whether the rest of a RIFF file consists of chunks whose names are letters and digits."""
    for _ in range(_MAX_PARTS):
        if not content[offset : offset + 4].strip().isalnum() or offset + 8 > len(content):
            break
        size = struct.unpack_from(f"{order}I", content, offset + 4)[0]
        offset += 8 + size + size % 2
    return len(content) <= offset <= len(content) + 1


def _aiff(content: bytes, where: str) -> bytes:
    if content[8:12] not in (b"AIFF", b"AIFC"):
        return content
    for name, offset, size in _chunks(content, ">"):
        if name == b"SSND":
            _true_size(size, len(content) - offset, where)  # only a check: libsndfile reads to the end of the file
            return content
    raise _no_chunk(where, "SSND")


def _w64(content: bytes, where: str) -> bytes:
    """Checks Sony's Wave64, whose chunks have names of 16 bytes and sizes that include the 24 bytes of their header."""
    offset = 40
    for _ in range(_MAX_PARTS):
        if offset + 24 > len(content):
            break
        size = struct.unpack_from("<Q", content, offset + 16)[0]
        if content[offset : offset + 4] == b"data":
            true = _true_size(max(0, size - 24), len(content) - offset - 24, where, bits=64)
            return content[: offset + 16] + struct.pack("<Q", true + 24) + content[offset + 24 :]
        offset += max(24, size + -size % 8)
    raise _no_chunk(where, "data")


def _au(content: bytes, where: str) -> bytes:
    begin, promised = struct.unpack_from(">II", content, 4)
    true = _true_size(promised, max(0, len(content) - begin), where)
    return content[:8] + struct.pack(">I", true) + content[12:]


def _caf(content: bytes, where: str) -> bytes:
    """Checks Apple's Core Audio Format."""
    offset = 8
    for _ in range(_MAX_PARTS):
        if offset + 12 > len(content):
            break
        size = struct.unpack_from(">Q", content, offset + 4)[0]
        if content[offset : offset + 4] == b"data":
            true = _true_size(size, len(content) - offset - 12, where, bits=64)
            return content[: offset + 4] + struct.pack(">Q", true) + content[offset + 12 :]
        offset += 12 + size
    raise _no_chunk(where, "data")


def _nist(content: bytes, where: str) -> bytes:
    """Checks NIST's SPHERE, whose header is text of 1024 bytes."""
    names = ("sample_count", "channel_count", "sample_n_bytes")
    found = [re.search(rf"\n{name} -i (\d{{1,10}})\s".encode(), content[:1024]) for name in names]
    promised = 1
    for value in found:
        promised *= int(value[1]) if value else 1
    if found[0]:
        _true_size(promised, max(0, len(content) - 1024), where)
    return content


def _flac(content: bytes, where: str) -> bytes:
    """Sets the number of samples in the header to what the header of the last frame says (RFC 9639)."""
    info = int.from_bytes(content[18:26], "big")  # 28 bits for rate, channels and depth, 36 bits for the samples
    promised, block = info % 2**36, int.from_bytes(content[8:10], "big")
    end = len(content) - 128 if content[-128:-125] == b"TAG" else len(content)  # without an ID3v1 tag
    tail = content[max(42, end - _LARGEST_FLAC_FRAME) : end]
    for sync in reversed(list(re.finditer(rb"\xff[\xf8\xf9]", tail))[-8:]):
        if _crc16(tail[sync.start() :]) == 0:  # the last two bytes of a frame are its checksum
            samples = _flac_frame_end(tail[sync.start() :], block)
            if samples < promised:
                break
            return content[:18] + (info - promised + samples % 2**36).to_bytes(8, "big") + content[26:end]
    else:
        if promised:  # the last frame is damaged or too large to be found; libsndfile counts the samples
            return content
    says = f"its header says {promised} samples" if promised else "its last frame is incomplete"
    raise UserError(f"{where} is cut short: {says}")


def _flac_frame_end(frame: bytes, block: int) -> int:
    """Returns the number of samples from the beginning of the file to the end of a frame."""
    length = max(1, 8 - (~frame[4] & 255).bit_length())  # bytes of the number of the frame, encoded like UTF-8
    number = frame[4] & (0x7F if length == 1 else 0xFF >> (length + 1))
    for byte in frame[5 : 4 + length]:
        number = number << 6 | byte & 63
    code, rest = frame[2] >> 4, frame[4 + length :]
    size = {1: 192, 6: rest[0] + 1, 7: int.from_bytes(rest[:2], "big") + 1}.get(code) or (
        144 << code if code < 6 else 1 << code
    )
    return (number if frame[1] & 1 else number * block) + size  # if block sizes vary, `number` is in samples


def _crc16(data: bytes) -> int:
    """FLAC's checksum of a frame: polynomial x¹⁶ + x¹⁵ + x² + 1."""
    crc = 0
    for byte in data:
        crc = crc << 8 & 0xFFFF ^ _CRC16[crc >> 8 ^ byte]
    return crc


def _crc16_of(byte: int) -> int:
    crc = byte << 8
    for _ in range(8):
        crc = crc << 1 ^ (0x18005 if crc & 0x8000 else 0)
    return crc


_CRC16 = [_crc16_of(byte) for byte in range(256)]


def _ogg(content: bytes, where: str) -> bytes:
    """Checks that the last page of the stream is marked as its end (RFC 3533)."""
    offset, pages, is_end = 0, 0, False
    while content[offset : offset + 4] == b"OggS":
        if offset + 27 > len(content):
            is_end = False
            break
        flags, segments = content[offset + 5], content[offset + 27 : offset + 27 + content[offset + 26]]
        if flags & 2 and is_end:
            raise _several(where)
        if pages == _MAX_PARTS:
            raise UserError(f"{where} has more than {_MAX_PARTS} pages; shorten the file")
        pages, is_end = pages + 1, is_end or bool(flags & 4)
        begin, offset = offset, offset + 27 + len(segments) + sum(segments)
        if offset <= len(content) and not _is_valid_page(content[begin:offset]):
            raise UserError(f"{where} is damaged: the checksum of page {pages} is wrong")  # libsndfile would skip it
    if not is_end or offset > len(content):
        raise UserError(f"{where} is cut short: the last of its {pages} pages is not the end of the stream")
    return content


def _is_valid_page(page: bytes) -> bool:
    """Whether the checksum of a page is right: zlib's CRC-32, but with the bits of each byte in reverse order."""
    reversed_bits = (page[:22] + bytes(4) + page[26:]).translate(_REVERSED)
    crc = zlib.crc32(reversed_bits, 0xFFFFFFFF) ^ 0xFFFFFFFF
    return crc.to_bytes(4, "big").translate(_REVERSED) == page[22:26]


_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
