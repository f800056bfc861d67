"""Reads data sets of images with reference captions: Karpathy's dataset.json and Flickr8k's captions.txt.

A data set is a folder or tar archive with the caption file at its top and the images beside it or in an image folder.
"""

import dataclasses
import json
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hw_common.data import caption_table
from hw_common.data.caption_table import MAX_NAME
from hw_common.data.dataset_files import DatasetFile, FindFile, file_finder, is_inside
from hw_common.data.file_names import VALIDATION
from hw_common.data.words import UNICODE, WordRules
from hw_common.runs.errors import UserError

SPLITS = ("train", "val", "test")
_JSON_FILES = ("dataset.json", "dataset_rsicd.json", "dataset_flickr8k.json")
_TEXT_FILE = "captions.txt"
# "restval" images come from COCO's validation set; by convention they are used for training.
_SPLIT_NAMES = {**dict.fromkeys(VALIDATION, "val"), "restval": "train"}
_IMAGE_FOLDERS = ("images", "Images", "imgs", "RSICD_images", "Flicker8k_Dataset", "")
_MAX_CAPTION = 500  # words; a batch is as wide as its longest caption

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
    left_out: str | None = None  # a message about captions without words, which are left out


def read(path: Path, rules: WordRules = UNICODE) -> CaptionedImages:
    """Reads the data set in the folder or tar archive `path`; `rules` split its captions into words.

    Raises:
        UserError: there is no caption file, it is damaged, or an image that it names is missing.
    """
    return read_from(file_finder(path, (*_JSON_FILES, _TEXT_FILE)), path, rules)


def read_from(find: FindFile, where: Path, rules: WordRules = UNICODE) -> CaptionedImages:
    """Reads a data set like `read`; `find` returns the file at a path, and `where` names the data set in messages."""
    for name in (*_JSON_FILES, _TEXT_FILE):
        if (file := find(name)) is None:
            continue
        content = file.read()
        try:
            title, rows = (None, _parse_text(content, rules)) if name == _TEXT_FILE else _parse_json(content, rules)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{file.where} is damaged: {error}") from error
        found = _find_images([row for row in rows if row.captions], find, file.where, where)
        return CaptionedImages(title, found, name, content, _describe_empty(rows, file.where))
    raise UserError(
        f"{where} has no captions: expected {_JSON_FILES[0]} (the format of the data sets Sydney, UCM and RSICD) or "
        f"{_TEXT_FILE} (the format of Flickr8k) beside the folder {_IMAGE_FOLDERS[0]}"
    )


@dataclass(frozen=True)
class _Row:
    name: str
    captions: Captions  # the captions that have words
    split: str | None
    empty: int  # number of captions without words


def _row(name: str, captions: Sequence[tuple[str, ...]], split: str | None) -> _Row:
    kept = tuple(caption for caption in captions if caption)
    return _Row(name, kept, split, len(captions) - len(kept))


def _describe_empty(rows: Sequence[_Row], captions_file: str) -> str | None:
    """A message about the captions that are left out because they have no words; None if there are none."""
    empty = [row for row in rows if row.empty]
    if not empty:
        return None
    count, images = sum(row.empty for row in empty), sum(not row.captions for row in empty)
    without = f"; images that have no other caption are left out too: {images}" if images else ""
    return f"{captions_file}: captions without words are left out: {count}; the first is for {empty[0].name!r}{without}"


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


def _parse_json(content: bytes, rules: WordRules) -> tuple[str | None, list[_Row]]:
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
        if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME:
            raise ValueError(f"image {number} has no filename of at most {MAX_NAME} characters")
        if name in rows:
            raise ValueError(f"image {name!r} occurs twice")
        split = image.get("split")
        if isinstance(split, str):
            split = split.strip().lower()
            split = _SPLIT_NAMES.get(split, split)
        if split not in SPLITS:
            raise ValueError(f"image {name!r} has the split {reprlib.repr(split)}, expected {', '.join(SPLITS)}")
        sentences = image.get("sentences")
        if not isinstance(sentences, list) or not sentences:
            raise ValueError(f"image {name!r} has no reference captions")
        rows[name] = _row(name, [_words_of(sentence, name, rules) for sentence in sentences], split)
    title = found.get("dataset")
    has_title = isinstance(title, str) and title.isprintable() and 0 < len(title) <= 60
    return title if has_title else None, list(rows.values())


def _words_of(sentence: Any, name: str, rules: WordRules = UNICODE) -> tuple[str, ...]:
    """The words of a sentence: its tokens without punctuation or, if it has no tokens, the words of its raw text."""
    tokens, raw = (sentence.get("tokens"), sentence.get("raw")) if isinstance(sentence, dict) else (None, None)
    if isinstance(tokens, list) and all(isinstance(token, str) for token in tokens) and (tokens or raw is None):
        words = rules.clean(tokens)
    elif isinstance(raw, str):
        words = rules.tokenize(raw)
    else:
        raise ValueError(f"a caption of {name!r} has no tokens and no raw text")
    return _check_caption(words, name)


def _check_caption(words: Sequence[str], name: str) -> tuple[str, ...]:
    if len(words) > _MAX_CAPTION:
        raise ValueError(f"a caption of {name!r} has {len(words)} words, more than the limit of {_MAX_CAPTION}")
    " ".join(words).encode()  # JSON can hold half of a surrogate pair, which raises a ValueError here
    return tuple(words)


def _parse_text(content: bytes, rules: WordRules) -> list[_Row]:
    """Reads Flickr8k's format, see `caption_table`; raises ValueError if the file is damaged."""
    captions: dict[str, list[tuple[str, ...]]] = {}
    for name, text in caption_table.read(content):
        captions.setdefault(name, []).append(_check_caption(rules.tokenize(text), name))
    return [_row(name, found, None) for name, found in captions.items()]
