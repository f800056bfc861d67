"""Builds a student's network in its process, gives it random weights, runs it, and sends the outputs to the checker.

The checker draws the same weights for networks of its own, whose layers may have other names, and compares the outputs.
Imports the standard library, NumPy, torch and the module of the other probes alone.
"""

import contextlib
import copy
import inspect
import math
import re
import types
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils._python_dispatch import TorchDispatchMode

from hw_check.networks.inside import prepare as prepare_imports
from hw_check.networks.inside import run as run_other_probes

Case = Mapping[str, Any]
_TORCH_LAYERS: set[str] = set()  # names of the torch layers that have run since the set was cleared


def prepare() -> None:
    """Prepares the process for students' files: see inside.py."""
    prepare_imports()
    nn.modules.module.register_module_forward_pre_hook(_note_layer)


def _note_layer(layer: nn.Module, inputs: Any) -> None:
    if type(layer).__module__.startswith("torch.nn."):
        _TORCH_LAYERS.add(type(layer).__name__)


def run(module: types.ModuleType, job: Mapping[str, Any], case: Case, stage: list[str]) -> Any:
    """Builds the network of a case, draws its weights, and runs it as often as the case asks for."""
    stage[0] = job["needs"][0]
    if case["probe"] != "observe":
        return run_other_probes(module, job, case, stage)
    torch.default_generator.manual_seed(case["seed"])  # torch.manual_seed seeds GPUs too, which takes a millisecond
    if case.get("call"):
        made, given = eval(case["call"], vars(module)), {}  # such as Net(own=True), in the student's module
    else:
        made, given = getattr(module, job["needs"][0]), case["options"]
    model, taken = built(made, case.get("arguments", ()), given)
    if any(isinstance(p, nn.parameter.UninitializedParameter) for p in model.parameters()):
        _outputs(model.eval(), case["lazy"] if "lazy" in case else case["runs"][0])
    weights = drawn([tuple(p.shape) for p in model.parameters()], case["seed"])
    with torch.no_grad():
        for parameter, numbers in zip(model.parameters(), weights, strict=True):
            parameter.copy_(torch.from_numpy(numbers))
    parts = [part for part in model.modules() if isinstance(part, nn.modules.dropout._DropoutNd)]
    answer: dict[str, Any] = {
        "names": [name for name, _ in model.named_parameters()],
        "norms": [
            float("Norm" in type(model.get_submodule(n.rpartition(".")[0])).__name__)
            for n, _ in model.named_parameters()
        ],
        "shapes": [list(p.shape) for p in model.parameters()],
        "seed": case["seed"],
        "taken": sorted(taken),
        "dropouts": [float(part.p) for part in parts],
        "layers": [type(part).__name__ for part in model.modules() if type(part).__module__.startswith("torch.nn.")],
    }
    for part in parts:
        part.p = case.get("dropout", part.p)
    parameters = list(model.parameters())
    if "fixed" in case:
        answer["attention inputs"] = _fix_attention(model, case["fixed"], case["runs"][0])
    answer["runs"] = [_outputs(model, one) for one in case["runs"]]
    results = [one["outputs"][0] for one in answer["runs"] if one["outputs"]]
    answer["nothing"] = bool(results) and all(isinstance(one, str) and one == "NoneType" for one in results)
    answer["kept"] = all(
        np.array_equal(before, now.detach().numpy()) for before, now in zip(weights, parameters, strict=True)
    )
    return answer


