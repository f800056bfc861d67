"""Exceptions that end a command without being bugs: errors of the user, and signals."""

import signal


class UserError(Exception):
    """An error that the user can correct. The command prints it as one line and exits with status 2."""


class Stopped(Exception):
    """A stop by SIGINT or SIGTERM after saving. The command exits with status 128 + the signal's number."""

    def __init__(self, signal_number: int, message: str) -> None:
        super().__init__(message)
        self.signal_number = signal.Signals(signal_number)


class Terminated(KeyboardInterrupt):
    """SIGTERM outside of training. It is handled like Ctrl-C."""


def signal_of(interrupt: KeyboardInterrupt) -> signal.Signals:
    """Returns the signal that raised `interrupt`."""
    return signal.SIGTERM if isinstance(interrupt, Terminated) else signal.SIGINT
