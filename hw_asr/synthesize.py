"""`python -m hw_asr.synthesize`: synthesizes speech with espeak-ng as a dataset in LJSpeech's layout.

Only this command needs espeak-ng. It also made the built-in sample, `sample.tar`.
"""

import gzip
import io
import itertools
import random
import subprocess
import tarfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
from tqdm import tqdm

from hw_asr import readers
from hw_asr.audio import resample
from hw_common.commands import cli
from hw_common.commands.cli import add_flag
from hw_common.runs import files
from hw_common.runs.errors import UserError

_DESCRIPTION = """\
Synthesizes speech with espeak-ng (on Debian: apt install espeak-ng) and writes a dataset in LJSpeech's layout.

  python -m hw_asr.synthesize spoken --transcripts metadata.csv.gz --count 1000
      1 000 clips with transcripts of LJSpeech, about as long as LJSpeech's clips, for measurements of speed
  python -m hw_asr.synthesize hw_asr/sample.tar
      the built-in sample: sentences of a small grammar, spoken by several voices
"""
_SAMPLE_CLIPS = 320
_SUBJECTS = ("dogs", "cats", "birds", "bees", "fish")
_VERBS = ("sing", "sleep", "jump", "wait")
_ENDS = ("here", "today", "again", "outside", "together")
_VOICES = ("en-us", "en-us+m3", "en-us+f2", "en-us+f4", "en-gb+m7", "en-gb-scotland+f3")
_SAMPLE_SPEEDS = 170, 210  # words per minute
_SAMPLE_RATE = 16_000  # samples per second; one of the few rates that Opus supports
_RATE = 22_050  # samples per second of espeak-ng
_SPEED = 144  # words per minute; LJSpeech's transcripts then take 6.6 s on average, like LJSpeech's clips
_MAX_SECONDS = 10.1  # longest clip, as in LJSpeech
_MAX_SPEED = 450  # words per minute
_MAX_BYTES = 2**26  # largest size of the uncompressed transcripts; LJSpeech's have 3 million bytes

Row = tuple[str, str]  # id and normalized transcript of a clip


def parser() -> cli.Parser:
    """All flags."""
    flags = cli.Parser("python -m hw_asr.synthesize", _DESCRIPTION)
    flags.add_argument("target", type=Path, metavar="TARGET", help="new folder, or new tar file for the sample")
    cli.add_input(flags, "transcripts", help="LJSpeech's metadata.csv, which may be gzipped")
    add_flag(flags, "count", type=cli.positive_int, default=1000, help="number of transcripts (default: 1000)")
    add_flag(flags, "seed", type=cli.non_negative_int, default=42, help="seed of the sample's sentences (default: 42)")
    return flags


def main(argv: Sequence[str] | None = None) -> None:
    """Writes the dataset and prints its number of clips and duration."""
    arguments = parser().parse_args(argv)
    if arguments.target.exists():
        raise UserError(f"{arguments.target} exists; choose a new name")
    if arguments.transcripts is None:
        count, seconds = write_sample(arguments.target, arguments.seed)
    else:
        count, seconds = write_transcripts(arguments.target, read_transcripts(arguments.transcripts, arguments.count))
    print(f"{arguments.target}: {count} clips, {seconds / count:.2f} s on average, {seconds / 60:.1f} minutes in total")


def speak(sentence: str, voice: str = "en-us", speed: int = _SPEED, pitch: int = 50) -> np.ndarray:
    """Synthesizes a sentence: (samples,) int16 at 22 050 Hz. Raises UserError if espeak-ng is not installed or fails.

    Args:
        sentence: the sentence.
        voice: a voice of espeak-ng, optionally followed by + and a variant.
        speed: words per minute.
        pitch: pitch from 0 to 99.
    """
    command = ["espeak-ng", "-z", "--stdin", "--stdout", "-v", voice, "-s", str(speed), "-p", str(pitch)]
    try:
        done = subprocess.run(command, input=sentence.encode(), capture_output=True, check=True)
    except FileNotFoundError:
        raise UserError("espeak-ng is not installed; on Debian: apt install espeak-ng") from None
    except subprocess.CalledProcessError as error:
        raise UserError(f"espeak-ng failed: {error.stderr.decode(errors='replace').strip()}") from error
    return np.frombuffer(done.stdout[44:], "<i2")  # skips the WAV header, whose length field is wrong


