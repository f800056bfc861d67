"""Reads a data set of letters in words: the Stanford OCR letters (letter.data) or the sample, in the same format.

Every field of the file is checked, and the first wrong row is named.
"""

import codecs
import gzip
import hashlib
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np

from hw_common.data import download
from hw_common.data.transfer import Download
from hw_common.runs import files
from hw_common.runs.errors import UserError
from hw_ocr.sample import render

FOLDS = 10
HEIGHT, WIDTH = 16, 8
_PIXELS = HEIGHT * WIDTH
# The columns before the pixels. word_id and position are not used here: next_id decides which letters form a word.
_FIELDS = ("id", "letter", "next_id", "word_id", "position", "fold")
_MAX_BYTES = 2**28  # largest size of the unpacked file; the original has 14 million bytes
_BLOCK = 2**20  # bytes read at a time
_MAX_LETTERS = 100  # largest length of a word; the longest word of the original has 14 letters
# The file of https://ai.stanford.edu/~btaskar/ocr. Its author publishes no hash, so a download is checked by gzip's own
# checksum and by the published numbers of letters and words.
_ORIGINAL = Download(
    "letter.data.gz",
    ["https://ai.stanford.edu/~btaskar/ocr/letter.data.gz"],
    about="14 MB when unpacked, its page names no licence",
)
_ORIGINAL_LETTERS, _ORIGINAL_WORDS = 52_152, 6_877


@dataclass(frozen=True)
class LetterTable:
    """The letters of a data file, word by word."""

    images: np.ndarray  # (n, 16, 8) uint8 of 0 and 1
    labels: np.ndarray  # (n,) int64 from 0 for a to 25 for z
    lengths: np.ndarray  # (words,) int64, number of letters of each word
    folds: np.ndarray  # (words,) int64, fold of each word


@dataclass(frozen=True)
class RawDataset:
    """A data set before it is split."""

    name: str  # the data set's name in figures and tables
    where: str  # path of the file, for messages
    table: LetterTable  # the letters of the data set
    hashes: Mapping[str, str]  # SHA-256 of the data file


def _load_ocr(data_dir: Path, seed: int) -> RawDataset:
    folder = data_dir / "ocr"
    path = folder / "letter.data"  # the unpacked file
    if not path.is_file():
        path = folder / _ORIGINAL.name
    downloaded = not path.is_file()
    if downloaded:
        download.place(folder, [_ORIGINAL])
    try:
        table = parse(read(path), str(path))
        found = len(table.labels), len(table.lengths)
        if downloaded and found != (_ORIGINAL_LETTERS, _ORIGINAL_WORDS):
            raise UserError(
                f"{_ORIGINAL.urls[0]} sent {found[0]} letters in {found[1]} words, expected the published "
                f"{_ORIGINAL_LETTERS} in {_ORIGINAL_WORDS}; put the right file at {path}, or use --dataset sample"
            )
    except UserError:
        if downloaded:  # otherwise the next call would use the wrong file
            path.unlink(missing_ok=True)
        raise
    return RawDataset("OCR letters", str(path), table, {f"ocr/{path.name}": files.sha256(path)})


def _load_sample(data_dir: Path, seed: int) -> RawDataset:
    content = render(seed)
    table = parse(content, "the sample")
    return RawDataset("sample words", "the sample", table, {"sample": hashlib.sha256(content).hexdigest()})


READERS: Mapping[str, Callable[[Path, int], RawDataset]] = MappingProxyType({"ocr": _load_ocr, "sample": _load_sample})


def read(path: Path) -> bytes:
    """The content of the file `path`, unpacked if it is gzipped.

    Raises:
        UserError: the file cannot be read, is damaged or truncated (names the last complete row), or is too large.
    """
    content = bytearray()
    try:
        with open(path, "rb") as plain:
            packed = plain.read(2) == b"\x1f\x8b"
            plain.seek(0)
            with gzip.open(plain) if packed else plain as file:
                while block := file.read1(_BLOCK):  # unlike read, read1 returns the bytes before a damaged part
                    content += block
                    if len(content) > _MAX_BYTES:
                        raise UserError(f"{path} has more than {_MAX_BYTES} bytes, too many for a file of letters")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        rows = content.count(b"\n")
        raise UserError(f"{path} is damaged or truncated after row {rows}: {error}") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    return bytes(content)


