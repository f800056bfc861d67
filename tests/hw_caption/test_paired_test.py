"""The paired test of both decoders, against all signs of the differences."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest

from hw_caption import paired_test
from hw_caption.presets import CAPTION_FILES
from hw_common.runs import files

WORDS = [["a", "b", "c", "d", "e", str(n)] for n in range(6)]


def run(folder, decoder, right):
    """A run whose captions of the images in `right` are the reference, and of the others half of it."""
    folder.mkdir()
    rows = [{"image_name": str(n), "caption": words if n in right else [*words[:4], "x", "y"]}
            for n, words in enumerate(WORDS)]  # fmt: skip
    files.write_json(folder / CAPTION_FILES[decoder], rows[::-1])
    return SimpleNamespace(folder=folder)


def test_it_is_the_share_of_all_signs_with_a_mean_that_is_as_large(tmp_path):
    trained = {
        "vanilla": [run(tmp_path / "v1", "vanilla", {0}), run(tmp_path / "v2", "vanilla", {0, 1})],
        "attention": [run(tmp_path / "a1", "attention", {1, 2, 3}), run(tmp_path / "a2", "attention", {1, 2, 3, 4})],
    }
    test = paired_test.paired_test(trained, [str(n) for n in range(6)], [[words] for words in WORDS])
    difference = np.array(test["attention_each"]) - np.array(test["vanilla_each"])
    assert test["vanilla_each"][0] == 1 and test["attention_each"][5] == test["vanilla_each"][5] < 1
    assert test["difference"] == pytest.approx(difference.mean())
    means = [abs(np.mean(difference * signs)) for signs in itertools.product((-1, 1), repeat=6)]
    assert test["p_value"] == pytest.approx(np.mean([mean >= abs(difference.mean()) - 1e-9 for mean in means]))
    assert test["low"] < test["difference"] < test["high"]
    assert f"is {test['difference']:+.4f}" in paired_test.in_words(test)
