"""Calls a student's layer functions and network methods in the process of the student's file (see ../child.py).

Imports the standard library and NumPy alone.
"""

import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from hw_check.wire import Other, describe

COURSE_FILES = ("layers", "rnn_layers")  # the networks import them; if one is missing, our functions replace it


def run(module: types.ModuleType, job: Mapping[str, Any], case: Mapping[str, Any], stage: list[str]) -> Any:
    """Runs one case; `stage[0]` is always the name of the function that runs, for messages about errors."""
    if "class" in job:
        return _run_model(module, job, case, stage)
    if "caches" in case:
        return _run_backward(module, job, case, stage)
    return _run_layer(module, job, case, stage)


def _run_layer(module: types.ModuleType, job: Mapping[str, Any], case: Mapping[str, Any], stage: list[str]) -> Any:
    """Calls a forward function with a case's arguments, and with moved ones for the centred differences.

    If the job has a backward function, it is called with the cache of the first call. Returns the results of the
    function under test and the arrays that it got, as they are after the call.
    """
    stage[0] = job["forward"]
    forward = getattr(module, job["forward"])
    arguments = [_laid_out(argument, case["layout"]) for argument in _given(case["arguments"])]
    returned = result = forward(*arguments)
    if job["cache"]:
        whole = isinstance(result, tuple | list) and len(result) == job["outputs"] + 1
        returned = list(result[:-1]) if whole else Other(_kind(result))
    moved = [[_outputs(forward(*_given(end)), job) for end in ends] for ends in case["moved"]]
    if job["backward"]:
        if isinstance(returned, Other):
            expected = f"a tuple of {job['outputs'] + 1} that ends with the cache"
            raise TypeError(f"returns {returned.name}, expected {expected}")
        forward(*map(_negated, _given(case["arguments"])))  # overwrites values that the file keeps outside the cache
        stage[0] = job["backward"]
        douts = [_laid_out(dout, case["layout"]) for dout in case["douts"]]
        before = [_laid_out(argument, "C") for argument in arguments]
        returned = _as_list(getattr(module, job["backward"])(*douts, result[-1]))
        unchanged = [np.array_equal(now, then) for now, then in zip(arguments, before, strict=True)]
        # Changes that the forward function made do not count against the backward function.
        changed = zip(case["arguments"], arguments, unchanged, strict=True)
        arguments = [given if same else now for given, now, same in changed] + douts
    answer = returned if isinstance(returned, Other) else describe(returned)
    return {"returned": answer, "after": _arrays(arguments), "moved": moved}


def _run_backward(module: types.ModuleType, job: Mapping[str, Any], case: Mapping[str, Any], stage: list[str]) -> Any:
    """Calls a backward function with the documented cache; if it has several forms, with the first one that works."""
    stage[0] = job["backward"]
    for number, cache in enumerate(case["caches"], 1):
        douts = [dout.copy() for dout in case["douts"]]
        try:
            cache = tuple(_given(cache)) if isinstance(cache, list) else cache
            returned = getattr(module, job["backward"])(*douts, cache)
            break
        except Exception:
            if number == len(case["caches"]):
                raise
    arguments = [*case["arguments"], *douts]
    return {"returned": describe(_as_list(returned)), "after": _arrays(arguments), "moved": []}


