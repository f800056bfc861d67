"""Many pieces of work on all cores, their results taken in order, with a progress bar."""

import collections
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from tqdm import tqdm

from hw_common.runs.config import available_cores

Item = TypeVar("Item")
Result = TypeVar("Result")


def thread_map(work: Callable[[Item], Result], items: Iterable[Item], ahead: int = 32) -> Generator[Result, None, None]:
    """The results of `work` for each of `items`, in order; never more than `ahead` of them wait to be taken.

    What has not begun when one raises, or when nobody takes any more, is dropped.
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
    """`results` as they are, with a progress bar called `title` while they are taken."""
    return iter(tqdm(results, title, total, unit="image", disable=None, leave=False))
