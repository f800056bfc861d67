"""Ctrl-C and SIGTERM while training: noted, so that a step can be finished and saved."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

from hw_common.training import distributed


class StopNow(BaseException):
    """Raised out of validation by a signal; not an Exception, so that no `except Exception` swallows it."""


class StopSignals:
    """Notes SIGINT and SIGTERM instead of dying of them; a second Ctrl-C quits at once."""

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
            # Not print: the signal may have come in the middle of one.
            os.write(2, b"\nfinishing the step, then saving (Ctrl-C again quits at once)\n")

    @contextlib.contextmanager
    def immediate(self) -> Iterator[None]:
        """While inside, a signal raises StopNow; with several processes it waits, since they must agree."""
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
