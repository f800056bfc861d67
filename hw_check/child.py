"""The process in which a student's file runs: loads the file, calls its functions, sends back what they return.

Started by `process.py`. It knows the inputs and nothing of what is right, so whatever happens here cannot make a wrong
answer a right one; and it is expected to die at any moment. Imports the standard library and NumPy alone.
"""

import contextlib
import importlib
import importlib.abc
import importlib.util
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from hw_check.wire import Other, decode, describe, encode

_LARGEST_FILE = 2**24  # bytes that the student's code may write into one file


def main(root: str) -> None:
    """Answers the request on standard input through standard output, message by message, and ends the process.

    Args:
        root: the folder that our package was found in; the student's file does not find it there.
    """
    request = decode(sys.stdin.buffer.read())
    send = _answers()
    _limit(request["seconds"], request["memory"])
    os.register_at_fork(after_in_child=lambda: os._exit(0))  # copies would run all that is left, and fork again
    sys.path.remove(root)
    sys.meta_path.insert(0, _Hidden())  # where it is installed, it would be found all the same
    for name in [name for name in sys.modules if _is_ours(name)]:
        del sys.modules[name]
    send("ready")
    folder = Path(request["folder"])
    sys.path.insert(0, str(folder))
    ours = {name: _load(name, path) for name, path in request["ours"].items()}
    sys.modules.update((name, module) for name, module in ours.items() if name != request["module"])
    try:
        module = importlib.import_module(request["module"])
    except BaseException as error:  # the student's code may raise anything, SystemExit as well
        send(_explain(error, folder, "import"))
        os._exit(0)
    send("loaded")
    for job in request["jobs"]:
        with _replaced(module, ours.get(request["module"]), job["replace"]):
            answer, out_of_memory = _run(module, job, folder)
        send(answer)
        if out_of_memory:
            break  # what filled the memory may still be there
    os._exit(0)  # past whatever the student's code registered for the end


def _is_ours(module: str) -> bool:
    """Whether `module` belongs to one of our own packages."""
    return module.partition(".")[0] in ("hw_numpy", "hw_check")


class _Hidden(importlib.abc.MetaPathFinder):
    """Lets nobody import our package: a student's file has to have its own solutions."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if _is_ours(name):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def _answers() -> Callable[[Any], None]:
    """Takes standard output for messages and leaves the student's code nowhere to read from or print to."""
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
    """Has the kernel end this process if the checker itself cannot any more, and keeps it small."""
    limits = {
        resource.RLIMIT_AS: memory,
        resource.RLIMIT_CPU: seconds,
        resource.RLIMIT_FSIZE: _LARGEST_FILE,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NPROC: 0,  # no forks (not for root: the kernel does not hold root to it)
    }
    for limit, value in limits.items():
        with contextlib.suppress(OSError, ValueError):  # an administrator's limit is lower already
            resource.setrlimit(limit, (value, value))
    signal.alarm(seconds)


def _load(name: str, path: str) -> ModuleType:
    """One of our own files, as the module that a student's file would import under `name`."""
    place = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(place)
    place.loader.exec_module(module)
    return module


@contextlib.contextmanager
def _replaced(module: ModuleType, ours: ModuleType | None, names: list[str]) -> Iterator[None]:
    """Meanwhile, the functions called `names` in the student's module are ours."""
    theirs = {name: getattr(module, name) for name in names if ours is not None and hasattr(module, name)}
    for name in theirs:
        setattr(module, name, getattr(ours, name))
    yield
    for name, function in theirs.items():
        setattr(module, name, function)


def _run(module: ModuleType, job: Mapping[str, Any], folder: Path) -> tuple[Any, bool]:
    """What the cases of one function came to, and whether the memory ran out.

    Where the file does not define what the job needs, the answer is the name of it.
    """
    for name in job["needs"]:
        if not hasattr(module, name):
            return name, False
    run = _run_model if "class" in job else _run_layer
    answers, out_of_memory = [], False
    for case in job["cases"]:
        np.random.seed(0)  # weights that are drawn are the same every time
        stage = [""]
        try:
            answers.append(run(module, job, case, stage))
        except BaseException as error:
            answers.append(_explain(error, folder, stage[0]))
            out_of_memory |= isinstance(error, MemoryError)
    return answers, out_of_memory


def _run_layer(module: ModuleType, job: Mapping[str, Any], case: Mapping[str, Any], stage: list[str]) -> Any:
    """Calls a forward function and, with its cache, the backward function that belongs to it."""
    stage[0] = job["forward"]
    forward = getattr(module, job["forward"])
    arguments = [_laid_out(argument, case["layout"]) for argument in case["arguments"]]
    returned = result = forward(*arguments)
    if job["cache"]:
        whole = isinstance(result, tuple) and len(result) == job["outputs"] + 1
        returned = list(result[:-1]) if whole else Other(_kind(result))
    nudged = [[_outputs(forward(*pushed), job) for pushed in pair] for pair in case["nudged"]]
    if job["backward"]:
        if isinstance(returned, Other):
            raise TypeError(
                f"returns {returned.name}, expected a tuple of {job['outputs'] + 1}, the last one the cache"
            )
        forward(*map(_negated, case["arguments"]))  # finds out what is remembered anywhere but in the cache
        stage[0] = job["backward"]
        douts = [_laid_out(dout, case["layout"]) for dout in case["douts"]]
        before = [_laid_out(argument, "C") for argument in arguments]
        returned = getattr(module, job["backward"])(*douts, result[-1])
        returned = returned if isinstance(returned, tuple | list) else [returned]
        unchanged = [np.array_equal(now, then) for now, then in zip(arguments, before, strict=True)]
        # What the forward function changed is not the backward function's fault.
        changed = zip(case["arguments"], arguments, unchanged, strict=True)
        arguments = [given if same else now for given, now, same in changed] + douts
    answer = returned if isinstance(returned, Other) else describe(returned)
    return {"returned": answer, "after": _arrays(arguments), "nudged": nudged}


def _run_model(module: ModuleType, job: Mapping[str, Any], case: Mapping[str, Any], stage: list[str]) -> Any:
    """Builds a network, gives it parameters and calls its methods."""
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
    nudged = []
    for pair in case["nudged"]:
        nudged.append([])
        for pushed in pair:
            model.params.update(pushed)
            nudged[-1].append([describe(model.loss(*case["calls"][-1][1])[0])])
    return {"params": params, "returned": returned, "after": _arrays(arguments), "nudged": nudged}


def _outputs(result: Any, job: Mapping[str, Any]) -> Any:
    """The outputs alone, as a list, of what a forward function returned."""
    parts = list(result[: job["outputs"]]) if isinstance(result, tuple) else [result]
    return describe(parts)


def _kind(value: Any) -> str:
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}"
    return "None" if value is None else type(value).__name__


def _arrays(values: list[Any]) -> list[np.ndarray]:
    return [value for value in values if isinstance(value, np.ndarray)]


def _laid_out(value: Any, layout: str) -> Any:
    """A copy of an array with the same numbers; as "strided", with other numbers between them in memory."""
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
    """What was raised, while doing what, and in which line of the student's files."""
    try:
        message = str(error)[:400]
    except Exception:  # the student's own exception class may do anything
        message = ""
    lines = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).parent == folder]
    where = f"{Path(lines[-1].filename).name}, line {lines[-1].lineno}" if lines else ""
    return {"raised": type(error).__name__, "message": message, "where": where, "stage": stage}
