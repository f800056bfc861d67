"""How this process was started: alone or by torchrun as one of several, and with how many cores. Imports no torch."""

import os
import platform
import re
from dataclasses import dataclass

from hw_common.runs.config import available_cores
from hw_common.runs.errors import UserError

_LARGEST = 2**16  # more processes than anybody starts
_ADVICE = "unset it, or start all processes with torchrun"


@dataclass(frozen=True)
class Launch:
    """The number of processes and the place of this one among them."""

    world_size: int = 1  # number of processes that train together
    rank: int = 0  # index of this process
    local_world_size: int = 1  # number of processes on this machine
    local_rank: int = 0  # index of this process on its machine


def by_torchrun() -> bool:
    """Whether torchrun started this process."""
    return bool(os.environ.get("TORCHELASTIC_RUN_ID"))


def job() -> str | None:
    """The name of the torchrun call that started this process; None without torchrun. A restart does not change it."""
    name = os.environ.get("TORCHELASTIC_RUN_ID")
    # torchrun names a call "none" if it has neither --rdzv_id nor --standalone; the parent process then identifies it.
    return f"{platform.node()}:{os.getppid()}" if name == "none" else name or None


def restarts() -> int:
    """How often torchrun has started the processes of this machine again after one of them failed (--max_restarts)."""
    return _number("TORCHELASTIC_RESTART_COUNT", 0, _LARGEST, 0) if by_torchrun() else 0


def is_first_here() -> bool:
    """Whether this process reports errors: it is the first one of its machine, or torchrun did not start it."""
    return not by_torchrun() or os.environ.get("LOCAL_RANK", "0") == "0"


def read() -> Launch:
    """Reads the environment variables that torchrun sets; without them, the process trains alone.

    Raises:
        UserError: a variable has no usable value, contradicts another one, or is missing.
    """
    world_size, local_world_size = _number("WORLD_SIZE", 1, _LARGEST, 1), _number("LOCAL_WORLD_SIZE", 1, _LARGEST, 1)
    rank, local_rank = _number("RANK", 0, _LARGEST, 0), _number("LOCAL_RANK", 0, _LARGEST, 0)
    _check_less("RANK", rank, "WORLD_SIZE", world_size)
    if "LOCAL_WORLD_SIZE" in os.environ or world_size == 1:
        _check_less("LOCAL_RANK", local_rank, "LOCAL_WORLD_SIZE", local_world_size)
    if local_world_size > world_size:
        raise _wrong("LOCAL_WORLD_SIZE", str(local_world_size), f"at most WORLD_SIZE ({_shown('WORLD_SIZE')})")
    if world_size > 1:
        for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
            if name not in os.environ:
                message = f"the environment variable WORLD_SIZE is {world_size}, but {name} is not set"
                raise UserError(f"{message}; unset WORLD_SIZE, or start all processes with torchrun")
        _number("MASTER_PORT", 1, 65535, 0)
        address = os.environ["MASTER_ADDR"]
        if not re.fullmatch(r"[\w.:%-]+", address):
            raise _wrong("MASTER_ADDR", address, "the name or address of a machine")
    return Launch(world_size, rank, local_world_size, local_rank)


def most_threads() -> int:
    """The largest number of CPU threads for this process: its share of the cores, which OMP_NUM_THREADS may reduce."""
    cores = max(1, available_cores() // read().local_world_size)
    limit = "" if by_torchrun() else os.environ.get("OMP_NUM_THREADS", "")  # torchrun sets it to 1, which is ignored
    return min(cores, int(limit)) if re.fullmatch("[1-9][0-9]*", limit) else cores


def _number(name: str, smallest: int, largest: int, default: int) -> int:
    text = os.environ.get(name)
    if text is None:
        return default
    if not re.fullmatch("[0-9]{1,9}", text) or not smallest <= int(text) <= largest:
        raise _wrong(name, text, f"a whole number from {smallest} to {largest}")
    return int(text)


def _check_less(name: str, value: int, limit_name: str, limit: int) -> None:
    if value >= limit:
        raise _wrong(name, str(value), f"less than {limit_name} ({_shown(limit_name)})")


def _shown(name: str) -> str:
    return os.environ.get(name, "not set: 1")


def _wrong(name: str, value: str, expected: str) -> UserError:
    return UserError(f"the environment variable {name} is {value!r}, expected {expected}; {_ADVICE}")
