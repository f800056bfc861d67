"""The reader of MNIST's files; the tests of the homeworks try the files that it refuses."""

import cnn_files
import numpy as np
import pytest

from hw_common.data import idx
from hw_common.runs.errors import UserError


@pytest.mark.parametrize("gz", [False, True])
def test_the_four_files_are_read_as_they_are(tmp_path, gz):
    folder = cnn_files.write_idx(tmp_path, "FashionMNIST", gz=gz)
    source = idx.load("FashionMNIST", tmp_path)
    images, labels, test_images, test_labels = cnn_files.idx_arrays().values()
    for found, expected in ((source.train, (images, labels)), (source.test, (test_images, test_labels))):
        assert np.array_equal(found[0], expected[0]) and np.array_equal(found[1], expected[1])
        assert found[0].dtype == np.uint8 and found[1].dtype == np.int64
    assert source.folder == folder
    names = [f"FashionMNIST/{name}{'.gz' if gz else ''}" for name in cnn_files.IDX_FILES]
    assert list(source.hashes) == names and len(set(source.hashes.values())) == 4


def test_images_of_another_side_are_refused_where_one_is_asked_for(tmp_path):
    cnn_files.write_idx(tmp_path)
    assert idx.load("MNIST", tmp_path, side=28).train[0].shape == (12, 28, 28)
    with pytest.raises(UserError, match=r"its header claims the shape \(12, 28, 28\)"):
        idx.load("MNIST", tmp_path, side=8)


def test_a_packed_file_of_gigabytes_is_refused_by_its_header(tmp_path):
    cnn_files.write_idx(tmp_path, train_images=cnn_files.idx_header(900_000, 60, 60))
    with pytest.raises(UserError, match=r"its header claims the shape \(900000, 60, 60\)"):
        idx.load("MNIST", tmp_path)


@pytest.mark.parametrize(
    ("labels", "says"), [([10, 1, 2, 3, 4], "t10k has the label 10, expected 0 to 9"), ([1], "t10k has 1 images")]
)
def test_labels_are_checked(tmp_path, labels, says):
    images = cnn_files.idx(cnn_files.pixels(len(labels), 28, 28))
    cnn_files.write_idx(tmp_path, t10k_labels=cnn_files.idx(np.array(labels, np.uint8)), t10k_images=images)
    with pytest.raises(UserError, match=says):
        idx.check_labels(idx.load("MNIST", tmp_path))
