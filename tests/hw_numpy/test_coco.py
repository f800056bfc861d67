"""Caption files, their builder, and pictures: what they give, and what they refuse of files that anybody may write."""

import contextlib
import http.server
import io
import json
import os
import struct
import tarfile
import threading
import time
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from numpy_files import CAPTIONS, FEATURES, TRAIN, TRAIN_IMAGES, VAL, VAL_IMAGES, VOCABULARY, WORDS, write_course_files
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from hw_common.runs.errors import UserError
from hw_numpy import coco_build, coco_files, coco_sources, coco_utils, image_utils
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
    """Damages a file of the course: `make(file)` puts something else in place of a dataset."""

    def damage(folder):
        path = folder / (FEATURES if name == "features" else CAPTIONS)
        with h5py.File(path, "r+") as file:
            del file[name]
            made = make(file)
            if made is not None:
                file[name] = made

    return damage


def other_file(folder_of, name="secret.h5"):
    """An HDF5 file beside the data, that must not be opened."""
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
    "no captions": (lambda f: (f / CAPTIONS).unlink(), "is missing; name the folder that has the course's"),
    "no features": (lambda f: (f / FEATURES).unlink(), "fc7_pca.h5 is missing"),
    "empty": (lambda f: (f / FEATURES).write_bytes(b""), "is damaged or no HDF5 file"),
    "no HDF5": (lambda f: (f / FEATURES).write_bytes(b"features" * 99), "is damaged or no HDF5 file"),
    "cut short": (lambda f: os.truncate(f / FEATURES, 1500), "is damaged or no HDF5 file"),
    "no dataset": (replace("features", lambda file: None), "features is missing in the file"),
    "external link": (
        replace("features", lambda file: h5py.ExternalLink(other_file(file), "features")),
        "is a link to elsewhere, which is not followed",
    ),
    "soft link": (replace("features", lambda file: h5py.SoftLink("/elsewhere")), "is a link to elsewhere"),
    "soft link to an external one": (
        replace("features", lambda file: [
            file.__setitem__("out", h5py.ExternalLink(other_file(file), "/")), h5py.SoftLink("/out/features")
        ][1]),
        "is a link to elsewhere",
    ),
    "virtual": (replace("features", virtual), "has its numbers in another file, which is not opened"),
    "external storage": (replace("features", external_storage), "has its numbers in another file"),
    "group": (replace("features", lambda file: file.create_group("features") and None), "features is no array"),
    "type": (replace("features", lambda file: np.dtype("f4")), "features is no array"),
    "words": (replace("features", lambda file: np.array([[b"a", b"b"]])), "expected floating-point numbers"),
    "text": (replace("features", lambda file: "text"), "holds object, expected floating-point numbers"),
    "whole numbers": (replace("features", lambda file: np.ones((3, 4), int)), "holds int64, expected floating-point"),
    "records": (replace("features", lambda file: np.zeros((3, 4), [("a", "f4")])), "expected floating-point numbers"),
    "long doubles": (replace("features", lambda file: np.zeros((3, 4), np.longdouble)), "expected floating-point"),
    "one axis": (replace("features", lambda file: np.ones(3, np.float32)), r"has shape (3,), expected 2 axes"),
    "no shape": (replace("features", lambda file: h5py.Empty("f4")), "has shape None, expected 2 axes"),
    "gigantic": (replace("features", nothing_written((2**40, 2**20))), "more than the limit of 2147483648"),
    "never written": (replace("features", nothing_written((3, 10**8))), "claims 1200000000 bytes, but the file holds"),
    "sparse": (
        replace("features", nothing_written((10**4, 10**4), chunks=(1, 10), compression="gzip")), "claims 400000000"
    ),
    "large pieces": (
        replace("features", nothing_written((3, 4), chunks=(2**15, 2**13), maxshape=(None, None))),
        "is stored in pieces of (32768, 8192), more than the limit of 134217728 bytes",
    ),
    "plug-in": (replace("features", packed_with(compression="lzf")), "is packed with HDF5 filters [32000]"),
    "not finite": (
        replace("features", lambda file: np.array([[1, np.nan], [1, 2], [3, 4]], np.float32)), "are not finite"
    ),
    "other width": (
        replace("features", lambda file: np.ones((3, 5), np.float32)), "has 4 features an image, those for training 5"
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
    "short captions": (replace("train_captions", lambda file: TRAIN[:, :1]), "expected captions of two words and more"),
    "lengths": (replace("train_image_idxs", lambda file: TRAIN_IMAGES[:3]), "differ in length: 5 and 3"),
    "image": (replace("val_image_idxs", lambda file: np.array([0, 2])), "val_image_idxs names image 2"),
    "no vocabulary": (lambda f: (f / VOCABULARY).unlink(), "cannot read"),
    "no JSON": (lambda f: (f / VOCABULARY).write_text("{"), "is damaged"),
    "deep JSON": (lambda f: (f / VOCABULARY).write_text("[" * 10**5), "is damaged"),
    "a list": (lambda f: (f / VOCABULARY).write_text("[]"), "is no vocabulary: expected idx_to_word"),
    "disagreement": (edit_vocabulary(lambda v: v["word_to_idx"].update(a=5, dog=4)), "does not fit idx_to_word"),
    "twice": (edit_vocabulary(lambda v: v["idx_to_word"].append("a")), "or a word stands there twice"),
    "numbers": (edit_vocabulary(lambda v: v["idx_to_word"].append(3)), "is no vocabulary"),
    "no <END>": (
        edit_vocabulary(lambda v: (v["idx_to_word"].__setitem__(2, "x"), v["word_to_idx"].update(x=2),
                                   v["word_to_idx"].pop("<END>"))),
        "has no word <END>, expected <NULL>, <START>, <END>, <UNK>",
    ),
    "no addresses": (lambda f: (f / "val2014_urls.txt").unlink(), "cannot read"),
    "more addresses": (lambda f: (f / "val2014_urls.txt").write_text("a\nb\nc\n"), "has 3 lines, expected one"),
    "no text": (lambda f: (f / "val2014_urls.txt").write_bytes(b"\xff\n\xff\n"), "is damaged"),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "message"), DAMAGES.values(), ids=DAMAGES)
