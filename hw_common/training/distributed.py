"""Training with several processes: `torchrun --nproc_per_node=N -m hw_…` computes the same as one process.

All processes draw the same random numbers, and each one computes its own rows of every batch. Losses and counts
are summed and gradients combined over the processes; only the main process writes. Without torchrun, these functions
do nothing.
"""

import gc
import os
import socket
import threading
import time
import uuid
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from hw_common.runs import launch
from hw_common.runs.errors import UserError

Value = TypeVar("Value")

_SECONDS_TO_JOIN = 75  # torchrun starts all processes at about the same time

# The rows that this process computes: (first, last + 1, number of rows in the whole batch).
_rows = (0, 0, 0)


def start(device: torch.device) -> None:
    """Joins the group of processes if torchrun started this process. GPUs use NCCL, CPUs use gloo.

    Raises:
        UserError: the other processes do not answer.
    """
    if launch.read().world_size == 1 or dist.is_initialized():
        return
    address = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    where = f"MASTER_ADDR {address[0]}, MASTER_PORT {address[1]}"
    errors: list[Exception] = []

    def join() -> None:
        try:
            socket.getaddrinfo(*address)
            store, rank, size = next(rendezvous("env://"))
            store = PrefixStore(_agree_on_a_name(store, rank, size), store)
            backend = "nccl" if device.type == "cuda" else "gloo"
            dist.init_process_group(backend, store=store, rank=rank, world_size=size)
        except Exception as error:  # torch raises exceptions of many types
            errors.append(error)

    # In a separate thread, because torch does not react to Ctrl-C and SIGTERM while it waits.
    thread = threading.Thread(target=join, daemon=True)
    thread.start()
    deadline = time.monotonic() + _SECONDS_TO_JOIN
    while thread.is_alive():
        if time.monotonic() > deadline:
            raise UserError(f"the other processes did not answer within {_SECONDS_TO_JOIN} s at {where}")
        thread.join(0.1)
    if errors:
        raise UserError(f"cannot join the other processes at {where}: {str(errors[0]).splitlines()[0]}") from errors[0]


def _agree_on_a_name(store: Store, rank: int, size: int) -> str:
    """Returns a name for this start, the same in all of its processes and unlike the names of earlier starts.

    After a restart, torchrun's store still has the addresses of the processes that have ended; keys that begin with a
    new name hide them. torchrun gives no such name: its count of restarts differs between machines, because each counts
    only those after its own failures.
    """
    own = uuid.uuid4().hex
    if rank == 0:
        store.set("start", own)
        members = [store.get(f"{own}/{other}").decode() for other in range(1, size)]  # waits for each of them
        store.set(f"{own}/members", " ".join(members))
        return own
    while True:
        name = store.get("start").decode()  # the name of an earlier start, if the main process has not yet set its own
        store.set(f"{name}/{rank}", own)
        if store.check([f"{name}/members"]) and own in store.get(f"{name}/members").decode():
            return name
        time.sleep(0.02)


def stop() -> None:
    """Leaves the group of processes."""
    if dist.is_initialized():
        dist.destroy_process_group()
        gc.collect()  # frees objects that refer to the group; otherwise gloo's threads abort the process at exit


def world_size() -> int:
    """Number of processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    """Whether this is the main process, which writes the run folder and prints messages."""
    return not dist.is_initialized() or dist.get_rank() == 0


def share(count: int) -> slice:
    """Returns the rows of a batch of `count` rows that this process computes; `weight` and `latest_rows` refer to them.

    Every process computes all rows of a batch that has fewer rows than there are processes.
    """
    global _rows
    size = world_size()
    if size == 1 or count < size:
        _rows = (0, count, count)
    else:
        rank = dist.get_rank()
        _rows = (count * rank // size, count * (rank + 1) // size, count)
    return slice(_rows[0], _rows[1])


def latest_rows() -> tuple[int, int, int]:
    """Returns the latest `share` as (first row, last row + 1, number of rows in the whole batch)."""
    return _rows


def weight() -> float:
    """Weight of the latest `share` in a sum over processes: 1, or 1 / world_size if all processes compute its rows."""
    first, last, count = _rows
    return 1 / world_size() if count and last - first == count else 1.0


def sum_over_processes(values: Tensor) -> Tensor:
    """Returns the elementwise sum of `values` over all processes."""
    if dist.is_initialized():
        dist.all_reduce(values)
    return values


def from_main(value: Value) -> Value:
    """Returns the main process's `value` in every process."""
    values = [value]
    if dist.is_initialized():
        dist.broadcast_object_list(values)
    return values[0]


def parallelize(model: nn.Module, device: torch.device) -> nn.Module:
    """Wraps `model` so that its gradients are averaged over the processes; the loop scales the loss accordingly."""
    if world_size() == 1:
        return model
    return DistributedDataParallel(model, device_ids=[device.index] if device.type == "cuda" else None)
