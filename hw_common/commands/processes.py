"""Runs commands in separate processes, several at a time."""

import contextlib
import multiprocessing
import os
import runpy
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing import connection, forkserver, resource_tracker
from multiprocessing.process import BaseProcess
from pathlib import Path

from hw_common.runs import launch
from hw_common.runs.errors import Terminated, signal_of

_FORKS = sys.platform == "linux"
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def run_processes(
    commands: Mapping[str, Sequence[str]],
    jobs: int,
    logs: Path | None,
    ended: Callable[[str, int], None],
    started: Callable[[str], None] = lambda name: None,
) -> None:
    """Runs commands in the given order, at most `jobs` at a time. They share the cores evenly.

    The module `experiment` of a command's package, if there is one, and `figures` contain the slow imports. On Linux,
    unless `logs` is None, they are imported only once: the commands run in forks of a process that has imported them.

    Args:
        commands: the words after `python -m` of each command, by its name.
        jobs: number of commands at a time.
        logs: folder for the output of each command, <name>.log; None for the output of this process.
        ended: is called with the name and the exit status of each command when it has ended.
        started: is called with the name of each command before it starts.

    Raises:
        KeyboardInterrupt: on Ctrl-C or SIGTERM, after all running commands have saved and ended. An exception in
            `ended` or `started` stops them in the same way.
    """
    waiting = list(commands)
    threads = max(1, launch.most_threads() // max(1, min(jobs, len(commands))))
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    # Commands without logs use this process's current streams; forks would have the streams of the fork server.
    context = multiprocessing.get_context("forkserver" if _FORKS and logs else "spawn")
    packages = {words[0].partition(".")[0] for words in commands.values() if "." in words[0]}
    slow = [f"{package}.experiment" for package in sorted(packages)]
    forkserver.set_forkserver_preload(["__main__", *slow, "hw_common.runs.figures"])
    running: dict[str, BaseProcess] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                name = waiting.pop(0)
                started(name)
                log = logs / f"{name}.log" if logs else None
                # Every context but the base class has Process.
                process = context.Process(target=_run, args=(commands[name], log, environment))  # type: ignore[attr-defined]
                with _starting(threads):
                    process.start()
                    running[name] = process
            connection.wait([process.sentinel for process in running.values()])
            for name, process in list(running.items()):
                if process.exitcode is not None:
                    del running[name]
                    ended(name, process.exitcode)
    except BaseException as error:
        number = signal_of(error if isinstance(error, KeyboardInterrupt) else Terminated())
        for process in running.values():
            if os.name != "nt" and process.pid:  # on Windows, the console sends Ctrl-C to every process
                os.kill(process.pid, number)
        for process in running.values():
            process.join()
        raise


@contextlib.contextmanager
def _starting(threads: int) -> Iterator[None]:
    """Holds back Ctrl-C and SIGTERM while a process starts, and gives it `threads` as its default number of threads.

    The first start waits until the modules are imported. A signal during this wait would leave a command running.
    """
    if _FORKS:
        resource_tracker.ensure_running()  # if it started later, it would unblock the signals
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # the new process inherits it
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = str(threads)  # read when torch is imported
    try:
        yield
    finally:
        del os.environ["OMP_NUM_THREADS"]
        if before is not None:
            os.environ["OMP_NUM_THREADS"] = before
        if _FORKS:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _run(command: Sequence[str], log: Path | None, environment: Mapping[str, str]) -> None:
    """Runs a command in this new process as `python -m` does; its output is appended to `log`."""
    if hasattr(os, "setsid"):
        os.setsid()  # the terminal sends Ctrl-C to `run_processes` alone, which passes it on
    os.environ.clear()
    os.environ.update(environment)
    if log:
        with open(log, "ab") as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
    sys.argv = list(command)
    try:
        if _FORKS:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        runpy.run_module(command[0], run_name="__main__", alter_sys=True)
    except KeyboardInterrupt:  # before the command handles it
        sys.exit(128 + signal.SIGINT)


def last_line(log: Path) -> str:
    """The last line of a log, which is the error message of a command that failed."""
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "no output"
