"""Several processes, one result: `torchrun --nproc_per_node=N -m hw_…` trains like one process with the same batch.

Every process draws the same random numbers and takes its own rows of every batch; gradients, losses and counts are
combined, and only the main process writes. Without torchrun each function here does nothing, at no cost.
"""

import gc
import os

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

# The rows of the current batch that are this process's: (first, behind last, rows in the whole batch).
_rows = (0, 0, 0)


def start(device: torch.device) -> None:
    """Joins the other processes if torchrun started this one: NCCL on GPUs, gloo on CPUs."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")


def stop() -> None:
    """Leaves the group of processes."""
    if dist.is_initialized():
        dist.destroy_process_group()
        gc.collect()  # what still holds the group keeps gloo's threads alive, and they abort the process at its end


def world_size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    """Whether this process writes the run folder and talks to the user."""
    return not dist.is_initialized() or dist.get_rank() == 0


def local_rank() -> int:
    """Which of its machine's processes this one is: the number of its GPU."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def local_world_size() -> int:
    """How many processes torchrun started on this machine: they share its cores."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def share(count: int) -> slice:
    """This process's rows of a batch of `count`: contiguous, and all of them where there are too few to go round.

    A batch with fewer rows than processes is computed by everybody; `weight` makes up for it.
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
    """What the latest `share` was: this process's first row, the one behind its last, and the rows of all processes."""
    return _rows


def weight() -> float:
    """What each row of the latest `share` counts in a sum over processes, so that it counts once in all."""
    first, last, count = _rows
    return 1 / world_size() if count and last - first == count else 1.0


def sum_over_processes(values: Tensor) -> Tensor:
    """The elementwise sum of `values` over all processes, in every process."""
    if dist.is_initialized():
        dist.all_reduce(values)
    return values


def parallelize(model: nn.Module, device: torch.device) -> nn.Module:
    """Wraps `model` so that its gradients are averaged over the processes."""
    if world_size() == 1:
        return model
    return DistributedDataParallel(model, device_ids=[device.index] if device.type == "cuda" else None)