def test_damaged_files_are_refused(course, damage, message):
    damage(course)
    assert message in refusal(course)


def test_files_of_more_than_a_sensible_size_are_not_read(course, monkeypatch):
    monkeypatch.setattr(coco_files, "_LARGEST_TEXT", 10)
    assert "more than the limit of 10" in refusal(course)
    monkeypatch.undo()
    monkeypatch.setattr(coco_files, "_LARGEST_ARRAY", 50)
    assert "train_captions has 100 bytes, more than the limit of 50" in refusal(course)


@pytest.mark.parametrize("content", ["[]", "{}", '{"name": 3}', '{"name": "a\\nb"}', '{"name": "$x$"}', "{"])
def test_a_damaged_source_is_refused(course, content):
    (course / coco_files.SOURCE).write_text(content)
    with pytest.raises(UserError, match="coco2014_source.json is damaged"):
        coco_files.read_source(course)


# ── building ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def picture(number, format="PNG"):
    """An image file of one colour, wider than high."""
    buffer = io.BytesIO()
    Image.new("RGB", (40, 20), (20 * number, 255 - 20 * number, 90)).save(buffer, format)
    return buffer.getvalue()


def karpathy(images=((("train", ["A dog sits .", "the dog sits"])), ("restval", ["a cat"]), ("val", ["a bird sits"]),
                     ("test", ["a nobody"]))):  # fmt: skip
    """Files of a data set in Karpathy's form, by name."""
    entries = [
        {"filename": f"{i}.png", "split": split,
         "sentences": [{"tokens": text.split(), "raw": "not these"} for text in texts]}
        for i, (split, texts) in enumerate(images)
    ]  # fmt: skip
    return {"dataset.json": json.dumps({"images": entries}).encode(),
            **{f"images/{i}.png": picture(i) for i in range(len(images))}}  # fmt: skip


def flickr(count=11):
    """Files of a data set in Flickr8k's form, by name: two captions an image."""
    lines = [f'{i}.jpg,"{text}"\n' for i in range(count) for text in (f"Dog number {i} .", "A dog, outside")]
    return {"captions.txt": ("image,caption\n" + "".join(lines)).encode(),
            **{f"Images/{i}.jpg": picture(i, "JPEG") for i in range(count)}}  # fmt: skip


