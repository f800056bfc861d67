"""Bad input to hw_transfer: each ends in one line, runs no code and leaves no files behind."""

import io
import os
import shutil
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import cnn_files
import numpy as np
import pytest
import safetensors.torch
import torch
import transfer_files
from PIL import Image
from torchvision.models import resnet34

from hw_common.data import class_folders
from hw_common.data.class_folders import ImageFile
from hw_common.runs.errors import UserError
from hw_common.training import pretrained
from hw_transfer import compare, data, images, train, transfer_learning


def everything_below(folder):
    """All paths below `folder`; os.walk finds them ten times as fast as Path.rglob."""
    return {(place, name) for place, folders, names in os.walk(folder) for name in [*folders, *names]}


def refusal(dataset, data_dir):
    """Loads a data set, which must be refused; returns the message."""
    before = everything_below(data_dir.parent)
    with pytest.raises(UserError) as caught:
        data.load(dataset, data_dir)
    assert everything_below(data_dir.parent) == before
    return str(caught.value)


@pytest.fixture
def folder(tmp_path):
    """A valid picture folder for a test to damage."""
    return transfer_files.write_folder(tmp_path / "pictures")


# Pictures


def of_size(*size):
    buffer = io.BytesIO()
    Image.new("L", size).save(buffer, "png")
    return buffer.getvalue()


JPEG, PNG = transfer_files.encoded("jpeg", width=300), transfer_files.encoded("png")


def claims_size(*size):
    """PNG, whose header claims another size: it is refused before its pixels are decoded."""
    header = PNG[12:16] + struct.pack(">II", *size) + PNG[24:29]
    return PNG[:12] + header + struct.pack(">I", zlib.crc32(header)) + PNG[33:]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is not an image"),
        (b"a text that calls itself a picture", "is not an image"),
        (PNG[:-30], "damaged"),
        (PNG[:60] + bytes(40) + PNG[100:], "damaged"),
        (JPEG[: len(JPEG) // 2], "damaged"),
        (claims_size(9000, 9000), "9000×9000 pixels"),
        (claims_size(20_000, 20_000), "pixels"),  # Pillow itself refuses it
        (of_size(1000, 10), "is 100.0 times as long as it is wide, expected at most 20 times"),
        (of_size(1, 5000), "is 5000.0 times as long as it is wide, expected"),
    ],
    ids=["empty", "text", "png cut short", "png damaged", "jpeg cut short", "large", "bomb", "long", "tall"],
)
@pytest.mark.filterwarnings("error")
def test_a_bad_picture_is_named(folder, content, says):
    path = folder / "val" / "bees" / "0.png"
    path.write_bytes(content)
    message = refusal("folder", folder)
    assert str(path) in message and says in message
    assert "\n" not in message