def parse(content: bytes, where: str) -> LetterTable:
    """The letters in `content`, word by word. The words are ordered by the rows of their first letters.

    Args:
        content: one row per letter, tab-separated: id, letter, next_id (-1 for the last letter of a word), word_id,
            position, fold and 128 pixels (16 rows of 8).
        where: path of the file, for messages.

    Raises:
        UserError: a row is wrong or contradicts another row; names the row, counted from 1.
    """
    content = content.removeprefix(codecs.BOM_UTF8).rstrip()  # blank lines at the end, as some editors leave them
    rows = [line.split(b"\t", len(_FIELDS)) for line in content.splitlines()]
    if not rows:
        raise UserError(f"{where} is empty, expected a row for each letter")
    try:
        numbers, labels, images = _columns(rows)
    except ValueError:
        number, fault = next(filter(None, map(_fault, enumerate(rows, start=1))))
        raise UserError(f"{where}, row {number}: {fault}") from None
    try:
        order, lengths = _words(*numbers)
    except _WrongRow as wrong:
        raise UserError(f"{where}, row {wrong.row + 1}: {wrong}") from None
    first = order[np.cumsum(lengths) - lengths]
    return LetterTable(images[order], labels[order], lengths, folds=numbers[2][first])


def _fault(numbered: tuple[int, list[bytes]]) -> tuple[int, str] | None:
    """The number of a row and its fault; None if the row is right by itself."""
    number, row = numbered
    try:
        _columns([row])
    except ValueError as error:
        return number, str(error)
    return None


