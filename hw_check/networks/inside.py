"""What happens in the process of a student's network (see ../child.py): it is built, gets weights and runs.

Imports the standard library, NumPy, torch and torchvision alone.
"""

import contextlib
import importlib.abc
import importlib.machinery
import inspect
import os
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from hw_check.networks.inside_transfer import PROBES as TRANSFER

torch.set_num_threads(1)  # the process may not start threads
Case = Mapping[str, Any]


def run(module: types.ModuleType, job: Mapping[str, Any], case: Case, stage: list[str]) -> Any:
    """Runs one case with the probe that it names."""
    stage[0] = job["needs"][0]
    torch.manual_seed(case.get("seed", 0))
    return _PROBES[case["probe"]](module, job, {**job["common"], **case})


def remote_module(name: str, functions: Mapping[str, Any], call: Any) -> types.ModuleType:
    """Unused: networks in PyTorch do not depend on the student's other files."""
    raise NotImplementedError


def prepare() -> None:
    """Makes files loadable that import missing modules, such as the course's utils.py.

    Code for GPUs runs on the CPU.
    """
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


def _made(module: types.ModuleType, job: Mapping[str, Any], options: Mapping[str, Any]) -> nn.Module:
    """A network of the student's class with those of `options` that its constructor takes."""
    made = getattr(module, job["needs"][0])
    parameters = inspect.signature(made).parameters
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    given = {name: _plain(value) for name, value in options.items() if name in parameters or takes_all}
    model: nn.Module = made(**given)
    for name in job.get("probability", ()):  # a class without an argument for it has a dropout layer all the same
        if name not in given and name in options:
            _set_dropout(model, float(options[name]))
    return model


def _set_dropout(model: nn.Module, probability: float) -> None:
    for part in model.modules():
        if isinstance(part, nn.modules.dropout._DropoutNd):
            part.p = probability


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.ndarray) and not value.ndim else value


def _load(model: nn.Module, weights: Mapping[str, np.ndarray]) -> bool:
    """Copies weights into parameters of the same name and shape, then into others of the same shape, in their order.

    Returns whether every parameter has got a weight and every weight a parameter.
    """
    own = dict(model.named_parameters())
    left = {name: torch.from_numpy(np.array(value)) for name, value in weights.items()}
    with torch.no_grad():
        for name in [name for name, value in left.items() if name in own and own[name].shape == value.shape]:
            own.pop(name).copy_(left.pop(name))
        for parameter in own.values():
            like = {name: value for name, value in left.items() if value.squeeze().shape == parameter.squeeze().shape}
            if not like:
                return False
            fitting = next((name for name, value in like.items() if value.shape == parameter.shape), next(iter(like)))
            parameter.copy_(left.pop(fitting).reshape(parameter.shape))
    return not left


def _first_that_works(model: Callable[..., Any], choices: Sequence[Sequence[Any]]) -> Any:
    """The result for the first of several forms of the inputs that the network takes."""
    for number, inputs in enumerate(choices, 1):
        try:
            return model(*map(_tensor, inputs))
        except Exception:
            if number == len(choices):
                raise
    raise ValueError("no inputs")


def _tensor(value: Any) -> Any:
    return torch.from_numpy(value.copy()) if isinstance(value, np.ndarray) and value.ndim else _plain(value)


def _arrays(result: Any) -> list[Any]:
    parts = result if isinstance(result, tuple | list) else [result]
    return [part.detach().numpy() if isinstance(part, Tensor) else part for part in parts]


def _shapes(module: types.ModuleType, job: Mapping[str, Any], case: Case) -> Any:
    """Shapes of the parameters."""
    return {"shapes": [list(p.shape) for p in _made(module, job, case["options"]).parameters()][:80]}


def _forward(module: types.ModuleType, job: Mapping[str, Any], case: Case) -> Any:
    """The outputs in eval mode, and twice in training mode, with copied weights."""
    model = _made(module, job, case["options"])
    answer: dict[str, Any] = {"loaded": _load(model, case["weights"])}
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    with torch.no_grad():
        for name, value in case.get("fixed", {}).items():
            _fix(model.eval(), name, value, case["inputs"])
        model.eval()
        answer["eval"] = _arrays(_first_that_works(model, case["inputs"]))
        model.train()
        answer["train"] = [_arrays(_first_that_works(model, case["inputs"])) for _ in range(2)]
    answer["kept"] = all(torch.equal(before[name], p) for name, p in model.named_parameters())
    return answer


class _Fixed(nn.Module):
    """Stands in for a part of a network, and returns the same numbers whatever it gets."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value

    def forward(self, *arguments: Any, **named: Any) -> Any:
        """The numbers."""
        return self.value


def _fix(model: nn.Module, name: str, value: np.ndarray, inputs: Sequence[Sequence[Any]]) -> None:
    """Replaces a part of the network by one that returns `value`, alone or as the first of two results."""
    fixed = _tensor(value)
    weights = torch.full((len(fixed), inputs[0][-1].shape[1]), 1 / inputs[0][-1].shape[1])
    for result in ((fixed, weights), fixed):
        setattr(model, name, _Fixed(result))
        with contextlib.suppress(Exception):
            _first_that_works(model, inputs)
            return


def _gradient(module: types.ModuleType, job: Mapping[str, Any], case: Case) -> Any:
    """The gradients of all parameters, to find networks that cut the graph."""
    model = _made(module, job, case["options"]).eval()
    _load(model, case["weights"])
    result = _first_that_works(model, case["inputs"])
    (result[0] if isinstance(result, tuple | list) else result).sum().backward()
    without = [name for name, p in model.named_parameters() if p.grad is None]
    return {"without": without, "count": len(list(model.parameters()))}


def _train_batch(module: types.ModuleType, job: Mapping[str, Any], case: Case) -> Any:
    """Two steps of the student's train_batch on a linear network; returns the losses and the weights after them."""
    model = nn.Sequential(nn.Linear(*case["weights"]["0.weight"].shape[::-1]), nn.LogSoftmax(dim=1))
    _load(model, case["weights"])
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
    model = nn.Sequential(nn.Linear(*case["weights"]["0.weight"].shape[::-1]), nn.Dropout(0.9))
    _load(model, case["weights"])
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
    "shapes": _shapes,
    "forward": _forward,
    "gradient": _gradient,
    "train_batch": _train_batch,
    "evaluate": _evaluate,
    "count": _count,
}
