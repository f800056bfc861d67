"""Caption files: their content, and damaged or malicious files, which are refused."""

import json
import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy_files import CAPTIONS, FEATURES, TRAIN, TRAIN_IMAGES, VAL, VAL_IMAGES, VOCABULARY, WORDS, write_course_files
from PIL import Image

from hw_common.data.images import DECODER
from hw_common.runs.errors import UserError
from hw_numpy import coco_files, coco_utils
from hw_numpy.coco_sample import write_sample


@pytest.fixture
def course(tmp_path):
    return write_course_files(tmp_path / "coco captioning")


def refusal(folder, **kwargs):
    with pytest.raises(UserError) as caught:
        coco_utils.load_coco_data(folder, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ── loading ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("pca", [True, False])
def test_the_courses_files_are_read(course, pca):
    data = coco_utils.load_coco_data(course, pca_features=pca)
    assert set(data) == {f"{part}_{what}" for part in ("train", "val") for what in
                         ("captions", "image_idxs", "features", "urls")} | {"idx_to_word", "word_to_idx"}  # fmt: skip
    np.testing.assert_array_equal(data["train_captions"], TRAIN)
    np.testing.assert_array_equal(data["val_image_idxs"], VAL_IMAGES)
    assert data["train_features"].shape == (3, 4 if pca else 6) and data["train_features"].dtype == np.float32
    assert data["val_urls"] == ["http://127.0.0.1:9/val0.jpg", "http://127.0.0.1:9/val1.jpg"]
    assert data["idx_to_word"] == WORDS and data["word_to_idx"]["cat"] == 6
    assert coco_files.read_source(course) == "COCO 2014"


def test_packed_files_are_read(course):
    with h5py.File(course / FEATURES, "r+") as file:
        numbers = file["features"][()]
        del file["features"]
        file.create_dataset("features", data=numbers.astype(">f8"), compression="gzip", shuffle=True, fletcher32=True)
    np.testing.assert_array_equal(coco_utils.load_coco_data(course)["train_features"], numbers)


@pytest.mark.parametrize("seed", range(8))
def test_few_captions_are_of_different_images_as_long_as_there_are_any(course, seed):
    chosen = {}
    for count in range(1, 6):
        data = coco_utils.load_coco_data(course, max_train=count, seed=seed)
        pairs = set(zip(map(bytes, TRAIN.astype(np.int64)), TRAIN_IMAGES, strict=True))
        found = list(zip(map(bytes, data["train_captions"]), data["train_image_idxs"], strict=True))
        assert set(found) <= pairs and len(set(found)) == count  # each with its own image, none twice
        assert len(set(data["train_image_idxs"])) == min(count, 3)
        chosen[count] = found
    assert chosen[4][:3] == chosen[3]


def test_the_draw_follows_the_seed_or_the_global_generator(course):
    def draw(seed):
        return coco_utils.load_coco_data(course, max_train=3, seed=seed)["train_captions"].tolist()

    assert draw(1) == draw(1)
    assert len({str(draw(seed)) for seed in range(10)}) > 3
    drawn = []
    for _ in range(2):
        np.random.seed(4)
        drawn.append(draw(None))
    assert drawn[0] == drawn[1]


def test_minibatches_have_captions_with_the_features_and_addresses_of_their_images(course):
    data = coco_utils.load_coco_data(course)
    captions, features, urls = coco_utils.sample_coco_minibatch(data, batch_size=50, split="train")
    assert captions.shape == (50, 5) and features.shape == (50, 4) and len(urls) == 50
    for caption, numbers, url in zip(captions, features, urls, strict=True):
        [row] = np.nonzero((TRAIN == caption).all(axis=1))[0]
        image = TRAIN_IMAGES[row]
        np.testing.assert_array_equal(numbers, data["train_features"][image])
        assert url == data["train_urls"][image]
    assert len({str(caption) for caption in captions}) == 5
    assert coco_utils.sample_coco_minibatch(data, 2, "val")[0].shape == (2, 5)


def test_captions_become_words():
    captions = np.array([[1, 4, 5, 2, 0], [1, 4, 2, 5, 2], [4, 0, 5, 5, 5]])
    assert coco_utils.decode_captions(captions, WORDS) == ["<START> a dog <END>", "<START> a <END>", "a dog dog dog"]
    assert coco_utils.decode_captions(captions[0], WORDS) == "<START> a dog <END>"


# ── files that anybody may have written ──────────────────────────────────────────────────────────────────────────────


def replace(name, make):
    """Damages one of the course's files: `make(file)` replaces a dataset."""

    def damage(folder):
        path = folder / (FEATURES if name == "features" else CAPTIONS)
        with h5py.File(path, "r+") as file:
            del file[name]
            made = make(file)
            if made is not None:
                file[name] = made

    return damage


def other_file(folder_of, name="secret.h5"):
    """An HDF5 file beside the data that must not be opened."""
    path = Path(folder_of.filename).parent.parent / name
    with h5py.File(path, "w") as file:
        file["features"] = np.ones((3, 4), np.float32)
    return path


def virtual(file):
    layout = h5py.VirtualLayout((3, 4), np.float32)
    layout[:] = h5py.VirtualSource(other_file(file), "features", (3, 4))
    file.create_virtual_dataset("features", layout)


def external_storage(file):
    path = Path(file.filename).parent.parent / "raw"
    path.write_bytes(bytes(48))
    file.create_dataset("features", (3, 4), np.float32, external=[(str(path), 0, 48)])


def nothing_written(shape, **kwargs):
    return lambda file: file.create_dataset("features", shape, np.float32, **kwargs) and None


def packed_with(**kwargs):
    return lambda file: file.create_dataset("features", data=np.ones((3, 4), np.float32), **kwargs) and None


def edit_vocabulary(change):
    def damage(folder):
        vocabulary = json.loads((folder / VOCABULARY).read_text())
        change(vocabulary)
        (folder / VOCABULARY).write_text(json.dumps(vocabulary))

    return damage


def changed(array, row, column, value):
    array = array.copy()
    array[row, column] = value
    return array


DAMAGES = {
    "no captions": (lambda f: (f / CAPTIONS).unlink(), "is missing; fetch https://cs231n.stanford.edu"),
    "no features": (lambda f: (f / FEATURES).unlink(), "fc7_pca.h5 is missing"),
    "empty": (lambda f: (f / FEATURES).write_bytes(b""), "is damaged or not an HDF5 file"),
    "no HDF5": (lambda f: (f / FEATURES).write_bytes(b"features" * 99), "is damaged or not an HDF5 file"),
    "cut short": (lambda f: os.truncate(f / FEATURES, 1500), "is damaged or not an HDF5 file"),
    "no dataset": (replace("features", lambda file: None), "features is missing in the file"),
    "external link": (
        replace("features", lambda file: h5py.ExternalLink(other_file(file), "features")),
        "is a link, which is not followed",
    ),
    "soft link": (replace("features", lambda file: h5py.SoftLink("/elsewhere")), "is a link, which"),
    "soft link to an external one": (
        replace("features", lambda file: [
            file.__setitem__("out", h5py.ExternalLink(other_file(file), "/")), h5py.SoftLink("/out/features")
        ][1]),
        "is a link, which",
    ),
    "virtual": (replace("features", virtual), "keeps its data in another file, which is not opened"),
    "external storage": (replace("features", external_storage), "keeps its data in another file"),
    "group": (replace("features", lambda file: file.create_group("features") and None), "features is not an array"),
    "type": (replace("features", lambda file: np.dtype("f4")), "features is not an array"),
    "words": (replace("features", lambda file: np.array([[b"a", b"b"]])), "expected floating-point numbers"),
    "text": (replace("features", lambda file: "text"), "holds object, expected floating-point numbers"),
    "whole numbers": (replace("features", lambda file: np.ones((3, 4), int)), "holds int64, expected floating-point"),
    "records": (replace("features", lambda file: np.zeros((3, 4), [("a", "f4")])), "expected floating-point numbers"),
    "long doubles": (replace("features", lambda file: np.zeros((3, 4), np.longdouble)), "expected floating-point"),
    "one axis": (replace("features", lambda file: np.ones(3, np.float32)), r"has shape (3,), expected 2 axes"),
    "no shape": (replace("features", lambda file: h5py.Empty("f4")), "has shape None, expected 2 axes"),
    "gigantic": (replace("features", nothing_written((2**40, 2**20))), "more than the limit of 2147483648"),
    "never written": (replace("features", nothing_written((3, 10**8))), "is declared with 1200000000 bytes, but has"),
    "sparse": (
        replace("features", nothing_written((10**4, 10**4), chunks=(1, 10), compression="gzip")), "with 400000000 bytes"
    ),
    "large pieces": (
        replace("features", nothing_written((3, 4), chunks=(2**15, 2**13), maxshape=(None, None))),
        "is stored in chunks of (32768, 8192), more than the limit of 134217728 bytes",
    ),
    "plug-in": (replace("features", packed_with(compression="lzf")), "is packed with HDF5 filters [32000]"),
    "not finite": (
        replace("features", lambda file: np.array([[1, np.nan], [1, 2], [3, 4]], np.float32)), "are not finite"
    ),
    "other width": (
        replace("features", lambda file: np.ones((3, 5), np.float32)), "the training images have 5"
    ),
    "fewer images": (replace("features", lambda file: np.ones((2, 4), np.float32)), "names image 2, but"),
    "floats as captions": (replace("train_captions", lambda file: TRAIN / 2), "holds float64, expected whole numbers"),
    "unknown word": (
        replace("val_captions", lambda file: changed(VAL, 1, 2, 8)),
        "val_captions holds the word 8, the vocabulary has 0 to 7",
    ),
    "negative word": (replace("train_captions", lambda file: changed(TRAIN, 1, 2, -1)), "holds the word -1"),
    "no start": (
        replace("train_captions", lambda file: changed(TRAIN, 1, 0, 4)), "a caption that does not begin with <START>"
    ),
    "no captions at all": (replace("train_captions", lambda file: TRAIN[:0]), "has shape (0, 5), expected captions"),
    "short captions": (replace("train_captions", lambda file: TRAIN[:, :1]), "expected captions of at least two words"),
    "lengths": (replace("train_image_idxs", lambda file: TRAIN_IMAGES[:3]), "differ in length: 5 and 3"),
    "image": (replace("val_image_idxs", lambda file: np.array([0, 2])), "val_image_idxs names image 2"),
    "no vocabulary": (lambda f: (f / VOCABULARY).unlink(), "cannot read"),
    "no JSON": (lambda f: (f / VOCABULARY).write_text("{"), "is damaged"),
    "deep JSON": (lambda f: (f / VOCABULARY).write_text("[" * 10**5), "is damaged"),
    "a list": (lambda f: (f / VOCABULARY).write_text("[]"), "is not a vocabulary: expected idx_to_word"),
    "disagreement": (edit_vocabulary(lambda v: v["word_to_idx"].update(a=5, dog=4)), "does not fit idx_to_word"),
    "twice": (edit_vocabulary(lambda v: v["idx_to_word"].append("a")), "or a word occurs twice"),
    "numbers": (edit_vocabulary(lambda v: v["idx_to_word"].append(3)), "is not a vocabulary"),
    "no <END>": (
        edit_vocabulary(lambda v: (v["idx_to_word"].__setitem__(2, "x"), v["word_to_idx"].update(x=2),
                                   v["word_to_idx"].pop("<END>"))),
        "lacks the word <END>, expected <NULL>, <START>, <END>, <UNK>",
    ),
    "no addresses": (lambda f: (f / "val2014_urls.txt").unlink(), "cannot read"),
    "more addresses": (lambda f: (f / "val2014_urls.txt").write_text("a\nb\nc\n"), "has 3 lines, expected one"),
    "no text": (lambda f: (f / "val2014_urls.txt").write_bytes(b"\xff\n\xff\n"), "is damaged"),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "message"), DAMAGES.values(), ids=DAMAGES)
