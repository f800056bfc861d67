"""Calls take turns, warm-up rounds are not counted, and a ratio is taken within each round."""

import pytest

from hw_common.timing import ratio, take_turns


def test_calls_take_turns_and_warm_up_is_not_counted():
    order = []
    seconds = take_turns({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, rounds=3, warm_up=2)
    assert order == ["a", "b"] * 5
    assert {name: len(values) for name, values in seconds.items()} == {"a": 3, "b": 3}
    assert all(value >= 0 for values in seconds.values() for value in values)


def test_the_ratio_is_the_median_of_the_rounds_ratios():
    assert ratio({"a": [1, 40, 9], "b": [1, 10, 3]}, of="a", to="b") == pytest.approx(3)
