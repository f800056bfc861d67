"""Pictures of hw_transfer: decoding, crops, folders and archives, the sample, pretrained weights."""

import io
import shutil
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import transfer_files
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision import datasets, transforms
from torchvision.models import ResNet18_Weights

from hw_common.data.class_folders import ImageFile
from hw_common.runs.errors import UserError
from hw_common.training import pretrained
from hw_transfer import data, images, sample, transfer_learning


def file_of(content, name="picture"):
    return ImageFile(name, content)


def file_with(image, kind="png", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return file_of(buffer.getvalue())


# Decoding


def test_a_small_picture_keeps_its_pixels():
    pixels = transfer_files.picture(60, 50)
    assert np.array_equal(images.decode(file_with(Image.fromarray(pixels))), pixels)


@pytest.mark.parametrize(("width", "height"), [(800, 400), (400, 900), (385, 385), (384, 500)])
def test_a_large_picture_is_reduced_to_its_shorter_side(width, height):
    for kind in ("png", "jpeg"):  # Pillow decodes large JPEG files at a fraction of their size
        pixels = transfer_files.picture(width, height)
        decoded = images.decode(file_with(Image.fromarray(pixels), kind))
        assert min(decoded.shape[:2]) == images.SHORTER_SIDE
        assert decoded.shape[0] / decoded.shape[1] == pytest.approx(height / width, rel=0.01)
        size = decoded.shape[1::-1]
        expected = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR)).astype(int)
        assert np.abs(decoded - expected).mean() < 3


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "I;16", "1"])
def test_other_kinds_of_pictures_become_rgb(mode):
    grey = Image.fromarray(np.arange(0, 250, 10, dtype=np.uint8).reshape(5, 5))
    image = Image.fromarray(np.asarray(grey).astype(np.uint16) * 256) if mode == "I;16" else grey.convert(mode)
    decoded = images.decode(file_with(image, "tiff" if mode == "CMYK" else "png"))
    assert decoded.shape == (5, 5, 3)
    if mode != "1":
        assert np.abs(decoded.astype(int) - np.asarray(grey)[..., None]).max() <= 1


# Crops


@given(st.integers(20, 90), st.integers(20, 90), st.sampled_from([14, 28, 35]))
@settings(max_examples=20, deadline=None)
def test_central_crops_are_those_of_the_sheet(width, height, size):
    pixels = transfer_files.picture(width, height)
    shorter = min(width, height)
    scaled = tuple(size * 8 // 7 * side // shorter for side in (width, height))
    reduced = Image.fromarray(pixels).resize(scaled, Image.Resampling.BILINEAR)
    left, top = (round((side - size) / 2) for side in reduced.size)
    expected = np.asarray(reduced)[top : top + size, left : left + size]
    assert np.array_equal(data.central_crops([pixels], size)[0].permute(1, 2, 0), expected)


def test_the_sheets_sizes():
    crops = data.central_crops([transfer_files.picture(500, 375)], 224)
    reference = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224), transforms.PILToTensor()])
    assert torch.equal(crops[0], reference(Image.fromarray(transfer_files.picture(500, 375))))


def ramp(width=50, height=40):
    """A picture whose red channel is the column and whose green channel is the row."""
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[..., 0] = np.arange(width) * 5
    pixels[..., 1] = np.arange(height)[:, None] * 6
    return pixels


def test_random_crops_are_parts_of_the_picture_in_the_sheets_proportions():
    crops = data.random_crops([ramp()] * 400, 32, torch.Generator().manual_seed(1)).double()
    widths = (crops[:, 0].amax((1, 2)) - crops[:, 0].amin((1, 2))) / 5 + 1
    heights = (crops[:, 1].amax((1, 2)) - crops[:, 1].amin((1, 2))) / 6 + 1
    area, ratio = widths * heights / (50 * 40), widths / heights
    assert 0.05 < area.min() < 0.15 and 0.85 < area.max() <= 1.01  # a part of 8 % to 100 %, evenly
    assert area.mean() == pytest.approx(0.5, abs=0.05)
    assert 0.65 < ratio.min() < 0.85 and 1.18 < ratio.max() < 1.5  # 3:4 to 4:3
    mirrored = crops[:, 0, :, -1].mean(1) < crops[:, 0, :, 0].mean(1)
    assert 150 < mirrored.sum() < 250


def test_random_crops_depend_on_the_generator_alone_and_touch_no_other():
    pictures = [transfer_files.picture(seed=i) for i in range(4)]
    before = torch.get_rng_state()
    first = data.random_crops(pictures, 16, torch.Generator().manual_seed(1))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    assert torch.equal(data.random_crops(pictures, 16, torch.Generator().manual_seed(1)), first)
    assert not torch.equal(data.random_crops(pictures, 16, torch.Generator().manual_seed(2)), first)
    assert first.is_contiguous(memory_format=torch.channels_last)