def write_folder(folder, contents):
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def write_tar(path, contents, mode="w", extra=()):
    with tarfile.open(path, mode) as tar:
        for name, content in contents.items():
            member = tarfile.TarInfo(f"data set/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for member in extra:
            tar.addfile(member)
    return path


@pytest.fixture
def network(monkeypatch):
    """A network that is loaded in no time: 512 mixtures of the mean colours."""
    torch.manual_seed(0)
    small = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 512)).eval()
    monkeypatch.setattr(coco_build, "_load_network", lambda *arguments: small)
    return small


def build(source, folder, **kwargs):
    facts = coco_build.build(source, folder, "none", image_size=8, threads=1, **kwargs)
    return facts, coco_utils.load_coco_data(folder, pca_features=True)


@pytest.mark.parametrize("kind", ["folder", "w", "w:gz"])
def test_karpathys_form(tmp_path, network, kind):
    if kind == "folder":
        source = write_folder(tmp_path / "in it", karpathy())
    else:
        source = write_tar(tmp_path / "in it.tar.x", karpathy(), kind)
    facts, data = build(source, tmp_path / "new" / "made of it")
    assert facts["name"] == "in it" and facts["training"] == "3 captions of 2 images"
    assert coco_files.read_source(tmp_path / "new" / "made of it") == "in it"
    words = data["idx_to_word"]
    assert words == ["<NULL>", "<START>", "<END>", "<UNK>", "a", "dog", "sits", "cat", "the"]  # by frequency, then A-Z
    assert coco_utils.decode_captions(data["train_captions"], words) == [
        "<START> a dog sits <END>", "<START> the dog sits <END>", "<START> a cat <END>",
    ]  # fmt: skip
    assert data["train_image_idxs"].tolist() == [0, 0, 1]
    assert coco_utils.decode_captions(data["val_captions"], words) == ["<START> a <UNK> sits <END>"]
    assert data["train_captions"].shape[1] == data["val_captions"].shape[1] == 5
    # Each image's features are its own, and its copy shows it.
    for part, numbers in (("train", (0, 1)), ("val", (2,))):
        for row, number in enumerate(numbers):
            copy = Image.open(tmp_path / "new" / "made of it" / data[f"{part}_urls"][row])
            assert copy.size == (40, 20) and abs(copy.getpixel((5, 5))[0] - 20 * number) < 5
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"made of it"}


def test_features_are_the_networks_and_pca_keeps_their_distances(tmp_path, network):
    source = write_folder(tmp_path / "in", flickr())
    build(source, tmp_path / "out")
    raw, pca = (coco_utils.load_coco_data(tmp_path / "out", pca_features=flag) for flag in (False, True))
    mean, std = torch.tensor(coco_build._MEAN), torch.tensor(coco_build._STD)
    colours = torch.tensor([[20 * i, 255 - 20 * i, 90] for i in range(11) if i != 9]) / 255
    with torch.inference_mode():
        expected = network[2]((colours - mean) / std).numpy()
    scale = np.linalg.norm(raw["train_features"]) / np.linalg.norm(expected)
    np.testing.assert_allclose(raw["train_features"], scale * expected, atol=0.05 * scale)  # JPEG changes colours
    assert raw["train_features"].shape == (10, 512) and pca["train_features"].shape == (10, 9)
    both = [np.concatenate((data["train_features"], data["val_features"])) for data in (raw, pca)]
    distances = [np.linalg.norm(rows[:, None] - rows[None], axis=2) for rows in both]
    np.testing.assert_allclose(*distances, rtol=1e-3, atol=1e-3)  # all images lie on a line, which PCA keeps
    assert pca["train_features"].var() == pytest.approx(1, rel=1e-4)


def test_flickrs_form_has_every_tenth_image_for_validation(tmp_path, network):
    _, data = build(write_folder(tmp_path / "in", flickr(20)), tmp_path / "out")
    words = data["idx_to_word"]
    assert len(data["train_urls"]) == 18 and len(data["val_urls"]) == 2
    assert coco_utils.decode_captions(data["val_captions"], words) == [
        "<START> dog number <UNK> <END>", "<START> a dog outside <END>",
        "<START> dog number <UNK> <END>", "<START> a dog outside <END>",
    ]  # fmt: skip
    assert "<START> dog number 8 <END>" in coco_utils.decode_captions(data["train_captions"], words)


def test_rare_words_become_unknown(tmp_path, network):
    facts, data = build(write_folder(tmp_path / "in", karpathy()), tmp_path / "out", min_count=2)
    assert data["idx_to_word"][4:] == ["a", "dog", "sits"] and facts["vocabulary"].startswith("7 words")
    assert coco_utils.decode_captions(data["train_captions"][2], data["idx_to_word"]) == "<START> a <UNK> <END>"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Two-year-old's DOG , running .", ["two-year-old's", "dog", "running"]),
        ("tri-colored -dog- 'quoted' 3 O’Neill", ["tri-colored", "dog", "quoted", "3", "o’neill"]),
        ("größte über_alles", ["größte", "über", "alles"]),
    ],
)
def test_words_of_a_caption(text, words):
    assert coco_sources.split_words(text, "here") == words


@pytest.mark.parametrize("text", ["", " . ,", "word " * 101])
def test_captions_of_no_words_or_too_many_are_refused(text):
    with pytest.raises(UserError, match=r"^line 3 has a caption of \d+ words, expected 1 to 100"):
        coco_sources.split_words(text, "line 3")


def without(contents, name):
    return {key: value for key, value in contents.items() if key != name}


def dataset(*images):
    return {"dataset.json": json.dumps({"images": images}).encode(), "0.png": picture(0), "1.png": picture(1)}


def entry(filename="0.png", split="train", sentences=({"tokens": ["a"]},)):
    return {"filename": filename, "split": split, "sentences": sentences}


BAD_SOURCES = {
    "nothing": ({"x.txt": b""}, "has neither, expected either dataset.json or captions.txt"),
    "both": ({**karpathy(), **flickr()}, "has dataset.json and captions.txt, expected either"),
    "two of a kind": ({**karpathy(), "old/dataset.json": b""}, "has 2 files called 'dataset.json', expected one"),
    "image missing": (without(karpathy(), "images/1.png"), "names the image '1.png', which is missing"),
    "image twice": ({**karpathy(), "old/1.png": b""}, "has 2 files called '1.png'"),
    "image damaged": ({**karpathy(), "images/1.png": picture(1)[:60]}, "'1.png' in "),
    "image no image": ({**karpathy(), "images/1.png": b"<html>"}, "is not an image that Pillow can read"),
    "image a program": (
        {**karpathy(), "images/1.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n"},
        "is an EPS file",
    ),
    "no JSON": ({**karpathy(), "dataset.json": b"{"}, "is damaged"),
    "deep JSON": ({**karpathy(), "dataset.json": b"[" * 10**5}, "is damaged"),
    "no UTF-8": ({**karpathy(), "dataset.json": b"\xff\xfe"}, "is damaged"),
    "other JSON": ({**karpathy(), "dataset.json": b"[3]"}, "is not as expected: images, each with filename, split"),
    "no tokens": (dataset(entry(sentences=[{"raw": "a dog"}])), "and sentences with tokens"),
    "numbers as tokens": (dataset(entry(sentences=[{"tokens": [1]}])), "and sentences with tokens"),
    "no sentences": (dataset(entry(sentences=[])), "has the filename '0.png' and 0 sentences"),
    "number as name": (dataset(entry(filename=0)), "has the filename 0 and 1 sentences"),
    "path as name": (dataset(entry(), entry("../../1.png", "val")), "names the image '../../1.png', which is missing"),
    "unknown split": (dataset(entry(split="trian")), "image 0 has the split 'trian', expected train, restval, val"),
    "no training": (dataset(entry(split="val")), "has no images for training"),
    "no validation": (dataset(entry()), "has no images for validation"),
    "empty caption": (dataset(entry(sentences=[{"tokens": ["."]}])), "image 0 has a caption of 0 words"),
    "no header": ({**flickr(), "captions.txt": b"0.jpg,a dog\n"}, "begins with '0.jpg,a dog', expected the line"),
    "three columns": ({**flickr(), "captions.txt": b"image,caption\n0.jpg,a,b\n"}, "line 2: 3 columns, expected two"),
    "quote": ({**flickr(), "captions.txt": b'image,caption\n0.jpg,"a"b\n'}, "line 2: "),
    "few": (flickr(9), "has no images for validation"),
}