def read_transcripts(path: Path, count: int) -> list[Row]:
    """Reads `count` evenly spaced rows of LJSpeech's metadata.csv, which may be gzipped.

    Raises:
        UserError: the file cannot be read, is damaged, or has fewer rows.
    """
    try:
        with open(path, "rb") as plain:
            packed = plain.read(2) == b"\x1f\x8b"
            plain.seek(0)
            with gzip.open(plain) if packed else plain as file:
                lines = file.read(_MAX_BYTES).decode().rstrip("\n").split("\n")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    if len(lines) < count:
        raise UserError(f"{path} has {len(lines)} transcripts, fewer than --count {count}")
    rows = []
    for index in range(count):
        number = index * len(lines) // count
        try:
            rows.append(readers.parse(lines[number]))
        except ValueError as error:
            raise UserError(f"{path}, row {number + 1}: {error}") from None
    return rows


def write_transcripts(target: Path, rows: Sequence[Row]) -> tuple[int, float]:
    """Synthesizes `rows` as WAV files in the new folder `target`; returns number and total seconds of the clips."""
    (target / "wavs").mkdir(parents=True)
    seconds = 0.0
    for name, sentence in tqdm(rows, "speaking", unit="clip", disable=None, leave=False):
        samples = speak(sentence)
        if len(samples) > _MAX_SECONDS * _RATE:
            samples = speak(sentence, speed=min(_MAX_SPEED, round(_SPEED * len(samples) / _RATE / _MAX_SECONDS) + 1))
        soundfile.write(target / "wavs" / f"{name}.wav", samples, _RATE, subtype="PCM_16")
        seconds += len(samples) / _RATE
    # metadata.csv is written last, because a dataset without it is refused as incomplete.
    files.write_bytes(target / "metadata.csv", _metadata(rows))
    return len(rows), seconds


def write_sample(target: Path, seed: int) -> tuple[int, float]:
    """Writes the sample as a tar archive of Opus files; returns number and total seconds of the clips."""
    generator = random.Random(seed)
    spoken = generator.sample(list(itertools.product(sentences(), _VOICES)), _SAMPLE_CLIPS)
    rows, contents, seconds = [], {}, 0.0
    for number, (sentence, voice) in enumerate(tqdm(spoken, "speaking", unit="clip", disable=None, leave=False)):
        samples = speak(sentence, voice, generator.randint(*_SAMPLE_SPEEDS), generator.randint(35, 65))
        samples = resample(samples / np.float32(2**15), _RATE, _SAMPLE_RATE)
        buffer = io.BytesIO()
        soundfile.write(buffer, samples, _SAMPLE_RATE, format="OGG", subtype="OPUS", compression_level=0.9)
        rows.append((f"sample-{number:03}", sentence))
        contents[f"wavs/sample-{number:03}.ogg"] = buffer.getvalue()
        seconds += len(samples) / _SAMPLE_RATE
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, content in {"metadata.csv": _metadata(rows), **contents}.items():
            member = tarfile.TarInfo(name)  # without date and owner, so every call writes the same bytes
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    files.write_bytes(target, archive.getvalue())
    return len(rows), seconds


def sentences() -> list[str]:
    """All statements and questions of the sample's grammar."""
    phrases = [" ".join(words) for words in itertools.product(_SUBJECTS, _VERBS, _ENDS)]
    return [f"{phrase}." for phrase in phrases] + [f"do {phrase}?" for phrase in phrases]


def _metadata(rows: Sequence[Row]) -> bytes:
    return "".join(f"{name}|{sentence}|{sentence}\n" for name, sentence in rows).encode()


if __name__ == "__main__":
    cli.run_command(main)
