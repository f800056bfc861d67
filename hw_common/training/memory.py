"""What becomes of the memory that large tensors leave behind."""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # as <malloc.h> of glibc numbers them
_NEVER = -1


def keep_freed_memory() -> bool:
    """Keeps the memory of freed tensors for those of the next step; without glibc, nothing happens.

    glibc gives large blocks back to the system as soon as they are free, and the system fills them with zeros, page by
    page, when the next step asks for them again: up to a seventh of a step's time on a CPU.

    Returns:
        Whether it could be done.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    return set_option is not None and bool(set_option(_MMAP_MAX, 0) and set_option(_TRIM_THRESHOLD, _NEVER))
