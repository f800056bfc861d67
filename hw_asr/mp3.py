"""Counts the frames of an MP3 file, so that a decoder need not guess its length.

Without a Xing tag, decoders estimate the length from the first frame's bit rate, and libsndfile stops at this length.
"""

import re
import struct
from typing import NamedTuple

from hw_common.runs.errors import UserError

# Bit rates of layer III in kbit/s, and sample rates in Hz; a frame's header holds their indices (ISO 11172-3, 13818-3).
_BIT_RATES = {
    1: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_SAMPLE_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
_MAX_JUNK = 2**16  # largest number of bytes before the first frame
_MAX_PADDING = 2**12  # largest number of bytes after the last frame
_MAX_FRAMES = 50_000  # these frames last at least 20 minutes
_MAX_TAGS = 100
_CHAIN = 3  # frames in a row that make a file an MP3; fewer may occur by chance in any file


class _Frame(NamedTuple):
    size: int  # bytes
    kind: tuple[int, int, bool]  # numbers of the version and the sample rate, and whether it is mono
    tag: int  # offset in the frame at which a Xing tag would begin


def _frame(content: bytes, offset: int) -> _Frame | None:
    """The frame of layer III at `offset`; None if there is none, or if its header states no bit rate."""
    header = int.from_bytes(content[offset : offset + 4], "big")
    version, layer, bit_rate, rate = header >> 19 & 3, header >> 17 & 3, header >> 12 & 15, header >> 10 & 3
    if header >> 21 != 0x7FF or version == 1 or layer != 1 or bit_rate in (0, 15) or rate == 3:
        return None
    is_mpeg1, is_mono = version == 3, header >> 6 & 3 == 3
    bits = _BIT_RATES[1 if is_mpeg1 else 2][bit_rate] * 1000
    size = (144 if is_mpeg1 else 72) * bits // _SAMPLE_RATES[version][rate] + (header >> 9 & 1)
    side = (17 if is_mono else 32) if is_mpeg1 else (9 if is_mono else 17)
    return _Frame(size, (version, rate, is_mono), 4 + side)


def checked(content: bytes, where: str) -> bytes:
    """Inserts a Xing tag, which states the number of frames, at the start of an MP3 file. Other content is unchanged.

    Args:
        content: the bytes of a file.
        where: the path of the file, for messages.

    Raises:
        UserError: the file is cut short or damaged, or is an MPEG stream of another kind.
    """
    content = _without_tags(content)
    begin = _first(content, _MAX_JUNK)
    if begin is None:
        if re.match(rb"\xff[\xe0-\xff]", content):
            raise UserError(f"{where} is damaged, or its MP3 frames state no bit rate; convert it to WAV or FLAC")
        return content
    frames = _walk(content, begin, where)
    offset, first = frames[0]
    promised = _promised(content[offset : offset + first.size], first.tag)
    sound = b"".join(content[begin : begin + frame.size] for begin, frame in frames)
    if promised is None:
        return _xing(first, len(frames)) + sound
    if promised > len(frames):  # some encoders count the frame with the tag, too
        raise UserError(f"{where} is cut short: its header says {promised} frames, but the file has {len(frames) - 1}")
    return sound if promised == len(frames) - 1 else _xing(first, len(frames) - 1) + sound[first.size :]


def _first(content: bytes, within: int) -> int | None:
    """Offset of the first `_CHAIN` frames of one kind in a row; None if there are none."""
    for sync in re.finditer(rb"\xff[\xe2-\xff]", content[:within]):
        offset, kinds = sync.start(), set()
        for _ in range(_CHAIN):
            if (frame := _frame(content, offset)) is None:
                break
            kinds.add(frame.kind)
            offset += frame.size
        else:
            if len(kinds) == 1:
                return sync.start()
    return None


def _walk(content: bytes, offset: int, where: str) -> list[tuple[int, _Frame]]:
    """Offset and header of each frame from `offset` on."""
    frames: list[tuple[int, _Frame]] = []
    while offset < len(content):
        frame = _frame(content, offset)
        if frame is None:
            end_of_tag = after_id3(content, offset)  # files that were joined have tags in the middle
            if end_of_tag == offset or (end_of_tag < len(content) and _frame(content, end_of_tag) is None):
                break
            offset = end_of_tag
            continue
        if frames and frame.kind != frames[0][1].kind:
            raise UserError(
                f"{where} changes its sample rate or number of channels; save each part as a file of its own"
            )
        if len(frames) == _MAX_FRAMES:
            raise UserError(f"{where} has more than {_MAX_FRAMES} frames; shorten the file")
        frames.append((offset, frame))
        offset += frame.size
    rest = len(content) - offset
    if rest < 0 or (0 < rest < 4 and content[offset] == 0xFF):
        raise UserError(f"{where} is cut short: the last of its {len(frames)} frames is incomplete")
    if rest > _MAX_PADDING or _first(content[offset:], rest) is not None:
        raise UserError(f"{where} is damaged: no MP3 frame begins at byte {offset}")
    return frames


def _promised(frame: bytes, tag: int) -> int | None:
    """The number of frames that the first frame's tag states, 0 if the tag states none; None if there is no tag."""
    for begin in (tag, tag + 2):  # a checksum of 2 bytes may precede the tag
        if frame[begin : begin + 4] in (b"Xing", b"Info"):
            flags, count = struct.unpack_from(">II", frame.ljust(begin + 12, b"\0"), begin + 4)
            return int(count) if flags & 1 else 0
    if frame[36:40] == b"VBRI":
        return int(struct.unpack_from(">I", frame.ljust(54, b"\0"), 50)[0])
    return None


def _xing(like: _Frame, count: int) -> bytes:
    """A silent frame with a Xing tag that states `count` further frames; decoders leave it out."""
    version, rate, is_mono = like.kind
    header = 0x7FF << 21 | version << 19 | 1 << 17 | 1 << 16 | 8 << 12 | rate << 10 | (3 if is_mono else 0) << 6
    content = header.to_bytes(4, "big").ljust(like.tag, b"\0") + struct.pack(">4sII", b"Xing", 1, count)
    frame = _frame(content, 0)
    assert frame is not None
    return content.ljust(frame.size, b"\0")


def after_id3(content: bytes, offset: int = 0) -> int:
    """Returns the offset after the ID3v2 tags that begin at `offset`; returns `offset` itself if there are none."""
    for _ in range(_MAX_TAGS):
        if content[offset : offset + 3] != b"ID3" or offset + 10 > len(content):
            break
        flags, *sizes = content[offset + 5 : offset + 10]
        size = sum((byte & 127) << 7 * place for place, byte in enumerate(reversed(sizes)))
        offset += 10 + size + (10 if flags & 16 else 0)  # the bit 16 says that a footer of 10 bytes follows
    return offset


def _without_tags(content: bytes) -> bytes:
    """Leaves out ID3v2 tags at the beginning, and ID3v1 and APE tags at the end."""
    content = content[after_id3(content) :]
    if content[-128:-125] == b"TAG":
        content = content[:-128]
    if content[-32:-24] == b"APETAGEX":
        size, _, flags = struct.unpack_from("<III", content, len(content) - 20)
        content = content[: max(0, len(content) - size - (32 if flags >> 31 else 0))]
    return content
