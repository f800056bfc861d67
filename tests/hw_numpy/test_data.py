"""MNIST's files, whole and damaged, and the built-in sample."""

import gzip
import subprocess
import sys

import numpy as np
import pytest
from numpy_files import idx, write_mnist

from hw_common.data import download
from hw_common.runs.errors import UserError
from hw_numpy import arrays, data


@pytest.mark.parametrize("packed", [True, False])
def test_mnist_is_split_as_the_course_does(tmp_path, packed):
    written = write_mnist(tmp_path, packed)
    digits = data.load("mnist", tmp_path)
    assert digits.name == "MNIST" and len(digits.hashes) == 4
    for part, images, labels in [
        (digits.train, written["train_images"][:22], written["train_labels"][:22]),
        (digits.val, written["train_images"][22:], written["train_labels"][22:]),
        (digits.test, written["t10k_images"], written["t10k_labels"]),
    ]:
        X, y = part
        assert X.dtype == np.uint8 and np.array_equal(X, images[:, None])
        assert y.dtype == np.int64 and np.array_equal(y, labels)


def zeros(*shape):
    return idx(np.zeros(shape, dtype=np.uint8))


@pytest.mark.parametrize(
    ("replaced", "message"),
    [
        ({"train_images": b""}, "is not an IDX file of bytes: it starts with nothing"),
        ({"train_images": b"\x89PNG"}, "is not an IDX file of bytes: it starts with 89504e47"),
        (
            {"train_images": zeros(24, 28, 28)[:-1]},
            "is cut short or too long: expected 18816 bytes of data, found 18815",
        ),
        ({"train_images": zeros(24, 28, 28) + b"x"}, "is cut short or too long: expected 18816 bytes"),
        ({"train_images": zeros(24, 14, 56)}, r"is damaged: its header claims the shape \(24, 14, 56\)"),
        ({"train_images": b"\0\0\x08\x03" + b"\xff\xff\xff\xff" + b"\0\0\0\x1c" * 2}, "claims the shape"),
        ({"train_images": b"\0\0\x08\x03\0\0"}, "claims the shape"),
        ({"train_images": zeros(24)}, r"train images \(24,\) and labels \(24,\) do not belong together"),
        ({"t10k_labels": zeros(4)}, r"t10k images \(5, 28, 28\) and labels \(4,\) do not belong"),
        ({"t10k_labels": zeros(5, 28, 28)}, "do not belong together"),
        ({"train_labels": idx(np.full(24, 10, dtype=np.uint8))}, "train has the label 10, expected 0 to 9"),
        ({"train_images": zeros(0, 28, 28), "train_labels": zeros(0)}, "train has 0 images, expected at least two"),
    ],
)
def test_damaged_files_are_one_clear_line(tmp_path, replaced, message):
    write_mnist(tmp_path, **replaced)
    with pytest.raises(UserError, match=message) as caught:
        data.load("mnist", tmp_path)
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"no gzip", gzip.compress(zeros(24, 28, 28), mtime=0)[:-9]], ids=["no gzip", "cut short"]
)
def test_damaged_archives_are_one_clear_line(tmp_path, content):
    write_mnist(tmp_path)
    (tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte.gz").write_bytes(content)
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte\.gz is damaged or cut short"):
        data.load("mnist", tmp_path)


def test_a_missing_file_is_fetched_with_its_published_hash(tmp_path, monkeypatch):
    write_mnist(tmp_path, t10k_labels=None)
    asked = []

    def place(folder, wanted):
        asked.extend(wanted)
        raise UserError("no network")

    monkeypatch.setattr(download, "place", place)
    with pytest.raises(UserError, match="no network"):
        data.load("mnist", tmp_path)
    [wanted] = asked
    assert wanted.name == "t10k-labels-idx1-ubyte.gz" and wanted.md5 == "ec29112dd5afa0611ce80d1b7f02629c"
    assert all(url.endswith(f"/{wanted.name}") for url in wanted.urls) and wanted.urls


def test_the_sample_looks_like_mnist():
    digits, again = data.load("sample", None), data.load("sample", None)
    assert digits.name == "sample digits" and digits.hashes == again.hashes
    for (X, y), count in ((digits.train, 1200), (digits.val, 300), (digits.test, 297)):
        assert X.shape == (count, 1, 28, 28) and X.dtype == np.uint8 and (X.min(), X.max()) == (0, 255)
        assert set(y) == set(range(10)) and np.bincount(y).min() > 0.08 * count
    distinct = {X.tobytes() for part in (digits.train, digits.val, digits.test) for X in part[0]}
    assert len(distinct) > 1790  # the parts share no image


def test_enlarging_is_linear_interpolation():
    matrix = data._interpolation(8, 28)
    assert np.allclose(matrix.sum(axis=1), 1) and matrix.min() >= 0
    row = matrix @ np.arange(8.0)
    assert row[0] == 0 and row[-1] == 7 and np.allclose(np.diff(row[2:-2]), 8 / 28)


# Weights and states on disk


def test_arrays_come_back_as_they_were(tmp_path):
    kept = {
        "rows": np.arange(6.0).reshape(2, 3),
        "columns": np.asfortranarray(np.arange(6.0, dtype=np.float32).reshape(2, 3)),
        "part": np.arange(6)[::2],
        "number": np.array(3),
        "nothing": np.zeros(0),
    }
    arrays.save(tmp_path / "x", kept, {"for": "me", "and": "you"})
    before = (tmp_path / "x").read_bytes()
    loaded = arrays.load(tmp_path / "x", {"and": "you", "for": "me"})
    assert loaded.keys() == kept.keys()
    for name, array in kept.items():
        assert loaded[name].dtype == array.dtype and loaded[name].shape == array.shape
        assert np.array_equal(loaded[name], array)
    arrays.save(tmp_path / "x", kept, {"and": "you", "for": "me"})
    assert (tmp_path / "x").read_bytes() == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read"),
        (b"", "is damaged or not a safetensors"),
        (b"\x80\x04pickle", "is damaged or not a safetensors"),
    ],
)
def test_damaged_arrays_are_one_clear_line(tmp_path, content, message):
    if content is not None:
        (tmp_path / "x").write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        arrays.load(tmp_path / "x", {})
    assert "\n" not in str(caught.value)


def test_arrays_of_something_else_are_refused(tmp_path):
    arrays.save(tmp_path / "x", {"w": np.zeros(1)}, {"network": "cnn"})
    with pytest.raises(UserError, match=r"was written for \{'network': 'cnn'\}, expected \{'network': 'softmax'\}"):
        arrays.load(tmp_path / "x", {"network": "softmax"})


def test_the_training_command_reads_the_sample_without_torch():
    """torchvision's addresses of MNIST are used only if a file is missing."""
    code = (
        "import sys; from hw_numpy import data, experiment; data.load('sample', None); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
