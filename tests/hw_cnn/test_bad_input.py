"""Bad input to hw_cnn, one table for each format: each row ends in one line that names the file, and runs no code."""

import gzip
import io
import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import cnn_files
import numpy as np
import pytest
from cnn_files import Trap, cycle, idx, idx_header, npy_header, pixels, png_claiming
from PIL import Image, features

from hw_cnn import data, images, readers, train
from hw_cnn.presets import DATASETS, NETWORKS
from hw_common.commands import cli
from hw_common.data.class_folders import ImageFile
from hw_common.runs.config import describe
from hw_common.runs.errors import UserError
from hw_common.runs.run_folder import Run

REPOSITORY = Path(__file__).resolve().parents[2]


def refusal(dataset, data_dir):
    """Loads `dataset`, which has to be refused; returns the message."""
    with pytest.raises(UserError) as caught:
        data.load(dataset, data_dir, NETWORKS[DATASETS[dataset]], seed=0)
    assert str(data_dir) in str(caught.value) and "\n" not in str(caught.value)
    return str(caught.value)


def each(table):
    return pytest.mark.parametrize("row", table.values(), ids=table)


# MNIST and Fashion-MNIST: files → message

GOOD_LABELS, GOOD_IMAGES = idx(cycle(5, 10)), idx(pixels(5, 28, 28, seed=1))
IDX = {
    "empty": ({"t10k_images": b""}, "not an IDX file"),
    "three bytes": ({"t10k_images": b"\0\0\x08"}, "not an IDX file"),
    "html": ({"t10k_images": b"<html>no such file</html>"}, "not an IDX file"),
    "floats": ({"t10k_images": b"\0\0\x0d" + GOOD_IMAGES[3:]}, "not an IDX file of bytes"),
    "two dimensions": ({"t10k_images": b"\0\0\x08\x02" + GOOD_IMAGES[4:]}, "not an IDX file"),
    "half a header": ({"t10k_images": GOOD_IMAGES[:10]}, "damaged"),
    "header only": ({"t10k_images": GOOD_IMAGES[:16]}, "cut short"),
    "one byte missing": ({"t10k_images": GOOD_IMAGES[:-1]}, "cut short"),
    "one byte too many": ({"t10k_images": GOOD_IMAGES + b"!"}, "too long"),
    "many images": ({"t10k_images": idx_header(0xFFFFFFFF, 28, 28) + b"x"}, "damaged"),
    "huge images": ({"t10k_images": idx_header(5, 0xFFFFFFFF, 0xFFFFFFFF) + b"x"}, "damaged"),
    "terabyte": ({"t10k_images": idx_header(10**6, 1024, 1024) + b"x"}, "t10k-images"),
    "no pixels": ({"t10k_images": idx_header(5, 0, 28)}, "t10k"),
    "no images": ({"t10k_images": idx_header(0, 28, 28)}, "do not belong together"),
    "a label more": ({"t10k_labels": idx(cycle(6, 10))}, "do not belong together"),
    "swapped": ({"t10k_labels": GOOD_IMAGES, "t10k_images": GOOD_LABELS}, "do not belong together"),
    "test label": ({"t10k_labels": idx(np.full(5, 10, np.uint8))}, "test label 10 is out of range, expected 0 to 9"),
    "label": ({"train_labels": idx(np.full(12, 10, np.uint8))}, "training label 10 is out of range, expected 0 to 9"),
}


