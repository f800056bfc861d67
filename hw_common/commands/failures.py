"""What a command prints for an exception, and the exit status that it ends with."""

import re

from hw_common.runs import launch
from hw_common.runs.errors import Stopped, UserError, signal_of


def explain(error: BaseException) -> tuple[int, str]:
    """Returns exit status and message for an exception; raises it again if it is a bug."""
    if isinstance(error, UserError):
        return 2, f"error: {error}"
    if isinstance(error, Stopped):
        return 128 + error.signal_number, str(error)
    if isinstance(error, KeyboardInterrupt):
        return 128 + signal_of(error), "interrupted"
    if isinstance(error, OSError) and error.strerror is not None:
        return 2, f"error: {error.strerror}: {error.filename}" if error.filename else f"error: {error.strerror}"
    if isinstance(error, ImportError) and is_out_of_memory(error):
        return 2, "error: out of memory: the libraries cannot be loaded; free memory, or raise the limit (ulimit -v)"
    if is_out_of_memory(error):
        return 2, "error: out of memory; try a smaller --batch_size"
    if not launch.is_first_here():  # most likely, the main process failed and prints the reason
        return 2, ""
    raise error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error means that memory could not be allocated, or that a thread could not start for lack of it."""
    said = "can't allocate memory|failed to map segment|annot allocate memory|start new thread|create a primitive$"
    is_library = type(error).__name__ == "OutOfMemoryError" or re.search(said, str(error)) is not None
    return isinstance(error, MemoryError) or is_library
