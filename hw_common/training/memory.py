"""Reuse of the memory of freed tensors."""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # options of mallopt in glibc's <malloc.h>
_NEVER = -1


def keep_freed_memory() -> bool:
    """Keeps the memory of freed tensors for the tensors of the next step.

    By default, glibc returns large blocks to the system as soon as they are freed. When the next step allocates them
    again, the system fills each page with zeros, which takes up to a seventh of a step's time on a CPU.

    Returns:
        Whether the setting was changed; False without glibc.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    return set_option is not None and bool(set_option(_MMAP_MAX, 0) and set_option(_TRIM_THRESHOLD, _NEVER))