class _Fixed(nn.Module):
    """Stands in for a part of a network, and returns the same numbers whatever it gets."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value
        self.inputs: list[np.ndarray] = []

    def forward(self, *arguments: Any, **named: Any) -> Any:
        """The numbers; notes the last inputs."""
        self.inputs = [v.detach().numpy().copy() for v in (*arguments, *named.values()) if isinstance(v, Tensor)]
        return self.value


def _fix_attention(model: nn.Module, value: np.ndarray, one: Mapping[str, Any]) -> list[np.ndarray]:
    """Replaces the attention, if there is one, by a part that returns `value`, alone or as the first of two results.

    Returns the inputs that the attention gets; none if there is no attention.
    """
    vector, regions = _tensor(value), one["forms"][0][-1].shape[1]
    weights = torch.full((len(vector), regions), 1 / regions)
    named = [name for name, part in model.named_children() if "att" in name.lower() and list(part.children())]
    for name in named[:1]:
        own = getattr(model, name)
        for result in ((vector, weights), vector, (vector, weights[:, :, None])):
            fixed = _Fixed(result)
            setattr(model, name, fixed)
            with contextlib.suppress(Exception):
                _outputs(model, one)
                return fixed.inputs
        setattr(model, name, own)
    return []


def built(made: Any, arguments: Sequence[Any], options: Mapping[str, Any]) -> tuple[nn.Module, Collection[str]]:
    """A network of the class `made`, with those of `options` that it takes, or else with `arguments`.

    In place of a class, there may be a finished network. Also returns the names of the arguments that the class got.
    """
    if isinstance(made, nn.Module):
        return copy.deepcopy(made), ()
    parameters = inspect.signature(made).parameters
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    given = {name: _plain(value) for name, value in options.items() if takes_all or name in parameters}
    by_name = [p for p in parameters.values() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    required = [p.name for p in by_name if p.default is p.empty]
    if any(name not in given for name in required):
        keywords = {name: value for name, value in given.items() if name not in required[: len(arguments)]}
        model = made(*map(_plain, arguments[: len(required)]), **keywords)
        given |= dict.fromkeys(required[: len(arguments)])
    else:
        model = _made_with(made, given)
    if not isinstance(model, nn.Module):
        raise TypeError("the class must inherit from nn.Module")
    return model, given


def _made_with(made: Any, given: dict[str, Any]) -> Any:
    """A network of the class `made` with the options `given`, without those that its base class refuses (**kwargs)."""
    while True:
        try:
            return made(**given)
        except TypeError as error:
            refused = re.search(r"unexpected keyword argument '(\w+)'", str(error))
            if refused is None or refused[1] not in given:
                raise
            del given[refused[1]]


def drawn(shapes: Sequence[tuple[int, ...]], seed: int) -> list[np.ndarray]:
    """Random numbers for all parameters, so that no mistake is hidden by weights that are alike, zero or small."""
    rng = np.random.default_rng(seed)
    scales = [1.5 * max(math.prod(shape[1:]), 1) ** -0.5 if len(shape) > 1 else 0.4 for shape in shapes]
    arrays = [np.asarray(rng.standard_normal(shape, np.float32)) for shape in shapes]  # a scalar is no array by itself
    for array, scale in zip(arrays, scales, strict=True):
        array *= scale
    return arrays


def _outputs(model: nn.Module, one: Mapping[str, Any]) -> dict[str, Any]:
    """Calls a method with the first form of inputs that it accepts; notes torch layers and, if traced, functions."""
    if not hasattr(model, one.get("method", "forward")):
        return {"outputs": ["missing"]}
    model.train(one["mode"] == "train")
    torch.default_generator.manual_seed(one.get("seed", 0))
    method: Callable[..., Any] = model if "method" not in one else getattr(model, one["method"])
    trace = _Trace()
    _TORCH_LAYERS.clear()
    try:
        with torch.set_grad_enabled("gradient" in one), contextlib.ExitStack() as traced:
            if one.get("trace"):
                traced.enter_context(trace)
                traced.enter_context(trace.operators)
            result, form = _first_form(method, one["forms"])
    except Exception as error:
        if not one.get("optional"):
            raise
        return {"outputs": [type(error).__name__]}
    parts = result if isinstance(result, tuple | list) else [result]
    answer: dict[str, Any] = {"form": form, "used": sorted(trace.names | trace.operators.names | _TORCH_LAYERS)[:90]}
    if "gradient" in one:
        model.zero_grad()
        if isinstance(parts[0], Tensor) and parts[0].requires_grad:
            parts[0].square().sum().backward()
        answer["without"] = [name for name, p in model.named_parameters() if p.grad is None]
    answer["outputs"] = [part.detach().numpy() if isinstance(part, Tensor) else type(part).__name__ for part in parts]
    return answer


def _first_form(method: Callable[..., Any], forms: Sequence[Sequence[Any]]) -> tuple[Any, int]:
    errors: list[Exception] = []
    for number, inputs in enumerate(forms):
        try:
            return method(*map(_tensor, inputs)), number
        except Exception as error:
            errors.append(error)
    # A TypeError mostly means that this form has too many or too few arguments.
    raise next((error for error in reversed(errors) if not isinstance(error, TypeError)), errors[0])


class _Operators(TorchDispatchMode):
    """Notes the names of torch's operators."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else torch imports its compiler, which takes a second

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(str(func).partition(".")[2].partition(".")[0])
        return func(*args, **(kwargs or {}))


class _Trace(TorchFunctionMode):
    """Notes the names of torch's functions, which may consist of several operators."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.operators = _Operators()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = resolve_name(func) or getattr(func, "__name__", "")
        if "functional" in name or name.startswith(("torch.conv", "torch._C._nn", "torch.nn")):
            self.names.add(name)
        return func(*args, **(kwargs or {}))


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.ndarray) and not value.ndim else value


def _tensor(value: Any) -> Any:
    return torch.from_numpy(value.copy()) if isinstance(value, np.ndarray) and value.ndim else _plain(value)
