"""The caption files of eecs545-w20-hw4 Q4 (HDF5, JSON, text). They are checked when they are read.

coco2014_captions.h5              train_captions, val_captions (N, T); train_image_idxs, val_image_idxs (N,)
{train,val}2014_vgg16_fc7.h5      features (images, D)
{train,val}2014_vgg16_fc7_pca.h5  features (images, K) after PCA
{train,val}2014_urls.txt          address of each image, one per line
coco2014_vocab.json               idx_to_word, word_to_idx
coco2014_source.json              facts about the data; only from coco_build
"""

import collections
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy import ndarray
from PIL import Image

from hw_common.data.dataset_files import decode_text
from hw_common.data.images import DECODER
from hw_common.runs import files
from hw_common.runs.errors import UserError

CAPTIONS, VOCABULARY, SOURCE = "coco2014_captions.h5", "coco2014_vocab.json", "coco2014_source.json"
NULL, START, END, UNKNOWN = SPECIAL_WORDS = ("<NULL>", "<START>", "<END>", "<UNK>")
PARTS = ("train", "val")

_LARGEST_ARRAY = 2**31  # bytes; the course's largest array, the features without PCA, has 1.4 billion
_LARGEST_CHUNK = 2**27  # bytes
_LARGEST_TEXT = 2**27  # bytes
_LARGEST_RATIO = 1100  # gzip cannot pack data to less than 1/1032 of its size
# The allowed filters. For any other one, HDF5 would load a plug-in, which may run any code.
_FILTERS = (h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32)
_MOST_DIRECTIONS = 512
_COPY_SIZE = 256  # pixels


def features_name(part: str, pca: bool) -> str:
    """Name of the file with the features of "train" or "val", after PCA or before."""
    return f"{part}2014_vgg16_fc7{'_pca' if pca else ''}.h5"


def urls_name(part: str) -> str:
    """Name of the file with the addresses of the images of "train" or "val"."""
    return f"{part}2014_urls.txt"


def read_arrays(path: Path, wanted: Mapping[str, tuple[type, int]]) -> dict[str, ndarray]:
    """Reads numerical arrays from an HDF5 file.

    No other file is opened, even if the file has links. A small file that declares huge arrays is refused.

    Args:
        path: the file.
        wanted: name of each array → its type in the result, np.int64 or np.float32, and its number of axes.

    Returns:
        The arrays by their names.

    Raises:
        UserError: the file is missing or damaged, or a dataset is missing, of another kind, or too large.
    """
    try:
        with h5py.File(path, "r") as file:
            return {name: _read(file, f"{path}: {name}", name, *form) for name, form in wanted.items()}
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing") from error
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, MemoryError) as error:  # HDF5's errors
        raise UserError(f"{path} is damaged or not an HDF5 file: {error}") from error


def _read(file: h5py.File, what: str, name: str, kind: type, axes: int) -> ndarray:
    if not file.id.links.exists(name.encode()):
        raise UserError(f"{what} is missing in the file")
    # Looks at the link itself, because opening a link to another file would open that file.
    if file.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
        raise UserError(f"{what} is a link, which is not followed; the file must hold the data itself")
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset):
        raise UserError(f"{what} is not an array")
    if dataset.external or dataset.is_virtual:
        raise UserError(f"{what} keeps its data in another file, which is not opened")
    expected = "whole numbers" if kind is np.int64 else "floating-point numbers"
    if dataset.dtype.kind not in ("iu" if kind is np.int64 else "f") or dataset.dtype.itemsize > 8:
        raise UserError(f"{what} holds {dataset.dtype}, expected {expected}")
    if dataset.shape is None or dataset.ndim != axes:
        raise UserError(f"{what} has shape {dataset.shape}, expected {axes} axes")
    _check_size(what, dataset, max(dataset.dtype.itemsize, np.dtype(kind).itemsize))
    return dataset[()].astype(kind, copy=False)