def test_an_epoch_can_be_taken_up_anywhere_and_differs_from_the_next():
    split = data.Split([transfer_files.picture(seed=i) for i in range(5)], torch.arange(5))
    batches = data.training_batches(split, 16, batch_size=2, seed=3)
    epochs = [[tuple(map(torch.clone, batch)) for batch in batches.epoch(number)] for number in (0, 1)]
    assert [len(labels) for _, labels in epochs[0]] == [2, 2, 1]
    assert sorted(torch.cat([labels for _, labels in epochs[1]]).tolist()) == [0, 1, 2, 3, 4]
    for number, epoch in enumerate(epochs):
        for (images_, labels), (expected, expected_labels) in zip(batches.epoch(number, 1), epoch[1:], strict=True):
            assert torch.equal(images_, expected) and torch.equal(labels, expected_labels)
    assert not torch.equal(epochs[0][0][0], epochs[1][0][0])


# Folders and archives


@pytest.fixture
def members():
    return transfer_files.members()


def hashes(dataset, data_dir):
    return {name.rpartition("/")[2]: value for name, value in data.load(dataset, data_dir).hashes.items()}


def test_a_folder_is_read_as_imagefolder_does(tmp_path):
    folder = transfer_files.write_folder(tmp_path / "my pictures")
    (folder / "train" / "ants" / "imageNet.gif").write_bytes(b"the sheet's own archive has such a file")
    (folder / "train" / "ants" / ".hidden.png").touch()
    read = data.load("folder", folder)
    assert read.classes == ("ants", "bees")
    for split, name in ((read.train, "train"), (read.val, "val")):
        expected = datasets.ImageFolder(folder / name, is_valid_file=lambda path: Path(path).name[0] in "0123456789")
        assert split.labels.tolist() == expected.targets
        for picture, (image, _) in zip(split.pictures, expected, strict=True):
            assert np.array_equal(picture, np.asarray(image))
    (folder / "train" / ".cache").mkdir()  # ImageFolder reads it as a class; our reader skips it
    assert data.load("folder", folder).classes == read.classes


def test_hymenoptera_is_the_same_from_a_folder_and_from_every_archive(tmp_path, members):
    folder = transfer_files.write_folder(tmp_path / "a" / "hymenoptera_data").parent
    expected = hashes("folder", folder / "hymenoptera_data")
    assert hashes("hymenoptera", folder) == expected
    for suffix, write in ((".zip", "write_zip"), (".tar", "write_tar"), (".tar.gz", "write_tar")):
        (tmp_path / suffix).mkdir()
        path = getattr(transfer_files, write)(tmp_path / suffix / f"hymenoptera_data{suffix}", members)
        assert hashes("hymenoptera", path.parent) == expected
        assert list(path.parent.iterdir()) == [path]  # read in place


def test_another_picture_has_another_hash(tmp_path):
    folder = transfer_files.write_folder(tmp_path)
    before = hashes("folder", folder)
    (folder / "val" / "bees" / "1.png").write_bytes(transfer_files.encoded(seed=5))
    after = hashes("folder", folder)
    assert before["train"] == after["train"] and before["val"] != after["val"]


def test_a_missing_archive_is_downloaded_with_its_published_hash(tmp_path, monkeypatch, members):
    asked = []

    def place(folder, wanted):
        asked.extend(wanted)
        return [transfer_files.write_zip(folder / wanted[0].name, members)]

    monkeypatch.setattr(data.download, "place", place)
    assert len(data.load("hymenoptera", tmp_path).train) == 6
    assert asked[0].urls == ["https://download.pytorch.org/tutorial/hymenoptera_data.zip"]
    assert asked[0].md5 == "5f8c32a6554f6acb4d649776e7735e48"


@pytest.mark.parametrize("suffix", [".zip", ".tar"])
def test_an_archive_writes_nowhere_and_its_odd_members_are_passed_over(tmp_path, members, suffix):
    folder = tmp_path / "data"
    folder.mkdir()
    odd = dict.fromkeys(["../../evil.png", "/evil.png", "train/ants/a/deep.png", "test/ants/0.png"], b"no picture")
    odd |= {"train/ants/README.txt": b"text", "__MACOSX/train/ants/._0.png": b"no picture"}
    write = transfer_files.write_zip if suffix == ".zip" else transfer_files.write_tar
    path = write(folder / f"hymenoptera_data{suffix}", {**members, **odd})
    assert len(data.load("hymenoptera", folder).train) == 6
    assert sorted(tmp_path.rglob("*")) == [folder, path]


