"""Reads datasets in LJSpeech's layout: the file metadata.csv, and one sound file per row in the folder wavs."""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from hw_asr import splits, text
from hw_asr.splits import ListedSplits
from hw_common.commands.cli import add_flag, add_input
from hw_common.data import download
from hw_common.data.dataset_files import DatasetFile, FindFile, file_finder, is_inside, label_of
from hw_common.data.transfer import Download
from hw_common.runs.errors import UserError

# The name of each dataset in figures and messages.
DATASETS: Mapping[str, str] = MappingProxyType({"ljspeech": "LJSpeech", "digits": "spoken digits", "sample": "sample"})
SAMPLE = Path(__file__).with_name("sample.tar")
_ROOT = "LJSpeech-1.1"  # the folder in LJSpeech's archive
_DIGITS = ("spoken_digits", "spoken_digits.tar", "spoken_digits.tar.gz")
# The address and the hash are those of torchaudio.
_LJSPEECH = Download(
    f"{_ROOT}.tar.bz2",
    [f"https://data.keithito.com/data/speech/{_ROOT}.tar.bz2"],
    sha256="be1a30453f28eb8dd26af4101ae40cbf2c50413b1bb21936cbcdc6fae3de8aa5",
    about="2.6 GB, public domain",
)
_METADATA = "metadata.csv"
_SUFFIXES = (".wav", ".flac", ".ogg")
_MAX_NAME = 255  # characters of a file name; the limit of most file systems
_MAX_TEXT = 1000  # characters of a transcript; LJSpeech's longest has 187


@dataclass(frozen=True)
class Clip:
    """A sound file and its transcript."""

    name: str  # the clip's id in metadata.csv
    audio: DatasetFile  # the sound file
    text: str  # the normalized transcript


@dataclass(frozen=True)
class RawDataset:
    """The transcripts of a dataset, and references to its sound files, which are not read yet."""

    name: str  # name for figures and messages
    label: str  # name for folders and files
    clips: tuple[Clip, ...]  # the clips in the order of metadata.csv
    sha256: str  # hash of metadata.csv
    splits: ListedSplits  # the splits of train.txt, val.txt and test.txt; empty without these files


def add_data_flags(group: argparse._ActionsContainer) -> None:
    """Adds the flags that choose the dataset; `check` checks their combination."""
    add_flag(group, "dataset", choices=tuple(DATASETS), default="ljspeech", help="which dataset (default: ljspeech)")
    meaning = f"another dataset: folder or tar archive with {_METADATA} and WAV or FLAC files in wavs/, as in LJSpeech"
    add_input(group, "dataset_dir", help=meaning)


def check(dataset: str, dataset_dir: Path | None) -> None:
    """Raises UserError if a `dataset_dir` is given although the dataset is the built-in sample."""
    if dataset == "sample" and dataset_dir is not None:
        raise UserError("--dataset sample is built in; leave --dataset_dir out")


def read_dataset(dataset: str, data_dir: Path, dataset_dir: Path | None) -> RawDataset:
    """Reads the transcripts of a dataset and finds its sound files.

    Args:
        dataset: a name in DATASETS.
        data_dir: the folder of all datasets; LJSpeech is downloaded to it if it is missing.
        dataset_dir: folder or tar archive of another dataset in LJSpeech's layout; None for `dataset`.

    Raises:
        UserError: the dataset is missing and cannot be downloaded, or `read` rejects it.
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
        f"{data_dir} contains neither {_DIGITS[-1]} nor the folder {_DIGITS[0]}; this data set cannot be downloaded, "
        "because it was made for this repository by joining recordings of "
        "https://github.com/Jakobovski/free-spoken-digit-dataset (licence CC BY-SA 4.0); "
        f"put it into {data_dir}, give the folder that contains it with --data_dir, give its path with --dataset_dir, "
        "or use --dataset sample"
    )


def _ljspeech(data_dir: Path) -> Path:
    folder = data_dir / _ROOT
    if not folder.is_dir():
        is_new = not (data_dir / _LJSPEECH.name).is_file()
        [archive] = download.place(data_dir, [_LJSPEECH])
        print(f"unpacking {archive}, which takes minutes", flush=True)
        download.unpack(archive, _ROOT)
        if is_new:
            archive.unlink()
    return folder


def read(path: Path, name: str, label: str) -> RawDataset:
    """Reads a dataset in LJSpeech's layout.

    Args:
        path: a folder or tar archive.
        name: see `RawDataset`.
        label: see `RawDataset`.

    Raises:
        UserError: there is no metadata.csv, one of its rows is wrong, a sound file is missing, or `splits.read` rejects
            the lists of the splits.
    """
    if path.is_dir() and not (path / _METADATA).exists():  # LJSpeech's archive has an outer folder
        path = path / _ROOT if (path / _ROOT).is_dir() else path
    find = file_finder(path, (_METADATA,))
    file = find(_METADATA)
    if file is None:
        raise UserError(f"{path} contains no {_METADATA}: expected LJSpeech's layout, {_METADATA} and the folder wavs")
    rows, sha256 = file.read_text("row")
    clips: dict[str, Clip] = {}
    for number, line in enumerate(rows.replace("\r\n", "\n").split("\n"), 1):
        if not line.strip():
            continue
        try:
            clip, transcript = parse(line)
            if clip in clips:
                raise ValueError(f"the id {clip!r} occurs twice")
        except ValueError as error:
            raise UserError(f"{file.where}, row {number}: {error}") from None
        clips[clip] = Clip(clip, _find_clip(find, clip, f"{file.where}, row {number},"), transcript)
    listed = splits.read(find, clips.keys(), file.where)
    return RawDataset(name, label, tuple(clips.values()), sha256, listed)


def parse(row: str) -> tuple[str, str]:
    """Id and normalized transcript of a row `id|transcript|normalized transcript`; a wrong row raises ValueError."""
    fields = row.split("|")
    if len(fields) != 3:
        raise ValueError(f"found {len(fields)} fields, expected id|transcript|normalized transcript")
    clip, _, transcript = fields
    if not 0 < len(clip) <= _MAX_NAME or not is_inside(clip) or "/" in clip:
        raise ValueError(f"the id {clip[:80]!r} is not the name of a file in the folder wavs")
    if len(transcript) > _MAX_TEXT:
        raise ValueError(f"the transcript has {len(transcript)} characters; the limit is {_MAX_TEXT}")
    if not transcript.strip():
        raise ValueError("the normalized transcript is empty")
    if set(text.encode(transcript)) <= {text.START, text.STOP, text.UNKNOWN, *text.encode(" ,.?-")}:
        raise ValueError(f"the transcript {transcript[:40]!r} contains no letter from a to z")
    return clip, transcript


def _find_clip(find: FindFile, clip: str, where: str) -> DatasetFile:
    for suffix in _SUFFIXES:
        file = find(f"wavs/{clip}{suffix}")
        if file is not None:
            return file
    raise UserError(f"{where} lists {clip!r}, but there is no wavs/{clip}.wav (nor {', '.join(_SUFFIXES[1:])})")
