"""Training states, written to disk in the background."""

import copy
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from hw_common.runs import checkpoints


class StateWriter:
    """Writes a training state from time to time, while the training continues.

    The writer is a context manager: at the end of the block, it waits until the last state is on disk.

    Args:
        path: file of the state; None in processes that write nothing.
        minutes: `is_due` returns True once the latest state is older than this.
    """

    def __init__(self, path: Path | None, minutes: float) -> None:
        self.path = path
        self._seconds = 60 * minutes
        self._next = time.monotonic() + self._seconds
        self._thread = ThreadPoolExecutor(1)  # starts its thread at the first write
        self._write: Future[None] | None = None  # the latest write

    def is_due(self) -> bool:
        """Whether a state should be saved now.

        Raises:
            UserError: the latest write failed.
        """
        if self._write is not None and self._write.done():
            self.wait()
        return self.path is not None and time.monotonic() >= self._next

    def save(self, make_state: Callable[[], Mapping[str, Any]]) -> None:
        """Copies the state that `make_state` returns, and writes the copy in the background.

        Raises:
            UserError: the write before this one failed.
        """
        if self.path is None:
            return
        self.wait()  # so that two states never need memory at the same time
        state = copy.deepcopy(make_state())
        self._write = self._thread.submit(checkpoints.save_state, self.path, state)
        self._next = time.monotonic() + self._seconds

    def wait(self) -> None:
        """Waits until the latest state is on disk.

        Raises:
            UserError: the state cannot be written.
        """
        write, self._write = self._write, None
        if write is not None:
            write.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown()  # waits for the write
