"""Reading the data sets: small files in the real formats, splits, scaling, augmentation, batches and downloads."""

import tarfile
import warnings
from pathlib import Path
from types import SimpleNamespace

import cnn_files
import numpy as np
import pytest
import torch
from medmnist import INFO
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torchvision import datasets

from hw_cnn import data
from hw_cnn.data import Split
from hw_cnn.presets import DATASETS, MEDMNIST, NETWORKS
from hw_cnn.readers import READERS
from hw_common.data import download
from hw_common.runs.errors import UserError
from hw_common.training import batches

CPU = torch.device("cpu")
FASHION, OCT, CIFAR = NETWORKS["fashion"], NETWORKS["oct"], NETWORKS["cifar"]


def assert_rows(split: Split, images: np.ndarray, labels: np.ndarray) -> None:
    assert split.images.dtype == torch.uint8
    assert split.labels.dtype == torch.int64
    assert np.array_equal(split.images.numpy(), images)
    assert split.labels.tolist() == labels.tolist()


# MNIST and Fashion-MNIST


@pytest.mark.parametrize("gz", [False, True], ids=["raw", "gz"])
@pytest.mark.parametrize(
    ("dataset", "folder", "first_class"),
    [("mnist", "MNIST", "0"), ("fashion-mnist", "FashionMNIST", "T-shirt/top")],
)
def test_idx_files_are_split_as_in_the_course(tmp_path, dataset, folder, first_class, gz):
    cnn_files.write_idx(tmp_path, folder, gz=gz)
    found = data.load(dataset, tmp_path, FASHION, seed=7)
    images, labels, test_images, test_labels = cnn_files.idx_arrays().values()
    train, val = train_test_split(np.arange(12), test_size=2, random_state=42)
    assert_rows(found.train, images[train][:, None], labels[train])
    assert_rows(found.val, images[val][:, None], labels[val])
    assert_rows(found.test, test_images[:, None], test_labels)
    assert (len(found.classes), found.classes[0]) == (10, first_class)
    assert found.course_subset is None


def test_full_size_is_split_into_50_000_and_10_000(tmp_path):
    many = np.arange(60_000) % 251
    tiny = many.astype(np.uint8)[:, None, None]
    cnn_files.write_idx(
        tmp_path,
        train_images=cnn_files.idx(tiny),
        train_labels=cnn_files.idx((many % 10).astype(np.uint8)),
        t10k_images=cnn_files.idx(tiny[:3]),
        t10k_labels=cnn_files.idx(cnn_files.cycle(3, 10)),
    )
    source = READERS["mnist"](tmp_path)  # before the images are resized, which takes long for so many
    train, val = train_test_split(many, test_size=10_000, random_state=42)
    assert np.array_equal(source.train[0][:, 0, 0], train)
    assert np.array_equal(source.val[0][:, 0, 0], val)
    assert np.array_equal(source.val[1], val % 10)


def test_idx_files_load_without_a_warning(tmp_path):
    cnn_files.write_idx(tmp_path)
    torch.set_warn_always(True)  # torch gives some warnings only once per process
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = data.load("mnist", tmp_path, FASHION, seed=0)
    finally:
        torch.set_warn_always(False)
    assert len(found.test) == 5


def test_course_split_does_not_depend_on_the_seed(tmp_path):
    cnn_files.write_idx(tmp_path)
    labels = [data.load("mnist", tmp_path, FASHION, seed).val.labels.tolist() for seed in (1, 2)]
    assert labels[0] == labels[1]


@pytest.mark.parametrize("count", [1, 5])
def test_too_few_images_to_split_are_refused(tmp_path, count):
    images, labels = cnn_files.idx(cnn_files.pixels(count, 28, 28)), cnn_files.idx(cnn_files.cycle(count, 10))
    cnn_files.write_idx(tmp_path, train_images=images, train_labels=labels)
    with pytest.raises(UserError, match="too few to split"):
        data.load("mnist", tmp_path, FASHION, seed=0)


def test_grey_images_are_enlarged_and_repeated_for_a_colour_network(tmp_path):
    cnn_files.write_idx(tmp_path)
    images = data.load("mnist", tmp_path, CIFAR, seed=0).test.images
    assert images.shape == (5, 3, 32, 32)
    assert torch.equal(images[:, 0], images[:, 2])


