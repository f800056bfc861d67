"""Calls alternate, warm-up rounds are not counted, and a ratio compares calls of the same round."""

import os

import pytest
import torch

from hw_common.training.timing import Worker, ratio, time_interleaved


def test_calls_take_turns_and_warm_up_is_not_counted():
    order = []
    seconds = time_interleaved({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, rounds=3, warm_up=2)
    assert order == ["a", "b"] * 5
    assert {name: len(values) for name, values in seconds.items()} == {"a": 3, "b": 3}
    assert all(value >= 0 for values in seconds.values() for value in values)


def test_no_round_begins_after_the_time_is_over_but_the_least_number_is_timed():
    call = {"a": lambda: None}
    assert len(time_interleaved(call, rounds=9, warm_up=1, least_rounds=4, max_seconds=0)["a"]) == 4
    assert len(time_interleaved(call, rounds=3, warm_up=1, least_rounds=4, max_seconds=0)["a"]) == 3


def test_the_ratio_is_the_median_of_the_rounds_ratios():
    assert ratio({"a": [1, 40, 9], "b": [1, 10, 3]}, of="a", to="b") == pytest.approx(3)


def _collector(first):
    seen = [first]

    def call(*more):
        seen.extend(more)
        if "fail" in more:
            raise ValueError(f"{os.getpid()} {seen} {torch.get_num_threads()}")

    return call


def test_a_worker_calls_in_one_process_of_its_own():
    with Worker(_collector, "made") as worker:
        worker("one")
        with pytest.raises(ValueError) as error:
            worker("two", "fail")
    process, said = str(error.value).split(" ", 1)
    assert int(process) != os.getpid()
    assert said == f"['made', 'one', 'two', 'fail'] {torch.get_num_threads()}"
    with pytest.raises(RuntimeError):  # its process has ended
        worker("three")