def _check_size(what: str, dataset: h5py.Dataset, itemsize: int) -> None:
    """Refuses an array that would take too much memory with `itemsize` bytes for each number."""
    if dataset.size * itemsize > _LARGEST_ARRAY:
        raise UserError(f"{what} takes {dataset.size * itemsize} bytes, more than the limit of {_LARGEST_ARRAY}")
    if dataset.chunks and int(np.prod(dataset.chunks, dtype=float)) * dataset.dtype.itemsize > _LARGEST_CHUNK:
        raise UserError(
            f"{what} is stored in chunks of {dataset.chunks}, more than the limit of {_LARGEST_CHUNK} bytes"
        )
    stored = dataset.id.get_storage_size()
    if dataset.nbytes > stored * _LARGEST_RATIO:
        raise UserError(f"{what} is declared with {dataset.nbytes} bytes, but has only {stored} in the file")
    settings = dataset.id.get_create_plist()
    filters = [settings.get_filter(i)[0] for i in range(settings.get_nfilters())]
    if any(number not in _FILTERS for number in filters):
        raise UserError(f"{what} is packed with HDF5 filters {filters}, expected none or gzip")


def read_text(path: Path) -> str:
    """Reads a UTF-8 file of limited size.

    Raises:
        UserError: the file is missing, too large, or not UTF-8.
    """
    try:
        if path.stat().st_size > _LARGEST_TEXT:
            raise UserError(f"{path} has {path.stat().st_size} bytes, more than the limit of {_LARGEST_TEXT}")
        return decode_text(path.read_bytes())
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}") from error


def read_vocabulary(path: Path) -> tuple[list[str], dict[str, int]]:
    """Reads idx_to_word and word_to_idx, and checks that they agree.

    Raises:
        UserError: the file is missing or damaged, the two disagree, or a special word is missing.
    """
    read_text(path)  # checks the size
    vocabulary = files.read_json(path)
    words = vocabulary.get("idx_to_word") if isinstance(vocabulary, dict) else None
    if not isinstance(words, list) or not all(isinstance(word, str) and word for word in words):
        raise UserError(f"{path} is not a vocabulary: expected idx_to_word, a list of words, and word_to_idx")
    if vocabulary.get("word_to_idx") != {word: number for number, word in enumerate(words)}:
        raise UserError(f"{path} is damaged: word_to_idx does not fit idx_to_word, or a word occurs twice")
    missing = [word for word in SPECIAL_WORDS if word not in vocabulary["word_to_idx"]]
    if missing:
        raise UserError(f"{path} lacks the word {missing[0]}, expected {', '.join(SPECIAL_WORDS)}")
    return words, vocabulary["word_to_idx"]


def read_source(base_dir: Path) -> str:
    """The name of the data in `base_dir`, from coco2014_source.json; "COCO 2014" if there is no such file.

    Prints a line if the features were made with another decoder of images, for example by an earlier version.

    Raises:
        UserError: coco2014_source.json is damaged.
    """
    path = base_dir / SOURCE
    if not path.exists():
        return "COCO 2014"
    read_text(path)  # checks the size
    facts = files.read_json(path)
    name = facts.get("name") if isinstance(facts, dict) else None
    if not isinstance(name, str) or name != _plain_name(name):
        raise UserError(f'{path} is damaged: expected an object whose "name" has at most 80 printable characters, no $')
    if facts.get("decoder") != DECODER:
        print(
            f"{path}: the features were made with another decoder of images; if some of the images are transparent, "
            "rotated by their EXIF data or deeper than 8 bits, renew the folder with python -m hw_numpy.coco_build",
            file=sys.stderr,
        )
    return name


def _plain_name(name: str) -> str:
    """The part of `name` that can stand in a figure's title: no line breaks and no formulas."""
    return "".join(letter for letter in name if letter.isprintable() and letter != "$")[:80]


@dataclass(frozen=True)
class Example:
    """An image's captions."""

    part: str  # "train" or "val"
    captions: Sequence[Sequence[str]]  # the words of each caption


def image_paths(examples: Sequence[Example]) -> list[str]:
    """For each example, the path of its image's copy, relative to the folder of the caption files."""
    counts: collections.Counter[str] = collections.Counter()
    paths = []
    for example in examples:
        paths.append(f"images/{example.part}/{counts[example.part]:06d}.jpg")
        counts[example.part] += 1
    return paths


