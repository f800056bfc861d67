"""Starts the processes in which students' files run, and ends them.

`start` starts Python with the program _BOOT, which gets the texts of our modules through a pipe. On Linux, the started
process imports the packages once, and `fork` lets it fork a process for every file. Elsewhere, every file gets a new
process.
"""

import ast
import contextlib
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hw_check.wire import receive
from hw_common.runs.errors import UserError

_SECONDS_TO_START = 600  # to start Python and import the packages, which takes long on a busy machine

_ROOT = Path(__file__).resolve().parents[1]
_BOOT = """\
import json, sys, types
config = json.loads(sys.stdin.buffer.readline())
sys.path += config["packages"]
for name, text in config.pop("texts").items():
    module = sys.modules[name] = types.ModuleType(name)
    exec(compile(text, "checker", "exec"), module.__dict__)
sys.modules["hw_check.child"].main(config)
"""
"""The program of a process: it reads the texts of our modules, and then runs `child.main`."""


def _texts(*modules: str) -> dict[str, str]:
    """The texts of `modules` and of all our modules that they import, in an order in which they can be loaded."""
    found: dict[str, str] = {}
    for module in modules:
        text = (_ROOT / module.replace(".", "/")).with_suffix(".py").read_text(encoding="utf-8")
        nodes = [node for node in ast.parse(text).body if isinstance(node, ast.ImportFrom)]
        imported = [node.module for node in nodes if node.module and node.module.startswith("hw_")]
        found = {**found, **_texts(*imported), module: text}
    return found


def _package_folders(names: Sequence[str]) -> list[str]:
    """The folders in which the packages are installed."""
    specs = [importlib.util.find_spec(name) for name in ("numpy", *(n.partition(".")[0] for n in names))]
    return list(dict.fromkeys(str(Path(spec.origin).parents[1]) for spec in specs if spec and spec.origin))


def _hidden_folders() -> list[str]:
    """Our packages and, in a whole repository, all folders beside them, except folders that contain Python."""
    whole = (_ROOT / "pyproject.toml").is_file()
    folders = [path for path in _ROOT.iterdir() if path.is_dir() and (whole or path.name.startswith("hw_"))]
    needed = [Path(path).resolve() for path in (sys.prefix, sys.base_prefix, *_package_folders(()))]
    return [str(path) for path in folders if not any(need.is_relative_to(path.resolve()) for need in needed)]


def _environment() -> dict[str, str]:
    """Environment of the processes: one thread, no windows, and none of the caller's variables."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    needed = {name: os.environ[name] for name in ("SYSTEMROOT",) if name in os.environ}  # Windows needs it for sockets
    return {"PATH": os.defpath, "LANG": "C.UTF-8", "MPLBACKEND": "Agg", "USER": "student", **threads, **needed}


@dataclass
class Process:
    """A process, with our end of its connection."""

    connection: socket.socket
    pid: int
    wait: Callable[[int], int]  # takes the process id; returns the exit status, negative for a signal
    status: int | None = None

    def ended(self) -> int:
        """Kills the process and its descendants; returns its exit status, negative for a signal."""
        if self.status is None:
            kill = getattr(os, "killpg", os.kill)
            for kill_one in (kill, os.kill):  # the second one works before the process has made its group
                with contextlib.suppress(OSError):
                    kill_one(self.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
            self.status = self.wait(self.pid)
        return self.status

    def cpu_seconds(self) -> float:
        """The CPU time that the process has taken; infinite on systems without /proc, which only Linux has."""
        try:
            numbers = Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            return (int(numbers[11]) + int(numbers[12])) / os.sysconf("SC_CLK_TCK")
        except (OSError, IndexError):
            return float("inf")

    def close(self) -> None:
        """Ends the process."""
        self.ended()
        self.connection.close()


def start(runner: str, preload: Sequence[str], forks: bool) -> tuple[Process, tuple[str, ...]]:
    """Starts Python, and waits until it has imported the packages.

    Args:
        runner: our module that calls the student's functions.
        preload: packages that the process imports.
        forks: whether the process is for `fork`; else it runs a single file.

    Returns:
        The process, and the limits that are in force there.

    Raises:
        UserError: it did not start.
    """
    mine, theirs = socket.socketpair()
    windows = os.name == "nt"
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-B", "-c", _BOOT],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=tempfile.gettempdir(),
        env=_environment(), start_new_session=True, pass_fds=() if windows else (theirs.fileno(),),
    )  # fmt: skip
    config = {
        "texts": _texts(runner, "hw_check.child"),
        "packages": _package_folders(preload),
        "preload": list(preload),
        "hidden": _hidden_folders(),
        "runner": runner,
        "forks": forks,
    }
    if windows:
        config["share"] = theirs.share(process.pid).hex()  # type: ignore[attr-defined,unused-ignore]  # Windows
    else:
        config["connection"] = theirs.fileno()
    assert process.stdin is not None  # it is a pipe
    with contextlib.suppress(OSError), process.stdin as pipe:
        pipe.write(json.dumps(config).encode() + b"\n")
    if not windows:
        theirs.close()
    started = Process(mine, process.pid, lambda _: process.wait())
    try:
        limits = tuple(receive(mine, _SECONDS_TO_START))
    except (OSError, EOFError, ValueError, OverflowError, TypeError) as error:
        started.close()
        lines = process.stderr.read().decode(errors="replace").splitlines() if process.stderr else []
        reason = lines[-1] if lines else repr(error)
        packages = " and ".join(preload)
        raise UserError(f"cannot start {sys.executable} with {packages} for the check: {reason}") from error
    mine.settimeout(None)
    return started, limits


def fork(server: Process) -> Process | None:
    """A process that the process `server` has forked; None if the server has ended, because it was killed."""
    mine, theirs = socket.socketpair()
    with theirs, contextlib.suppress(OSError):
        socket.send_fds(server.connection, [b"fork"], [theirs.fileno()])
        answer = server.connection.recv(8)
        if answer:
            return Process(mine, int.from_bytes(answer, "big", signed=True), lambda pid: _wait(server, pid))
    mine.close()
    return None


def _wait(server: Process, pid: int) -> int:
    """Waits for a process that `server` has forked; returns its exit status, negative for a signal."""
    with contextlib.suppress(OSError):
        server.connection.sendall(str(pid).encode())
        answer = server.connection.recv(8)
        if answer:
            return os.waitstatus_to_exitcode(int.from_bytes(answer, "big", signed=True))
    return -signal.SIGKILL  # the server was killed, and with it the processes that it has forked
