"""Handling of Ctrl-C and SIGTERM during training: the current step is finished and saved first."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

from hw_common.training import distributed


class StopNow(BaseException):
    """A signal during validation. It is not an Exception, so that `except Exception` does not catch it."""


class StopSignals:
    """Records SIGINT and SIGTERM instead of ending the process; a second Ctrl-C ends it at once."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._immediate = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number
        if self._immediate:
            raise StopNow
        if distributed.is_main():
            # print is not safe here, because the signal may have interrupted another print.
            os.write(2, b"\nfinishing the step, then saving (Ctrl-C again quits at once)\n")

    @contextlib.contextmanager
    def immediate(self) -> Iterator[None]:
        """Lets a signal raise StopNow in the block, but not with several processes, which must stop together."""
        if distributed.world_size() > 1:
            yield
            return
        try:
            self._immediate = True
            if self.received is not None:
                raise StopNow
            yield
        finally:
            self._immediate = False