@pytest.mark.parametrize(("contents", "message"), BAD_SOURCES.values(), ids=BAD_SOURCES)
def test_bad_sources_are_refused_and_leave_nothing(tmp_path, network, contents, message):
    source = write_folder(tmp_path / "in", contents)
    with pytest.raises(UserError) as caught:
        build(source, tmp_path / "out")
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert {path.name for path in tmp_path.iterdir()} == {"in"}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "is no folder and no tar archive"),
        (lambda path: path.write_bytes(b""), "is no folder and no tar archive"),
        (lambda path: path.write_bytes(b"tar?" * 999), "is no folder and no tar archive"),
        (lambda path: os.truncate(path, 3000), "unexpected end of data|is no folder and no tar archive|cannot read"),
    ],
)
def test_damaged_archives_are_refused(tmp_path, network, damage, message):
    path = write_tar(tmp_path / "in.tar", karpathy())
    damage(path)
    with pytest.raises(UserError, match=message) as caught:
        build(path, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_nothing_of_an_archive_is_written_anywhere(tmp_path, network):
    """Names that lead out, links and devices: files are read in the archive, and only those that are asked for."""
    link, device = tarfile.TarInfo("data set/images/0.png"), tarfile.TarInfo("data set/device")
    link.type, link.linkname, device.type = tarfile.SYMTYPE, "/etc/passwd", tarfile.FIFOTYPE
    contents = karpathy()
    out = {"../../outside.txt": b"x", "/absolute.txt": b"x"}
    path = write_tar(tmp_path / "in.tar", {**contents, **out},
                     extra=(link, device))  # fmt: skip
    _, data = build(path, tmp_path / "folder" / "out")
    names = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    images = {f"folder/out/{url}" for part in ("train", "val") for url in data[f"{part}_urls"]}
    assert names - {"in.tar"} == images | {f"folder/out/{name}" for name in (
        CAPTIONS, VOCABULARY, coco_files.SOURCE,
        *(f"{part}2014_{what}" for part in ("train", "val")
          for what in ("urls.txt", "vgg16_fc7.h5", "vgg16_fc7_pca.h5")),
    )}  # fmt: skip


def test_files_in_sources_have_a_largest_size(tmp_path, monkeypatch):
    source = coco_sources.Source(write_folder(tmp_path / "in", {"a": b"12345"}))
    assert source.read("a", largest=5) == b"12345"
    with pytest.raises(UserError, match="'a' in .* has more than 4 bytes"):
        source.read("a", largest=4)


def test_what_exists_is_not_touched(tmp_path, network):
    source = write_folder(tmp_path / "in", karpathy())
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    with pytest.raises(UserError, match="out exists already and is not touched"):
        build(source, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


def test_an_interrupted_build_leaves_nothing(tmp_path, network, monkeypatch):
    monkeypatch.setattr(coco_files, "write", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        build(write_folder(tmp_path / "in", karpathy()), tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"in"}


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path, network):
    source = write_folder(tmp_path / "in", karpathy())
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot make .*: Not a directory"):
        build(source, tmp_path / "file" / "out")


# ── the network of the features ──────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def resnet():
    from torchvision.models import resnet18

    torch.manual_seed(3)
    return resnet18(num_classes=10).eval()


def test_weights_of_a_file_are_used_but_for_the_last_layer(tmp_path, resnet):
    """The features are what goes into the last layer, however many classes that had."""
    half = {name: t.half() if t.is_floating_point() else t for name, t in resnet.state_dict().items()}
    save_file(half, tmp_path / "weights.safetensors")
    loaded = coco_build._load_network(str(tmp_path / "weights.safetensors"), tmp_path, threads=1)
    image = torch.rand(1, 3, 32, 32)
    with torch.inference_mode():
        expected = nn.Sequential(*list(resnet.children())[:-1])(image).flatten(1)
        np.testing.assert_allclose(loaded(image), expected, atol=5e-3)
    assert not loaded.training


def test_weights_of_another_network_are_refused(tmp_path, resnet):
    state = {name: tensor for name, tensor in resnet.state_dict().items() if name != "conv1.weight"}
    save_file({**state, "extra": torch.ones(1)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match=r"do not fit this network: conv1.weight: missing, expected .*; extra: \(1,\)"):
        coco_build._load_network(str(tmp_path / "other.safetensors"), tmp_path, 1)


def test_without_network_the_imagenet_weights_are_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *a, **k: (_ for _ in ()).throw(OSError("no network")))
    source = write_folder(tmp_path / "in", karpathy())
    with pytest.raises(UserError, match=r"cannot download ImageNet's weights .* \(no network\); .* --weights none"):
        coco_build.build(source, tmp_path / "out", data_dir=tmp_path / "data")
    assert {path.name for path in tmp_path.iterdir()} == {"in"}


def test_random_weights_are_the_same_every_time(tmp_path):
    first, second = (coco_build._load_network("none", tmp_path, 1).conv1.weight for _ in range(2))
    assert (first == second).all()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--weights", "imagenett"], "--weights imagenett: there is no such file; expected imagenet, none or a file"),
        (["--image_size", "0"], "--image_size: expected a whole number from 1"),
        (["--image_size", "9999"], "--image_size 9999 is more than the limit of 1024 pixels"),
        (["--min_count", "-1"], "--min_count: expected a whole number from 1"),
        (["--wights", "none"], "unrecognized arguments: --wights"),
    ],
)
def test_wrong_flags_of_the_builder_are_one_clear_line(tmp_path, flags, message):
    with pytest.raises(UserError) as caught:
        coco_build.main(["nowhere", str(tmp_path / "out"), *flags])
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_the_builders_command_says_what_it_made(tmp_path, network, capsys):
    source = write_folder(tmp_path / "in", karpathy())
    coco_build.main([str(source), str(tmp_path / "out"), "--weights", "none", "--image_size", "8"])
    output = capsys.readouterr().out
    assert "training: 3 captions of 2 images\nvalidation: 1 captions of 1 images\n" in output
    assert output.endswith(f"all of it is in {tmp_path / 'out'}\n")
    with pytest.raises(SystemExit) as caught:
        coco_build.main(["--help"])
    assert caught.value.code == 0 and "python -m hw_numpy.coco_build flickr1k.tar" in capsys.readouterr().out


