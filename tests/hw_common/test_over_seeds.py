"""Numbers over several seeds, against a calculation by hand."""

import pytest

from hw_common.commands.over_seeds import cell, deviation, in_words, over_seeds


def summary(final, best, seconds):
    return {"final": {"accuracy": final}, "best": {"accuracy": best}, "speed": {"training_seconds": seconds}}


def test_means_and_deviations_of_three_seeds():
    row = over_seeds([summary(0.2, 0.5, 1), summary(0.4, 0.5, 2), summary(0.9, 0.5, 6)], ["accuracy"])
    assert row == {
        "seeds": 3,
        "training_seconds": 3,
        "final_accuracy": pytest.approx(0.5),
        "final_accuracy_std": pytest.approx((0.26 / 2) ** 0.5),
        "final_accuracy_each": [0.2, 0.4, 0.9],
        "best_accuracy": 0.5,
        "best_accuracy_std": 0,
        "best_accuracy_each": [0.5, 0.5, 0.5],
    }
    assert cell(row, "final_accuracy") == "0.5000 ± 0.3606"
    assert in_words(3) == "mean and standard deviation over 3 seeds"


def test_a_single_seed_has_no_deviation():
    row = over_seeds([summary(0.25, 0.5, 1)], iter(["accuracy"]))
    assert (row["final_accuracy_std"], row["best_accuracy"], deviation([0.25])) == (0, 0.5, 0)
    assert cell(row, "best_accuracy") == "0.5000"
    assert cell({"published": None}, "published") == ""
    assert in_words(1) == "one seed"