def save_copy(image: Image.Image, path: Path) -> None:
    """Writes a small JPEG copy of `image`, for figures."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = image.copy()
    image.thumbnail((_COPY_SIZE, _COPY_SIZE))
    image.save(path, quality=90)


def write(
    folder: Path, name: str, description: str, examples: Sequence[Example], features: ndarray, min_count: int = 1
) -> dict[str, Any]:
    """Writes captions, features, vocabulary and addresses. The images' copies must be in `folder` already.

    Args:
        folder: folder for the files.
        name: name of the data set.
        description: description of the features.
        examples: the captions of each image.
        features: (examples, D) features of each image.
        min_count: words that occur less often in the training captions become <UNK>.

    Returns:
        Facts about the result, as in coco2014_source.json.
    """
    words = _vocabulary(examples, min_count)
    numbers = {word: number for number, word in enumerate(words)}
    longest = max(len(caption) for example in examples for caption in example.captions)
    in_training = features[[example.part == "train" for example in examples]]
    mean, directions = fit_pca(in_training)
    # One factor scales all features: it gives the training features variance 1 after PCA, to suit the initial weights.
    variance = ((in_training - mean) @ directions.T).var()
    scale = 1 / np.sqrt(variance) if variance > 0 else 1.0
    facts = {
        "name": _plain_name(name),
        "features": f"{description}; {features.shape[1]} features, {len(directions)} after PCA",
        "decoder": DECODER,
    }
    with h5py.File(folder / CAPTIONS, "w") as file:
        for part, title in zip(PARTS, ("training", "validation"), strict=True):
            own = [example for example in examples if example.part == part]
            captions = np.array([_encode(words, numbers, 2 + longest) for e in own for words in e.captions], np.int32)
            file[f"{part}_captions"] = captions
            file[f"{part}_image_idxs"] = np.repeat(np.arange(len(own), dtype=np.int32), [len(e.captions) for e in own])
            facts[title] = f"{len(captions)} captions of {len(own)} images"
            lines = "".join(f"{path}\n" for path in image_paths(own))
            (folder / urls_name(part)).write_text(lines, encoding="utf-8")
    for part in PARTS:
        table = scale * features[[example.part == part for example in examples]]
        for pca, values in ((False, table), (True, (table - scale * mean) @ directions.T)):
            with h5py.File(folder / features_name(part, pca), "w") as file:
                file["features"] = values.astype(np.float32)
    facts |= {
        "vocabulary": f"{len(words)} words with {', '.join(SPECIAL_WORDS)}",
        "longest_caption": f"{longest} words",
        "validation_words_unknown": f"{(captions == numbers[UNKNOWN]).sum()}",
    }
    files.write_json(folder / VOCABULARY, {"idx_to_word": words, "word_to_idx": numbers})
    files.write_json(folder / SOURCE, facts)
    return facts


def _vocabulary(examples: Sequence[Example], min_count: int) -> list[str]:
    """The special words, then the words of the training captions, most frequent first."""
    counts = collections.Counter(
        word for example in examples if example.part == "train" for caption in example.captions for word in caption
    )
    frequent = (word for word in counts if counts[word] >= min_count)
    return [*SPECIAL_WORDS, *sorted(frequent, key=lambda word: (-counts[word], word))]


def _encode(caption: Sequence[str], numbers: Mapping[str, int], length: int) -> list[int]:
    """Word numbers of <START>, the caption and <END>, padded with <NULL> to `length`."""
    words = [numbers.get(word, numbers[UNKNOWN]) for word in caption]
    encoded = [numbers[START], *words, numbers[END]]
    return encoded + [numbers[NULL]] * (length - len(encoded))


def fit_pca(features: ndarray) -> tuple[ndarray, ndarray]:
    """Principal component analysis.

    Args:
        features: (images, D) features.

    Returns:
        The mean (D,), and the K orthonormal directions (K, D) with the largest variance. K is at most 512, at most D,
        and at most n − 1 (but at least 1), because n images differ in at most n − 1 directions.
    """
    mean = features.mean(axis=0)
    _, _, directions = np.linalg.svd(features - mean, full_matrices=False)
    directions = directions[: max(1, min(_MOST_DIRECTIONS, len(features) - 1))]
    # The sign of a direction is arbitrary: make its largest element positive.
    largest = np.abs(directions).argmax(axis=1)
    return mean, directions * np.sign(directions[np.arange(len(directions)), largest])[:, None]
