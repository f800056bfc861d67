"""Runs a student's file in processes of their own, and survives whatever it does there.

A function that loops, crashes, exits or fills the memory costs itself alone: its process is killed, and the functions
behind it run in a fresh one. This is protection from accidents, not from an attacker: the code runs with the rights of
whoever checks it.
"""

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hw_check.wire import LARGEST_MESSAGE, decode, encode
from hw_common.runs.errors import UserError

MEMORY = 2**31  # bytes of address space; NumPy itself takes a quarter of a gigabyte
_ROOT = Path(__file__).resolve().parents[1]
_START = "import sys; sys.path.insert(0, sys.argv[1]); from hw_check.child import main; main(sys.argv[1])"
_SECONDS_TO_START = 60  # for Python and NumPy, before the student's code


@dataclass(frozen=True)
class Job:
    """What to ask of one function.

    Args:
        name: the function.
        request: for `child.py`.
        needs: the function without which this one cannot be tested, or None.
    """

    name: str
    request: Mapping[str, Any]
    needs: str | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of one function.

    Args:
        answers: one for each case, as `child.py` sent them; None if there are none.
        failure: why not, for people; empty if there are answers.
        missing: what it needs and the file does not define, maybe itself.
        untested: it was not run, because what it needs failed.
    """

    answers: list[Any] | None = None
    failure: str = ""
    missing: str = ""
    untested: bool = False


class _Death(Exception):
    """The process is of no use any more; says why."""


def run_file(
    path: Path, jobs: Sequence[Job], seconds: float, ours: Mapping[str, Path] | None = None
) -> dict[str, Outcome]:
    """Runs all `jobs` on the file at `path`.

    Args:
        path: the student's file.
        jobs: in the order to run them.
        seconds: on the clock, for loading the file and for each function.
        ours: files of ours that take the place of the student's: name of the module to path.

    Returns:
        Outcome of every job by its name.
    """
    outcomes: dict[str, Outcome] = {}
    pending = list(jobs)
    while pending:
        with _started(path, pending, seconds, ours or {}) as child:
            try:
                child.load(seconds)
            except _Death as death:
                return outcomes | {job.name: Outcome(failure=str(death)) for job in pending}
            pending = _ask(child, pending, seconds, outcomes)
    return outcomes


def _ask(child: "_Child", pending: Sequence[Job], seconds: float, outcomes: dict[str, Outcome]) -> list[Job]:
    """Fills in `outcomes` until the process dies or all is answered; returns the jobs that are left."""
    for number, job in enumerate(pending, 1):
        try:
            outcomes[job.name] = child.answer(len(job.request["cases"]), seconds)
        except _Death as death:
            outcomes[job.name] = Outcome(failure=str(death))
        if outcomes[job.name].failure or _out_of_memory(outcomes[job.name]):
            rest = pending[number:]
            needing = [other for other in rest if other.needs == job.name and outcomes[job.name].failure]
            failure = f"not tested: it needs {job.name}"
            outcomes |= {other.name: Outcome(failure=failure, untested=True) for other in needing}
            return [other for other in rest if other not in needing]
    return []


def _out_of_memory(outcome: Outcome) -> bool:
    return any(isinstance(answer, dict) and answer.get("raised") == "MemoryError" for answer in outcome.answers or [])


@contextlib.contextmanager
def _started(path: Path, jobs: Sequence[Job], seconds: float, ours: Mapping[str, Path]) -> Iterator["_Child"]:
    """A process that is about to load `path`, gone with all its descendants in the end."""
    request = {
        "folder": str(path.parent.resolve()),
        "module": path.stem,
        "ours": {name: str(file) for name, file in ours.items()},
        "jobs": [dict(job.request) for job in jobs],
        "seconds": int(_SECONDS_TO_START + (seconds + 1) * (len(jobs) + 1)),
        "memory": MEMORY,
    }
    with tempfile.TemporaryFile() as file:
        file.write(encode(request))
        file.seek(0)
        process = subprocess.Popen(
            [sys.executable, "-I", "-B", "-c", _START, str(_ROOT)],
            stdin=file, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0, cwd=path.parent,
            env=_environment(), start_new_session=True,
        )  # fmt: skip
    try:
        yield _Child(process)
    finally:
        _kill(process)
        process.stdout.close()
        process.wait()


def _kill(process: subprocess.Popen) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # its forks as well


def _environment() -> dict[str, str]:
    """One thread, no windows, and none of the variables of whoever checks."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return {"PATH": os.defpath, "LANG": "C.UTF-8", "MPLBACKEND": "Agg", **threads}


class _Child:
    """The parent's end of the pipe; every wait has an end."""

    def __init__(self, process: subprocess.Popen) -> None:
        self._process = process
        os.set_blocking(process.stdout.fileno(), False)
        self._received = bytearray()

    def load(self, seconds: float) -> None:
        """Waits until the student's file is loaded; raises _Death if it cannot be."""
        try:
            self._receive(_SECONDS_TO_START, "")
        except _Death as death:
            raise UserError(f"cannot start {sys.executable} with NumPy to check in: it {death}") from death
        answer = self._receive(seconds, "importing the file ")
        if isinstance(answer, dict):
            raise _Death(f"importing the file {explain(answer)}")

    def answer(self, cases: int, seconds: float) -> Outcome:
        """The next function's outcome; raises _Death if there will be none."""
        answer = self._receive(seconds, "")
        if isinstance(answer, str):
            return Outcome(missing=answer)
        if not isinstance(answer, list) or len(answer) != cases or not all(isinstance(a, dict) for a in answer):
            raise _Death("writes into the checker's own pipe")
        return Outcome(answers=answer)

    def _receive(self, seconds: float, doing: str) -> Any:
        deadline = time.monotonic() + seconds
        length = int.from_bytes(self._take(8, deadline, seconds, doing), "big")
        if length > LARGEST_MESSAGE:
            raise _Death(f"{doing}returns more than {LARGEST_MESSAGE // 2**20} megabytes")
        try:
            return decode(self._take(length, deadline, seconds, doing))
        except ValueError as error:
            raise _Death(f"{doing}writes into the checker's own pipe") from error

    def _take(self, count: int, deadline: float, seconds: float, doing: str) -> bytes:
        """The next `count` bytes."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while len(self._received) < count:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise _Death(f"{doing}takes longer than {seconds:g} s: an endless loop?")
                chunk = self._process.stdout.read(2**16)
                if chunk == b"":
                    raise _Death(doing + self._death())
                self._received += chunk or b""
        taken = bytes(self._received[:count])
        del self._received[:count]
        return taken

    def _death(self) -> str:
        """How the process ended, once its end of the pipe is closed; it stays a zombie: its id remains its own."""
        for _ in range(100):
            ended = os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None:
                time.sleep(0.01)
            elif ended.si_code == os.CLD_EXITED:
                return f"ends the process with status {ended.si_status}"
            else:
                return f"crashes ({signal.Signals(ended.si_status).name})"
        return "closes the checker's pipe"


def explain(answer: Mapping[str, Any]) -> str:
    """What the student's code raised, in one clause."""
    raised, message, where = (str(answer.get(key, "")) for key in ("raised", "message", "where"))
    where = f" ({where})" if where else ""
    if raised == "SystemExit":
        return f"calls sys.exit{where}"
    if raised == "MemoryError":
        return f"needs more than {MEMORY // 2**30} GB of memory{where}"
    return f"raises {raised}: {message}{where}" if message else f"raises {raised}{where}"