def _run_model(module: types.ModuleType, job: Mapping[str, Any], case: Mapping[str, Any], stage: list[str]) -> Any:
    """Builds a network, sets its parameters and calls its methods."""
    stage[0] = f"{job['class']}.__init__"
    options = dict(case["options"])
    if "dtype" in options:
        options["dtype"] = getattr(np, options["dtype"])
    if "input_dim" in options and isinstance(options["input_dim"], list):
        options["input_dim"] = tuple(options["input_dim"])
    model = getattr(module, job["class"])(**options)
    params = describe({name: np.copy(v) if isinstance(v, np.ndarray) else v for name, v in model.params.items()})
    again, after_again = {}, {}
    if job["again"]:
        np.random.seed(1)  # other random numbers, unless the class seeds the generator itself
        again = describe(dict(getattr(module, job["class"])(**options).params))
        after_again = describe(dict(model.params))  # the same as before, unless the networks share them
    model.params.update((name, value.copy()) for name, value in case["params"].items())
    returned, arguments = [], []
    for method, given in case["calls"]:
        stage[0] = f"{job['class']}.{method}"
        copies = [_laid_out(value, "C") for value in _given(given)]
        returned.append(describe(getattr(model, method)(*copies)))
        arguments += copies
    kept = {name: describe(model.params.get(name)) for name in case["params"]}
    return {
        "params": params, "again": again, "after_again": after_again,
        "returned": returned, "after": _arrays(arguments), "kept": kept,
    }  # fmt: skip


def put_remote(
    module: types.ModuleType, functions: Mapping[str, Any], call: Callable[[str, list[Any]], Any]
) -> None:  # fmt: skip
    """Puts functions that the checker computes into a module, in place of the student's functions of these names.

    The student's further functions stay. If they call one of the replaced functions, they get the checker's.

    Args:
        module: the student's module, or an empty one.
        functions: for every function, the names of its arguments, and whether it returns a cache.
        call: sends the name of a function and its arguments to the checker, and returns its result.
    """
    for function, (names, has_cache) in functions.items():
        own = getattr(module, function, None)
        remote = _remote(f"{module.__name__}.{function}", function, names, has_cache, call)
        # A second name of the student's function, such as affine_forward = fc_forward, is replaced, too.
        same = [name for name, value in vars(module).items() if own is not None and value is own]
        for name in (function, *same):
            setattr(module, name, remote)


def _remote(path: str, name: str, names: Sequence[str], has_cache: bool, call: Any) -> Callable[..., Any]:
    def function(*given: Any, **named: Any) -> Any:
        values = [*given, *(named[key] for key in names[len(given) :] if key in named)]
        if len(values) != len(names) or len(given) + len(named) != len(names):
            raise TypeError(f"{name} takes {', '.join(names)}")
        answer = call(path, [describe(value) for value in values])
        if "raised" in answer:
            raise ValueError(answer["raised"])
        result = answer["returned"]
        result = tuple(_given(result)) if isinstance(result, list) else result
        if not has_cache:
            return result
        outputs = result if isinstance(result, tuple) else (result,)
        return *outputs, (tuple(values) if len(values) > 1 else values[0])

    function.__name__ = function.__qualname__ = name
    return function


def _given(values: Sequence[Any]) -> list[Any]:
    """Arguments as the course's scripts give them: whole numbers in place of arrays of integers without axes."""
    return [int(v) if isinstance(v, np.ndarray) and not v.ndim and v.dtype.kind == "i" else v for v in values]


def _as_list(returned: Any) -> list[Any]:
    return list(returned) if isinstance(returned, tuple | list) else [returned]


def _outputs(result: Any, job: Mapping[str, Any]) -> Any:
    """The outputs of a forward function as a list, without the cache."""
    return describe(_as_list(result)[: job["outputs"]])


def _kind(value: Any) -> str:
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    return "None" if value is None else type(value).__name__


def _arrays(values: list[Any]) -> list[np.ndarray]:
    return [value for value in values if isinstance(value, np.ndarray)]


def _laid_out(value: Any, layout: str) -> Any:
    """A copy of an array. With layout "strided", the copy is a view of every second element of a larger array."""
    if not isinstance(value, np.ndarray):
        return value
    if layout != "strided":
        return value.copy()
    room = np.full([2 * side for side in value.shape], 7, value.dtype)
    view = room[(slice(1, None, 2),) * value.ndim]
    view[...] = value
    return view


def _negated(value: Any) -> Any:
    return -value if isinstance(value, np.ndarray) and value.dtype.kind == "f" else value
