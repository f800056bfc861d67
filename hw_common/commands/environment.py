"""Makes a command independent of its environment: closed streams, a user without a name, warnings of libraries."""

import getpass
import logging
import os
import re
import sys
import warnings


def set_up() -> None:
    """Prepares this process before it imports torch, Matplotlib or another large library."""
    _open_closed_streams()
    _name_user()
    os.environ["MPLBACKEND"] = "Agg"  # figures are written into files; any other value might not even be importable
    if not re.fullmatch("[1-9][0-9]*(,[1-9][0-9]*)*", os.environ.get("OMP_NUM_THREADS", "1").strip()):
        del os.environ["OMP_NUM_THREADS"]  # OpenMP would ignore the wrong value, but print a line
    if _memory_is_limited():  # OpenBLAS tries for ever to get the memory for its threads
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    # A thread that waits for the others spins for up to 0.03 ms and then sleeps. By default, it would spin for several
    # milliseconds. Beside busy programs, a small step on two threads would then take up to twenty times longer.
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    # Commands report problems as one line of their own. `python -W` still shows the warnings of libraries.
    if not sys.warnoptions:
        warnings.simplefilter("ignore", append=True)
        logging.disable(logging.WARNING)


def _open_closed_streams() -> None:
    """Replaces standard streams that are closed (`2>&-`) by the null device.

    Otherwise, the next file that is opened gets the stream's number, and messages are written into that file.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115


def _name_user() -> None:
    """Sets LOGNAME if the system has no name for this user, as in a container; torch names its cache after it."""
    try:
        getpass.getuser()
    except (ImportError, KeyError, OSError):
        os.environ["LOGNAME"] = f"user-{os.getuid()}" if hasattr(os, "getuid") else "user"


def _memory_is_limited() -> bool:
    """Whether this process's address space is limited (ulimit -v)."""
    try:
        import resource
    except ImportError:  # Windows
        return False
    return resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY
