"""Images with captions as people have them: a folder or tar archive with Karpathy's dataset.json or a captions.txt."""

import csv
import json
import lzma
import re
import tarfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from hw_common.runs.errors import UserError

KARPATHY, FLICKR = "dataset.json", "captions.txt"
_PARTS = {"train": "train", "restval": "train", "val": "val"}  # of Karpathy's splits; test is left out
_VALIDATION_EVERY = 10  # a captions.txt has no splits
_LARGEST_TEXT, _LARGEST_IMAGE = 2**28, 2**26  # bytes
_MOST_WORDS = 100  # in a caption
_TAR_ERRORS = (tarfile.TarError, OSError, EOFError, zlib.error, lzma.LZMAError)


@dataclass(frozen=True)
class Example:
    """An image with its captions.

    Attributes:
        file: its name, without folders.
        part: "train" or "val".
        captions: each as a list of words.
    """

    file: str
    part: str
    captions: Sequence[Sequence[str]]


class Source:
    """The files in a folder or a tar archive, by their names without folders.

    Nothing is unpacked: an archive's files are read where they are, so that none of them can end up anywhere.

    Args:
        path: of the folder or the archive.

    Raises:
        UserError: it is neither, or damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._tar: tarfile.TarFile | None = None
        if path.is_dir():
            places: list[Any] = sorted(entry for entry in path.rglob("*") if entry.is_file())
        else:
            try:
                self._tar = tarfile.open(path)
                places = [member for member in self._tar if member.isreg()]
            except _TAR_ERRORS as error:
                self.close()
                # tarfile tells all that it tried, line by line
                reason = getattr(error, "strerror", None) or str(error).partition("\n")[0].rstrip(":")
                raise UserError(f"{path} is no folder and no tar archive: {reason}") from error
        self._places: dict[str, list[Any]] = {}
        for place in places:
            self._places.setdefault(place.name.rpartition("/")[2], []).append(place)
        # Going through a compressed archive in its own order unpacks it once only.
        self._order = {name: number for number, name in enumerate(self._places)}

    def __enter__(self) -> "Source":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the archive."""
        if self._tar is not None:
            self._tar.close()

    def has(self, name: str) -> bool:
        """Whether there is a file of that name."""
        return name in self._places

    def order(self, name: str) -> int:
        """Where the file stands among all: reading in this order is fastest."""
        return self._order[name]

    def read(self, name: str, largest: int = _LARGEST_IMAGE) -> bytes:
        """The content of a file.

        Raises:
            UserError: it is missing, there are several of that name, it is damaged or larger than `largest` bytes.
        """
        places = self._places.get(name, [])
        if len(places) != 1:
            raise UserError(f"{self.path} has {len(places) or 'no'} files called {name!r}, expected one")
        try:
            place = places[0]
            with open(place, "rb") if self._tar is None else self._tar.extractfile(place) as file:
                data = file.read(largest + 1)
        except _TAR_ERRORS as error:
            raise UserError(f"cannot read {name!r} in {self.path}: {error}") from error
        if len(data) > largest:
            raise UserError(f"{name!r} in {self.path} has more than {largest} bytes")
        return data


def read_examples(source: Source) -> list[Example]:
    """Which images there are, and their captions.

    Raises:
        UserError: `source` has no annotations or two kinds of them, they are damaged or name images that it lacks, or
            there is nothing for training or nothing for validation.
    """
    kinds = [name for name in (KARPATHY, FLICKR) if source.has(name)]
    if len(kinds) != 1:
        found = " and ".join(kinds) or "neither"
        raise UserError(f"{source.path} has {found}, expected either {KARPATHY} or {FLICKR}")
    where = f"{kinds[0]} in {source.path}"
    try:
        text = source.read(kinds[0], _LARGEST_TEXT).decode("utf-8-sig")
    except ValueError as error:
        raise UserError(f"{where} is damaged: {error}") from error
    examples = _read_karpathy(text, where) if kinds[0] == KARPATHY else _read_flickr(text, where)
    for part in ("train", "val"):
        if not any(example.part == part for example in examples):
            raise UserError(f"{where} has no images for {'training' if part == 'train' else 'validation'}")
    for example in examples:
        if not source.has(example.file):
            raise UserError(f"{where} names the image {example.file!r}, which is missing")
    return examples


def split_words(caption: str, where: str) -> list[str]:
    """The words of a caption, in small letters, without punctuation but for hyphens and apostrophes inside words.

    Raises:
        UserError: there are none, or more than 100; begins with `where`.
    """
    words = re.findall(r"[^\W_]+(?:['’-][^\W_]+)*", caption.lower())
    if not 0 < len(words) <= _MOST_WORDS:
        raise UserError(f"{where} has a caption of {len(words)} words, expected 1 to {_MOST_WORDS}: {caption[:60]!r}")
    return words


def _read_karpathy(text: str, where: str) -> list[Example]:
    try:
        images = json.loads(text)["images"]
        # Tokens, not the raw text: in Sydney captions, only they have the spelling put right.
        found = [(i["filename"], i["split"], [" ".join(s["tokens"]) for s in i["sentences"]]) for i in images]
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where} is damaged: {error}") from error
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{where} is not as expected: images, each with filename, split and sentences with tokens ({error!r})"
        ) from error
    examples = []
    for number, (file, split, sentences) in enumerate(found):
        image = f"{where}: image {number}"
        if not isinstance(file, str) or not sentences:
            raise UserError(f"{image} has the filename {file!r} and {len(sentences)} sentences, expected text and some")
        if split not in (*_PARTS, "test"):
            raise UserError(f"{image} has the split {split!r}, expected train, restval, val or test")
        if split != "test":
            captions = [split_words(sentence, image) for sentence in sentences]
            examples.append(Example(file, _PARTS[split], captions))
    return examples


def _read_flickr(text: str, where: str) -> list[Example]:
    captions: dict[str, list[list[str]]] = {}
    lines = csv.reader(text.splitlines(), strict=True)
    try:
        for number, row in enumerate(lines):
            if number == 0 and row != ["image", "caption"]:
                raise UserError(f"{where} begins with {','.join(row)[:60]!r}, expected the line 'image,caption'")
            if len(row) != 2:
                raise UserError(f"{where}, line {lines.line_num}: {len(row)} columns, expected two: image,caption")
            if number > 0:
                captions.setdefault(row[0], []).append(split_words(row[1], f"{where}, line {lines.line_num}"))
    except csv.Error as error:
        raise UserError(f"{where}, line {lines.line_num}: {error}") from error
    return [
        Example(file, "val" if number % _VALIDATION_EVERY == 0 else "train", texts)
        for number, (file, texts) in enumerate(captions.items(), start=1)
    ]