def test_damaged_files_are_refused(course, damage, message):
    damage(course)
    assert message in refusal(course)


@pytest.mark.parametrize("content", [b"\xef\xbb\xbfa.jpg\nb.jpg\n", b"a.jpg\r\nb.jpg\r\n \r\n", b"a.jpg\nb.jpg\n\n\n"])
def test_addresses_may_have_a_mark_at_the_start_and_blank_lines_at_the_end(course, content):
    (course / "val2014_urls.txt").write_bytes(content)
    assert coco_utils.load_coco_data(course)["val_urls"] == ["a.jpg", "b.jpg"]


def test_files_of_more_than_a_sensible_size_are_not_read(course, monkeypatch):
    monkeypatch.setattr(coco_files, "_LARGEST_TEXT", 10)
    assert "more than the limit of 10" in refusal(course)
    monkeypatch.undo()
    monkeypatch.setattr(coco_files, "_LARGEST_ARRAY", 50)
    assert "train_captions takes 200 bytes, more than the limit of 50" in refusal(course)


@pytest.mark.parametrize("content", ["[]", "{}", '{"name": 3}', '{"name": "a\\nb"}', '{"name": "$x$"}', "{"])
def test_a_damaged_source_is_refused(course, content):
    (course / coco_files.SOURCE).write_text(content)
    with pytest.raises(UserError, match="coco2014_source.json is damaged"):
        coco_files.read_source(course)


