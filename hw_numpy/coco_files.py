"""The caption files of eecs545-w20-hw4 Q4 on disk: HDF5, JSON and text, read as if anybody could have made them.

coco2014_captions.h5              train_captions, val_captions (captions, words), train_image_idxs, val_image_idxs
{train,val}2014_vgg16_fc7.h5      features (images, numbers)
{train,val}2014_vgg16_fc7_pca.h5  features with fewer numbers
{train,val}2014_urls.txt          where each image is to be seen, a line each
coco2014_vocab.json               idx_to_word, word_to_idx
coco2014_source.json              what the files were made of; ours, the course's folder has none
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy import ndarray

from hw_common.runs import files
from hw_common.runs.errors import UserError

CAPTIONS, VOCABULARY, SOURCE = "coco2014_captions.h5", "coco2014_vocab.json", "coco2014_source.json"
NULL, START, END, UNKNOWN = SPECIAL_WORDS = ("<NULL>", "<START>", "<END>", "<UNK>")
PARTS = ("train", "val")

_LARGEST_ARRAY = 2**31  # bytes; the largest of the course, features without PCA, has 1.4 billion
_LARGEST_CHUNK = 2**27
_LARGEST_TEXT = 2**27
_DEFLATE_AT_MOST = 1100  # no deflated data is more than 1032 times as large unpacked
# HDF5 looks for any other filter among plug-ins, which are code.
_FILTERS = (h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32)


def features_name(part: str, pca: bool) -> str:
    """Name of the file with the features of "train" or "val"."""
    return f"{part}2014_vgg16_fc7{'_pca' if pca else ''}.h5"


def urls_name(part: str) -> str:
    """Name of the file with the addresses of the images of "train" or "val"."""
    return f"{part}2014_urls.txt"


def read_numbers(path: Path, wanted: Mapping[str, tuple[type, int]]) -> dict[str, ndarray]:
    """Reads arrays of numbers from an HDF5 file.

    Nothing outside the file is opened, whatever links it holds, and no more memory is taken than its size justifies.

    Args:
        path: the file.
        wanted: name of a dataset to the type of what it is read as, np.int64 or np.float32, and its number of axes.

    Returns:
        The arrays by their names.

    Raises:
        UserError: the file is missing or damaged, or a dataset is missing, no array of such numbers, or too large.
    """
    try:
        with h5py.File(path, "r") as file:
            return {name: _read(file, f"{path}: {name}", name, *form) for name, form in wanted.items()}
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing") from error
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, MemoryError) as error:  # whatever HDF5 stumbles on
        raise UserError(f"{path} is damaged or no HDF5 file: {error}") from error


def _read(file: h5py.File, what: str, name: str, kind: type, axes: int) -> ndarray:
    if not file.id.links.exists(name.encode()):
        raise UserError(f"{what} is missing in the file")
    # Asked of the link itself: opening a link to another file would open that file.
    if file.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
        raise UserError(f"{what} is a link to elsewhere, which is not followed; the file has to hold the data itself")
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset):
        raise UserError(f"{what} is no array")
    if dataset.external or dataset.is_virtual:
        raise UserError(f"{what} has its numbers in another file, which is not opened")
    expected = "whole numbers" if kind is np.int64 else "floating-point numbers"
    if dataset.dtype.kind not in ("iu" if kind is np.int64 else "f") or dataset.dtype.itemsize > 8:
        raise UserError(f"{what} holds {dataset.dtype}, expected {expected}")
    if dataset.shape is None or dataset.ndim != axes:
        raise UserError(f"{what} has shape {dataset.shape}, expected {axes} axes")
    _check_size(what, dataset)
    return dataset[()].astype(kind)


def _check_size(what: str, dataset: h5py.Dataset) -> None:
    if dataset.nbytes > _LARGEST_ARRAY:
        raise UserError(f"{what} has {dataset.nbytes} bytes, more than the limit of {_LARGEST_ARRAY}")
    if dataset.chunks and int(np.prod(dataset.chunks, dtype=float)) * dataset.dtype.itemsize > _LARGEST_CHUNK:
        raise UserError(
            f"{what} is stored in pieces of {dataset.chunks}, more than the limit of {_LARGEST_CHUNK} bytes"
        )
    stored = dataset.id.get_storage_size()
    if dataset.nbytes > stored * _DEFLATE_AT_MOST:
        raise UserError(f"{what} claims {dataset.nbytes} bytes, but the file holds {stored} for it")
    settings = dataset.id.get_create_plist()
    filters = [settings.get_filter(i)[0] for i in range(settings.get_nfilters())]
    if any(number not in _FILTERS for number in filters):
        raise UserError(f"{what} is packed with HDF5 filters {filters}, expected none or gzip")


def read_text(path: Path) -> str:
    """Reads a UTF-8 file of sensible size.

    Raises:
        UserError: it is missing, too large, or not UTF-8.
    """
    try:
        if path.stat().st_size > _LARGEST_TEXT:
            raise UserError(f"{path} has {path.stat().st_size} bytes, more than the limit of {_LARGEST_TEXT}")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}") from error


def read_vocabulary(path: Path) -> tuple[list[str], dict[str, int]]:
    """Reads idx_to_word and word_to_idx, which have to agree.

    Raises:
        UserError: the file is missing or damaged, the two disagree, or a special word is missing.
    """
    read_text(path)  # for its limits
    vocabulary = files.read_json(path)
    words = vocabulary.get("idx_to_word") if isinstance(vocabulary, dict) else None
    if not isinstance(words, list) or not all(isinstance(word, str) and word for word in words):
        raise UserError(f"{path} is no vocabulary: expected idx_to_word, a list of words, and word_to_idx")
    if vocabulary.get("word_to_idx") != {word: number for number, word in enumerate(words)}:
        raise UserError(f"{path} is damaged: word_to_idx does not fit idx_to_word, or a word stands there twice")
    missing = [word for word in SPECIAL_WORDS if word not in vocabulary["word_to_idx"]]
    if missing:
        raise UserError(f"{path} has no word {missing[0]}, expected {', '.join(SPECIAL_WORDS)}")
    return words, vocabulary["word_to_idx"]


def read_source(base_dir: Path) -> str:
    """What the files in `base_dir` were made of: COCO 2014, unless they say something else.

    Raises:
        UserError: coco2014_source.json is damaged.
    """
    path = base_dir / SOURCE
    if not path.exists():
        return "COCO 2014"
    read_text(path)  # for its limits
    facts = files.read_json(path)
    name = facts.get("name") if isinstance(facts, dict) else None
    if not isinstance(name, str) or name != plain_name(name):
        raise UserError(f"{path} is damaged: expected an object with a plain name")
    return name


def plain_name(name: str) -> str:
    """What of `name` can stand in a figure's title: no line ends and no formulas."""
    return "".join(letter for letter in name if letter.isprintable() and letter != "$")[:80]


