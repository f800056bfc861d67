"""Readers: caption files and the images that they name, believing nothing that is not there."""

import dataclasses
import json
import random
import re
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from hw_common.data.dataset_files import Find, SourceFile, find_in, is_inside
from hw_common.runs.errors import UserError

# Each data set with the names that its folder, or its tar archive without the suffix, may have.
DATASETS: Mapping[str, tuple[str, ...]] = MappingProxyType({
    "sydney": ("sydney_captions", "Sydney_captions"),
    "flickr": ("flickr8k", "Flickr8k", "flickr1k"),
    "sample": (),
})  # fmt: skip
SPLITS = ("train", "val", "test")
_JSON_FILES = ("dataset.json", "dataset_rsicd.json", "dataset_flickr8k.json")
_TEXT_FILE = "captions.txt"
_IMAGE_FOLDERS = ("images", "Images", "imgs", "RSICD_images", "Flicker8k_Dataset")
_LONGEST_NAME = 255  # characters, as most file systems allow
_LONGEST_CAPTION = 500  # words; a batch is as wide as its longest caption
_WORD = re.compile(r"\w+(?:['’-]\w+)*")

Captions = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Entry:
    """An image with its reference captions.

    Attributes:
        image: its file.
        captions: lower-cased words of each.
        split: one of SPLITS.
    """

    image: SourceFile
    captions: Captions
    split: str


@dataclass(frozen=True)
class Source:
    """A data set as its files have it.

    Attributes:
        name: what people call it; None where its files do not say.
        entries: in the order of the caption file.
        captions_file: name of the caption file.
        content: its bytes.
    """

    name: str | None
    entries: tuple[Entry, ...]
    captions_file: str
    content: bytes


def locate(dataset: str, data_dir: Path) -> Path:
    """Where `dataset` lies in `data_dir`: a folder, or a tar archive.

    Raises:
        UserError: it is not there.
    """
    names = DATASETS[dataset]
    for name in names:
        for path in (data_dir / name, data_dir / f"{name}.tar"):
            if path.exists():
                return path
    raise UserError(
        f"{data_dir / names[0]} is missing, and so is {names[0]}.tar: put the data set there by hand, name the folder "
        "that has it with --data_dir, name its own folder with --dataset_dir, or use --dataset sample"
    )


def read(path: Path) -> Source:
    """Reads the data set in the folder or tar archive `path`.

    Raises:
        UserError: it holds no captions, or they are damaged, or an image that they name is missing.
    """
    return read_from(find_in(path, (*_JSON_FILES, _TEXT_FILE)), path)


def read_from(find: Find, where: Path) -> Source:
    """Reads the data set whose files `find` finds; `where` names it in messages. Raises as `read`."""
    for name in (*_JSON_FILES, _TEXT_FILE):
        if (file := find(name)) is None:
            continue
        content = file.read()
        try:
            title, rows = _parse_text(content) if name == _TEXT_FILE else _parse_json(content)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{file.where} is damaged: {error}") from error
        return Source(title, _find_images(rows, find, file.where, where), name, content)
    raise UserError(
        f"{where} holds no captions: expected {_JSON_FILES[0]} (as of Sydney, UCM and RSICD) or {_TEXT_FILE} (as of "
        f"Flickr8k) beside the folder {_IMAGE_FOLDERS[0]}"
    )


@dataclass(frozen=True)
class _Row:
    name: str
    captions: Captions
    split: str


def _find_images(rows: Sequence[_Row], find: Find, captions_file: str, where: Path) -> tuple[Entry, ...]:
    for row in rows:
        if not is_inside(row.name):
            raise UserError(f"{captions_file} names the image {row.name!r}, which is no name inside the image folder")
    folder = next((f for f in _IMAGE_FOLDERS if any(find(f"{f}/{row.name}") for row in rows)), _IMAGE_FOLDERS[0])
    entries = []
    for row in rows:
        file = find(f"{folder}/{row.name}")
        if file is None:
            raise UserError(f"{where / folder / row.name} is missing: {captions_file} names it")
        entries.append(Entry(dataclasses.replace(file, name=row.name), row.captions, row.split))
    return tuple(entries)


def _parse_json(content: bytes) -> tuple[str | None, list[_Row]]:
    """Reads Karpathy's format: images with file name, split and sentences, as Sydney, UCM and RSICD have it.

    Raises:
        ValueError: says what is wrong with it.
    """
    found = json.loads(content)
    images = found.get("images") if isinstance(found, dict) else None
    if not isinstance(images, list):
        raise ValueError("expected an object with the list images")
    rows, seen = [], set()
    for number, image in enumerate(images, 1):
        name = image.get("filename") if isinstance(image, dict) else None
        if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_NAME:
            raise ValueError(f"image {number} has no filename of at most {_LONGEST_NAME} characters")
        if name in seen:
            raise ValueError(f"image {name!r} is there twice")
        seen.add(name)
        split = "train" if image.get("split") == "restval" else image.get("split")  # COCO's rest of validation
        if split not in SPLITS:
            raise ValueError(f"image {name!r} has the split {reprlib.repr(split)}, expected {', '.join(SPLITS)}")
        sentences = image.get("sentences")
        if not isinstance(sentences, list) or not sentences:
            raise ValueError(f"image {name!r} has no reference captions")
        rows.append(_Row(name, tuple(_words_of(sentence, name) for sentence in sentences), split))
    title = found.get("dataset")
    return (title if isinstance(title, str) and title.isprintable() and 0 < len(title) <= 60 else None), rows


def _words_of(sentence: Any, name: str) -> tuple[str, ...]:
    """The words of a sentence: its tokens without punctuation, or its text cut into words."""
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
    """Lower-cased words of `text`, without punctuation."""
    return _WORD.findall(text.lower())


def _check_caption(words: Sequence[str], name: str) -> tuple[str, ...]:
    if not words:
        raise ValueError(f"a caption of {name!r} is empty")
    if len(words) > _LONGEST_CAPTION:
        raise ValueError(f"a caption of {name!r} has {len(words)} words, more than the limit of {_LONGEST_CAPTION}")
    " ".join(words).encode()  # half a surrogate pair, which JSON can say, is no text: a ValueError
    return tuple(words)


def _parse_text(content: bytes) -> tuple[None, list[_Row]]:
    """Reads Flickr8k's format: a line `image,caption` for each caption.

    The images are split 80/10/10 by a shuffle with a fixed seed, so that all runs share their test images.

    Raises:
        ValueError: says what is wrong with it.
    """
    captions: dict[str, list[tuple[str, ...]]] = {}
    for number, line in enumerate(content.decode("utf-8-sig").split("\n"), 1):
        name, comma, text = line.strip().partition(",")  # the caption may have commas and quotation marks
        if not line.strip() or (number == 1 and (name, text) == ("image", "caption")):
            continue
        if not comma or not 0 < len(name) <= _LONGEST_NAME:
            raise ValueError(f"line {number} is not image,caption")
        captions.setdefault(name, []).append(_check_caption(tokenize(text), name))
    if len(captions) < len(SPLITS):
        raise ValueError(f"it names {len(captions)} images, too few for {', '.join(SPLITS)}")
    names = sorted(captions)
    random.Random(42).shuffle(names)
    held_out = max(1, len(names) // 10)
    splits = dict.fromkeys(names[:held_out], "test") | dict.fromkeys(names[held_out : 2 * held_out], "val")
    return None, [_Row(name, tuple(found), splits.get(name, "train")) for name, found in captions.items()]