# OCTMNIST


def test_octmnist_keeps_its_published_splits(tmp_path):
    cnn_files.write_npz(tmp_path)
    found, arrays = data.load("octmnist", tmp_path, OCT, seed=0), cnn_files.npz_arrays()
    for name in ("train", "val", "test"):
        assert_rows(getattr(found, name), arrays[f"{name}_images"][:, None], arrays[f"{name}_labels"][:, 0])
    assert len(found.classes) == 4
    assert found.course_subset is None  # four test images are not enough for it


def test_presets_list_the_sets_of_medmnist_with_2d_images_and_one_label():
    wanted = {flag: facts for flag, facts in INFO.items() if "3d" not in flag and "multi-label" not in facts["task"]}
    assert {flag: NETWORKS[MEDMNIST[flag]].channels for flag in MEDMNIST} == {
        flag: facts["n_channels"] for flag, facts in wanted.items()
    }


@pytest.mark.parametrize(("flag", "shape"), [("pneumoniamnist", (28, 28)), ("bloodmnist", (28, 28, 3))])
def test_a_set_of_medmnist_is_downloaded_and_read(tmp_path, asked, flag, shape):
    arrays = {
        f"{split}_images": cnn_files.pixels(count, *shape) for split, count in (("train", 6), ("val", 2), ("test", 4))
    }
    arrays |= {
        name.replace("images", "labels"): cnn_files.cycle(len(images), 2)[:, None] for name, images in arrays.items()
    }
    asked.make = lambda folder: np.savez(folder / f"{flag}.npz", **arrays)
    found = data.load("medmnist", tmp_path, NETWORKS[MEDMNIST[flag]], seed=0, medmnist_flag=flag)
    assert asked.files == [(f"{flag}.npz", INFO[flag]["url"], INFO[flag]["MD5"])]
    assert (found.name, found.classes) == (INFO[flag]["python_class"], tuple(INFO[flag]["label"].values()))
    assert found.train.labels.tolist() == [0, 1, 0, 1, 0, 1] and found.course_subset is None
    assert found.facts == {"medmnist_flag": flag, "task": INFO[flag]["task"], "licence": "CC BY 4.0"}
    wrong = {**arrays, "test_images": cnn_files.pixels(4, 28, 28, 4 - len(shape) + 1)}
    np.savez(tmp_path / f"{flag}.npz", **wrong)
    with pytest.raises(UserError, match=rf"{flag}.npz: expected images \(N, 28, 28"):
        data.load("medmnist", tmp_path, OCT, seed=0, medmnist_flag=flag)


def test_course_subset_of_octmnist_is_the_first_182_55_42_and_250(tmp_path):
    labels = np.random.default_rng(3).permutation(cnn_files.cycle(1000, 4))
    cnn_files.write_npz(tmp_path, test_images=np.zeros((1000, 28, 28), np.uint8), test_labels=labels[:, None])
    found = data.load("octmnist", tmp_path, OCT, seed=0)
    subset = found.course_subset.tolist()
    assert len(subset) == len(set(subset)) == 529
    assert subset == sorted(subset)
    for label, count in enumerate((182, 55, 42, 250)):
        of_class = [index for index in subset if labels[index] == label]
        assert of_class == np.flatnonzero(labels == label)[:count].tolist()
        assert len(of_class) == count


def test_only_octmnist_has_a_course_subset(tmp_path):
    labels = cnn_files.cycle(1000, 4)
    cnn_files.write_idx(
        tmp_path, t10k_images=cnn_files.idx(np.zeros((1000, 28, 28), np.uint8)), t10k_labels=cnn_files.idx(labels)
    )
    assert data.load("mnist", tmp_path, FASHION, seed=0).course_subset is None


# CIFAR-10


def test_cifar10_is_read_and_split(tmp_path, monkeypatch):
    cnn_files.write_cifar(tmp_path, monkeypatch)
    found = data.load("cifar10", tmp_path, CIFAR, seed=0)
    images = np.concatenate([cnn_files.pixels(4, 3072, seed=seed) for seed in range(5)]).reshape(20, 3, 32, 32)
    train, val = train_test_split(np.arange(20), test_size=2, random_state=42)
    assert_rows(found.train, images[train], train % 4)
    assert_rows(found.val, images[val], val % 4)
    assert_rows(found.test, cnn_files.pixels(4, 3072, seed=9).reshape(4, 3, 32, 32), np.arange(4))
    assert list(found.classes) == cnn_files.CIFAR_CLASSES


