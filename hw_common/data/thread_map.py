"""A map over many items with threads on all cores, and its progress bar."""

import collections
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from tqdm import tqdm

from hw_common.runs.config import available_cores

Item = TypeVar("Item")
Result = TypeVar("Result")


def thread_map(work: Callable[[Item], Result], items: Iterable[Item], ahead: int = 32) -> Generator[Result, None, None]:
    """Yields `work(item)` for each of `items`, in their order.

    At most `ahead` results are computed in advance. If a call raises, or if the caller stops iterating, calls that have
    not begun are cancelled.
    """
    waiting: collections.deque[Future[Result]] = collections.deque()
    pool = ThreadPoolExecutor(available_cores())
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) == ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def with_progress_bar(results: Iterable[Result], total: int, title: str) -> Iterator[Result]:
    """Yields `results` unchanged and shows a progress bar."""
    return iter(tqdm(results, title, total, unit="image", disable=None, leave=False))
