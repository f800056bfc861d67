"""Readers of LJSpeech's layout, believing nothing that is not there: metadata.csv, and a clip in wavs/ for each row."""

import argparse
import contextlib
import hashlib
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from hw_asr import text
from hw_common.commands.cli import add_flag
from hw_common.data import download
from hw_common.data.dataset_files import DatasetFile, FindFile, file_finder, is_inside, label_of
from hw_common.runs.errors import UserError

# What people call each data set.
DATASETS: Mapping[str, str] = MappingProxyType({"ljspeech": "LJSpeech", "digits": "spoken digits", "sample": "sample"})
SAMPLE = Path(__file__).with_name("sample.tar")
_ROOT = "LJSpeech-1.1"  # the folder in LJSpeech's archive
_DIGITS = ("spoken_digits", "spoken_digits.tar", "spoken_digits.tar.gz")
_METADATA = "metadata.csv"
_SUFFIXES = (".wav", ".flac", ".ogg")
_LONGEST_NAME = 255  # characters, as most file systems allow
_LONGEST_TEXT = 1000  # characters; LJSpeech's longest has 187


@dataclass(frozen=True)
class Clip:
    """Somebody says something.

    Attributes:
        name: what the data set calls it.
        audio: the sound file.
        text: what is said.
    """

    name: str
    audio: DatasetFile
    text: str


@dataclass(frozen=True)
class Source:
    """A data set as its files have it.

    Attributes:
        name: what people call it.
        label: a short name that can be part of a file name.
        clips: in the order of metadata.csv.
        sha256: of metadata.csv.
    """

    name: str
    label: str
    clips: tuple[Clip, ...]
    sha256: str


def add_data_flags(group: argparse._ActionsContainer) -> None:
    """The flags that say which data set; `resolve` refuses what does not go together."""
    add_flag(group, "dataset", choices=tuple(DATASETS), default="ljspeech", help="default: ljspeech")
    add_flag(
        group,
        "dataset_dir",
        type=Path,
        help=f"folder or tar archive in LJSpeech's layout to read instead: {_METADATA}, and wavs/ of WAV or FLAC files",
    )


def resolve(arguments: argparse.Namespace) -> None:
    """Raises UserError if the flags do not go together."""
    if arguments.dataset == "sample" and arguments.dataset_dir is not None:
        raise UserError("--dataset sample is built in; leave --dataset_dir out")


def open_source(dataset: str, data_dir: Path, dataset_dir: Path | None) -> Source:
    """Reads the transcripts of a data set and finds its clips (which are read later).

    Args:
        dataset: one of DATASETS.
        data_dir: where the data sets are; LJSpeech is downloaded to it if it is not there.
        dataset_dir: a folder or tar archive in LJSpeech's layout, to take instead.

    Raises:
        UserError: it is missing and cannot be downloaded, or does not hold what it should.
    """
    if dataset_dir is not None:
        label = label_of(dataset_dir)
        return read(dataset_dir, label, label)
    path = {"ljspeech": _ljspeech, "digits": _digits, "sample": lambda data_dir: SAMPLE}[dataset](data_dir)
    return read(path, DATASETS[dataset], dataset)


def _digits(data_dir: Path) -> Path:
    for name in _DIGITS:
        if (data_dir / name).exists():
            return data_dir / name
    raise UserError(
        f"{data_dir / _DIGITS[-1]} is missing, and so is the folder {_DIGITS[0]}: put the data set there by hand, name "
        "the folder that has it with --data_dir, name it with --dataset_dir, or use --dataset sample"
    )


def _ljspeech(data_dir: Path) -> Path:
    folder, archive = data_dir / _ROOT, data_dir / f"{_ROOT}.tar.bz2"
    if not folder.is_dir():
        if archive.is_file():
            print(f"unpacking {archive}, which takes minutes", flush=True)
            download.unpack(archive, _ROOT)
        else:
            _download(folder)
    return folder


def _download(folder: Path) -> None:
    """Has torchaudio download LJSpeech, check its hash and unpack it, beside its place, and moves it there whole.

    Raises:
        UserError: no network, another hash, or no room; says where to put it by hand.
    """
    from torchaudio.datasets import LJSPEECH  # slow to import

    by_hand = "put it there by hand, name the folder that has it with --data_dir, or use --dataset sample"
    print(f"downloading LJSpeech (2.6 GB) to {folder}", flush=True)
    new = not folder.parent.exists()
    temporary = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = tempfile.mkdtemp(prefix=".download-", dir=folder.parent)
        LJSPEECH(temporary, download=True)
        if not folder.is_dir():  # another process may have been faster
            (Path(temporary) / _ROOT).rename(folder)
    except (OSError, RuntimeError, EOFError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{folder} is missing and could not be downloaded ({reason}); {by_hand}") from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
        if new:
            with contextlib.suppress(OSError):  # it is not empty: all went well
                folder.parent.rmdir()


def read(path: Path, name: str, label: str) -> Source:
    """Reads the data set in the folder or tar archive `path`.

    Raises:
        UserError: it has no metadata.csv, a row of that is wrong, or a clip that it names is missing.
    """
    if path.is_dir() and not (path / _METADATA).exists():  # LJSpeech's archive has everything in a folder
        path = path / _ROOT if (path / _ROOT).is_dir() else path
    find = file_finder(path, (_METADATA,))
    file = find(_METADATA)
    if file is None:
        raise UserError(f"{path} holds no {_METADATA}: expected LJSpeech's layout, {_METADATA} beside the folder wavs")
    content = file.read()
    try:
        lines = content.decode("utf-8-sig").replace("\r\n", "\n").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{file.where} is damaged: {error}") from error
    rows: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            clip, transcript = parse(line)
            if clip in rows:
                raise ValueError(f"the id {clip!r} is there twice")
        except ValueError as error:
            raise UserError(f"{file.where}, row {number}: {error}") from None
        rows[clip] = transcript
    clips = tuple(Clip(clip, _find_clip(find, clip, file.where), transcript) for clip, transcript in rows.items())
    return Source(name, label, clips, hashlib.sha256(content).hexdigest())


def parse(row: str) -> tuple[str, str]:
    """The id and the normalized transcript of a row `id|transcript|normalized transcript`; raises ValueError."""
    fields = row.split("|")
    if len(fields) != 3:
        raise ValueError(f"it has {len(fields)} fields, expected id|transcript|normalized transcript")
    clip, _, transcript = fields
    if not 0 < len(clip) <= _LONGEST_NAME or not is_inside(clip) or "/" in clip:
        raise ValueError(f"the id {clip[:80]!r} is no name of a file in the folder wavs")
    if len(transcript) > _LONGEST_TEXT:
        raise ValueError(f"the transcript has {len(transcript)} characters, more than the limit of {_LONGEST_TEXT}")
    if not transcript.strip():
        raise ValueError("the normalized transcript is empty")
    if set(text.encode(transcript)) <= {text.START, text.STOP, text.UNKNOWN, *text.encode(" ,.?-")}:
        raise ValueError(f"the transcript {transcript[:40]!r} has none of the letters a to z")
    return clip, transcript


def _find_clip(find: FindFile, clip: str, metadata: str) -> DatasetFile:
    for suffix in _SUFFIXES:
        file = find(f"wavs/{clip}{suffix}")
        if file is not None:
            return file
    raise UserError(f"{metadata} names {clip!r}, but there is no wavs/{clip}.wav (nor {', '.join(_SUFFIXES[1:])})")
