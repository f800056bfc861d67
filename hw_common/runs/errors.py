"""The two ways a command ends early without a bug: the user has to change something, or a signal asked it to stop."""

import signal


class UserError(Exception):
    """Something the user can put right; the command line prints it as one line and exits with status 2."""


class Stopped(Exception):
    """A run that ended on SIGINT or SIGTERM after saving; the command line exits with 128 + the signal's number."""

    def __init__(self, signal_number: int, message: str) -> None:
        super().__init__(message)
        self.signal_number = signal.Signals(signal_number)


class Terminated(KeyboardInterrupt):
    """SIGTERM outside of training: handled wherever Ctrl-C is."""


def signal_of(interrupt: KeyboardInterrupt) -> signal.Signals:
    """Which signal raised `interrupt`."""
    return signal.SIGTERM if isinstance(interrupt, Terminated) else signal.SIGINT
