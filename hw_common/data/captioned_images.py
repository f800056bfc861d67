"""Reads data sets of images with reference captions: Karpathy's dataset.json and Flickr8k's captions.txt.

A data set is a folder or tar archive with the caption file at its top and the images beside it or in an image folder.
"""

import dataclasses
import json
import re
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hw_common.data.dataset_files import DatasetFile, FindFile, file_finder, is_inside
from hw_common.runs.errors import UserError

SPLITS = ("train", "val", "test")
_JSON_FILES = ("dataset.json", "dataset_rsicd.json", "dataset_flickr8k.json")
_TEXT_FILE = "captions.txt"
_IMAGE_FOLDERS = ("images", "Images", "imgs", "RSICD_images", "Flicker8k_Dataset", "")
_MAX_NAME = 255  # characters, the limit of most file systems
_MAX_CAPTION = 500  # words; a batch is as wide as its longest caption
_WORD = re.compile(r"\w+(?:['’-]\w+)*")

Captions = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class CaptionedImage:
    """An image with its reference captions."""

    file: DatasetFile  # the image file; its name is the one in the caption file
    captions: Captions  # the lower-cased words of each caption
    split: str | None  # one of SPLITS; None for captions.txt, which has no splits


@dataclass(frozen=True)
class CaptionedImages:
    """The content of a data set."""

    title: str | None  # the data set's name, if the caption file gives one
    images: tuple[CaptionedImage, ...]  # the images in the order of the caption file
    captions_file: str  # name of the caption file
    content: bytes  # content of the caption file


def read(path: Path) -> CaptionedImages:
    """Reads the data set in the folder or tar archive `path`.

    Raises:
        UserError: there is no caption file, it is damaged, or an image that it names is missing.
    """
    return read_from(file_finder(path, (*_JSON_FILES, _TEXT_FILE)), path)


def read_from(find: FindFile, where: Path) -> CaptionedImages:
    """Reads a data set like `read`; `find` returns the file at a path, and `where` names the data set in messages."""
    for name in (*_JSON_FILES, _TEXT_FILE):
        if (file := find(name)) is None:
            continue
        content = file.read()
        try:
            title, rows = (None, _parse_text(content)) if name == _TEXT_FILE else _parse_json(content)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{file.where} is damaged: {error}") from error
        return CaptionedImages(title, _find_images(rows, find, file.where, where), name, content)
    raise UserError(
        f"{where} has no captions: expected {_JSON_FILES[0]} (the format of the data sets Sydney, UCM and RSICD) or "
        f"{_TEXT_FILE} (the format of Flickr8k) beside the folder {_IMAGE_FOLDERS[0]}"
    )


@dataclass(frozen=True)
class _Row:
    name: str
    captions: Captions
    split: str | None


def _find_images(rows: Sequence[_Row], find: FindFile, captions_file: str, where: Path) -> tuple[CaptionedImage, ...]:
    for row in rows:
        if not is_inside(row.name):
            raise UserError(f"{captions_file} names the image {row.name!r}, which is not a path inside the data set")
    folder = next((f for f in _IMAGE_FOLDERS if any(find(str(Path(f, row.name))) for row in rows)), _IMAGE_FOLDERS[0])
    images = []
    for row in rows:
        file = find(str(Path(folder, row.name)))
        if file is None:
            raise UserError(f"{where / folder / row.name} is missing: {captions_file} lists it")
        images.append(CaptionedImage(dataclasses.replace(file, name=row.name), row.captions, row.split))
    return tuple(images)


def _parse_json(content: bytes) -> tuple[str | None, list[_Row]]:
    """Reads Karpathy's format: a list of images, each with file name, split and sentences.

    Returns:
        The data set's name, if the file gives one, and its images.

    Raises:
        ValueError: the file is damaged.
    """
    found = json.loads(content)
    images = found.get("images") if isinstance(found, dict) else None
    if not isinstance(images, list):
        raise ValueError("expected an object with the list images")
    rows: dict[str, _Row] = {}
    for number, image in enumerate(images, 1):
        name = image.get("filename") if isinstance(image, dict) else None
        if not isinstance(name, str) or not 0 < len(name) <= _MAX_NAME:
            raise ValueError(f"image {number} has no filename of at most {_MAX_NAME} characters")
        if name in rows:
            raise ValueError(f"image {name!r} occurs twice")
        # "restval" images come from COCO's validation set; by convention they are used for training.
        split = "train" if image.get("split") == "restval" else image.get("split")
        if split not in SPLITS:
            raise ValueError(f"image {name!r} has the split {reprlib.repr(split)}, expected {', '.join(SPLITS)}")
        sentences = image.get("sentences")
        if not isinstance(sentences, list) or not sentences:
            raise ValueError(f"image {name!r} has no reference captions")
        rows[name] = _Row(name, tuple(_words_of(sentence, name) for sentence in sentences), split)
    title = found.get("dataset")
    has_title = isinstance(title, str) and title.isprintable() and 0 < len(title) <= 60
    return title if has_title else None, list(rows.values())


def _words_of(sentence: Any, name: str) -> tuple[str, ...]:
    """The words of a sentence: its tokens without punctuation or, if it has no tokens, the words of its raw text."""
    tokens = sentence.get("tokens") if isinstance(sentence, dict) else None
    if isinstance(tokens, list) and all(isinstance(token, str) for token in tokens):
        parts = [part for token in tokens for part in token.lower().split()]
        words = [part for part in parts if any(character.isalnum() for character in part)]
    elif isinstance(sentence, dict) and isinstance(sentence.get("raw"), str):
        words = tokenize(sentence["raw"])
    else:
        raise ValueError(f"a caption of {name!r} has no tokens and no raw text")
    return _check_caption(words, name)


def tokenize(text: str) -> list[str]:
    """The lower-cased words of `text`, without punctuation except for hyphens and apostrophes inside words."""
    return _WORD.findall(text.lower())


def _check_caption(words: Sequence[str], name: str) -> tuple[str, ...]:
    if not words:
        raise ValueError(f"a caption of {name!r} is empty")
    if len(words) > _MAX_CAPTION:
        raise ValueError(f"a caption of {name!r} has {len(words)} words, more than the limit of {_MAX_CAPTION}")
    " ".join(words).encode()  # JSON can hold half of a surrogate pair, which raises a ValueError here
    return tuple(words)


def _parse_text(content: bytes) -> list[_Row]:
    """Reads Flickr8k's format: a line `image,caption` for each caption.

    Raises:
        ValueError: the file is damaged.
    """
    captions: dict[str, list[tuple[str, ...]]] = {}
    for number, line in enumerate(content.decode("utf-8-sig").split("\n"), 1):
        name, comma, text = line.strip().partition(",")  # further commas and quotation marks are part of the caption
        if not line.strip() or (number == 1 and (name, text) == ("image", "caption")):
            continue
        if not comma or not 0 < len(name) <= _MAX_NAME:
            raise ValueError(f"line {number} is not image,caption")
        captions.setdefault(name, []).append(_check_caption(tokenize(text), name))
    return [_Row(name, tuple(found), None) for name, found in captions.items()]