@pytest.mark.parametrize("kind", ["png", "jpeg", "bmp", "ppm", "tiff", "webp"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_picture_damaged_anywhere_is_refused_or_read(kind):
    whole = transfer_files.encoded(kind, width=9, height=9)
    refused = 0
    for place in range(0, len(whole), max(1, len(whole) // 40)):
        for damaged in (whole[:place], whole[:place] + bytes([255 - whole[place]]) + whole[place + 1 :]):
            try:
                assert images.decode(ImageFile("some picture", damaged)).shape[2] == 3
            except UserError as error:
                assert "some picture" in str(error)
                refused += 1
    assert refused > 5


def test_pictures_that_do_not_fit_into_memory_are_refused(folder, monkeypatch):
    monkeypatch.setattr(images, "_LARGEST_TOTAL", 10_000)
    assert "reading train: the pictures take more than 8 GB" in refusal("folder", folder)


# Folders


def test_a_class_folder_with_one_picture_is_refused(folder):
    for path in sorted((folder / "train" / "bees").iterdir())[1:]:
        path.unlink()
    message = refusal("folder", folder)
    assert f"the class folder {folder}/train/bees has 1 images, expected at least 2" in message


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_class_folder_without_pictures_is_refused(folder, split):
    for path in (folder / split / "ants").iterdir():
        path.rename(path.with_suffix(".txt"))
    assert f"the class folder {folder}/{split}/ants has 0 images" in refusal("folder", folder)


def test_classes_that_differ_between_train_and_val_are_refused(folder):
    (folder / "val" / "bees").rename(folder / "val" / "wasps")
    assert f"{folder}/val and {folder}/train differ in the class folders bees, wasps" in refusal("folder", folder)


def test_a_single_class_is_refused(folder):
    for split in ("train", "val"):
        shutil.rmtree(folder / split / "bees")
    assert f"{folder}/train has 1 class folders" in refusal("folder", folder)


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_missing_split_is_refused(folder, split):
    shutil.rmtree(folder / split)
    message = refusal("folder", folder)
    assert f"{folder / split} does not exist" in message and "--data_dir" in message


# Archives


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz"])
@pytest.mark.parametrize("damage", [lambda b: b"", lambda b: b"no archive", lambda b: b[: len(b) // 2],
                                    lambda b: b[: len(b) // 3] + b"\xff" * 40 + b[len(b) // 3 + 40 :]],
                         ids=["empty", "text", "half", "middle"])  # fmt: skip
def test_a_damaged_archive_is_named(tmp_path, suffix, damage):
    write = transfer_files.write_zip if suffix == ".zip" else transfer_files.write_tar
    path = write(tmp_path / f"hymenoptera_data{suffix}", transfer_files.members())
    path.write_bytes(damage(path.read_bytes()))
    assert str(path) in refusal("hymenoptera", tmp_path)


def test_archives_that_claim_too_much_are_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(class_folders, "_LARGEST_ARCHIVE", 3000)
    bomb = {**transfer_files.members(), "train/ants/zeros.png": bytes(10_000)}
    for path, write in ((tmp_path / "hymenoptera_data.zip", transfer_files.write_zip),
                        (tmp_path / "hymenoptera_data.tar.gz", transfer_files.write_tar)):  # fmt: skip
        write(path, bomb)
        assert f"{path} would unpack to more than 3000 bytes" in refusal("hymenoptera", tmp_path)
        path.unlink()


def test_an_encrypted_zip_is_the_users_error(tmp_path):
    path = transfer_files.write_zip(tmp_path / "hymenoptera_data.zip", transfer_files.members())
    content = bytearray(path.read_bytes())
    place = content.index(b"PK\1\2")
    while place >= 0:
        content[place + 8] |= 1
        place = content.find(b"PK\1\2", place + 1)
    path.write_bytes(content)
    assert "damaged" in refusal("hymenoptera", tmp_path)


def test_an_archive_of_something_else_is_refused(tmp_path):
    path = transfer_files.write_zip(tmp_path / "hymenoptera_data.zip", {"readme.txt": b"text"})
    assert f"{path}/train has 0 class folders" in refusal("hymenoptera", tmp_path)
    path.unlink()
    with tarfile.open(tmp_path / "hymenoptera_data.tar", "w"):
        pass
    assert "has 0 class folders" in refusal("hymenoptera", tmp_path)


# Weights


@pytest.fixture(scope="module")
def weights():
    return transfer_files.state_dict()


def weights_refusal(path):
    with pytest.raises(UserError) as caught:
        transfer_learning.freeze(pretrained.load_pretrained(str(path), Path("nowhere")), classes=2)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message
    return message


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda w: w.pop("layer3.1.conv2.weight"), "layer3.1.conv2.weight: missing, expected (256, 256, 3, 3)"),
        (lambda w: w.update({"layer9.weight": torch.zeros(2)}), "layer9.weight: (2,), expected none"),
        (lambda w: w.update({"conv1.weight": torch.zeros(64, 3, 3, 3)}), "conv1.weight: (64, 3, 3, 3), expected (64, "),
        (lambda w: w["layer1.0.bn1.bias"].fill_(float("nan")), "not finite: layer1.0.bn1.bias"),
        (lambda w: w["bn1.running_var"].fill_(float("inf")), "not finite: bn1.running_var"),
    ],
    ids=["missing", "unknown", "shape", "nan", "inf"],
)  # fmt: skip
def test_weights_that_do_not_fit_are_named(tmp_path, weights, change, says):
    spoilt = {name: tensor.clone() for name, tensor in weights.items()}
    change(spoilt)
    for name in ("weights.safetensors", "weights.pt"):
        assert says in weights_refusal(transfer_files.write_weights(tmp_path / name, spoilt))


def test_weights_of_another_network_are_named(tmp_path):
    message = weights_refusal(transfer_files.write_weights(tmp_path / "resnet34.pt", resnet34().state_dict()))
    assert "layer1.2.bn1.bias: (64,), expected none" in message and " more" in message


@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors"])
@pytest.mark.parametrize("damage", [lambda b: b"", lambda b: b"no weights", lambda b: b[:1000], lambda b: b[:-100_000]],
                         ids=["empty", "text", "start", "cut short"])  # fmt: skip
def test_a_damaged_weights_file_is_named(tmp_path, weights, name, damage):
    path = transfer_files.write_weights(tmp_path / name, {"bn1.bias": weights["bn1.bias"], "w": torch.zeros(30_000)})
    path.write_bytes(damage(path.read_bytes()))
    assert "damaged" in weights_refusal(path)


def test_code_in_a_weights_file_is_not_run(tmp_path):
    marker = tmp_path / "sprung"
    for content in (cnn_files.Trap(marker), {"conv1.weight": cnn_files.Trap(marker)}):
        torch.save(content, tmp_path / "weights.pt")
        torch.load(tmp_path / "weights.pt", weights_only=False)
        marker.unlink()  # the trap works
        assert "no code in it was run" in weights_refusal(tmp_path / "weights.pt")
        shutil.copy(tmp_path / "weights.pt", tmp_path / "weights.safetensors")
        assert "not a safetensors file" in weights_refusal(tmp_path / "weights.safetensors")
        assert not marker.exists()


@pytest.mark.parametrize("content", [[1, 2], {"state_dict": {"a": [1]}}, {"a": 1}, torch.zeros(2),
                                     {"a": torch.zeros(2).to_sparse()}, {"a": torch.zeros(2, dtype=torch.complex64)}],
                         ids=["list", "nested", "number", "tensor", "sparse", "complex"])  # fmt: skip
def test_what_is_no_plain_state_dict_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "weights.pt")
    assert "is not a plain state dict" in weights_refusal(tmp_path / "weights.pt")


def test_a_file_that_unpacks_to_gigabytes_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrained, "_LARGEST_FILE", 100_000)
    with zipfile.ZipFile(tmp_path / "weights.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/0", bytes(200_000))
    assert "claims 200000 bytes when unpacked" in weights_refusal(tmp_path / "weights.pt")
    safetensors.torch.save_file({"a": torch.zeros(30_000)}, tmp_path / "weights.safetensors")
    assert "more than any resnet18" in weights_refusal(tmp_path / "weights.safetensors")


def test_a_file_with_several_networks_is_refused(tmp_path, weights):
    both = {f"{prefix}.{name}": tensor for name, tensor in weights.items() for prefix in ("encoder_q", "encoder_k")}
    path = transfer_files.write_weights(tmp_path / "moco.pt", both)
    assert "holds 2 networks, with the prefixes 'encoder_q.', 'encoder_k.'; save only one" in weights_refusal(path)


def test_missing_weights_are_named(tmp_path):
    assert "there is no such file" in weights_refusal(tmp_path / "none.safetensors")


# Flags


def flag_refusal(*argv, command=train.COMMAND.parse):
    with pytest.raises(UserError) as caught:
        command(argv)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--mode", "thaw"], "--mode: invalid choice: 'thaw' (choose from"),
        (["--dataset", "cats"], "--dataset: invalid choice: 'cats'"),
        (["--cache_features"], "--cache_features needs --mode freeze"),
        (["--cache_features", "--mode", "finetune"], "--cache_features needs --mode freeze"),
        (["--momentum", "0.5", "--optimizer", "adam"], "--momentum needs --optimizer sgd"),
        (["--momentum", "1"], "--momentum: expected a number from 0 up to, but not including, 1"),
        (["--weights", ""], "--weights: expected imagenet, none, or the path of a file"),
        (["--step_size", "0"], "--step_size: expected a whole number from 1"),
        (["--gamma", "0"], "--gamma: expected a number above 0, got '0'"),
        (["--gamma", "nan"], "--gamma: expected a number above 0, got 'nan'"),
        (["--epoch", "3"], "unrecognized arguments: --epoch"),
    ],
)
def test_wrong_flags_are_refused(argv, says):
    assert says in flag_refusal(*argv)


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--mode", "freeze"], "--mode is a flag of single training runs"),
        (["--seed", "1"], "--seed is a flag of single training runs"),
        (["--cache_features"], "--cache_features is a flag of single training runs"),
        (["--scenarios", "thaw"], "--scenarios: invalid choice: 'thaw'"),
        (["--seeds", "-1"], "--seeds: expected a whole number from 0"),
        (["--lr", "0"], "--lr: expected a number above 0"),
    ],
)
def test_wrong_comparisons_are_refused(argv, says):
    assert says in flag_refusal(*argv, command=compare.parse)


def test_defaults_are_the_sheets():
    found = vars(train.COMMAND.parse([]))
    expected = {"dataset": "hymenoptera", "mode": "finetune", "weights": "imagenet", "epochs": 25, "batch_size": 4,
                "lr": 0.001, "optimizer": "sgd", "momentum": 0.9, "l2_decay": 0, "step_size": 7, "gamma": 0.1,
                "precision": "fp32", "seed": 42, "cache_features": False}  # fmt: skip
    assert {name: found[name] for name in expected} == expected
    assert train.COMMAND.parse(["--dataset", "sample"]).weights == "none"
    assert train.COMMAND.parse(["--weights", "a b.pt"]).weights == str(Path.cwd() / "a b.pt")
    assert train.COMMAND.parse(["--optimizer", "adam"]).momentum == 0


def test_a_tiny_picture_is_a_picture():
    assert np.array_equal(images.decode(ImageFile("dot", of_size(2, 1))), np.zeros((1, 2, 3)))