def test_colour_images_become_grey_and_smaller_for_a_grey_network(tmp_path, monkeypatch):
    cnn_files.write_cifar(tmp_path, monkeypatch)
    assert data.load("cifar10", tmp_path, FASHION, seed=0).test.images.shape == (4, 1, 28, 28)


# Image folders


def test_folder_is_read_at_the_networks_size(tmp_path):
    cnn_files.write_folder(tmp_path, {"train": 2, "val": 1, "test": 3})
    found = data.load("folder", tmp_path, CIFAR, seed=0)
    assert found.train.images.shape == (4, 3, 32, 32)
    assert found.train.labels.tolist() == [0, 0, 1, 1]
    assert (found.val.labels.tolist(), found.test.labels.tolist()) == ([0, 1], [0, 0, 0, 1, 1, 1])
    assert found.classes == ("cat", "dog")
    assert data.load("folder", tmp_path, FASHION, seed=0).train.images.shape == (4, 1, 28, 28)


def test_images_of_the_networks_size_are_kept_pixel_by_pixel(tmp_path):
    cnn_files.write_folder(tmp_path, {"train": 1, "val": 1, "test": 1})
    pixels = cnn_files.pixels(32, 32, 3)
    Image.fromarray(pixels).save(tmp_path / "test" / "dog" / "0.png")
    images = data.load("folder", tmp_path, CIFAR, seed=0).test.images
    assert np.array_equal(images[1].permute(1, 2, 0).numpy(), pixels)


def test_hidden_files_and_subfolders_are_left_out(tmp_path):
    cnn_files.write_folder(tmp_path, {"train": 1, "val": 1, "test": 1})
    (tmp_path / "train" / ".cache").mkdir()
    (tmp_path / "train" / "cat" / ".DS_Store").write_bytes(b"no image")
    (tmp_path / "train" / "cat" / "more").mkdir()
    assert len(data.load("folder", tmp_path, CIFAR, seed=0).train) == 2


GREY, ORANGE = (np.full((8, 8), 200, np.uint8), np.full((8, 8, 3), (250, 130, 10), np.uint8))


def an_image(kind: str) -> Image.Image:
    """A plain image, grey 200 or orange, in one of Pillow's modes."""
    if kind == "grey 16 bit":
        return Image.fromarray(np.full((8, 8), 200 * 257, np.uint16))
    if kind == "palette":
        return Image.fromarray(ORANGE).convert("P", palette=Image.Palette.ADAPTIVE)
    return Image.fromarray(GREY if kind.startswith("grey") else ORANGE).convert(
        {"grey": "L", "grey alpha": "LA", "colour": "RGB", "alpha": "RGBA", "cmyk": "CMYK"}[kind]
    )


@pytest.mark.parametrize(
    ("kind", "suffix"),
    [
        ("grey", ".png"),
        ("grey", ".jpg"),
        ("grey", ".tif"),
        ("grey alpha", ".png"),
        ("grey 16 bit", ".png"),
        ("grey 16 bit", ".tif"),
        ("colour", ".png"),
        ("colour", ".jpg"),
        ("colour", ".bmp"),
        ("colour", ".webp"),
        ("alpha", ".png"),
        ("cmyk", ".jpg"),
        ("palette", ".png"),
        ("palette", ".gif"),
    ],
)
def test_formats_and_modes_come_out_with_their_colour(tmp_path, kind, suffix):
    cnn_files.write_folder(tmp_path, {"train": 1, "val": 1, "test": 1})
    (tmp_path / "test" / "cat" / "0.png").unlink()
    an_image(kind).save(tmp_path / "test" / "cat" / f"image{suffix}")
    expected = torch.tensor((200, 200, 200) if kind.startswith("grey") else (250, 130, 10))
    for network, colour in ((CIFAR, expected), (FASHION, expected @ torch.tensor([299, 587, 114]) / 1000)):
        image = data.load("folder", tmp_path, network, seed=0).test.images[0].float()
        error = (image.mean((1, 2)) - colour).abs().max().item()
        assert error < 6, f"{image.mean((1, 2)).tolist()} instead of {colour.tolist()}"  # JPEG and WebP are lossy
        assert image.std(dim=(1, 2)).max() < 3


def test_missing_val_is_split_off_train_by_seed(tmp_path):
    cnn_files.write_folder(tmp_path, {"train": 20, "test": 1})
    first, again, other = (data.load("folder", tmp_path, FASHION, seed) for seed in (1, 1, 2))
    assert (len(first.train), len(first.val), len(first.test)) == (36, 4, 2)
    assert torch.equal(first.val.images, again.val.images)
    assert torch.equal(first.train.images, again.train.images)
    assert not torch.equal(first.val.images, other.val.images)
    together = torch.cat([first.train.images, first.val.images]).flatten(1).tolist()
    assert len({tuple(image) for image in together}) == 40  # every image is on one side


def test_existing_val_does_not_depend_on_the_seed(tmp_path):
    cnn_files.write_folder(tmp_path, {"train": 2, "val": 2, "test": 1})
    first, other = (data.load("folder", tmp_path, FASHION, seed) for seed in (1, 2))
    assert torch.equal(first.val.images, other.val.images)
    assert torch.equal(first.train.images, other.train.images)


# The sample


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_sample_needs_no_files_and_fits_every_network(tmp_path, network):
    found = data.load("sample", tmp_path / "nowhere", network, seed=0)
    sizes = [len(split) for split in (found.train, found.val, found.test)]
    assert sizes == [1200, 300, 297]
    assert sum(sizes) == len(load_digits().target)
    for split in (found.train, found.val, found.test):
        assert split.images.shape == (len(split), network.channels, network.size, network.size)
        assert split.images.dtype == torch.uint8
        assert set(split.labels.tolist()) == set(range(10))
    assert found.train.images.max() > 200  # 16 grey levels spread over 256
    assert "sample" in found.name
    assert not (tmp_path / "nowhere").exists()


def test_sample_is_the_same_every_time(tmp_path):
    first, again = (data.load("sample", tmp_path, FASHION, seed) for seed in (1, 2))
    assert torch.equal(first.train.images, again.train.images)
    assert first.hashes == again.hashes


def test_every_data_set_has_a_network():
    assert set(DATASETS.values()) == set(NETWORKS)


# Hashes, by which a run recognizes its data


@pytest.mark.parametrize("kind", ["mnist", "fashion-mnist", "octmnist", "cifar10", "folder"])
def test_hashes_change_with_the_data_and_with_nothing_else(tmp_path, monkeypatch, kind):
    def write(folder: Path, changed: bool) -> Path:
        folder.mkdir()
        if kind.endswith("mnist") and kind != "octmnist":
            images = cnn_files.idx(cnn_files.pixels(5, 28, 28, seed=2 if changed else 1))
            cnn_files.write_idx(folder, "MNIST" if kind == "mnist" else "FashionMNIST", t10k_images=images)
        elif kind == "octmnist":
            cnn_files.write_npz(folder, val_images=cnn_files.pixels(5, 28, 28, seed=8 if changed else 7))
        elif kind == "cifar10":
            cnn_files.write_cifar(folder, monkeypatch, labels=(0, 1, 2, 4 if changed else 3))
        else:
            cnn_files.write_folder(folder, {"train": 1, "val": 2 if changed else 1, "test": 1})
        return folder

    def hashes(name: str, changed: bool) -> dict[str, str]:
        return dict(data.load(kind, write(tmp_path / name, changed), NETWORKS[DATASETS[kind]], seed=0).hashes)

    original = hashes("a", changed=False)
    assert original == hashes("b", changed=False)
    changed = hashes("c", changed=True)
    assert changed.keys() == original.keys()
    assert changed != original


def test_swapped_labels_change_the_hash_of_a_folder(tmp_path):
    first = cnn_files.write_folder(tmp_path / "a", {"train": 2, "val": 1, "test": 1})
    second = cnn_files.write_folder(tmp_path / "b", {"train": 2, "val": 1, "test": 1})
    (second / "train" / "dog" / "0.png").rename(second / "train" / "cat" / "2.png")  # third image of both
    found = [data.load("folder", folder, FASHION, seed=0) for folder in (first, second)]
    assert torch.equal(found[0].train.images, found[1].train.images)
    assert found[0].hashes["folder/train"] != found[1].hashes["folder/train"]


# Scaling


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (FASHION, [0, 51 / 256, 255 / 256]),
        (OCT, [0, 51 / 256, 255 / 256]),
        (CIFAR, [(0 - 0.5) / 0.25, (0.2 - 0.5) / 0.25, (1 - 0.5) / 0.25]),
    ],
    ids=["fashion", "oct", "cifar"],
)
def test_pixels_are_scaled_as_the_sheet_does(network, expected):
    images = torch.tensor([0, 51, 255], dtype=torch.uint8).repeat(2, network.channels, 3, 1)
    floats = data.to_input(images, network)
    assert floats.dtype == torch.float
    assert floats.shape == images.shape
    assert torch.allclose(floats[0, 0, 0], torch.tensor(expected), atol=1e-6)
    assert torch.equal(floats, floats[:1, :1, :1].expand_as(floats))
    assert floats.is_contiguous(memory_format=torch.channels_last)


# Augmentation


def flipped_or_shifted(image: torch.Tensor) -> list[torch.Tensor]:
    """All 50 versions of an image (C, H, W): as it is or mirrored, shifted by up to two pixels each way."""
    _, height, width = image.shape
    padded = [torch.nn.functional.pad(version, (2, 2, 2, 2)) for version in (image, image.flip(2))]
    return [p[:, y : y + height, x : x + width] for p in padded for y in range(5) for x in range(5)]


def test_augmentation_only_flips_and_shifts():
    images = torch.from_numpy(cnn_files.pixels(200, 2, 5, 4))
    changed = data.flip_and_shift(images, torch.Generator().manual_seed(0))
    assert changed.shape == images.shape
    assert changed.dtype == torch.uint8
    chosen = []
    for before, after in zip(images, changed, strict=True):
        matches = [i for i, version in enumerate(flipped_or_shifted(before)) if torch.equal(version, after)]
        assert len(matches) == 1
        chosen += matches
    assert len(set(chosen)) > 40  # of 50: all kinds occur
    assert 60 < sum(i >= 25 for i in chosen) < 140  # about half of them are mirrored


def test_augmentation_depends_on_its_generator_alone():
    images = torch.from_numpy(cnn_files.pixels(9, 1, 5, 5))

    def augmented(seed: int) -> torch.Tensor:
        torch.rand(1)  # the global generator moves on
        return data.flip_and_shift(images, torch.Generator().manual_seed(seed))

    assert torch.equal(augmented(1), augmented(1))
    assert not torch.equal(augmented(1), augmented(2))


def test_augmentation_leaves_its_input_alone():
    images = torch.from_numpy(cnn_files.pixels(4, 1, 5, 5))
    before = images.clone()
    data.flip_and_shift(images, torch.Generator().manual_seed(0))
    assert torch.equal(images, before)


# Batches


@pytest.fixture
def some_images() -> Split:
    return Split(torch.from_numpy(cnn_files.pixels(23, 1, 28, 28)), torch.arange(23))


def epoch_of(split: Split, epoch: int = 1, start: int = 0, **options) -> list[tuple[torch.Tensor, torch.Tensor]]:
    settings = {"seed": 5, "shuffle": True, "augment": True, **options}
    return list(data.batches(split, FASHION, 4, device=CPU, **settings).epoch(epoch, start))


def assert_same_batches(ours, theirs) -> None:
    assert len(ours) == len(theirs)
    for (images, labels), (other_images, other_labels) in zip(ours, theirs, strict=True):
        assert torch.equal(images, other_images)
        assert torch.equal(labels, other_labels)


def test_batches_hold_every_image_once_with_its_own_label(some_images):
    found = epoch_of(some_images, augment=False)
    assert [len(labels) for _, labels in found] == [4, 4, 4, 4, 4, 3]
    labels = torch.cat([labels for _, labels in found])
    assert sorted(labels.tolist()) == list(range(23))
    images = torch.cat([images for images, _ in found])
    assert torch.equal(images, data.to_input(some_images.images[labels], FASHION))