@pytest.mark.parametrize(("dataset", "folder"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST")])
@each(IDX)
def test_bad_idx_files(tmp_path, row, dataset, folder):
    written, says = row
    for gz in (False, True):
        cnn_files.write_idx(tmp_path / f"{gz}", folder, gz=gz, **written)
        assert says in refusal(dataset, tmp_path / f"{gz}")


GZIP = {
    "empty": lambda content: b"",
    "cut short": lambda content: content[:-9],
    "header only": lambda content: content[:5],
    "wrong checksum": lambda content: content[:-8] + bytes(8),
    "no gzip": lambda content: b"plain" + content,
    "damaged stream": lambda content: content[:10] + b"\xff" * 20,
    "bomb": lambda content: gzip.compress(idx_header(5, 28, 28) + bytes(2**24), mtime=0),  # its header says 4 KB
}


@each(GZIP)
def test_bad_gzip_files(tmp_path, row):
    path = cnn_files.write_idx(tmp_path, gz=True) / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(row(path.read_bytes()))
    assert str(path) in refusal("mnist", tmp_path)


# OCTMNIST: change to the path of octmnist.npz → message


def arrays(**replaced):
    return lambda path: cnn_files.write_npz(path.parent, **replaced)


def member(content):
    """Puts raw bytes in place of the array val_images."""

    def spoil(path):
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w") as archive:
            for name, whole in members.items():
                archive.writestr(name, content if name == "val_images.npy" else whole)

    return spoil


def whole(damage):
    return lambda path: path.write_bytes(damage(path.read_bytes()))


def directory_byte(offset, value):
    """Changes a byte in the first entry of a zip file's directory."""

    def damage(content):
        position = content.index(b"PK\1\2") + offset
        return content[:position] + bytes([value]) + content[position + 1 :]

    return whole(damage)


RECORDS = np.zeros(5, dtype=[("first", int), ("second", int)])
NPZ = {
    "no images": (arrays(test_images=None), "not OCTMNIST: test_images"),
    "no labels": (arrays(val_labels=None), "not OCTMNIST: val_labels"),
    "too few labels": (arrays(val_labels=np.zeros((4, 1), np.uint8)), "5, 28, 28"),
    "floats": (arrays(val_images=np.zeros((5, 28, 28), np.float32)), "float32"),
    "colours": (arrays(val_images=np.zeros((5, 28, 28, 3), np.uint8)), "5, 28, 28, 3"),
    "a number": (arrays(val_images=np.uint8(3)), "expected images"),
    "no pixels": (arrays(val_images=np.zeros((5, 0, 28), np.uint8)), "expected images"),
    "none": (arrays(val_images=np.zeros((0, 28, 28), np.uint8), val_labels=np.zeros(0, int)), "no validation images"),
    "label 4": (arrays(val_labels=np.full((5, 1), 4)), "validation label 4 is out of range, expected 0 to 3"),
    "label -1": (arrays(test_labels=np.full((4, 1), -1)), "test label -1 is out of range"),
    "label 2**40": (arrays(train_labels=np.full((6, 1), 2**40)), "out of range"),
    "words": (arrays(val_labels=np.array(["drusen"] * 5)), "octmnist.npz"),
    "records": (arrays(val_labels=RECORDS), "octmnist.npz"),
    "label 0.5": (arrays(val_labels=np.array([0, 1, 2, 3, 0.5])), "octmnist.npz"),
    "label NaN": (arrays(val_labels=np.array([0, 1, 2, 3, np.nan])), "octmnist.npz"),
    "empty member": (member(b""), "octmnist.npz"),
    "no array": (member(b"no array"), "octmnist.npz"),
    "magic only": (member(b"\x93NUMPY"), "octmnist.npz"),
    "header no Python": (member(b"\x93NUMPY\x01\0\x10\0((((((((((((((((("), "octmnist.npz"),
    "unknown version": (member(b"\x93NUMPY\x09\0\x10\0" + bytes(16)), "octmnist.npz"),
    "short member": (member(npy_header(5, 28, 28) + b"too short"), "octmnist.npz"),
    "overflow": (member(npy_header(10**9, 10**9, 10**9)), "octmnist.npz"),
    "petabyte": (member(npy_header(10**4, 10**6, 10**5) + b"x"), "octmnist.npz"),
    "negative": (member(npy_header(-5, 28, 28)), "octmnist.npz"),
    "claims 780 MB": (member(npy_header(10**6, 28, 28) + b"x"), "the shape (1000000, 28, 28) of uint8, but 1 bytes"),
    "more than a number": (member(npy_header(10**20, 28, 28)), "of uint8, but 0 bytes"),
    "empty": (whole(lambda content: b""), "octmnist.npz"),
    "no zip": (whole(lambda content: b"two\nlines"), "octmnist.npz"),
    "half": (whole(lambda content: content[: len(content) // 2]), "octmnist.npz"),
    "one byte missing": (whole(lambda content: content[:-1]), "octmnist.npz"),
    "start missing": (whole(lambda content: content[100:]), "octmnist.npz"),
    "unknown compression": (directory_byte(10, 99), "octmnist.npz"),
    "encrypted": (directory_byte(8, 1), "octmnist.npz"),
}


@pytest.mark.filterwarnings("error")
@each(NPZ)
def test_bad_npz_files(tmp_path, row):
    spoil, says = row
    path = cnn_files.write_npz(tmp_path)
    before = path.read_bytes()
    spoil(path)
    assert path.read_bytes() != before
    assert says.lower() in refusal("octmnist", tmp_path).lower()


def test_npz_that_claims_too_much_is_not_unpacked(tmp_path, monkeypatch):
    cnn_files.write_npz(tmp_path)
    monkeypatch.setattr(readers, "_LARGEST_NPZ", 1000)
    assert "limit of 1000" in refusal("octmnist", tmp_path)


# CIFAR-10: change to the bytes of a batch


@pytest.mark.parametrize("name", ["data_batch_3", "test_batch", "batches.meta"])
@each(
    {"missing": None, "empty": b"", "cut short": lambda b: b[:-1], "other data": lambda b: b.replace(b"\0", b"\1", 1)}
)
def test_bad_cifar_batches(tmp_path, monkeypatch, name, row):
    path = cnn_files.write_cifar(tmp_path, monkeypatch) / name
    path.write_bytes(row(path.read_bytes()) if callable(row) else b"")
    if row is None:
        path.unlink()
    assert f"{path.parent} is not the published CIFAR-10" in refusal("cifar10", tmp_path)


def test_cifar_label_out_of_range(tmp_path, monkeypatch):
    cnn_files.write_cifar(tmp_path, monkeypatch, labels=(0, 1, 2, 10))
    assert "label 10 is out of range, expected 0 to 9" in refusal("cifar10", tmp_path)


# Image files and folders


def encoded(suffix, size=9):
    file = io.BytesIO()
    Image.fromarray(pixels(size, size, 3)).save(file, suffix)
    return file.getvalue()


PNG = encoded("png")
IMAGES = {
    "empty": (b"", "not an image"),
    "text": (b"a text that calls itself an image", "not an image"),
    "png cut short": (PNG[:-30], "damaged"),
    "png header only": (PNG[:20], "0.png"),
    "jpeg cut short": (encoded("jpeg", 64)[:700], "damaged"),
    "png damaged": (PNG[:60] + bytes(40) + PNG[100:], "damaged"),
    "bomb": (png_claiming(60_000, 60_000), "pixels"),  # Pillow itself refuses it
    "small bomb": (png_claiming(9_000, 9_000), "9000×9000 pixels"),  # Pillow does not even warn
    "wide bomb": (png_claiming(2**31 - 1, 1), "0.png"),
    "no pixels": (png_claiming(0, 0), "0.png"),
}


@pytest.fixture
def folder(tmp_path):
    """A valid image folder for a test to damage."""
    return cnn_files.write_folder(tmp_path / "images", {"train": 2, "val": 1, "test": 1})


@pytest.mark.filterwarnings("error")
@each(IMAGES)
def test_bad_images(folder, row):
    content, says = row
    path = folder / "test" / "dog" / "0.png"
    path.write_bytes(content)
    message = refusal("folder", folder)
    assert str(path) in message and says in message


FORMATS = ["png", "jpeg", "gif", "bmp", "tiff", "ppm", "tga"]
FORMATS += [name for name in ("webp", "avif") if features.check(name)]


@pytest.mark.filterwarnings("ignore:.*:UserWarning:PIL", "ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("name", FORMATS)
def test_image_damaged_anywhere_is_refused_or_read(name):
    """Pillow raises many kinds of exceptions for a damaged file; each becomes a UserError."""
    content, refused = encoded(name), 0
    places = range(0, len(content), max(1, len(content) // 60))
    cut_short = [content[:place] for place in places]
    changed = [content[:place] + bytes([255 - content[place]]) + content[place + 1 :] for place in places]
    for damaged in cut_short + changed:
        try:
            assert images.decode(ImageFile("some image", damaged), channels=3, size=4).shape == (4, 4, 3)
        except UserError as error:
            assert "some image" in str(error)
            refused += 1
    assert refused > 5


def in_a_process(tmp_path, *argv):
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run([sys.executable, *argv], cwd=tmp_path, env=environment, capture_output=True, text=True)


def emptied(folder, split):
    for path in (folder / split / "dog").iterdir():
        path.unlink()
    (folder / split / "dog" / ".DS_Store").touch()  # does not count


def without_classes(folder):
    for path in folder.glob("*/*"):
        shutil.rmtree(path)


def file_for_train(folder):
    shutil.rmtree(folder / "train")
    (folder / "train").touch()


FOLDERS = {
    **{f"empty {split}": (lambda f, split=split: emptied(f, split), f"class folder {{}}/{split}/dog has 0 images")
       for split in ("train", "val", "test")},
    **{f"fox in {split}": (lambda f, split=split: (f / split / "fox").mkdir(), "differ in the class folders fox")
       for split in ("val", "test")},
    "fox in train": (lambda f: shutil.copytree(f / "train" / "dog", f / "train" / "fox"), "{}/train differ in the"),
    "dog missing": (lambda f: shutil.rmtree(f / "val" / "dog"), "{}/val and {}/train differ in the class folders dog"),
    "one class": (lambda f: shutil.rmtree(f / "train" / "dog"), "{}/train has 1 class folders, expected at least two"),
    "no classes": (without_classes, "{}/train has 0 class folders, expected at least two"),
    "no train": (lambda f: shutil.rmtree(f / "train"), "{}/train does not exist; expected {}/{train,val,test}/<cl"),
    "no test": (lambda f: shutil.rmtree(f / "test"), "{}/test does not exist"),
    "train is a file": (file_for_train, "{}/train does not exist"),
    "nothing": (shutil.rmtree, "(name the folder with --data_dir)"),
}  # fmt: skip


@each(FOLDERS)
def test_bad_folders(folder, row):
    spoil, says = row
    spoil(folder)
    assert says.replace("{}", str(folder)) in refusal("folder", folder)


# Pickles with code inside: a marker file would show that it ran


def cifar_batch(name):
    return lambda folder, patch: ("cifar10", cnn_files.write_cifar(folder, patch) / name)


def image_of_a_folder(folder, _):
    return "folder", cnn_files.write_folder(folder, {"train": 1, "val": 1, "test": 1}) / "train" / "cat" / "0.png"


PICKLES = {name: cifar_batch(name) for name in ("data_batch_1", "test_batch", "batches.meta")}
PICKLES |= {"npz": lambda folder, _: ("octmnist", folder / "octmnist.npz"), "image": image_of_a_folder}


@pytest.fixture
def trap(tmp_path):
    """A pickle whose code would make a file; the test fails if that file exists at the end."""
    trap = Trap(tmp_path / "sprung")
    pickle.loads(pickle.dumps(trap))
    trap.marker.unlink()  # which shows that the trap works
    yield trap
    assert not trap.marker.exists()


@each(PICKLES)
def test_code_in_a_file_is_not_run(tmp_path, monkeypatch, trap, row):
    dataset, path = row(tmp_path, monkeypatch)
    path.write_bytes(pickle.dumps(trap))
    refusal(dataset, tmp_path)


@pytest.mark.parametrize("name", ["train_images", "test_labels", "val_labels"])
def test_code_in_an_array_is_not_run(tmp_path, trap, name):
    path = cnn_files.write_npz(tmp_path, **{name: np.array([trap] * 4, dtype=object)})
    assert "are not loaded" in refusal("octmnist", tmp_path)
    member(pickle.dumps(trap))(path)
    refusal("octmnist", tmp_path)


def test_planted_pickle_through_the_real_command(tmp_path):
    """CIFAR-10's folder with planted pickles, checked against torchvision's real hashes."""
    folder = tmp_path / "data" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for name in ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"):
        (folder / name).write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    before = sorted(tmp_path.rglob("*"))
    argv = ["--dataset", "cifar10", "--data_dir", "data", "--results_dir", "results", "--threads", "1"]
    finished = in_a_process(tmp_path, "-m", "hw_cnn.train", *argv)
    assert (finished.returncode, finished.stdout, finished.stderr.count("\n")) == (2, "", 1)
    assert finished.stderr.startswith("error: ")
    assert sorted(tmp_path.rglob("*")) == before


# Bad data through the command: one line, status 2, nothing left behind, other runs untouched


def spoilt_folder(data_dir, table, name):
    table[name][0](cnn_files.write_folder(data_dir, {"train": 1, "val": 1, "test": 1}))
    return "folder"


def spoilt_npz(data_dir, name):
    NPZ[name][0](cnn_files.write_npz(data_dir))
    return "octmnist"


def spoilt_idx(data_dir, name):
    cnn_files.write_idx(data_dir, **IDX[name][0])
    return "mnist"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data_dir: spoilt_folder(data_dir, FOLDERS, "one class"),
        lambda data_dir: "folder",
        lambda data_dir: spoilt_idx(data_dir, "one byte missing"),
        lambda data_dir: spoilt_npz(data_dir, "label 4"),
        lambda data_dir: spoilt_npz(data_dir, "no zip"),
    ],
    ids=["one class", "no folder", "idx cut short", "label 4", "no zip"],
)
def test_command_answers_bad_data_with_one_line(tmp_path, capsys, spoil):
    (tmp_path / "data").mkdir()
    dataset = spoil(tmp_path / "data")
    run = tmp_path / "results" / "hw_cnn" / "mine"
    run.mkdir(parents=True)
    (run / "config.json").write_text("{}")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    places = ["--data_dir", str(tmp_path / "data"), "--results_dir", str(tmp_path / "results")]
    with pytest.raises(SystemExit) as ended:
        cli.run_command(lambda: train.main(["--dataset", dataset, "--name", "mine", "--overwrite", *places]))
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert said.count("\n") == 1 and said.startswith("error: ") and str(tmp_path / "data") in said
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


# Flags: those of all commands are tested in tests/test_commands_contract.py


def flag_refusal(*argv):
    with pytest.raises(UserError) as caught:
        train.COMMAND.parse(argv)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["-no_maxpool"], "-no_maxpool needs the network oct, not fashion"),
        (["-no_maxpool", "--dataset", "cifar10"], "-no_maxpool needs the network oct, not cifar"),
        (["-no_maxpool", "--dataset", "octmnist", "--network", "fashion"], "not fashion"),
        (["--padding", "0"], "--padding needs the network cifar, not fashion"),
        (["--padding", "2", "--dataset", "octmnist"], "not oct"),
        (["--dataset", "medmnist"], "needs --medmnist_flag: expected a set"),
        (
            ["--dataset", "medmnist", "--medmnist_flag", "chestmnist"],
            "chestmnist: expected a set of 2D images with one",
        ),
        (["--dataset", "medmnist", "--medmnist_flag", "organmnist3d"], "organmnist3d: expected a set of 2D images"),
        (["--medmnist_flag", "breastmnist"], "needs --dataset medmnist, not fashion-mnist"),
        (["--padding", "1", "--dataset", "cifar10"], "--padding: invalid choice: 1 (choose from 0, 2)"),
        (["--dropout", "1"], "--dropout: expected a number from 0 up to, but not including, 1"),
        (["--dropout", "0.5", "--dataset", "cifar10"], "cifar has no dropout"),
        (["--momentum", "0.9", "--optimizer", "adam"], "--momentum needs --optimizer sgd"),
        (["--momentum", "0.9", "--dataset", "cifar10", "--optimizer", "adam"], "--momentum needs --optimizer sgd"),
    ],
)
def test_flags_that_exclude_one_another_are_refused(argv, says):
    assert says in flag_refusal(*argv)


@pytest.mark.parametrize("flag", ["-conv_1_name", "-convlayer1", "--conv-2-name", "--convlayer2"])
@pytest.mark.parametrize("name", ["conv1", "convblock1", "convblock1[1]", "fc1", "", "__import__('os').abort()"])
def test_wrong_kernel_name_lists_those_that_exist(flag, name):
    message = flag_refusal(flag, name)
    assert repr(name) in message
    for existing in NETWORKS["fashion"].convolutions:
        assert existing in message


@pytest.mark.parametrize("flag", ["-conv_1_name", "--conv-1-name", "-convlayer1", "--convlayer1"])
def test_both_names_of_a_kernel_flag_are_accepted(flag):
    assert train.COMMAND.parse([flag, "convblock1[0]"]).conv_1_name == "convblock1[0]"


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


@pytest.mark.parametrize(
    "words",
    [
        "",
        "--dataset octmnist -no_maxpool --lr 0.1 -conv_1_name conv1",
        "--dataset cifar10 --padding 2 --seed 7",
        "--recipe best",
        "--recipe best --no-augment",
        "--recipe best --optimizer adam",
        "--recipe best --momentum 0 --dataset folder",
        "--l2_decay 1e-05 --name mine",
    ],
)
def test_resumed_run_has_the_arguments_it_was_started_with(tmp_path, words):
    arguments = train.COMMAND.parse([*words.split(), "--results_dir", str(tmp_path)])
    config = describe("hw_cnn", "hw_cnn.train", vars(arguments), {}, {}, {"threads": 1})
    run = Run.create(tmp_path, config, arguments.name)
    run.close()
    resumed = vars(train.COMMAND.parse(["--resume", str(run.folder)]))
    assert resumed == {**vars(arguments), "resume": run.folder, "threads": 1}
