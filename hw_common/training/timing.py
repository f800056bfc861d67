"""Comparing how long things take on a machine that is never quiet."""

import multiprocessing
import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from typing import Any, Self


def time_interleaved(calls: Mapping[str, Callable[[], Any]], rounds: int, warm_up: int = 3) -> dict[str, list[float]]:
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


class Worker:
    """A process of its own for one of the ways that are compared, where the other's settings do not reach it.

    A context manager: at the end of the block the process ends.

    Args:
        make: called there, with `arguments`; what it returns is what calling the worker calls.
        arguments: for `make`.
    """

    def __init__(self, make: Callable[..., Callable[..., Any]], *arguments: Any) -> None:
        import torch  # slow, and commands that only take turns can do without

        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(1, context, _set_up, (torch.get_num_threads(), make, arguments))

    def __call__(self, *arguments: Any) -> None:
        """Calls it, and waits until it is done."""
        self._pool.submit(_call, *arguments).result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown()


def _set_up(threads: int, make: Callable[..., Callable[..., Any]], arguments: tuple[Any, ...]) -> None:
    import torch

    global _made
    torch.set_num_threads(threads)
    _made = make(*arguments)


def _call(*arguments: Any) -> None:
    _made(*arguments)