def _columns(rows: list[list[bytes]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Id, next_id and fold, (3, n) int64; labels, (n,) int64; images, (n, 16, 8) uint8.

    All rows are converted at once, which is much faster than one by one. A wrong row raises ValueError, whose
    message is right only if `rows` has no other row; so `_fault` passes one row at a time.
    """
    for row in rows:
        if len(row) <= len(_FIELDS):
            raise ValueError(f"it has {len(row)} columns, expected {', '.join(_FIELDS)} and {_PIXELS} pixels")
    letters = np.array([ord(row[1]) if len(row[1]) == 1 else 0 for row in rows])
    labels = letters - ord("a")
    if ((labels < 0) | (labels > 25)).any():
        raise ValueError(f"letter {_shown(rows[0][1])}, expected one of a to z")
    return _numbers(rows), labels, _images([row[-1] for row in rows])


def _numbers(rows: list[list[bytes]]) -> np.ndarray:
    """Id, next_id and fold of each row, (3, n) int64; raises ValueError as `_columns` does."""
    id_, next_id, fold = (_FIELDS.index(name) for name in ("id", "next_id", "fold"))
    try:
        numbers = np.array([(int(row[id_]), int(row[next_id]), int(row[fold])) for row in rows], dtype=np.int64).T
    except (ValueError, OverflowError):
        values = ", ".join(_shown(rows[0][column]) for column in (id_, next_id, fold))
        raise ValueError(f"id, next_id and fold are {values}, expected whole numbers") from None
    if (numbers[0] < 0).any():
        raise ValueError(f"id {numbers[0, 0]}, expected a number of 0 or more")
    if ((numbers[2] < 0) | (numbers[2] >= FOLDS)).any():
        raise ValueError(f"fold {numbers[2, 0]}, expected 0 to {FOLDS - 1}")
    return numbers


def _images(rows: list[bytes]) -> np.ndarray:
    """(n, 16, 8) uint8 from tab-separated pixels; raises ValueError as `_columns` does."""
    rows = [row.rstrip(b"\t") + b"\t" for row in rows]  # each row of the original ends with a tab
    for row in rows:
        if (count := row.count(b"\t")) != _PIXELS:
            raise ValueError(f"it has {count} pixels, expected {_PIXELS} ({HEIGHT} rows of {WIDTH})")
    values = b"".join(rows)
    # Each row has 128 tabs. If it has 256 characters in all, each pixel has one character.
    pixels = np.frombuffer(values, dtype=np.uint8)[::2] - ord("0")
    if len(values) != 2 * _PIXELS * len(rows) or (pixels > 1).any():
        wrong = next(value for value in values.split(b"\t") if value not in (b"0", b"1"))
        raise ValueError(f"pixel {_shown(wrong)}, expected 0 or 1")
    return pixels.reshape(-1, HEIGHT, WIDTH)


def _shown(value: bytes) -> str:
    """A field of the file as a message shows it: quoted and at most 20 characters long."""
    text = repr(value.decode(errors="replace"))
    return text if len(text) <= 20 else f"{text[:17]}…"


class _WrongRow(ValueError):
    """Row `row`, counted from 0, contradicts another row."""

    def __init__(self, row: int, message: str) -> None:
        super().__init__(message)
        self.row = row


def _words(ids: np.ndarray, next_ids: np.ndarray, folds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows word by word, (n,), and the length of each word, (words,); raises _WrongRow.

    All words are followed at once, from letter to letter. `ids`, `next_ids` and `folds` are (n,), as in the file.
    """
    following = _following(ids, next_ids)
    rows = np.flatnonzero(following >= 0)
    _refuse(
        rows[folds[rows] != folds[following[rows]]],
        lambda row: f"its fold is {folds[row]}, but that of the next letter in its word is {folds[following[row]]}",
    )
    heads = np.ones(len(ids), dtype=bool)
    heads[following[rows]] = False
    row, word = np.flatnonzero(heads), np.arange(heads.sum())
    steps: list[tuple[np.ndarray, np.ndarray]] = []  # for each t, the words and the rows of all t-th letters
    while len(row) and len(steps) < _MAX_LETTERS:
        steps.append((word, row))
        has_next = following[row] >= 0
        row, word = following[row[has_next]], word[has_next]
    words, order = (np.concatenate(part) for part in zip(*steps, strict=True)) if steps else (row, row)
    unreached = np.ones(len(ids), dtype=bool)
    unreached[order] = False
    _refuse(np.flatnonzero(unreached), lambda row: f"its word does not end within {_MAX_LETTERS} letters")
    return order[np.argsort(words, kind="stable")], np.bincount(words)


def _following(ids: np.ndarray, next_ids: np.ndarray) -> np.ndarray:
    """The row of each letter's next letter, -1 for the last letter of a word; raises _WrongRow."""
    by_id = np.argsort(ids, kind="stable")
    in_order = ids[by_id]
    _refuse(
        by_id[1:][in_order[1:] == in_order[:-1]],
        lambda row: f"id {ids[row]} is already the id of row {np.flatnonzero(ids == ids[row])[0] + 1}",
    )
    rows = np.flatnonzero(next_ids != -1)
    found = np.minimum(np.searchsorted(in_order, next_ids[rows]), len(ids) - 1)
    _refuse(
        rows[in_order[found] != next_ids[rows]],
        lambda row: f"next_id {next_ids[row]} is not the id of any letter; -1 ends a word",
    )
    following = np.full(len(ids), -1)
    following[rows] = by_id[found]
    _, first = np.unique(following[rows], return_index=True)
    _refuse(
        np.delete(rows, first),
        lambda row: (
            f"next_id {next_ids[row]} is already the next_id of row {np.flatnonzero(next_ids == next_ids[row])[0] + 1}"
        ),
    )
    return following


def _refuse(rows: np.ndarray, message: Callable[[int], str]) -> None:
    """Raises _WrongRow for the first of `rows`, if there is one."""
    if len(rows):
        row = int(rows.min())
        raise _WrongRow(row, message(row))
