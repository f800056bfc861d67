"""Small data sets in LJSpeech's layout, and sound files with false headers; used by the tests of hw_asr."""

import io
import struct
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile

RATE = 22_050
SENTENCES = ("Printing, in the only sense", "one two", "No. 9 – was it?")


def sound(seed: int = 0, seconds: float = 0.1, rate: int = RATE, channels: int = 1) -> np.ndarray:
    """Random sound (samples, channels) float32, quieter at high frequencies as speech is."""
    noise = np.random.default_rng(seed).standard_normal((round(seconds * rate), channels)).cumsum(0)
    noise -= noise.mean(0)
    return (noise / abs(noise).max() * 0.5).astype(np.float32)


def encoded(samples: np.ndarray, rate: int = RATE, kind: str = "WAV", subtype: str | None = None) -> bytes:
    """A sound file with `samples`."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=kind, subtype=subtype)
    return buffer.getvalue()


def wav(
    data: bytes, promised: int | None = None, channels: int = 1, rate: int = RATE, bits: int = 16, code: int = 1
) -> bytes:
    """A WAV file written by hand, whose header may be false: `promised` is the size of `data` that it claims."""
    promised = len(data) if promised is None else promised
    block = channels * bits // 8
    form = struct.pack("<HHIIHH", code, channels, rate, rate * block % 2**32, block % 2**16, bits)
    size = min(36 + promised, 2**32 - 1)
    return struct.pack("<4sI4s4sI16s4sI", b"RIFF", size, b"WAVE", b"fmt ", 16, form, b"data", promised) + data


def flac_claiming(samples: int) -> bytes:
    """A FLAC file of a tenth of a second whose header claims that many samples."""
    content = bytearray(encoded(sound(), kind="FLAC"))
    content[21] = content[21] & 0xF0 | samples >> 32  # 36 bits in the middle of STREAMINFO
    content[22:26] = struct.pack(">I", samples % 2**32)
    return bytes(content)


def rows(count: int) -> list[str]:
    """Rows of metadata.csv."""
    return [f"clip-{i}|{SENTENCES[i % 3]}|{SENTENCES[i % 3]}" for i in range(count)]


def write(folder: Path, count: int = 8, lines: Sequence[str] | None = None) -> Path:
    """Writes a data set with `count` clips of different lengths and sounds; returns `folder`."""
    (folder / "wavs").mkdir(parents=True, exist_ok=True)
    (folder / "metadata.csv").write_text("".join(f"{line}\n" for line in lines or rows(count)))
    for i in range(count):
        (folder / "wavs" / f"clip-{i}.wav").write_bytes(encoded(sound(i, 0.06 + 0.01 * ((5 * i) % 7))))
    return folder


def pack(folder: Path, archive: Path, mode: str = "w") -> Path:
    """Puts `folder` into a tar archive; returns its path."""
    with tarfile.open(archive, mode) as tar:
        tar.add(folder, arcname=folder.name)
    return archive


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file below `folder`, lock files left out."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".lock"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}