# ── the sample ───────────────────────────────────────────────────────────────────────────────────────────────────────


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


# ── pictures from the web ────────────────────────────────────────────────────────────────────────────────────────────


class Handler(http.server.BaseHTTPRequestHandler):
    """A server with a picture and several ways not to send one."""

    asked = []

    def do_GET(self):
        self.asked.append(self.path)
        with contextlib.suppress(OSError):  # the client hangs up
            getattr(self, f"send_{self.path.partition('.')[0].strip('/')}")()

    def reply(self, status, content=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def send_picture(self):
        self.reply(200, picture(3))

    def send_missing(self):
        self.reply(404, b"not here")

    def send_page(self):
        self.reply(200, b"<html>a page in place of a picture</html>")

    def send_large(self):
        self.reply(200, picture(3) + bytes(100_000))

    def send_moved(self):
        self.reply(302, Location="/picture.png")

    def send_file(self):
        self.reply(302, Location="file:///etc/passwd")

    def send_circle(self):
        self.reply(302, Location="/circle.png")

    def send_drip(self):
        self.reply(200)
        for _ in range(30):
            time.sleep(0.1)
            self.wfile.write(b"x")
            self.wfile.flush()

    def send_nonsense(self):
        self.wfile.write(b"\0\0\0 this is not HTTP\r\n\r\n")

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    Handler.asked = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.daemon_threads = True
        threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


GREY = np.full((192, 256, 3), 200)


@pytest.mark.parametrize("name", ["picture.png", "moved.png"])
def test_a_picture_comes_from_the_web_and_then_from_the_cache(server, tmp_path, name):
    for _ in range(2):
        image = image_utils.image_from_url(f"{server}/{name}", cache_dir=tmp_path / "cache")
        assert image.shape == (20, 40, 3) and tuple(image[5, 5]) == (60, 195, 90)
    assert Handler.asked == ["/picture.png"] if name == "picture.png" else ["/moved.png", "/picture.png"]
    [cached] = (tmp_path / "cache").iterdir()
    cached.write_bytes(b"damaged")
    assert image_utils.image_from_url(f"{server}/{name}", cache_dir=tmp_path / "cache").shape == (20, 40, 3)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing", "HTTP Error 404"), ("page", "is not an image that Pillow can read"),
        ("large", "has more than 90000 bytes"), ("file", "file:///etc/passwd"), ("circle", "infinite loop"),
        ("drip", "took longer than 0.5 s"), ("nonsense", "cannot load"),
    ],
)  # fmt: skip
def test_a_dead_link_is_a_grey_panel(server, tmp_path, capsys, name, reason):
    started = time.monotonic()
    image = image_utils.image_from_url(f"{server}/{name}.png", None, tmp_path / "cache", seconds=0.5, largest=90_000)
    assert time.monotonic() - started < 2.5
    np.testing.assert_array_equal(image, GREY)
    errors = capsys.readouterr().err
    assert errors.startswith("a grey panel stands for a picture: ") and reason in errors and errors.count("\n") == 1
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://127.0.0.1:9/nobody", "cannot load 'http://127.0.0.1:9/nobody'"),
        ("http://[", "cannot load 'http://['"),
        ("http://127.0.0.1:9/a b\n", "cannot load"),
        ("file:///etc/passwd", "there is no file"),
        ("ftp://127.0.0.1/x.png", "there is no file"),
        ("../secret.png", "'../secret.png' leads out of"),
        ("/etc/passwd", "'/etc/passwd' leads out of"),
        ("link.png", "'link.png' leads out of"),
        ("no\0.png", "cannot read"),
        ("images", "there is no file"),
        ("", "there is no file"),
        ("bomb.png", "claims too many pixels"),
        ("cut.png", "is damaged"),
    ],
)
def test_nothing_but_pictures_of_the_folder_and_the_web_is_read(tmp_path, capsys, url, reason):
    folder = write_folder(tmp_path / "data", {"images/0.png": picture(1), "cut.png": picture(2)[:60]})
    (tmp_path / "secret.png").write_bytes(picture(2))
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    header = b"IHDR" + struct.pack(">IIBBBBB", 20_000, 20_000, 1, 0, 0, 0, 0)
    bomb = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header)) + b"\0\0\0\x09IDAT" + bytes(13)
    (folder / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bomb)
    np.testing.assert_array_equal(image_utils.image_from_url(url, folder), GREY)
    errors = capsys.readouterr().err
    assert reason in errors and errors.count("\n") == 1
    assert image_utils.image_from_url("images/0.png", folder).shape == (20, 40, 3)


def test_a_path_without_a_folder_is_no_address(capsys):
    np.testing.assert_array_equal(image_utils.image_from_url(__file__), GREY)
    assert "is no address: expected http:// or https://" in capsys.readouterr().err


def test_odd_pictures_are_shown_in_colour_and_small(tmp_path):
    deep = Image.fromarray(np.full((10, 1000), 30000, dtype=np.uint16))
    deep.save(tmp_path / "deep.png")
    Image.new("P", (8, 8)).save(tmp_path / "palette.gif")
    image = image_utils.image_from_url("deep.png", tmp_path)
    assert image.shape == (5, 512, 3) and image[0, 0].tolist() == [117, 117, 117]
    assert image_utils.image_from_url("palette.gif", tmp_path).shape == (8, 8, 3)


def test_a_cache_that_cannot_be_written_is_no_reason_to_stop(server, tmp_path):
    (tmp_path / "cache").write_text("a file in the way")
    assert image_utils.image_from_url(f"{server}/picture.png", cache_dir=tmp_path / "cache").shape == (20, 40, 3)
