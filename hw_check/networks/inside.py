"""Runs a student's functions for networks in their process (see ../child.py); observe.py runs the networks.

Imports the standard library, NumPy, torch and torchvision alone.
"""

import importlib.abc
import importlib.machinery
import os
import sys
import types
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from hw_check.networks.inside_transfer import PROBES as TRANSFER

Case = Mapping[str, Any]


def run(module: types.ModuleType, job: Mapping[str, Any], case: Case, stage: list[str]) -> Any:
    """Runs one case with the probe that it names."""
    stage[0] = job["needs"][0]
    torch.manual_seed(case.get("seed", 0))
    return _PROBES[case["probe"]](module, job, case)


def put_remote(module: types.ModuleType, functions: Mapping[str, Any], call: Any) -> None:
    """Unused: networks in PyTorch do not depend on the student's other files."""
    raise NotImplementedError


def prepare() -> None:
    """Lets files load even if modules that they import, such as the course's utils.py, are missing.

    Code for GPUs runs on the CPU.
    """
    torch.set_num_threads(1)  # the process may not start threads
    sys.meta_path.append(_Stubs(os.getcwd()))
    _OnCPU().__enter__()


class _OnCPU(TorchFunctionMode):
    """Runs on the CPU everything that asks for a GPU."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.cuda:
            return args[0]
        named = {name: _without_gpu(value) for name, value in (kwargs or {}).items()}
        return func(*map(_without_gpu, args), **named)


def _without_gpu(value: Any) -> Any:
    if isinstance(value, str) and value.partition(":")[0] == "cuda":
        return "cpu"
    return torch.device("cpu") if isinstance(value, torch.device) and value.type == "cuda" else value


class _Anything(type):
    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Stub


class _Stub(metaclass=_Anything):
    """Stands in for everything in a module that is not there; it can be called, inherited from and iterated."""

    def __init__(self, *arguments: Any, **named: Any) -> None: ...

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __iter__(self) -> Any:
        return iter(())


class _Stubs(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the modules that no other finder has found."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def find_spec(self, name: str, path: object = None, target: object = None) -> Any:
        """A spec for any module that the student's files import, except ours, which nobody may import."""
        if name.startswith("hw_") or not self._imported_by_the_student():
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def _imported_by_the_student(self) -> bool:
        """Whether a file in the student's folder runs the import; torch itself copes with missing modules."""
        frame = sys._getframe(2)
        while frame is not None and "importlib" in frame.f_code.co_filename:
            frame = frame.f_back  # type: ignore[assignment]
        return frame is not None and frame.f_code.co_filename.startswith(self._folder)

    def exec_module(self, module: types.ModuleType) -> None:
        """Gives the module an attribute of every name."""
        module.__getattr__ = lambda name: _Anything.__getattr__(_Stub, name)  # type: ignore[method-assign]


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
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    train_batch = getattr(module, job["needs"][0])
    losses = []
    for X, y in case["batches"]:
        loss = train_batch(_tensor(X), _tensor(y), model, optimizer, nn.NLLLoss())
        is_number = isinstance(loss, int | float) or (isinstance(loss, Tensor) and loss.numel() == 1)
        losses.append(float(loss) if is_number else None)
    return {"losses": losses, "weights": {name: p.detach().numpy() for name, p in model.named_parameters()}}


def _evaluate(module: types.ModuleType, job: Mapping[str, Any], case: Case) -> Any:
    """The student's evaluate on a network of which every second output is dropped in training mode."""
    model = _network(case, nn.Dropout(0.9))
    model.train()
    returned = getattr(module, job["needs"][0])(model, _tensor(case["X"]), _tensor(case["y"]))
    returned = returned[0] if isinstance(returned, tuple | list) else returned
    return {"accuracy": float(returned)}


def _count(module: types.ModuleType, job: Mapping[str, Any], case: Case) -> Any:
    """The student's count of trainable parameters, of a network with frozen ones."""
    model = nn.Sequential(nn.Conv2d(1, 3, 2), nn.Linear(5, 7), nn.BatchNorm1d(4))
    model[0].requires_grad_(False)
    return {"count": int(getattr(module, job["needs"][0])(model))}


_PROBES: dict[str, Callable[[types.ModuleType, Mapping[str, Any], Case], Any]] = {
    **TRANSFER,
    "train_batch": _train_batch,
    "evaluate": _evaluate,
    "count": _count,
}