def write(
    folder: Path,
    captions: Mapping[str, ndarray],
    image_idxs: Mapping[str, ndarray],
    features: Mapping[tuple[str, bool], ndarray],
    urls: Mapping[str, Sequence[str]],
    idx_to_word: Sequence[str],
    source: Mapping[str, Any],
) -> None:
    """Writes all files into `folder`, which exists and has none of them.

    Args:
        folder: where to.
        captions: "train" and "val" to (captions, words) whole numbers.
        image_idxs: "train" and "val" to (captions,), which image each belongs to.
        features: (part, with PCA) to (images, numbers).
        urls: "train" and "val" to the addresses of the images; what has no scheme is a path in the folder.
        idx_to_word: the vocabulary.
        source: name of the data, and whatever else is worth knowing about them.
    """
    with h5py.File(folder / CAPTIONS, "w") as file:
        for part in PARTS:
            file[f"{part}_captions"] = captions[part].astype(np.int32)
            file[f"{part}_image_idxs"] = image_idxs[part].astype(np.int32)
    for (part, pca), numbers in features.items():
        with h5py.File(folder / features_name(part, pca), "w") as file:
            file["features"] = numbers.astype(np.float32)
    for part in PARTS:
        (folder / urls_name(part)).write_text("".join(f"{url}\n" for url in urls[part]), encoding="utf-8")
    word_to_idx = {word: number for number, word in enumerate(idx_to_word)}
    files.write_json(folder / VOCABULARY, {"idx_to_word": list(idx_to_word), "word_to_idx": word_to_idx})
    files.write_json(folder / SOURCE, dict(source))