def test_links_in_a_tar_archive_are_not_followed(tmp_path, members):
    path = transfer_files.write_tar(tmp_path / "hymenoptera_data.tar", members)
    with tarfile.open(path, "a") as archive:
        link = tarfile.TarInfo("hymenoptera_data/train/ants/link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    assert len(data.load("hymenoptera", tmp_path).train) == 6


# The sample


def test_the_sample_is_the_same_every_time_and_balanced():
    first, second = data.load("sample", Path("nowhere")), data.load("sample", Path("nowhere"))
    assert first.hashes == second.hashes
    assert first.classes == ("ants", "bees")
    for split in (first.train, first.val):
        assert len(set(Counter(split.labels.tolist()).values())) == 1
    assert "sample" in first.name


def test_no_two_pictures_of_the_sample_are_alike_and_every_form_differs_from_its_background():
    painted = sample.paint({**sample.INSECTS, **sample.SHAPES}, {"train": 2, "val": 1})
    pictures = painted["train"] + painted["val"]
    assert len({picture.tobytes() for picture in pictures}) == 3 * (len(sample.SHAPES) + 2)
    for picture in pictures:
        assert picture.shape == (80, 80, 3)
        corners = picture[[0, 0, -1, -1], [0, -1, 0, -1]].astype(float).mean(0)
        assert (np.abs(picture - corners).max(axis=2) > 60).mean() > 0.03


# Pretrained weights


@pytest.fixture(scope="module")
def weights():
    return transfer_files.state_dict()


def load(path, classes=2):
    return transfer_learning.finetune(pretrained.load_pretrained(str(path), Path("nowhere")), classes)


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pth"])
def test_weights_of_a_file_reach_every_layer_but_the_last(tmp_path, weights, name):
    half = {key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in weights.items()}
    old = {key: tensor for key, tensor in half.items() if not key.endswith("num_batches_tracked")}
    for content in (weights, old):
        model = load(transfer_files.write_weights(tmp_path / name, content))
        for key, tensor in model.state_dict().items():
            if key in content and not key.startswith("fc."):
                assert tensor.dtype in (torch.float32, torch.int64)
                assert torch.equal(tensor, content[key].to(tensor.dtype)), key
    assert model.fc.weight.shape == (2, 512)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.backbone.", "module.encoder."])
@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pth"])
def test_a_prefix_of_all_names_is_taken_off_with_a_line(tmp_path, capsys, weights, prefix, name):
    path = transfer_files.write_weights(tmp_path / name, {f"{prefix}{key}": value for key, value in weights.items()})
    assert torch.equal(load(path).layer4[1].conv2.weight, weights["layer4.1.conv2.weight"])
    assert capsys.readouterr().err == f"{path}: the prefix {prefix!r} is removed from the names of the weights\n"


def test_weights_in_a_checkpoint_are_found(tmp_path, capsys, weights):
    state = {f"backbone.{name}": tensor for name, tensor in weights.items()} | {"head.bias": torch.zeros(2)}
    for part in ("state_dict", "model_state_dict", "model", "net"):
        torch.save({"epoch": 3, part: state, "optimizer": {"lr": 0.1}}, tmp_path / "checkpoint.pth")
        assert torch.equal(load(tmp_path / "checkpoint.pth").conv1.weight, weights["conv1.weight"])
        assert capsys.readouterr().err.endswith(
            "is removed from the names of the weights; other weights are not used: 'head.bias', …\n"
        )


def test_none_means_random_weights():
    assert pretrained.load_pretrained("none", Path("nowhere")) is None


@pytest.fixture
def no_cache(tmp_path, monkeypatch):
    """Torch's own cache, empty."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "cache"))
    return tmp_path / "cache" / "checkpoints"


def test_imagenet_without_network_is_one_line_that_says_what_to_do(tmp_path, monkeypatch, no_cache):
    url = "http://127.0.0.1:1/resnet18-f37072fd.pth"
    monkeypatch.setattr(ResNet18_Weights.IMAGENET1K_V1.value, "url", url)
    with pytest.raises(UserError) as refused:
        pretrained.load_pretrained("imagenet", tmp_path / "data")
    message = str(refused.value)
    assert "\n" not in message
    for part in (f"from {url} (45 MB;", f"into {tmp_path}/data", "refused", "--weights PATH", "--weights none"):
        assert part in message
    assert list(tmp_path.iterdir()) == []


def test_imagenet_is_downloaded_with_its_published_hash(tmp_path, monkeypatch, no_cache):
    asked = []
    monkeypatch.setattr(
        pretrained.download, "place", lambda *arguments: asked.append(arguments) or [tmp_path / "x.pth"]
    )
    with pytest.raises(UserError, match="x.pth: there is no such file"):
        pretrained.load_pretrained("imagenet", tmp_path / "data")
    folder, [wanted], _ = asked[0]
    assert (folder, wanted.sha256) == (tmp_path / "data", "f37072fd")
    assert wanted.urls == ["https://download.pytorch.org/models/resnet18-f37072fd.pth"]


@pytest.mark.parametrize("where", ["data", "cache"])
def test_imagenet_in_place_is_used_and_a_damaged_one_named(tmp_path, monkeypatch, no_cache, weights, where):
    folder = tmp_path / "data" if where == "data" else no_cache
    folder.mkdir(parents=True)
    path = transfer_files.write_weights(folder / "resnet18-f37072fd.pth", weights)
    with pytest.raises(UserError, match=f"{path} is damaged: its SHA-256 should start with f37072fd"):
        pretrained.load_pretrained("imagenet", tmp_path / "data")
    monkeypatch.setattr(pretrained.files, "sha256", lambda path: "f37072fd" + 56 * "0")
    assert pretrained.load_pretrained("imagenet", tmp_path / "data").path == path
    shutil.rmtree(folder)
