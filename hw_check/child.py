"""The process in which a student's file runs: loads the file, calls its functions, and sends back the results.

`process.py` starts this process, which may end at any moment. It gets inputs but no right answers, so that nothing in
the student's code can turn a wrong answer into a right one. Imports the standard library and NumPy alone.
"""

import contextlib
import importlib
import importlib.abc
import importlib.machinery
import os
import resource
import signal
import sys
import traceback
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hw_check.wire import Other, decode, describe, encode

_LARGEST_FILE = 2**24  # bytes that the student's code may write into one file


def main(root: str) -> None:
    """Reads the request from standard input, answers it message by message on standard output, and ends the process.

    Args:
        root: the folder that holds our packages; it is removed from the path before the student's file runs.
    """
    request = decode(sys.stdin.buffer.read())
    send = _open_answers()
    _limit(request["seconds"], request["memory"])
    os.register_at_fork(after_in_child=lambda: os._exit(0))  # a forked process would run the remaining jobs
    sys.path.remove(root)
    sys.meta_path.insert(0, _Hidden())  # our packages may be installed elsewhere, too
    for name in [name for name in sys.modules if _is_ours(name)]:
        del sys.modules[name]
    send("ready")
    folder = Path(request["folder"])
    sys.path.insert(0, str(folder))
    ours = {name: _load(name, path) for name, path in request["ours"].items()}
    sys.modules.update((name, module) for name, module in ours.items() if name != request["module"])
    try:
        module = importlib.import_module(request["module"])
    except BaseException as error:  # the student's code may raise anything, even SystemExit
        send(_explain(error, folder, "import"))
        os._exit(0)
    send("loaded")
    for job in request["jobs"]:
        with _replaced(module, ours.get(request["module"]), job["replace"]):
            answer, out_of_memory = _run(module, job, folder)
        send(answer)
        if out_of_memory:
            break  # the objects that filled the memory may still exist
    os._exit(0)  # skips the exit handlers of the student's code


def _is_ours(module: str) -> bool:
    """Whether `module` belongs to one of our packages."""
    return module.partition(".")[0] in ("hw_numpy", "hw_check")


class _Hidden(importlib.abc.MetaPathFinder):
    """Stops the student's file from importing our packages and their solutions."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Raises ModuleNotFoundError for our packages, and leaves other modules to the other finders."""
        if _is_ours(name):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def _open_answers() -> Callable[[Any], None]:
    """Returns a function that sends messages on standard output; the student's prints then go nowhere."""
    pipe = os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)

    def send(value: Any) -> None:
        message = encode(value)
        rest = memoryview(len(message).to_bytes(8, "big") + message)
        while rest:
            rest = rest[os.write(pipe, rest) :]

    return send


def _limit(seconds: int, memory: int) -> None:
    """Sets limits of time and memory, which the kernel enforces even if the checker itself has been killed."""
    limits = {
        resource.RLIMIT_AS: memory,
        resource.RLIMIT_CPU: seconds,
        resource.RLIMIT_FSIZE: _LARGEST_FILE,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NPROC: 0,  # no forks; the kernel does not enforce this for root
    }
    for limit, value in limits.items():
        with contextlib.suppress(OSError, ValueError):  # the administrator has set a lower limit
            resource.setrlimit(limit, (value, value))
    signal.alarm(seconds)


def _load(name: str, path: str) -> types.ModuleType:
    """Loads one of our files as the module `name`, under which a student's file imports it."""
    loader = importlib.machinery.SourceFileLoader(name, path)
    module = types.ModuleType(name)
    loader.exec_module(module)
    return module


@contextlib.contextmanager
def _replaced(module: types.ModuleType, ours: types.ModuleType | None, names: list[str]) -> Iterator[None]:
    """Replaces the functions called `names` in the student's module by ours, until the context ends."""
    theirs = {name: getattr(module, name) for name in names if ours is not None and hasattr(module, name)}
    for name in theirs:
        setattr(module, name, getattr(ours, name))
    yield
    for name, function in theirs.items():
        setattr(module, name, function)


