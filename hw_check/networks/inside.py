"""Runs a student's functions for networks in their process (see ../child.py); observe.py runs the networks.

Imports only the standard library, NumPy, torch and inside_transfer.py.
"""

import types
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from hw_check.networks.inside_transfer import PROBES as TRANSFER

Case = Mapping[str, Any]
_GPUS = ("cuda", "mps", "xpu")


def run(module: types.ModuleType, job: Mapping[str, Any], case: Case, stage: list[str]) -> Any:
    """Runs one case with the probe that it names."""
    stage[0] = job["needs"][0]
    torch.default_generator.manual_seed(case.get("seed", 0))
    return _PROBES[case["probe"]](module, job, case)


def prepare() -> None:
    """Lets code for GPUs run on the CPU, and runs torch without threads, which the process may not start."""
    torch.set_num_threads(1)
    _OnCPU().__enter__()
    for name in ("FloatTensor", "LongTensor", "ByteTensor", "BoolTensor"):
        setattr(torch.cuda, name, getattr(torch, name))
    for name in ("synchronize", "empty_cache", "set_device"):
        setattr(torch.cuda, name, lambda *arguments: None)


class _OnCPU(TorchFunctionMode):
    """Runs on the CPU everything that asks for a GPU."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.cuda:
            return args[0]
        named = {name: _without_gpu(value) for name, value in (kwargs or {}).items()}
        return func(*map(_without_gpu, args), **named)


def _without_gpu(value: Any) -> Any:
    if isinstance(value, str) and value.partition(":")[0] in _GPUS:
        return "cpu"
    return torch.device("cpu") if isinstance(value, torch.device) and value.type in _GPUS else value


def _tensor(value: np.ndarray) -> Tensor:
    return torch.from_numpy(value.copy())


def _network(case: Case, *more: nn.Module) -> nn.Sequential:
    """A linear layer with the weights of the case, followed by other modules."""
    model = nn.Sequential(nn.Linear(*case["weights"]["0.weight"].shape[::-1]), *more)
    model.load_state_dict({name: _tensor(value) for name, value in case["weights"].items()})
    return model


def _train_batch(module: types.ModuleType, job: Mapping[str, Any], case: Case) -> Any:
    """Two steps of the student's train_batch on a linear network; returns the losses and the weights after them."""
    model = _network(case, nn.LogSoftmax(dim=1))
    modes: list[bool] = []
    model.register_forward_pre_hook(lambda network, inputs: modes.append(network.training))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    train_batch = getattr(module, job["needs"][0])
    losses = []
    for X, y in case["batches"]:
        loss = train_batch(_tensor(X), _tensor(y), model, optimizer, nn.NLLLoss())
        is_number = isinstance(loss, int | float) or (isinstance(loss, Tensor) and loss.numel() == 1)
        losses.append(float(loss) if is_number else None)
    weights = {name: p.detach().numpy() for name, p in model.named_parameters()}
    is_same = all(np.array_equal(value, case["weights"][name]) for name, value in weights.items())
    nothing = is_same and set(losses) == {None}
    return {"losses": losses, "weights": weights, "in eval mode": not all(modes), "nothing": nothing}


def _evaluate(module: types.ModuleType, job: Mapping[str, Any], case: Case) -> Any:
    """The student's evaluate on a network whose outputs are mostly dropped in training mode."""
    model = _network(case, nn.Dropout(0.9))
    model.train()
    returned = getattr(module, job["needs"][0])(model, _tensor(case["X"]), _tensor(case["y"]))
    returned = returned[0] if isinstance(returned, tuple | list) else returned
    return {"nothing": True} if returned is None else {"accuracy": float(returned)}


def _count(module: types.ModuleType, job: Mapping[str, Any], case: Case) -> Any:
    """The student's count of trainable parameters, of a network with frozen ones."""
    model = nn.Sequential(nn.Conv2d(1, 3, 2), nn.Linear(5, 7), nn.BatchNorm1d(4))
    model[0].requires_grad_(False)
    count = getattr(module, job["needs"][0])(model)
    number = 0 if count is None or isinstance(count, tuple) else int(count)
    return {"count": number, "nothing": number == 0}  # the course's skeleton returns 0


_PROBES: dict[str, Callable[[types.ModuleType, Mapping[str, Any], Case], Any]] = {
    **TRANSFER,
    "train_batch": _train_batch,
    "evaluate": _evaluate,
    "count": _count,
}
