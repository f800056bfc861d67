"""Comparisons of running times on a machine that also runs other programs."""

import math
import multiprocessing
import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from typing import Any, Self


def time_interleaved(
    calls: Mapping[str, Callable[[], Any]],
    rounds: int,
    warm_up: int = 3,
    least_rounds: int = 1,
    max_seconds: float = math.inf,
) -> dict[str, list[float]]:
    """Measures the seconds of each call in each round.

    Every round runs each call once. Another program that slows the machine down for a while therefore slows all calls,
    and the ratio of two calls within one round is reliable even if their absolute times are not.

    Args:
        calls: functions to time, by name.
        rounds: number of timed rounds.
        warm_up: number of untimed rounds before them, which fill caches and start thread pools.
        least_rounds: number of rounds that are timed even if they take longer than `max_seconds`.
        max_seconds: no further round begins after this time.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    began = time.perf_counter()
    for number in range(warm_up + rounds):
        if number >= warm_up + least_rounds and time.perf_counter() - began > max_seconds:
            break
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            if number >= warm_up:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def ratio(seconds: Mapping[str, list[float]], of: str, to: str) -> float:
    """Returns the median over the rounds of the time of call `of` divided by the time of call `to`."""
    return statistics.median(a / b for a, b in zip(seconds[of], seconds[to], strict=True))


class Worker:
    """Runs a function in a separate process, where the settings of this process have no effect.

    The worker is a context manager: its process ends with the block.

    Args:
        make: makes the function in the separate process.
        arguments: arguments of `make`.
    """

    def __init__(self, make: Callable[..., Callable[..., Any]], *arguments: Any) -> None:
        import torch  # slow, and unnecessary for commands that only call time_interleaved

        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(1, context, _set_up, (torch.get_num_threads(), make, arguments))

    def __call__(self, *arguments: Any) -> None:
        """Calls the function in the separate process and waits for its end."""
        self._pool.submit(_call, *arguments).result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown()


_made: Callable[..., Any]  # the function of this process, if it is a worker


def _set_up(threads: int, make: Callable[..., Callable[..., Any]], arguments: tuple[Any, ...]) -> None:
    import torch

    global _made
    torch.set_num_threads(threads)
    _made = make(*arguments)


def _call(*arguments: Any) -> None:
    _made(*arguments)
