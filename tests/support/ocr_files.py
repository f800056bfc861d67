"""Small files in the format of the Stanford OCR letters; used by the tests of hw_ocr."""

import gzip
from collections.abc import Sequence
from pathlib import Path

import numpy as np

WORDS = ("ab", "cab", "a", "bad", "dab", "ad", "cad", "bab", "dad", "abc", "da", "bcd")


def image(letter: str, number: int = 0) -> np.ndarray:
    """(16, 8) uint8 of 0 and 1: the letter's own pattern with some pixels flipped."""
    pattern = np.random.default_rng(ord(letter)).integers(0, 2, (16, 8))
    flipped = np.random.default_rng(number).random((16, 8)) < 0.05
    return (pattern ^ flipped).astype(np.uint8)


def rows(words: Sequence[str] = WORDS, folds: Sequence[int] | None = None) -> list[list[str]]:
    """The fields of each row: id, letter, next_id, word_id, position, fold, 128 pixels.

    Ids count from 10; the words' folds go from 0 to 9 and round again, unless `folds` has one for each word.
    """
    found = []
    for word_id, word in enumerate(words):
        fold = word_id % 10 if folds is None else folds[word_id]
        for position, letter in enumerate(word, start=1):
            id_ = 10 + len(found)
            next_id = id_ + 1 if position < len(word) else -1
            pixels = image(letter, number=id_).flat
            found.append([*map(str, (id_, letter, next_id, word_id, position, fold)), *map(str, pixels)])
    return found


def content(table: Sequence[Sequence[str]]) -> bytes:
    """A letter.data file of these rows; like the original's, each ends with a tab."""
    return "".join("\t".join(row) + "\t\n" for row in table).encode()


def write(data_dir: Path, data: bytes | None = None, *, gz: bool = True) -> Path:
    """Writes `data`, or a file of WORDS, where hw_ocr looks for it; returns its path."""
    data = content(rows()) if data is None else data
    path = data_dir / "ocr" / ("letter.data.gz" if gz else "letter.data")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(data, mtime=0) if gz else data)
    return path
