"""The builder of caption files: its files for data sets in both formats, and the input that it refuses."""

import io
import json
import tarfile
from unittest import mock
from urllib.error import URLError

import numpy as np
import pytest
import torch
from numpy_files import CAPTIONS, VOCABULARY, picture, write_folder
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from hw_common.data import transfer
from hw_common.runs.errors import UserError
from hw_numpy import coco_build, coco_files, coco_utils


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
    """Files of a data set in Flickr8k's form, by name: two captions for each image."""
    lines = [f'{i}.jpg,"{text}"\n' for i in range(count) for text in (f"Dog number {i} .", "A dog, outside")]
    return {"captions.txt": ("image,caption\n" + "".join(lines)).encode(),
            **{f"Images/{i}.jpg": picture(i, "JPEG") for i in range(count)}}  # fmt: skip


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
    """A network without weights to load; its 512 features are mixtures of the mean colours."""
    torch.manual_seed(0)
    small = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 512)).eval()
    monkeypatch.setattr(coco_build, "_load_network", lambda *arguments: small)
    return small


def build(source, folder, **kwargs):
    facts = coco_build.build(source, folder, "none", image_size=8, threads=1, **kwargs)
    return facts, coco_utils.load_coco_data(folder, pca_features=True)


@pytest.mark.parametrize("kind", ["folder", "w", "w:gz"])
def test_karpathys_form(tmp_path, network, kind, capsys):
    if kind == "folder":
        source = write_folder(tmp_path / "in it", karpathy())
    else:
        source = write_tar(tmp_path / "in it.tar.x", karpathy(), kind)
    facts, data = build(source, tmp_path / "new" / "made of it")
    assert facts["name"] == "in it" and facts["training"] == "3 captions of 2 images"
    assert coco_files.read_source(tmp_path / "new" / "made of it") == "in it" and capsys.readouterr().err == ""
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


def dataset(*images):
    return {"dataset.json": json.dumps({"images": images}).encode(), "0.png": picture(0), "1.png": picture(1)}


def entry(filename="0.png", split="train", sentences=({"tokens": ["a"]},)):
    return {"filename": filename, "split": split, "sentences": sentences}


BAD_SOURCES = {
    "nothing": ({"x.txt": b""}, "has no captions"),
    "no JSON": ({**karpathy(), "dataset.json": b"{"}, "is damaged"),
    "image missing": ({**karpathy(), "images/1.png": None}, "images/1.png is missing"),
    "image damaged": ({**karpathy(), "images/1.png": picture(1)[:60]}, "images/1.png"),
    "image no image": ({**karpathy(), "images/1.png": b"<html>"}, "is not an image that Pillow can read"),
    "path as name": (dataset(entry(), entry("../../1.png", "val")), "'../../1.png', which is not a path inside"),
    "no training": (dataset(entry(split="val")), "has no images for training"),
    "no validation": (dataset(entry()), "has no images for validation"),
    "few": (flickr(9), "has no images for validation"),
}


@pytest.mark.parametrize(("contents", "message"), BAD_SOURCES.values(), ids=BAD_SOURCES)
def test_bad_sources_are_refused_and_leave_nothing(tmp_path, network, contents, message):
    source = write_folder(tmp_path / "in", {name: content for name, content in contents.items() if content is not None})
    with pytest.raises(UserError) as caught:
        build(source, tmp_path / "out")
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert {path.name for path in tmp_path.iterdir()} == {"in"}


def test_nothing_of_an_archive_is_written_anywhere(tmp_path, network):
    """An archive with paths that lead out of it, links and devices: only the requested files inside it are read."""
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


def test_what_exists_is_not_touched(tmp_path, network):
    source = write_folder(tmp_path / "in", karpathy())
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    with pytest.raises(UserError, match="out exists already and is not changed"):
        build(source, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


def test_an_interrupted_build_leaves_nothing(tmp_path, network, monkeypatch):
    monkeypatch.setattr(coco_files, "write", mock.Mock(side_effect=KeyboardInterrupt))
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
    """The features are the inputs of the last layer, whatever its number of classes."""
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
    monkeypatch.setattr(transfer.urllib.request, "urlopen", mock.Mock(side_effect=URLError("no network")))
    source = write_folder(tmp_path / "in", karpathy())
    with pytest.raises(UserError, match=r"resnet18-.*\.pth is missing .*no network.* fetch it from .* --weights none"):
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
    assert output.endswith(f"all files are in {tmp_path / 'out'}\n")
    with pytest.raises(SystemExit) as caught:
        coco_build.main(["--help"])
    assert caught.value.code == 0 and "python -m hw_numpy.coco_build flickr1k.tar" in capsys.readouterr().out
