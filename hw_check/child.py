"""The processes in which students' files run: they load a file, call its functions, and send back the results.

`sandbox.py` starts the first process, which imports NumPy and then waits. On Linux it forks a process for every file;
elsewhere a process is started for every file. The processes keep no path to our files: they get the text of our code
through a pipe. They get inputs but no right answers, so nothing in the student's code can turn a wrong answer into a
right one. Where the student's network is tested with our layers, these layers run in the checker's process. Imports the
standard library and NumPy alone.
"""

import contextlib
import gc
import importlib.util
import os
import signal
import socket
import sys
import traceback
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hw_check.limits import confine, enclose
from hw_check.stubs import Stubs
from hw_check.wire import receive, send

_SEED = 918273645  # unlike the seeds that people choose


def main(config: dict[str, Any]) -> None:
    """Imports the packages, gives up rights, and serves one file (`forks` is false) or forks a process for each."""
    if "share" in config:  # Windows
        connection = socket.fromshare(bytes.fromhex(config["share"]))  # type: ignore[attr-defined,unused-ignore]  # Windows
    else:
        connection = socket.socket(fileno=config["connection"])
    for name in config["preload"]:
        importlib.import_module(name)
    in_force = enclose(config["hidden"], config["packages"])
    runner = importlib.import_module(config["runner"])
    packages, forks = config["packages"], config["forks"]
    for name in [name for name in sys.modules if name.startswith("hw_")]:
        del sys.modules[name]
    send(connection, in_force)
    config.clear()  # so that the student's code finds no path to our files in memory
    if forks:
        _fork_on_request(connection, runner, packages)
    else:
        _serve(connection, runner, packages)


def _fork_on_request(control: socket.socket, runner: Any, packages: list[str]) -> None:
    """Forks a process for each connection that arrives.

    It collects the exit status of a process only when asked: until then, the system cannot reuse the process's id.
    """
    gc.freeze()  # else each fork would search the imported packages for garbage, which takes a tenth of a second
    running: set[int] = set()
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, 64, 1)
        if not message:  # the checker has ended
            for pid in running:
                with contextlib.suppress(OSError):
                    os.killpg(pid, signal.SIGKILL)
            os._exit(0)
        if descriptors:
            pid = os.fork()
            if pid == 0:
                try:
                    control.close()
                    os.setsid()
                    _serve(socket.socket(fileno=descriptors[0]), runner, packages)
                finally:
                    os._exit(1)  # a forked process never returns into this loop
            os.close(descriptors[0])
            running.add(pid)
            control.sendall(pid.to_bytes(8, "big", signed=True))
        else:
            pid = int(message)
            running.discard(pid)
            control.sendall(os.waitpid(pid, 0)[1].to_bytes(8, "big", signed=True))


def _serve(connection: socket.socket, runner: Any, packages: list[str]) -> None:
    """Reads the request for one file, answers it message by message, and ends the process."""
    request = receive(connection)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):  # the student's prints go nowhere
        os.dup2(nowhere, descriptor)
    folder = request["folder"]
    path = Path(folder, request["file"])
    os.chdir(path.parent)
    os.environ.update(dict.fromkeys(("HOME", "TMPDIR", "MPLCONFIGDIR"), folder))
    confine(folder, packages, request["seconds"], request["memory"])
    # Students start their programs in different folders, so a package may lie in any folder above the file.
    sys.path[:0] = [str(above) for above in path.parents if above.is_relative_to(folder)]
    sys.argv[:] = [path.name]
    sys.meta_path.append(Stubs(folder, getattr(runner, "COURSE_FILES", ())))

    def call(name: str, arguments: list[Any]) -> Any:
        send(connection, {"call": name, "arguments": arguments})
        return receive(connection)

    if hasattr(runner, "prepare"):
        runner.prepare()
    try:
        for name, functions in request["modules"].items():
            other = importlib.import_module(name) if request["keeps_helpers"] else types.ModuleType(name)
            sys.modules[name] = other
            runner.put_remote(other, functions, call)
        module = _load(path, Path(folder))
    except BaseException as error:  # the student's code may raise anything, even SystemExit
        send(connection, _explain(error, Path(folder), "import"))
        os._exit(0)
    send(connection, "loaded")
    for job in request["jobs"]:
        answer, out_of_memory = _run(runner, module, job, Path(folder))
        send(connection, answer)
        if out_of_memory:
            break  # the objects that filled the memory may still exist
    os._exit(0)  # skips the exit handlers of the student's code


def _load(path: Path, folder: Path) -> types.ModuleType:
    """Loads the student's file, whose name may contain dots or equal that of a Python module.

    In a subfolder of `folder`, the file is a part of a package, so that it may import from its neighbours (`from .`).
    """
    packages = path.parent.relative_to(folder).parts
    name = ".".join([*packages, path.stem]) if all(map(str.isidentifier, packages)) else path.stem
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None  # the file's suffix is .py
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(name, module)
    spec.loader.exec_module(module)
    return module


def _run(runner: Any, module: Any, job: Mapping[str, Any], folder: Path) -> tuple[Any, bool]:
    """The answers to all cases of one function, and whether the memory ran out.

    If the file does not define a function that the job needs, the answer is that function's name instead.
    """
    for name in job["needs"]:
        if not hasattr(module, name):
            return name, False
    answers, out_of_memory = [], False
    for case in job["cases"]:
        np.random.seed(_SEED)  # makes random weights the same in every run
        stage = [""]
        try:
            answers.append(runner.run(module, job, case, stage))
        except BaseException as error:
            answers.append(_explain(error, folder, stage[0]))
            out_of_memory |= isinstance(error, MemoryError)
    return answers, out_of_memory


def _explain(error: BaseException, folder: Path, stage: str) -> dict[str, Any]:
    """The error, the step in which it was raised, and the line of the student's file."""
    try:
        message = str(error)[:1000].replace(f"{folder}{os.sep}", "")[:400]  # the copy's name differs in every run
    except Exception:  # the student's own exception class may fail, too
        message = ""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame for frame in frames if Path(frame.filename).is_relative_to(folder)]
    where = _place(Path(lines[-1].filename), lines[-1].lineno or 0) if lines else ""
    return {"raised": type(error).__name__, "message": message, "where": where, "stage": stage}


def _place(path: Path, line: int) -> str:
    """The file and the line; for the definitions of a notebook (see definitions.py), the notebook, cell and line."""
    with contextlib.suppress(OSError):
        before = path.read_text(encoding="utf-8", errors="replace").split("\n")[:line]
        cell = next((i for i in reversed(range(len(before))) if before[i].startswith("# code cell ")), None)
        if cell is not None:
            return f"{path.stem}.ipynb, {before[cell][2:]}, line {line - cell - 1}"
    return f"{path.name}, line {line}"
