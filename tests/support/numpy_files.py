"""Files for hw_numpy's tests: MNIST in its own format, and the course's captioning files."""

import gzip
import io
import json
import struct

import h5py
import numpy as np
from PIL import Image

WORDS = ["<NULL>", "<START>", "<END>", "<UNK>", "a", "dog", "cat", "sits"]
TRAIN = np.array([[1, 4, 5, 2, 0], [1, 4, 5, 7, 2], [1, 6, 7, 2, 0], [1, 5, 2, 0, 0], [1, 4, 6, 2, 0]], dtype=np.int32)
TRAIN_IMAGES = np.array([0, 0, 1, 2, 1], dtype=np.int32)
VAL, VAL_IMAGES = TRAIN[:2], np.array([1, 0], dtype=np.int32)
CAPTIONS, VOCABULARY, FEATURES = "coco2014_captions.h5", "coco2014_vocab.json", "train2014_vgg16_fc7_pca.h5"
COUNTS = {"train": 24, "t10k": 5}


def idx(array):
    """The bytes of an IDX file."""
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_mnist(folder, packed=True, **replaced):
    """Writes small files in MNIST's format; `replaced` has other bytes, such as train_images=…, or None for no file."""
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    written = {}
    for part, count in COUNTS.items():
        generator = np.random.default_rng(count)
        written[f"{part}_images"] = generator.integers(0, 256, (count, 28, 28)).astype(np.uint8)
        written[f"{part}_labels"] = (np.arange(count) % 10).astype(np.uint8)
        for kind, dimensions in (("images", 3), ("labels", 1)):
            content = replaced.get(f"{part}_{kind}", idx(written[f"{part}_{kind}"]))
            name = f"{part}-{kind}-idx{dimensions}-ubyte"
            if content is not None and packed:
                (raw / f"{name}.gz").write_bytes(gzip.compress(content))
            elif content is not None:
                (raw / name).write_bytes(content)
    return written


def write_course_files(folder, urls=lambda part, i: f"http://127.0.0.1:9/{part}{i}.jpg"):
    """Writes the course's files without our own writer: three training and two validation images."""
    folder.mkdir(parents=True, exist_ok=True)
    with h5py.File(folder / CAPTIONS, "w") as file:
        file["train_captions"], file["train_image_idxs"] = TRAIN, TRAIN_IMAGES
        file["val_captions"], file["val_image_idxs"] = VAL, VAL_IMAGES
    for part, images in (("train", 3), ("val", 2)):
        for suffix, size in (("", 6), ("_pca", 4)):
            with h5py.File(folder / f"{part}2014_vgg16_fc7{suffix}.h5", "w") as file:
                file["features"] = np.random.default_rng(size).standard_normal((images, size)).astype(np.float32)
        (folder / f"{part}2014_urls.txt").write_text("".join(f"{urls(part, i)}\n" for i in range(images)))
    vocabulary = {"idx_to_word": WORDS, "word_to_idx": {word: number for number, word in enumerate(WORDS)}}
    (folder / VOCABULARY).write_text(json.dumps(vocabulary))
    return folder


def picture(number, format="PNG"):
    """An image file of one colour, wider than high."""
    buffer = io.BytesIO()
    Image.new("RGB", (40, 20), (20 * number, 255 - 20 * number, 90)).save(buffer, format)
    return buffer.getvalue()


def write_folder(folder, contents):
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder
