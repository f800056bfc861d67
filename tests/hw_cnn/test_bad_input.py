"""Bad input to hw_cnn: each ends in one line and exit status 2, runs nothing, leaves nothing behind."""

import gzip
import io
import json
import os
import pickle
import resource
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import cnn_files
import numpy as np
import pytest
from PIL import Image, features

from hw_cnn import data, images, readers, train
from hw_cnn.presets import DATASETS, NETWORKS
from hw_common.commands import cli
from hw_common.data.class_folders import ImageFile
from hw_common.runs.config import describe
from hw_common.runs.errors import UserError
from hw_common.runs.run_folder import Run

REPOSITORY = Path(__file__).resolve().parents[2]


def refusal(dataset: str, data_dir: Path) -> str:
    """Loads `dataset`, which has to be refused; returns what the user is told."""
    with pytest.raises(UserError) as caught:
        data.load(dataset, data_dir, NETWORKS[DATASETS[dataset]], seed=0)
    return str(caught.value)


# IDX files

LABELS, IMAGES = "t10k-labels-idx1-ubyte", "t10k-images-idx3-ubyte"
GOOD_LABELS, GOOD_IMAGES = (cnn_files.idx(cnn_files.idx_arrays()[name]) for name in (LABELS, IMAGES))


@pytest.mark.parametrize("gz", [False, True], ids=["raw", "gz"])
@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not an IDX file"),
        (b"\0\0\x08", "not an IDX file"),
        (b"<html>no such file</html>", "not an IDX file"),
        (b"\0\0\x0d" + GOOD_IMAGES[3:], "not an IDX file of bytes"),  # floats
        (b"\0\0\x08\x02" + GOOD_IMAGES[4:], "not an IDX file"),  # two dimensions
        (GOOD_IMAGES[:10], "damaged"),
        (GOOD_IMAGES[:16], "cut short"),
        (GOOD_IMAGES[:-1], "cut short"),
        (GOOD_IMAGES + b"!", "too long"),
        (cnn_files.idx_header(0xFFFFFFFF, 28, 28) + b"x", "damaged"),
        (cnn_files.idx_header(5, 0xFFFFFFFF, 0xFFFFFFFF) + b"x", "damaged"),
        (cnn_files.idx_header(10**6, 1024, 1024) + b"x", "t10k-images"),  # a terabyte
        (cnn_files.idx_header(5, 0, 28), "t10k"),
        (cnn_files.idx_header(0, 28, 28), "do not belong together"),
    ],
    ids=[
        "empty", "three bytes", "html", "floats", "two dimensions", "half a header", "header only", "one byte missing",
        "one byte too many", "many images", "huge images", "terabyte", "no pixels", "no images",
    ],
)  # fmt: skip
def test_damaged_idx_images_are_refused(tmp_path, content, says, gz):
    cnn_files.write_idx(tmp_path, gz=gz, t10k_images=content)
    message = refusal("mnist", tmp_path)
    assert says in message
    assert str(tmp_path) in message


@pytest.mark.parametrize(
    "damage", [lambda b: b"", lambda b: b[:-9], lambda b: b[:5], lambda b: b[:-8] + bytes(8), lambda b: b"plain" + b,
               lambda b: b[:10] + b"\xff" * 20],
    ids=["empty", "cut short", "header only", "wrong checksum", "no gzip", "damaged stream"],
)  # fmt: skip
def test_damaged_gzip_is_refused(tmp_path, damage):
    path = cnn_files.write_idx(tmp_path, gz=True) / f"{IMAGES}.gz"
    path.write_bytes(damage(path.read_bytes()))
    assert str(path) in refusal("mnist", tmp_path)


def test_gzip_bomb_is_not_unpacked_further_than_its_header_says(tmp_path):
    path = cnn_files.write_idx(tmp_path, gz=True) / f"{LABELS}.gz"
    path.write_bytes(gzip.compress(cnn_files.idx_header(5) + bytes(2**24), mtime=0))
    assert "too long" in refusal("mnist", tmp_path)


def test_images_and_labels_that_do_not_belong_together_are_refused(tmp_path):
    cnn_files.write_idx(tmp_path, t10k_labels=cnn_files.idx(cnn_files.cycle(6, 10)))
    assert "do not belong together" in refusal("mnist", tmp_path)
    cnn_files.write_idx(tmp_path, t10k_labels=GOOD_IMAGES, t10k_images=GOOD_LABELS)  # swapped
    assert "do not belong together" in refusal("mnist", tmp_path)


@pytest.mark.parametrize(("part", "name"), [("train", "training"), ("t10k", "test")])
@pytest.mark.parametrize("dataset", ["mnist", "fashion-mnist"])
def test_idx_label_out_of_range_is_refused(tmp_path, dataset, part, name):
    labels = np.full(12 if part == "train" else 5, 10, np.uint8)
    folder = "MNIST" if dataset == "mnist" else "FashionMNIST"
    cnn_files.write_idx(tmp_path, folder, **{f"{part}_labels": cnn_files.idx(labels)})
    assert f"{name} label 10 is out of range, expected 0 to 9" in refusal(dataset, tmp_path)


# OCTMNIST


def rewrite(path: Path, **members: bytes) -> None:
    """Replaces members of an npz file by raw bytes; `train_labels` stands for train_labels.npy."""
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, member in (content | {f"{name}.npy": member for name, member in members.items()}).items():
            archive.writestr(name, member)


@pytest.mark.parametrize(
    ("replaced", "says"),
    [
        ({"test_images": None}, "not OCTMNIST: test_images"),
        ({"val_labels": None}, "not OCTMNIST: val_labels"),
        ({"val_labels": np.zeros((4, 1), np.uint8)}, "5, 28, 28"),
        ({"val_images": np.zeros((5, 28, 28), np.float32)}, "float32"),
        ({"val_images": np.zeros((5, 28, 28, 3), np.uint8)}, "5, 28, 28, 3"),
        ({"val_images": np.uint8(3)}, "expected images"),
        ({"val_images": np.zeros((5, 0, 28), np.uint8)}, "expected images"),
        ({"val_images": np.zeros((0, 28, 28), np.uint8), "val_labels": np.zeros(0, np.uint8)}, "no validation images"),
        ({"val_labels": np.full((5, 1), 4)}, "validation label 4 is out of range, expected 0 to 3"),
        ({"test_labels": np.full((4, 1), -1)}, "test label -1 is out of range"),
        ({"train_labels": np.full((6, 1), 2**40)}, "out of range"),
        ({"val_labels": np.array(["drusen"] * 5)}, "octmnist.npz"),
        ({"val_labels": np.zeros(5, dtype=[("first", int), ("second", int)])}, "octmnist.npz"),
        ({"val_labels": np.array([0, 1, 2, 3, 0.5])}, "octmnist.npz"),
        ({"val_labels": np.array([0, 1, 2, 3, np.nan])}, "octmnist"),
    ],
    ids=[
        "no images", "no labels", "too few labels", "floats", "colours", "a number", "no pixels", "empty", "label 4",
        "label -1", "label 2**40", "words", "records", "label 0.5", "label NaN",
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("error")
def test_wrong_arrays_in_npz_are_refused(tmp_path, replaced, says):
    cnn_files.write_npz(tmp_path, **replaced)
    message = refusal("octmnist", tmp_path)
    assert says.lower() in message.lower()
    assert str(tmp_path) in message


@pytest.mark.parametrize(
    "member",
    [b"", b"no array", b"\x93NUMPY", b"\x93NUMPY\x01\0\x10\0((((((((((((((((", b"\x93NUMPY\x09\0\x10\0" + bytes(16),
     cnn_files.npy_header(5, 28, 28) + b"too short", cnn_files.npy_header(10**9, 10**9, 10**9),
     cnn_files.npy_header(10**4, 10**6, 10**5) + b"a petabyte", cnn_files.npy_header(-5, 28, 28)],
    ids=["empty", "no array", "magic only", "header no Python", "unknown version", "cut short", "overflow", "petabyte",
         "negative"],
)  # fmt: skip
def test_damaged_array_in_npz_is_refused(tmp_path, member):
    path = cnn_files.write_npz(tmp_path)
    rewrite(path, val_images=member)
    assert str(path) in refusal("octmnist", tmp_path)


def with_directory_byte(archive: bytes, offset: int, value: int) -> bytes:
    """A zip file with a byte changed in the first entry of its directory."""
    position = archive.index(b"PK\1\2") + offset
    return archive[:position] + bytes([value]) + archive[position + 1 :]


@pytest.mark.parametrize(
    "damage", [lambda b: b"", lambda b: b"no zip", lambda b: b[: len(b) // 2], lambda b: b[:-1], lambda b: b[100:],
               lambda b: with_directory_byte(b, 10, 99), lambda b: with_directory_byte(b, 8, 1)],
    ids=["empty", "no zip", "half", "one byte missing", "start missing", "unknown compression", "encrypted"],
)  # fmt: skip
def test_damaged_npz_is_refused(tmp_path, damage):
    path = cnn_files.write_npz(tmp_path)
    before = path.read_bytes()
    path.write_bytes(damage(before))
    assert path.read_bytes() != before
    assert str(path) in refusal("octmnist", tmp_path)


def test_npz_that_claims_too_much_is_not_unpacked(tmp_path, monkeypatch):
    cnn_files.write_npz(tmp_path)
    monkeypatch.setattr(readers, "_LARGEST_NPZ", 1000)
    assert "limit of 1000" in refusal("octmnist", tmp_path)


# CIFAR-10


def test_cifar_label_out_of_range_is_refused(tmp_path, monkeypatch):
    cnn_files.write_cifar(tmp_path, monkeypatch, labels=(0, 1, 2, 10))
    assert "label 10 is out of range, expected 0 to 9" in refusal("cifar10", tmp_path)


@pytest.mark.parametrize("name", ["data_batch_3", "test_batch", "batches.meta"])
@pytest.mark.parametrize("damage", ["missing", "empty", "cut short", "other data"])
def test_damaged_cifar_batch_is_refused(tmp_path, monkeypatch, name, damage):
    path = cnn_files.write_cifar(tmp_path, monkeypatch) / name
    content = path.read_bytes()
    path.write_bytes({"empty": b"", "cut short": content[:-1]}.get(damage, content.replace(b"\0", b"\1", 1)))
    if damage == "missing":
        path.unlink()
    assert f"{path.parent} is not the published CIFAR-10" in refusal("cifar10", tmp_path)


# Pickles with code inside: a marker file would show that it ran


@pytest.fixture
def marker(tmp_path) -> Path:
    """A file that appears if a trap is sprung; the test fails if it is there in the end."""
    path = tmp_path / "sprung"
    pickle.loads(pickle.dumps(cnn_files.Trap(path)))
    assert path.exists()  # the trap works
    path.unlink()
    yield path
    assert not path.exists()


@pytest.mark.parametrize("name", ["data_batch_1", "test_batch", "batches.meta"])
def test_code_in_a_cifar_batch_is_not_run(tmp_path, monkeypatch, marker, name):
    folder = cnn_files.write_cifar(tmp_path, monkeypatch)
    (folder / name).write_bytes(pickle.dumps(cnn_files.Trap(marker)))
    assert "not the published CIFAR-10" in refusal("cifar10", tmp_path)


@pytest.mark.parametrize("name", ["train_images", "test_labels", "val_labels"])
def test_code_in_an_npz_is_not_run(tmp_path, marker, name):
    path = cnn_files.write_npz(tmp_path, **{name: np.array([cnn_files.Trap(marker)] * 4, dtype=object)})
    message = refusal("octmnist", tmp_path)
    assert str(path) in message
    assert "nothing was run" in message


def test_pickle_in_place_of_an_npz_is_not_run(tmp_path, marker):
    (tmp_path / "octmnist.npz").write_bytes(pickle.dumps(cnn_files.Trap(marker)))
    assert str(tmp_path / "octmnist.npz") in refusal("octmnist", tmp_path)


def test_pickle_in_an_npz_member_is_not_run(tmp_path, marker):
    path = cnn_files.write_npz(tmp_path)
    rewrite(path, train_images=pickle.dumps(cnn_files.Trap(marker)))
    assert str(path) in refusal("octmnist", tmp_path)


def test_pickle_among_images_is_not_run(tmp_path, marker):
    path = cnn_files.write_folder(tmp_path, {"train": 1, "val": 1, "test": 1}) / "train" / "cat" / "1.png"
    path.write_bytes(pickle.dumps(cnn_files.Trap(marker)))
    assert f"{path} is not an image" in refusal("folder", tmp_path)


# Image folders


@pytest.fixture
def folder(tmp_path) -> Path:
    """A good image folder, to be spoilt."""
    return cnn_files.write_folder(tmp_path / "images", {"train": 2, "val": 1, "test": 1})


def encoded(suffix: str, size: int = 9) -> bytes:
    """An image file of random colours."""
    file = io.BytesIO()
    Image.fromarray(cnn_files.pixels(size, size, 3)).save(file, suffix)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not an image"),
        (b"a text that calls itself an image", "not an image"),
        (encoded("png")[:-30], "damaged"),
        (encoded("png")[:20], "0.png"),
        (encoded("jpeg", 64)[:700], "damaged"),
        (encoded("png")[:60] + bytes(40) + encoded("png")[100:], "damaged"),
        (cnn_files.png_claiming(60_000, 60_000), "pixels"),  # Pillow itself refuses it
        (cnn_files.png_claiming(9_000, 9_000), "9000×9000 pixels"),  # Pillow does not even warn
        (cnn_files.png_claiming(2**31 - 1, 1), "0.png"),
        (cnn_files.png_claiming(0, 0), "0.png"),
    ],
    ids=["empty", "text", "png cut short", "png header only", "jpeg cut short", "png damaged", "bomb", "small bomb",
         "wide bomb", "no pixels"],
)  # fmt: skip
@pytest.mark.filterwarnings("error")
def test_bad_image_is_refused(folder, content, says):
    path = folder / "test" / "dog" / "0.png"
    path.write_bytes(content)
    message = refusal("folder", folder)
    assert str(path) in message
    assert says in message


FORMATS = ["png", "jpeg", "gif", "bmp", "tiff", "ppm", "tga"]
FORMATS += [name for name in ("webp", "avif") if features.check(name)]


@pytest.mark.filterwarnings("ignore:.*:UserWarning:PIL", "ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("name", FORMATS)
def test_image_damaged_anywhere_is_refused_or_read(name):
    """Pillow has many ways to say that a file is damaged: whichever it is, it becomes a UserError."""
    content, refused = encoded(name), 0
    places = range(0, len(content), max(1, len(content) // 60))
    cut_short = [content[:place] for place in places]
    changed = [content[:place] + bytes([255 - content[place]]) + content[place + 1 :] for place in places]
    for damaged in cut_short + changed:
        try:
            decoded = images.decode(ImageFile("image", damaged), channels=3, size=4)
        except UserError as error:
            assert "image" in str(error)
            refused += 1
        else:
            assert decoded.shape == (4, 4, 3)
    assert refused > 5


DECODE = """
import sys
from pathlib import Path
from hw_cnn.images import decode
from hw_common.data.class_folders import ImageFile
from hw_common.runs.errors import UserError
for name in sys.argv[1:]:
    try:
        decode(ImageFile(name, Path(name)), 3, 8)
    except UserError as error:
        print(error)
"""


def test_bad_images_are_refused_without_warnings_beside_the_line(tmp_path):
    tiff = encoded("tiff")
    contents = {
        "half.png": encoded("png")[:100],
        "bomb.png": cnn_files.png_claiming(12_000, 12_000),  # Pillow warns of it, in two lines
        "directory.tif": tiff[: int.from_bytes(tiff[4:8], "little") + 30],  # and of this
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    finished = subprocess.run(
        [sys.executable, "-c", DECODE, *contents],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert [line.split()[0] for line in finished.stdout.splitlines()] == list(contents)
    assert finished.stderr == ""


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_empty_class_folder_is_refused(folder, split):
    for path in (folder / split / "dog").iterdir():
        path.unlink()
    (folder / split / "dog" / ".DS_Store").touch()  # does not count
    assert f"class folder {folder / split / 'dog'} has 0 images" in refusal("folder", folder)


@pytest.mark.parametrize("split", ["val", "test"])
def test_class_folders_that_differ_between_splits_are_refused(folder, split):
    (folder / split / "dog").rename(folder / split / "wolf")
    message = refusal("folder", folder)
    assert "differ in the class folders dog, wolf" in message
    assert str(folder / split) in message


def test_class_that_only_train_has_is_refused(folder):
    shutil.copytree(folder / "train" / "dog", folder / "train" / "fox")
    assert "differ in the class folders fox" in refusal("folder", folder)


@pytest.mark.parametrize("split", ["train", "test"])
def test_missing_split_is_refused(folder, split):
    shutil.rmtree(folder / split)
    message = refusal("folder", folder)
    assert f"{folder / split} does not exist" in message
    assert "--data_dir" in message


def test_train_that_is_a_file_is_refused(folder):
    shutil.rmtree(folder / "train")
    (folder / "train").touch()
    assert str(folder / "train") in refusal("folder", folder)


def test_images_without_class_folders_are_refused(folder):
    for split in ("train", "val", "test"):
        for path in (folder / split / "dog").iterdir():
            path.rename(folder / split / path.name)
        shutil.rmtree(folder / split / "cat")
        shutil.rmtree(folder / split / "dog")
    assert "has 0 class folders, expected at least two" in refusal("folder", folder)


# The same through the command: one line, status 2, nothing left behind


def command(argv: list[str], capsys: pytest.CaptureFixture) -> tuple[int, str]:
    """Runs `python -m hw_cnn.train` in this process; returns its exit status and what it wrote to stderr."""
    with pytest.raises(SystemExit) as caught:
        cli.run_command(lambda: train.main([*argv, "--threads", "1"]))
    return caught.value.code, capsys.readouterr().err


def no_images(data_dir: Path) -> str:
    cnn_files.write_folder(data_dir, {"train": 1, "val": 1, "test": 1})
    (data_dir / "train" / "cat" / "0.png").write_bytes(b"no image")
    return "folder"


def no_class(data_dir: Path) -> str:
    cnn_files.write_folder(data_dir, {"train": 1, "val": 1, "test": 1}, classes=("cat",))
    return "folder"


def no_folder(data_dir: Path) -> str:
    return "folder"


def cut_short(data_dir: Path) -> str:
    cnn_files.write_idx(data_dir, t10k_images=GOOD_IMAGES[:-1])
    return "mnist"


def wrong_label(data_dir: Path) -> str:
    cnn_files.write_npz(data_dir, val_labels=np.full((5, 1), 4))
    return "octmnist"


def no_zip(data_dir: Path) -> str:
    (data_dir / "octmnist.npz").write_text("two\nlines")
    return "octmnist"


@pytest.mark.parametrize("spoil", [no_images, no_class, no_folder, cut_short, wrong_label, no_zip])
def test_command_answers_bad_data_with_one_line(tmp_path, capsys, spoil):
    (tmp_path / "data").mkdir()
    dataset = spoil(tmp_path / "data")
    before = sorted((tmp_path / "data").rglob("*"))
    places = ["--data_dir", str(tmp_path / "data"), "--results_dir", str(tmp_path / "results")]
    status, said = command(["--dataset", dataset, *places], capsys)
    assert status == 2
    assert said.count("\n") == 1
    assert said.startswith("error: ")
    assert str(tmp_path / "data") in said
    assert sorted((tmp_path / "data").rglob("*")) == before
    assert not (tmp_path / "results").exists()


def test_bad_data_leaves_the_runs_that_are_there_alone(tmp_path, capsys):
    run = tmp_path / "results" / "hw_cnn" / "mine"
    run.mkdir(parents=True)
    (run / "config.json").write_text("{}")
    places = ["--data_dir", str(tmp_path / "none"), "--results_dir", str(tmp_path / "results")]
    status, _ = command(["--dataset", "folder", "--name", "mine", "--overwrite", *places], capsys)
    assert status == 2
    assert [path.name for path in run.parent.iterdir()] == ["mine"]
    assert (run / "config.json").read_text() == "{}"


def test_planted_pickle_through_the_real_command(tmp_path):
    """The data set as anyone could put it on disk, with torchvision's own hashes."""
    folder = tmp_path / "data" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for name in ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"):
        (folder / name).write_bytes(pickle.dumps(cnn_files.Trap(tmp_path / "sprung")))
    before = sorted(tmp_path.rglob("*"))
    argv = ["--dataset", "cifar10", "--data_dir", "data", "--results_dir", "results", "--threads", "1"]
    finished = subprocess.run(
        [sys.executable, "-m", "hw_cnn.train", *argv],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert finished.returncode == 2
    assert finished.stderr.startswith("error: ")
    assert finished.stderr.count("\n") == 1
    assert finished.stdout == ""
    assert sorted(tmp_path.rglob("*")) == before


# Flags


def flag_refusal(*argv: str) -> str:
    with pytest.raises(UserError) as caught:
        train.COMMAND.parse(argv)
    message = str(caught.value)
    assert "\n" not in message
    return message


WORDS = ("many", "", "1e", "0x10", "nan", "inf", "-inf", "1,5")
WRONG_NUMBERS = {
    "epochs": ("0", "-1", "1.5", "9" * 400, *WORDS),
    "batch_size": ("0", "-8", "8.0", "9" * 400, *WORDS),
    "lr": ("0", "-0.1", "1e999", *WORDS),
    "l2_decay": ("-1e-9", "1e999", *WORDS),
    "dropout": ("-0.1", "1", "1.5", *WORDS),
    "momentum": ("-0.1", "1", "1.5", *WORDS),
    "seed": ("-1", "1.5", str(2**64), "9" * 400, *WORDS),
    "threads": ("0", "-2", "0.5", "9" * 400, *WORDS),
    "padding": ("1", "-2", "3", "2.0", *WORDS),
}


@pytest.mark.parametrize("flag", WRONG_NUMBERS)
def test_wrong_numbers_are_refused_with_flag_and_value(flag):
    for value in WRONG_NUMBERS[flag]:
        message = flag_refusal("--dataset", "cifar10", f"--{flag}={value}")
        assert f"--{flag}" in message, value[:9]
        assert value in message, value[:9]


def test_every_flag_that_takes_a_number_is_in_the_list_above():
    numeric = {action.dest for action in train.parser()._actions if action.type not in (None, Path, cli.run_name)}
    assert numeric == set(WRONG_NUMBERS)


@pytest.mark.parametrize("flag", ["-lr", "--lr", "--learning-rate"])
def test_negative_number_after_a_space_is_taken_for_a_value(flag):
    assert "'-0.5'" in flag_refusal(flag, "-0.5")


@pytest.mark.parametrize(
    ("flag", "allowed"),
    [
        ("dataset", "fashion-mnist"),
        ("network", "cifar"),
        ("recipe", "best"),
        ("optimizer", "adam"),
        ("precision", "bf16"),
        ("schedule", "cosine"),
        ("device", "cpu"),
    ],
)
def test_unknown_choice_lists_those_that_exist(flag, allowed):
    message = flag_refusal(f"--{flag}", "nonsense")
    for part in (f"--{flag}", "'nonsense'", allowed):
        assert part in message


@pytest.mark.parametrize("argv", [["--epoch", "3"], ["--learning"], ["--bogus=1"], ["-x"], ["stray"], ["--lr"]])
def test_unknown_abbreviated_and_incomplete_flags_are_refused(argv):
    assert argv[0].split("=")[0] in flag_refusal(*argv)


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "-x", "a/b", "../up", "/tmp", "a b", "a\nb", "x" * 121])
def test_run_names_that_are_no_plain_folder_are_refused(name):
    assert "--name" in flag_refusal(f"--name={name}").replace("\\n", "")


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["-no_maxpool"], "-no_maxpool belongs to the network oct, not to fashion"),
        (["-no_maxpool", "--dataset", "cifar10"], "-no_maxpool belongs to the network oct, not to cifar"),
        (["-no_maxpool", "--dataset", "octmnist", "--network", "fashion"], "not to fashion"),
        (["--padding", "0"], "--padding belongs to the network cifar, not to fashion"),
        (["--padding", "2", "--dataset", "octmnist"], "not to oct"),
        (["--dropout", "0.5", "--dataset", "cifar10"], "cifar has no dropout"),
        (["--momentum", "0.9", "--optimizer", "adam"], "--momentum belongs to --optimizer sgd"),
        (["--momentum", "0.9", "--dataset", "cifar10", "--optimizer", "adam"], "--momentum belongs to --optimizer sgd"),
    ],
)
def test_flags_that_do_not_go_together_are_refused(argv, says):
    assert says in flag_refusal(*argv)


@pytest.mark.parametrize("flag", ["-conv_1_name", "-convlayer1", "--conv-2-name", "--convlayer2"])
@pytest.mark.parametrize("name", ["conv1", "convblock1", "convblock1[1]", "fc1", "", "__import__('os').abort()"])
def test_wrong_kernel_name_lists_those_that_exist(flag, name):
    message = flag_refusal(flag, name)
    assert repr(name) in message
    for existing in NETWORKS["fashion"].convolutions:
        assert existing in message


# Flags that are right


def spellings(*names: str) -> list[str]:
    """One dash and two, underscores and hyphens."""
    return sorted({f"{dash}{n}" for name in names for dash in ("-", "--") for n in (name, name.replace("_", "-"))})


@pytest.mark.parametrize(
    ("names", "text", "value"),
    [
        (("epochs",), "3", 3),
        (("batch_size",), "16", 16),
        (("lr", "learning_rate"), "0.25", 0.25),
        (("l2_decay",), "1e-4", 1e-4),
        (("dropout",), "0.6", 0.6),
        (("optimizer",), "adam", "adam"),
        (("conv_1_name", "convlayer1"), "convblock1[0]", "convblock1[0]"),
        (("conv_2_name", "convlayer2"), "convblock2[0]", "convblock2[0]"),
        (("data_dir",), "here", Path("here")),
        (("results_dir",), "there", Path("there")),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_every_spelling_of_a_flag_works(names, text, value):
    for spelling in spellings(*names):
        assert getattr(train.COMMAND.parse([spelling, text]), names[0]) == value, spelling
        assert getattr(train.COMMAND.parse([f"{spelling}={text}"]), names[0]) == value, spelling


@pytest.mark.parametrize("spelling", spellings("no_maxpool"))
def test_every_spelling_of_no_maxpool_works(spelling):
    assert train.COMMAND.parse(["--dataset", "octmnist", spelling]).no_maxpool is True


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [
        ("fashion-mnist", {"network": "fashion", "dropout": 0.3, "lr": 0.01, "batch_size": 8}),
        ("octmnist", {"network": "oct", "dropout": 0.7, "lr": 0.01, "batch_size": 8}),
        ("cifar10", {"network": "cifar", "dropout": 0, "padding": 0}),
        ("sample", {"network": "fashion"}),
    ],
)
def test_defaults_are_the_sheets(dataset, expected):
    found = vars(train.COMMAND.parse(["--dataset", dataset]))
    ist = {"epochs": 15, "optimizer": "sgd", "momentum": 0, "l2_decay": 0, "seed": 42} if dataset != "cifar10" else {}
    for name, value in {**ist, **expected, "precision": "fp32", "augment": False, "schedule": "constant"}.items():
        assert found[name] == value, name


@pytest.mark.parametrize("value", ["0", "0.999"])
def test_borders_of_probabilities_are_accepted(value):
    assert train.COMMAND.parse(["--dropout", value]).dropout == float(value)


# Resuming: the arguments are those of the run, and nothing else


def a_run(tmp_path: Path, *argv: str) -> Run:
    """The folder of a run that was started with `argv` and interrupted at once."""
    arguments = train.COMMAND.parse([*argv, "--results_dir", str(tmp_path)])
    config = describe("hw_cnn", "hw_cnn.train", vars(arguments), {}, {}, {"threads": 1})
    run = Run.create(tmp_path, config, arguments.name)
    run.close()
    return run


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["--dataset", "octmnist", "-no_maxpool", "--lr", "0.1", "-conv_1_name", "conv1"],
        ["--dataset", "cifar10", "--padding", "2", "--seed", "7"],
        ["--recipe", "best"],
        ["--recipe", "best", "--no-augment"],
        ["--recipe", "best", "--optimizer", "adam"],
        ["--recipe", "best", "--momentum", "0", "--dataset", "folder"],
        ["--l2_decay", "1e-05", "--name", "mine"],
    ],
    ids=" ".join,
)
def test_resumed_run_has_the_arguments_it_was_started_with(tmp_path, argv):
    run = a_run(tmp_path, *argv)
    resumed = vars(train.COMMAND.parse(["--resume", str(run.folder)]))
    place = {"resume": run.folder, "threads": 1, "data_dir": str(resumed["data_dir"]), "results_dir": str(tmp_path)}
    assert {**resumed, "data_dir": str(resumed["data_dir"]), "results_dir": str(tmp_path)} == {**run.arguments, **place}


def test_resuming_with_another_argument_names_the_difference(tmp_path):
    run = a_run(tmp_path, "--lr", "0.1")
    message = flag_refusal("--resume", str(run.folder), "-learning_rate", "0.2")
    assert "--lr 0.2" in message
    assert "--lr 0.1" in message
    assert train.COMMAND.parse(["--resume", str(run.folder), "--lr", "0.1"]).lr == 0.1


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"homework": "hw_ocr"}, "hw_ocr"),
        ({"schema": 99}, "schema 99"),
        ({"arguments": {"lr": "fast"}}, "--lr"),
        ({"arguments": {"surprise": 1}}, "--surprise"),
        ({"arguments": {"no_maxpool": True, "network": "cifar"}}, "-no_maxpool"),
        ({"arguments": {"help": True}}, "config.json"),
        ({"arguments": [1, 2]}, "config.json"),
    ],
    ids=["other homework", "other schema", "wrong value", "unknown argument", "wrong pair", "help", "no arguments"],
)
def test_run_folder_with_a_wrong_config_is_refused(tmp_path, change, says):
    run = a_run(tmp_path)
    (run.folder / "config.json").write_text(json.dumps({**run.config, **change}))
    assert says in flag_refusal("--resume", str(run.folder))


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"schema": NaN}', "[" * 100_000], ids=lambda c: c[:9])
def test_run_folder_with_a_damaged_config_is_refused(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    assert str(tmp_path / "config.json") in flag_refusal("--resume", str(tmp_path))


def test_folder_that_is_no_run_is_refused(tmp_path):
    assert "no such folder" in flag_refusal("--resume", str(tmp_path / "nowhere"))
    assert "no config.json" in flag_refusal("--resume", str(tmp_path))


# Quick answers


@pytest.mark.parametrize(
    ("argv", "status"),
    [
        (["--help"], 0),
        (["--epochs", "0"], 2),
        (["--bogus"], 2),
        (["-no_maxpool"], 2),
        (["-conv_1_name", "conv9"], 2),
        (["--resume", "nowhere"], 2),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_help_and_wrong_arguments_are_answered_before_torch_is_imported(tmp_path, argv, status):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    finished = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "hw_cnn.train", *argv],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    lines = finished.stderr.splitlines()
    imported = {line.split("|")[-1].strip() for line in lines if line.startswith("import time:")}
    said = [line for line in lines if not line.startswith("import time:")]
    assert finished.returncode == status
    assert (len(said), bool(finished.stdout)) == ((0, True) if status == 0 else (1, False))
    assert "argparse" in imported
    assert imported.isdisjoint({"torch", "torchvision", "numpy", "sklearn", "matplotlib", "PIL", "captum", "optuna"})
    assert (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime) < 0.5
    assert list(tmp_path.iterdir()) == []
