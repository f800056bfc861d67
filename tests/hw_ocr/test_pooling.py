"""Feature maps of shifted and rotated letters (dsl-2019-hw3 Q1.1)."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from hw_ocr import pooling
from hw_ocr.data import Letters
from hw_ocr.models import ConvBiLSTM, OcrCNN, PerLetter, pairwise_products


def test_maps_of_a_shifted_letter_are_the_shifted_maps():
    torch.manual_seed(0)
    letter = F.pad(torch.rand(2, 1, 16, 8), (8, 8, 8, 8))
    network = PerLetter(OcrCNN(3))
    before, after = (pooling.collect_maps(network, pooling.shift(letter, pixels)) for pixels in (0, 4))
    assert list(before) == [
        (layer, stage)
        for layer in ("layer1", "layer3")
        for stage in (pooling.CONVOLVED, pooling.POOLED, pooling.OVER_CHANNELS)
    ]
    for key, by in (("layer1", 4), ("layer1", 2)):
        stage = pooling.CONVOLVED if by == 4 else pooling.POOLED
        torch.testing.assert_close(after[key, stage][..., by + 2 : -2], before[key, stage][..., 2 : -by - 2])
    assert before["layer1", pooling.OVER_CHANNELS].shape == (2, 1, 32, 24)


def test_maps_are_those_of_the_forward_pass():
    torch.manual_seed(0)
    images = torch.rand(3, 1, 16, 8)
    model = OcrCNN(2)
    maps = pooling.collect_maps(model, images)
    torch.testing.assert_close(maps["layer2", pooling.POOLED], model.layer2(model.layer1(images)))
    assert list(pooling.collect_maps(ConvBiLSTM(), images))[0] == ("layer1", pooling.CONVOLVED)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_quarter_turns_are_torchs(turns):
    images = torch.rand(2, 1, 9, 9)
    torch.testing.assert_close(pooling.rotate(images, 90.0 * turns), images.rot90(turns, (2, 3)), atol=1e-5, rtol=0)


def test_a_half_turn_of_a_tall_image_turns_both_axes():
    images = torch.rand(2, 1, 16, 8)
    torch.testing.assert_close(pooling.rotate(images, 180.0), images.flip(2, 3), atol=1e-5, rtol=0)


def test_a_small_turn_keeps_the_shape_of_a_tall_image():
    bar = torch.zeros(1, 1, 32, 24)
    bar[..., 8:24, 11:13] = 1
    rows, columns = torch.nonzero(pooling.rotate(bar, 20.0)[0, 0] > 0.5).T
    # 16 pixels long, leaning by 16 sin 20°, counter-clockwise: the top goes to the left.
    assert rows.max() - rows.min() + 1 == pytest.approx(16 * np.cos(np.deg2rad(20)), abs=1.5)
    lean = columns[rows == rows.max()].float().mean() - columns[rows == rows.min()].float().mean()
    assert lean == pytest.approx(16 * np.sin(np.deg2rad(20)), abs=1.5)


def test_the_change_of_the_products_is_that_of_the_written_out_products():
    letters = F.pad((torch.rand(3, 1, 4, 2) > 0.5).float(), (2, 2, 2, 2))
    for name, found in pooling.measure_products(letters).items():
        before, after = (pairwise_products(x.flatten(1)) for x in (letters, pooling.CHANGES[name](letters)))
        assert found == pytest.approx(((after - before).norm(dim=1) / before.norm(dim=1)).mean().item(), rel=1e-5)


def test_accuracies_are_those_on_the_changed_letters():
    """The network reads a letter as the number of its leftmost column with ink, which a shift increases."""

    class LeftmostColumn(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.tensor([1.0]))

        def forward(self, images, mask):
            return F.one_hot(images.amax(2).argmax(2), 26).float() * self.weight

    images = torch.zeros(3, 16, 8, dtype=torch.uint8)
    images[torch.arange(3), :, torch.tensor([0, 1, 7])] = 1
    letters = Letters(images, labels=torch.tensor([0, 2, 7]), lengths=torch.tensor([1, 2]))
    found = pooling.accuracies(LeftmostColumn(), letters)
    assert list(found) == list(pooling.CHANGES)
    # Shifted by one pixel, the leftmost columns are 1, 2 and, for the letter without ink, 0.
    assert [found[name] for name in list(found)[:3]] == pytest.approx([2 / 3, 1 / 3, 0])


def test_changes_are_measured_against_what_the_letter_causes():
    before = torch.tensor([[0.0, 2.0, 1.0, 0.0], [0.0, 0.0, 4.0, 0.0]])
    after = torch.tensor([[0.0, 2.0, 0.0, 1.0], [0.0, 0.0, 4.0, 0.1]])
    found = pooling._compare(before, after)
    # First letter: three values have to do with it, two changed. Second: one, unchanged; 0.1 is below 5 % of 4.
    assert found["values_changed"] == pytest.approx((2 / 3 + 0) / 2)
    assert found["relative_change"] == pytest.approx(((2 / 5) ** 0.5 + 0.1 / 4) / 2)