def _run(module: types.ModuleType, job: Mapping[str, Any], folder: Path) -> tuple[Any, bool]:
    """The answers to all cases of one function, and whether the memory ran out.

    If the file does not define a function that the job needs, the answer is that function's name instead.
    """
    for name in job["needs"]:
        if not hasattr(module, name):
            return name, False
    run = _run_model if "class" in job else _run_layer
    answers, out_of_memory = [], False
    for case in job["cases"]:
        np.random.seed(0)  # makes random weights the same in every run
        stage = [""]
        try:
            answers.append(run(module, job, case, stage))
        except BaseException as error:
            answers.append(_explain(error, folder, stage[0]))
            out_of_memory |= isinstance(error, MemoryError)
    return answers, out_of_memory


def _run_layer(module: types.ModuleType, job: Mapping[str, Any], case: Mapping[str, Any], stage: list[str]) -> Any:
    """Calls a forward function with a case's arguments, and with moved ones for the centred differences.

    If the job has a backward function, it is called with the cache of the first call. Returns the results of the
    function under test and the arrays that it got, as they are after the call.
    """
    stage[0] = job["forward"]
    forward = getattr(module, job["forward"])
    arguments = [_laid_out(argument, case["layout"]) for argument in case["arguments"]]
    returned = result = forward(*arguments)
    if job["cache"]:
        whole = isinstance(result, tuple) and len(result) == job["outputs"] + 1
        returned = list(result[:-1]) if whole else Other(_kind(result))
    moved = [[_outputs(forward(*end), job) for end in ends] for ends in case["moved"]]
    if job["backward"]:
        if isinstance(returned, Other):
            expected = f"a tuple of {job['outputs'] + 1} that ends with the cache"
            raise TypeError(f"returns {returned.name}, expected {expected}")
        forward(*map(_negated, case["arguments"]))  # overwrites values that the file keeps outside the cache
        stage[0] = job["backward"]
        douts = [_laid_out(dout, case["layout"]) for dout in case["douts"]]
        before = [_laid_out(argument, "C") for argument in arguments]
        returned = getattr(module, job["backward"])(*douts, result[-1])
        returned = returned if isinstance(returned, tuple | list) else [returned]
        unchanged = [np.array_equal(now, then) for now, then in zip(arguments, before, strict=True)]
        # Changes that the forward function made do not count against the backward function.
        changed = zip(case["arguments"], arguments, unchanged, strict=True)
        arguments = [given if same else now for given, now, same in changed] + douts
    answer = returned if isinstance(returned, Other) else describe(returned)
    return {"returned": answer, "after": _arrays(arguments), "moved": moved}


def _run_model(module: types.ModuleType, job: Mapping[str, Any], case: Mapping[str, Any], stage: list[str]) -> Any:
    """Builds a network, sets its parameters and calls its methods, then its loss with moved parameters."""
    stage[0] = f"{job['class']}.__init__"
    options = dict(case["options"])
    if "dtype" in options:
        options["dtype"] = getattr(np, options["dtype"])
    if "input_dim" in options and isinstance(options["input_dim"], list):
        options["input_dim"] = tuple(options["input_dim"])
    model = getattr(module, job["class"])(**options)
    params = describe(model.params)
    model.params.update((name, value.copy()) for name, value in case["params"].items())
    returned, arguments = [], []
    for method, given in case["calls"]:
        stage[0] = f"{job['class']}.{method}"
        returned.append(describe(getattr(model, method)(*given)))
        arguments += given
    moved: list[list[Any]] = []
    for ends in case["moved"]:
        moved.append([])
        for params_moved in ends:
            model.params.update(params_moved)
            moved[-1].append([describe(model.loss(*case["calls"][-1][1])[0])])
    return {"params": params, "returned": returned, "after": _arrays(arguments), "moved": moved}


def _outputs(result: Any, job: Mapping[str, Any]) -> Any:
    """The outputs of a forward function as a list, without the cache."""
    parts = list(result[: job["outputs"]]) if isinstance(result, tuple) else [result]
    return describe(parts)


def _kind(value: Any) -> str:
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}"
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


def _explain(error: BaseException, folder: Path, stage: str) -> dict[str, Any]:
    """The error, the step in which it was raised, and the line of the student's file."""
    try:
        message = str(error)[:400]
    except Exception:  # the student's own exception class may fail, too
        message = ""
    lines = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).parent == folder]
    where = f"{Path(lines[-1].filename).name}, line {lines[-1].lineno}" if lines else ""
    return {"raised": type(error).__name__, "message": message, "where": where, "stage": stage}
