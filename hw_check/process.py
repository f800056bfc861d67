"""Runs a student's file in separate processes, so that no mistake in it can stop the check.

If a function never ends, crashes, exits or fills the memory, its process is killed and the remaining functions run in a
new process: only that function fails. This protects against accidents, not against an attacker: the code runs with the
rights of the user who checks it.
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
from typing import IO, Any

from hw_check.wire import LARGEST_MESSAGE, decode, encode
from hw_common.runs.errors import UserError

MEMORY = 2**31  # bytes of address space, of which NumPy itself takes a quarter of a gigabyte
_ROOT = Path(__file__).resolve().parents[1]
_START = "import sys; sys.path.insert(0, sys.argv[1]); from hw_check.child import main; main(sys.argv[1])"
_SECONDS_TO_START = 60  # to start Python and import NumPy, before the student's code begins


@dataclass(frozen=True)
class Job:
    """The request to test one function."""

    name: str  # name of the function
    request: Mapping[str, Any]  # the message that `child.py` reads
    needs: str | None = None  # name of the forward function that a backward function needs; None for other functions


@dataclass(frozen=True)
class Outcome:
    """The result of one job."""

    answers: list[Any] | None = None  # the answer to each case, as `child.py` sent it; None if there are none
    failure: str = ""  # the reason why there are no answers, for the report; empty if there are answers
    missing: str = ""  # name of the tested or needed function that the file does not define; else empty
    untested: bool = False  # whether the function was not run because the function that it needs failed


class _ProcessFailed(Exception):
    """The process cannot be used any more; the message gives the reason."""


def run_file(
    path: Path, jobs: Sequence[Job], seconds: float, ours: Mapping[str, Path] | None = None
) -> dict[str, Outcome]:
    """Runs all `jobs` on the student's file at `path`.

    Args:
        path: the student's file.
        jobs: the jobs, in the order in which they run.
        seconds: wall-clock limit for loading the file, and for each function.
        ours: our files that replace the student's, by the name of the module.

    Returns:
        The outcome of every job by its name.
    """
    outcomes: dict[str, Outcome] = {}
    pending = list(jobs)
    while pending:
        with _started(path, pending, seconds, ours or {}) as child:
            try:
                child.load(seconds)
            except _ProcessFailed as reason:
                return outcomes | {job.name: Outcome(failure=str(reason)) for job in pending}
            pending = _run_jobs(child, pending, seconds, outcomes)
    return outcomes


def _run_jobs(child: "_Child", pending: Sequence[Job], seconds: float, outcomes: dict[str, Outcome]) -> list[Job]:
    """Fills in `outcomes` until the process fails or all jobs are done; returns the jobs that are left."""
    for number, job in enumerate(pending, 1):
        try:
            outcome = child.answer(len(job.request["cases"]), seconds)
        except _ProcessFailed as reason:
            outcome = Outcome(failure=str(reason))
        outcomes[job.name] = outcome
        if outcome.failure or _out_of_memory(outcome):
            rest = pending[number:]
            needing = [other for other in rest if other.needs == job.name and outcome.failure]
            failure = f"not tested: it needs {job.name}"
            outcomes |= {other.name: Outcome(failure=failure, untested=True) for other in needing}
            return [other for other in rest if other not in needing]
    return []


def _out_of_memory(outcome: Outcome) -> bool:
    return any(isinstance(answer, dict) and answer.get("raised") == "MemoryError" for answer in outcome.answers or [])


@contextlib.contextmanager
def _started(path: Path, jobs: Sequence[Job], seconds: float, ours: Mapping[str, Path]) -> Iterator["_Child"]:
    """Starts a process that loads `path`; kills it and all its descendants at the end."""
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
    assert process.stdout is not None  # it is a pipe
    try:
        yield _Child(process, process.stdout)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # kills the processes that it forked as well
        process.stdout.close()
        process.wait()


def _environment() -> dict[str, str]:
    """Environment of the child: one thread, no windows, and none of the caller's variables."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return {"PATH": os.defpath, "LANG": "C.UTF-8", "MPLBACKEND": "Agg", **threads}


class _Child:
    """The parent's view of a process: reads its messages from `pipe`, and never waits longer than a limit."""

    def __init__(self, process: subprocess.Popen[bytes], pipe: IO[bytes]) -> None:
        self._process, self._pipe = process, pipe
        os.set_blocking(pipe.fileno(), False)
        self._received = bytearray()

    def load(self, seconds: float) -> None:
        """Waits until the student's file is loaded; raises _ProcessFailed if it cannot be loaded."""
        try:
            self._receive(_SECONDS_TO_START, "")
        except _ProcessFailed as reason:
            raise UserError(f"cannot start {sys.executable} with NumPy for the check: it {reason}") from reason
        answer = self._receive(seconds, "importing the file ")
        if isinstance(answer, dict):
            raise _ProcessFailed(f"importing the file {explain(answer)}")

    def answer(self, cases: int, seconds: float) -> Outcome:
        """Waits for the next function's outcome; raises _ProcessFailed if there will be none."""
        answer = self._receive(seconds, "")
        if isinstance(answer, str):
            return Outcome(missing=answer)
        if not isinstance(answer, list) or len(answer) != cases or not all(isinstance(a, dict) for a in answer):
            raise _ProcessFailed("writes into the checker's own pipe")
        return Outcome(answers=answer)

    def _receive(self, seconds: float, doing: str) -> Any:
        """The next message; raises _ProcessFailed with a reason that begins with `doing` if there is none."""
        deadline = time.monotonic() + seconds
        length = int.from_bytes(self._take(8, deadline, seconds, doing), "big")
        if length > LARGEST_MESSAGE:
            raise _ProcessFailed(f"{doing}returns more than {LARGEST_MESSAGE // 2**20} megabytes")
        try:
            return decode(self._take(length, deadline, seconds, doing))
        except ValueError as error:
            raise _ProcessFailed(f"{doing}writes into the checker's own pipe") from error

    def _take(self, count: int, deadline: float, seconds: float, doing: str) -> bytes:
        """The next `count` bytes."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._pipe, selectors.EVENT_READ)
            while len(self._received) < count:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise _ProcessFailed(f"{doing}takes longer than {seconds:g} s: an endless loop?")
                chunk = self._pipe.read(2**16)
                if chunk == b"":
                    raise _ProcessFailed(doing + self._end())
                self._received += chunk or b""
        taken = bytes(self._received[:count])
        del self._received[:count]
        return taken

    def _end(self) -> str:
        """Describes how the process closed the pipe. WNOWAIT keeps an ended process's id reserved for `killpg`."""
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
    """The error that the student's code raised, as the end of a sentence."""
    raised, message, where = (str(answer.get(key, "")) for key in ("raised", "message", "where"))
    where = f" ({where})" if where else ""
    if raised == "SystemExit":
        return f"calls sys.exit{where}"
    if raised == "MemoryError":
        return f"needs more than {MEMORY // 2**30} GB of memory{where}"
    return f"raises {raised}: {message}{where}" if message else f"raises {raised}{where}"
