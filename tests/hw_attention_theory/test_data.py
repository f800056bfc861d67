"""Images of digits as sequences of pixels."""

import cnn_files
import numpy as np
import pytest
import torch

from hw_attention_theory import data

CPU = torch.device("cpu")


def test_mnist_is_split_and_read_row_by_row(tmp_path):
    cnn_files.write_idx(tmp_path, gz=True)
    images, labels, test_images, test_labels = cnn_files.idx_arrays().values()
    digits = data.load("mnist", tmp_path, 28)
    assert digits.name == "MNIST" and len(digits.hashes) == 4
    for part, expected, of_part in [
        (digits.train, images[:11], labels[:11]),
        (digits.val, images[11:], labels[11:]),
        (digits.test, test_images, test_labels),
    ]:
        assert part.pixels.dtype == torch.uint8 and np.array_equal(part.pixels, expected.reshape(-1, 784))
        assert part.labels.dtype == torch.int64 and np.array_equal(part.labels, of_part)


@pytest.mark.parametrize("side", [14, 7])
def test_smaller_images_are_means_of_blocks(tmp_path, side):
    cnn_files.write_idx(tmp_path)
    digits, block = data.load("mnist", tmp_path, side), 28 // side
    image = cnn_files.idx_arrays()[cnn_files.IDX_FILES[2]][3].astype(float)
    means = [
        image[block * row : block * (row + 1), block * column : block * (column + 1)].mean()
        for row in range(side)
        for column in range(side)
    ]
    assert np.abs(digits.test.pixels[3].numpy() - np.array(means)).max() <= 0.501  # rounded


def test_the_sample_needs_no_files():
    digits, smaller = data.load("sample", None, 8), data.load("sample", None, 4)
    assert (digits.name, len(digits.train), len(digits.val), len(digits.test)) == ("sample digits", 1200, 300, 297)
    assert digits.train.pixels.shape == (1200, 64) and smaller.train.pixels.shape == (1200, 16)
    assert (digits.train.pixels.min(), digits.train.pixels.max()) == (0, 255)
    assert digits.hashes == smaller.hashes
    assert not {bytes(row) for row in digits.train.pixels.numpy()} & {bytes(row) for row in digits.test.pixels.numpy()}


def test_batches_are_floats_from_0_to_1():
    digits = data.load("sample", None, 8)
    pixels, labels = next(data.batches(digits.val, 7, CPU).epoch(0))
    assert torch.equal(pixels, digits.val.pixels[:7].float() / 255) and torch.equal(labels, digits.val.labels[:7])
    shuffled, _ = next(data.batches(digits.val, 7, CPU, seed=1, shuffle=True).epoch(0))
    assert not torch.equal(shuffled, pixels)
