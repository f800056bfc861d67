"""Runs commands in separate processes, several at a time."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from hw_common.runs import launch
from hw_common.runs.errors import Terminated, signal_of

_POLL_SECONDS = 0.1


def run_processes(
    commands: Mapping[str, Sequence[str]],
    jobs: int,
    logs: Path | None,
    ended: Callable[[str, int], None],
    started: Callable[[str], None] = lambda name: None,
) -> None:
    """Runs commands in the given order, at most `jobs` at a time. They share the cores evenly.

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
    running: dict[str, subprocess.Popen[bytes]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                name = waiting.pop(0)
                started(name)
                running[name] = _start(commands[name], logs / f"{name}.log" if logs else None, threads)
            time.sleep(_POLL_SECONDS)
            for name in [name for name, process in running.items() if process.poll() is not None]:
                ended(name, running.pop(name).returncode)
    except BaseException as error:
        number = signal_of(error if isinstance(error, KeyboardInterrupt) else Terminated())
        for process in running.values():
            if os.name != "nt":  # on Windows, the console sends Ctrl-C to every process
                process.send_signal(number)
        for process in running.values():
            process.wait()
        raise


def _start(command: Sequence[str], log: Path | None, threads: int) -> "subprocess.Popen[bytes]":
    """Starts a command whose default number of threads is at most `threads`."""
    line = [sys.executable, "-m", *command]
    limited = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    # In a new session, the command gets no Ctrl-C from the terminal, only the signal that `run_processes` sends.
    if log is None:
        return subprocess.Popen(line, start_new_session=True, env=limited)
    with open(log, "ab") as output:
        return subprocess.Popen(line, stdout=output, stderr=subprocess.STDOUT, start_new_session=True, env=limited)


def error_in(log: Path) -> str:
    """The last line of a log, which is the error message of a command that failed, and the path of the log."""
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return f"{lines[-1] if lines else 'no output'} (log: {log})"