def test_batches_without_shuffling_keep_the_order(some_images):
    found = epoch_of(some_images, shuffle=False, augment=False)
    assert torch.cat([labels for _, labels in found]).tolist() == list(range(23))


def test_batches_are_the_same_for_the_same_seed_and_epoch(some_images):
    first = epoch_of(some_images)
    torch.manual_seed(99)
    assert_same_batches(first, epoch_of(some_images))


@pytest.mark.parametrize("other", [{"epoch": 2}, {"seed": 6}], ids=["epoch", "seed"])
def test_batches_differ_between_epochs_and_seeds(some_images, other):
    first, second = ([labels.tolist() for _, labels in epoch_of(some_images, **o)] for o in ({}, other))
    assert first != second
    assert sorted(sum(first, [])) == sorted(sum(second, []))


@pytest.mark.parametrize("chunk_rows", [2048, 8, 1], ids=["one chunk", "two batches a chunk", "a batch a chunk"])
@pytest.mark.parametrize("start", [0, 1, 3, 5, 6])
def test_batches_go_on_in_mid_epoch(some_images, monkeypatch, start, chunk_rows):
    monkeypatch.setattr(batches, "CHUNK_ROWS", chunk_rows)
    assert_same_batches(epoch_of(some_images)[start:], epoch_of(some_images, start=start))


def test_augmentation_differs_between_epochs_and_chunks(monkeypatch):
    monkeypatch.setattr(batches, "CHUNK_ROWS", 4)  # a batch a chunk
    alike = Split(torch.from_numpy(cnn_files.pixels(1, 1, 28, 28)).repeat(8, 1, 1, 1), torch.zeros(8, dtype=torch.long))
    first, second = (torch.stack([images for images, _ in epoch_of(alike, epoch, shuffle=False)]) for epoch in (1, 2))
    assert not torch.equal(first, second)
    assert not torch.equal(first[0], first[1])


# Downloads: what is asked for; how it is downloaded and unpacked is tested in tests/hw_common/test_download.py


@pytest.fixture
def asked(monkeypatch):
    """Records the requested files; a download makes them with `make`, which the test sets."""
    wanted = SimpleNamespace(files=[], make=None)

    def place(folder, downloads):
        folder.mkdir(parents=True, exist_ok=True)
        downloads = list(downloads)
        wanted.files += [(download.name, *download.urls, download.md5) for download in downloads]
        wanted.make(folder)
        return [folder / download.name for download in downloads]

    monkeypatch.setattr(download, "place", place)
    return wanted


def test_missing_idx_files_are_downloaded_once(tmp_path, asked):
    asked.make = lambda folder: cnn_files.write_idx(tmp_path, "FashionMNIST", gz=True)
    assert len(data.load("fashion-mnist", tmp_path, FASHION, seed=0).train) == 10
    mirrors, resources = datasets.FashionMNIST.mirrors, datasets.FashionMNIST.resources
    assert asked.files == [
        (name, *[f"{mirror.rstrip('/')}/{name}" for mirror in mirrors], md5) for name, md5 in resources
    ]
    data.load("fashion-mnist", tmp_path, FASHION, seed=0)
    assert len(asked.files) == 4


def test_missing_octmnist_is_downloaded_once(tmp_path, asked):
    asked.make = cnn_files.write_npz
    assert len(data.load("octmnist", tmp_path / "new", OCT, seed=0).train) == 6
    data.load("octmnist", tmp_path / "new", OCT, seed=0)
    assert asked.files == [("octmnist.npz", INFO["octmnist"]["url"], INFO["octmnist"]["MD5"])]


def test_missing_cifar10_is_downloaded_and_unpacked_once(tmp_path, asked, monkeypatch):
    def make(folder):
        batches = cnn_files.write_cifar(tmp_path / "original", monkeypatch)
        with tarfile.open(folder / datasets.CIFAR10.filename, "w:gz") as archive:
            archive.add(batches, batches.name)

    asked.make = make
    for _ in range(2):
        assert len(data.load("cifar10", tmp_path / "data", CIFAR, seed=0).train) == 18
    assert asked.files == [(datasets.CIFAR10.filename, datasets.CIFAR10.url, datasets.CIFAR10.tgz_md5)]
