"""Work on all cores: results in order, and no further ahead than allowed."""

import threading

import pytest

from hw_common.data.thread_map import thread_map
from hw_common.runs.errors import UserError


def test_results_come_in_order_and_work_never_runs_far_ahead():
    started, taken = [], 0
    lock = threading.Lock()

    def work(item):
        with lock:
            started.append(item)
            assert len(started) <= taken + 4
        return 10 * item

    for item, result in enumerate(thread_map(work, range(30), ahead=4)):
        assert result == 10 * item
        taken += 1
    assert sorted(started) == list(range(30))


def test_what_has_not_begun_when_one_fails_is_dropped():
    def work(item):
        raise UserError(f"{item} is bad")

    with pytest.raises(UserError, match="0 is bad"):
        list(thread_map(work, range(1000), ahead=2))
