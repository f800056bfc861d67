"""Comparing how long things take on a machine that is never quiet."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any


def take_turns(calls: Mapping[str, Callable[[], Any]], rounds: int, warm_up: int = 3) -> dict[str, list[float]]:
    """Seconds of each of `calls` in each of `rounds`.

    The calls take turns, so that whatever slows the machine down for a while slows all of them, and ratios within one
    round can be trusted when absolute times cannot.

    Args:
        calls: name to function.
        rounds: how often each is timed.
        warm_up: untimed rounds before, for caches and thread pools.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(warm_up + rounds):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            if number >= warm_up:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def ratio(seconds: Mapping[str, list[float]], of: str, to: str) -> float:
    """The median over the rounds of time `of` one call divided by time `to` another."""
    return statistics.median(a / b for a, b in zip(seconds[of], seconds[to], strict=True))
