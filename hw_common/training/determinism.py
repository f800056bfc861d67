"""Determinism: training runs with the same seed, machine and number of threads give the same bits."""

import os
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from hw_common.runs import launch
from hw_common.runs.errors import UserError


def set_up(seed: int, device: str, threads: int | None) -> torch.device:
    """Seeds all random generators, sets the number of threads and chooses the device.

    Args:
        seed: the seed of all generators.
        device: "auto", "cpu" or "cuda".
        threads: CPU threads of this process; None for as many as `launch.most_threads` returns.

    Raises:
        UserError: there is no GPU, or fewer GPUs than processes.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: there is no usable CUDA GPU here; use --device cpu")
    use_gpu = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    process = launch.read()
    chosen = torch.device("cuda", process.local_rank) if use_gpu else torch.device("cpu")
    if use_gpu:
        processes, gpus = process.local_world_size, torch.cuda.device_count()
        if processes > gpus:
            raise UserError(
                f"torchrun started {processes} processes for {gpus} GPU(s); start {gpus}, or use --device cpu"
            )
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # makes cuBLAS deterministic
        torch.cuda.set_device(chosen)
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.allow_tf32 = False  # TF32 would round the inputs of fp32 products
        torch.use_deterministic_algorithms(True, warn_only=True)  # on a CPU, all our operations are deterministic
        torch.backends.cuda.enable_flash_sdp(False)  # the gradients of these attention kernels vary
        torch.backends.cuda.enable_mem_efficient_sdp(False)
        torch.backends.cuda.enable_cudnn_sdp(False)
        # Filling new tensors with NaN takes time and would only expose reads of uninitialized memory.
        setattr(torch.utils.deterministic, "fill_uninitialized_memory", False)  # noqa: B010 (unknown to the type stubs)
    torch.set_num_threads(threads or launch.most_threads())
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    return chosen


def generator_states() -> dict[str, Any]:
    """Returns the states of all generators, in types that torch.load(weights_only=True) accepts."""
    numpy_state = np.random.get_state(legacy=True)
    assert isinstance(numpy_state, tuple)
    _, keys, position, has_gauss, gauss = numpy_state
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None,
        "numpy": [keys.tolist(), position, has_gauss, gauss],
        "python": random.getstate(),
    }


def restore_generators(states: Mapping[str, Any]) -> None:
    """Restores the states that `generator_states` returned."""
    torch.set_rng_state(states["torch"])
    if states["cuda"] is not None:
        torch.cuda.set_rng_state(states["cuda"])
    keys, *rest = states["numpy"]
    np.random.set_state(("MT19937", np.array(keys, dtype=np.uint32), *rest))
    random.setstate(states["python"])
