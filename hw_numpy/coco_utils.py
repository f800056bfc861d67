"""Loads captions and image features from the course's files, and decodes captions (eecs545-w20-hw4 Q4)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray

from hw_common.runs import files
from hw_common.runs.errors import UserError
from hw_numpy import coco_files
from hw_numpy.coco_files import CAPTIONS, END, NULL, PARTS, START, VOCABULARY


def load_coco_data(
    base_dir: str | Path = "coco_captioning",
    max_train: int | None = None,
    pca_features: bool = True,
    seed: int | None = None,
) -> dict[str, Any]:
    """Reads caption files from the course or from `coco_build`.

    Args:
        base_dir: the folder with the files that `coco_files` lists.
        max_train: number of training captions to draw at random; None for all captions. They are drawn from as many
            different images as possible, because no network can generate two captions from the same features. (The
            course draws from all captions. With COCO's 82 783 images, 50 draws rarely give two of the same image.)
        pca_features: whether to read the features after PCA.
        seed: seed of the draw; None to draw it from NumPy's global generator, as in the course's scripts.

    Returns:
        train_captions and val_captions (captions, T): word numbers from <START> on, padded with <NULL>;
        train_features and val_features (images, D) float32; train_urls and val_urls, lists of the images' addresses;
        train_image_idxs and val_image_idxs (captions,): the index of each caption's image in the features and urls;
        the list idx_to_word and the dictionary word_to_idx.

    Raises:
        UserError: a file is missing or damaged, or the files do not fit one another.
    """
    base_dir = Path(base_dir)
    if not (base_dir / CAPTIONS).is_file():
        raise UserError(
            f"{base_dir / CAPTIONS} is missing; fetch https://cs231n.stanford.edu/coco_captioning.zip (captions of "
            f"COCO, licence CC BY 4.0, and features of its images), unpack it, and put its files into {base_dir} or "
            "name their folder with --data_dir; or make such files with python -m hw_numpy.coco_build; or use "
            "--dataset sample"
        )
    forms = {f"{part}_captions": (np.int64, 2) for part in PARTS} | {
        f"{part}_image_idxs": (np.int64, 1) for part in PARTS
    }
    data: dict[str, Any] = coco_files.read_arrays(base_dir / CAPTIONS, forms)
    data["idx_to_word"], data["word_to_idx"] = coco_files.read_vocabulary(base_dir / VOCABULARY)
    for part in PARTS:
        path = base_dir / coco_files.features_name(part, pca_features)
        data[f"{part}_features"] = coco_files.read_arrays(path, {"features": (np.float32, 2)})["features"]
        addresses = coco_files.read_text(base_dir / coco_files.urls_name(part))
        data[f"{part}_urls"] = [line.strip() for line in addresses.rstrip().splitlines()]
        _check_captions(base_dir, data, part)
        _check_features(path, data, part)
    if max_train is not None and max_train < len(data["train_captions"]):
        chosen = _draw(data["train_image_idxs"], max_train, seed)
        for name in ("train_captions", "train_image_idxs"):
            data[name] = data[name][chosen]
    return data


def _check_captions(base_dir: Path, data: Mapping[str, Any], part: str) -> None:
    captions, images = data[f"{part}_captions"], data[f"{part}_image_idxs"]
    where = f"{base_dir / CAPTIONS}: {part}"
    if len(captions) == 0 or captions.shape[1] < 2:
        raise UserError(f"{where}_captions has shape {captions.shape}, expected captions of at least two words")
    if len(captions) != len(images):
        raise UserError(f"{where}_captions and {part}_image_idxs differ in length: {len(captions)} and {len(images)}")
    words = len(data["idx_to_word"])
    for wrong in captions[(captions < 0) | (captions >= words)][:1]:
        raise UserError(f"{where}_captions holds the word {wrong}, the vocabulary has 0 to {words - 1}")
    if (captions[:, 0] != data["word_to_idx"][START]).any():
        raise UserError(f"{where}_captions has a caption that does not begin with {START}")


def _check_features(path: Path, data: Mapping[str, Any], part: str) -> None:
    features, images, urls = data[f"{part}_features"], data[f"{part}_image_idxs"], data[f"{part}_urls"]
    for wrong in images[(images < 0) | (images >= len(features))][:1]:
        raise UserError(f"{part}_image_idxs names image {wrong}, but {path} has features of {len(features)} images")
    if len(urls) != len(features):
        raise UserError(
            f"{path.with_name(coco_files.urls_name(part))} has {len(urls)} lines, expected one for each of the "
            f"{len(features)} images in {path.name}"
        )
    if not np.isfinite(features).all():
        raise UserError(f"{path} holds numbers that are not finite")
    if features.shape[1] != data["train_features"].shape[1] or features.shape[1] == 0:
        raise UserError(
            f"{path} has {features.shape[1]} features per image, the training images have "
            f"{data['train_features'].shape[1]}"
        )


def _draw(image_idxs: ndarray, count: int, seed: int | None) -> ndarray:
    """Indices of `count` captions in random order: first one caption of every image, then a second one, and so on."""
    generator = np.random.default_rng(np.random.randint(2**31) if seed is None else seed)
    order = generator.permutation(len(image_idxs))
    by_image = np.argsort(image_idxs[order], kind="stable")
    grouped = image_idxs[order][by_image]
    position = np.arange(len(grouped))
    begins = np.maximum.accumulate(np.where(np.diff(grouped, prepend=-1) != 0, position, 0))
    rank = np.empty(len(order), dtype=np.int64)
    rank[by_image] = position - begins  # 0 for the first caption of an image in `order`, 1 for the second, …
    return order[np.argsort(rank, kind="stable")[:count]]


def hash_files(base_dir: Path, pca_features: bool = True) -> dict[str, str]:
    """SHA-256 of every file that `load_coco_data` reads, by file name."""
    names = [CAPTIONS, VOCABULARY]
    for part in PARTS:
        names += [coco_files.features_name(part, pca_features), coco_files.urls_name(part)]
    return {name: files.sha256(base_dir / name) for name in names}


def sample_coco_minibatch(
    data: Mapping[str, Any], batch_size: int = 100, split: str = "train"
) -> tuple[ndarray, ndarray, list[str]]:
    """Draws captions at random, with repetition, by NumPy's global generator, as in the course.

    Args:
        data: from `load_coco_data`.
        batch_size: number of captions, N.
        split: "train" or "val".

    Returns:
        The captions (N, T) as word numbers, the features (N, D) of their images, and the images' addresses.
    """
    chosen = np.random.choice(len(data[f"{split}_captions"]), batch_size)
    images = data[f"{split}_image_idxs"][chosen]
    urls = [data[f"{split}_urls"][image] for image in images]
    return data[f"{split}_captions"][chosen], data[f"{split}_features"][images], urls


def decode_captions(captions: ndarray, idx_to_word: Sequence[str]) -> list[str] | str:
    """Turns word numbers into text up to and including <END>, without <NULL>.

    Args:
        captions: (N, T) word numbers of N captions, or (T,) of one caption.
        idx_to_word: the vocabulary.

    Returns:
        A list of N captions, or one caption.
    """
    if captions.ndim == 1:
        return decode_caption(captions, idx_to_word)
    return [decode_caption(caption, idx_to_word) for caption in captions]


def decode_caption(caption: ndarray, idx_to_word: Sequence[str]) -> str:
    """Turns the word numbers (T,) of one caption into text, like `decode_captions`."""
    words = [idx_to_word[number] for number in caption]
    words = words[: words.index(END) + 1] if END in words else words
    return " ".join(word for word in words if word != NULL)