@pytest.mark.parametrize(
    ("decoder", "lines"), [("", 1), (', "decoder": "of 2025"', 1), (f', "decoder": "{DECODER}"', 0)]
)
def test_features_of_another_decoder_are_recognized(course, capsys, decoder, lines):
    (course / coco_files.SOURCE).write_text(f'{{"name": "my photos"{decoder}}}')
    assert coco_files.read_source(course) == "my photos"
    printed = capsys.readouterr().err
    assert printed.count("\n") == printed.count("were made with another decoder of images") == lines


def test_the_sample_is_the_same_every_time_and_says_what_it_shows(tmp_path):
    hashes = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_sample(tmp_path / name)
        hashes.append(coco_utils.hash_files(tmp_path / name))
    assert hashes[0] == hashes[1] and len(hashes[0]) == 6
    data = coco_utils.load_coco_data(tmp_path / "one")
    assert "sample" in coco_files.read_source(tmp_path / "one")
    assert len(np.unique(data["train_features"], axis=0)) == len(data["train_urls"]) == 200
    colours = {"red": (213, 50, 40), "blue": (0, 90, 178), "green": (0, 140, 90), "yellow": (240, 220, 60)}
    for caption, image in zip(data["train_captions"][:40], data["train_image_idxs"], strict=False):
        words = coco_utils.decode_captions(caption, data["idx_to_word"]).split()
        pixels = np.asarray(Image.open(tmp_path / "one" / data["train_urls"][image]), dtype=int)
        for name, colour in colours.items():
            seen = (np.abs(pixels - colour).sum(axis=2) < 60).sum() > 20
            assert seen == (name in words)
