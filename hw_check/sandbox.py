"""Runs students' files in processes of their own, so that no mistake in them can stop the check.

If a function never ends, crashes, exits or fills the memory, its process is killed and the remaining functions run in a
new process: only that function fails. `limits.py` says which rights the processes give up. On Linux, one process
imports NumPy once and forks a process for every file; elsewhere, each file gets a new process.
"""

import contextlib
import dataclasses
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hw_check.definitions import reduce_to_definitions
from hw_check.processes import Process, fork, start
from hw_check.wire import LARGEST_MESSAGE, receive, send
from hw_common.runs.errors import UserError

MEMORY = 2**31  # bytes in addition to what Python and the packages take
_PATIENCE = 5  # on a busy machine, a process may take this many times the limit by the clock
NOT_LOADED = "importing the file "  # how the failure begins if a student's file cannot be loaded
_FORKS = sys.platform.startswith("linux")


@dataclass(frozen=True)
class Job:
    """The request to test one function."""

    name: str  # name of the function
    request: Mapping[str, Any]  # the message that the sheet's runner reads
    needs: str | None = None  # name of the forward function that a backward function needs; None for other functions


@dataclass(frozen=True)
class Outcome:
    """The result of one job."""

    answers: list[Any] | None = None  # the answer to each case, as the process sent it; None if there are none
    failure: str = ""  # the reason why there are no answers, for the report; empty if there are answers
    missing: str = ""  # name of the tested or needed function that the file does not define; else empty
    untested: bool = False  # whether the function was not run because the function that it needs failed
    remark: str = ""  # a message if only the file's definitions were run, with the reason


@dataclass(frozen=True)
class Ours:
    """Our functions that replace those of a student's other files. They run in the checker's own process."""

    # Name of a module → its functions, as the runner's `put_remote` takes them.
    modules: Mapping[str, Mapping[str, Any]]
    compute: Callable[[str, list[Any]], Any]  # "module.function" and arguments → results; raises ValueError
    keeps_helpers: bool = True  # whether the student's other files are loaded and keep their other functions


class _ProcessFailed(Exception):
    """The process cannot be used any more; the message gives the reason."""


@dataclass
class Sandbox:
    """Starts the processes. Use it in a `with` statement; its first process starts when the first file runs.

    Args:
        runner: our module that calls the student's functions; its text is sent to the process.
        preload: packages that the processes import before the student's file.
    """

    runner: str
    preload: tuple[str, ...] = ("numpy",)
    limits: tuple[str, ...] = ()  # the limits in force, once a process has started
    _server: "Process | None" = field(default=None, repr=False)

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def run_file(
        self, path: Path, jobs: Sequence[Job], seconds: float, ours: Ours | None = None, root: Path | None = None
    ) -> dict[str, Outcome]:
        """Runs all `jobs` on the student's file at `path`.

        If the file cannot be loaded, for example because it trains or needs data, only its definitions are run.

        Args:
            path: the student's file, in a folder that the process may read and write (see `submission.py`).
            jobs: the jobs, in the order in which they run.
            seconds: limit for loading the file, and for each function: of CPU time on Linux, else by the clock.
            ours: our functions that replace those of the student's other files.
            root: the folder with all files of the student, which the file may import; by default the file's own folder.

        Returns:
            The outcome of every job by its name.
        """
        outcomes: dict[str, Outcome] = {}
        pending, failure = list(jobs), ""
        while pending:
            if _is_replaced(path):
                return outcomes | {job.name: Outcome(failure="deletes or replaces its own file") for job in pending}
            reason = ""
            with self._started(path, pending, seconds, ours, root or path.parent) as child:
                try:
                    child.load(seconds)
                    pending = _run_jobs(child, pending, seconds, outcomes)
                except _ProcessFailed as error:
                    reason = str(error)
            # The process has ended, so it can no longer put a link to another file in the place of this one.
            if reason and (_is_replaced(path) or not reduce_to_definitions(path)):
                return outcomes | {job.name: Outcome(failure=reason) for job in pending}
            failure = reason or failure
        return {name: _of_definitions(outcome, failure) for name, outcome in outcomes.items()} if failure else outcomes

    @contextlib.contextmanager
    def _started(
        self, path: Path, jobs: Sequence[Job], seconds: float, ours: Ours | None, root: Path
    ) -> Iterator["_Child"]:
        """Starts a process that loads `path`; kills it and all its descendants at the end."""
        request = {
            "folder": str(root.resolve()),
            "file": path.relative_to(root).as_posix(),
            "modules": dict(ours.modules) if ours else {},
            "keeps_helpers": ours is not None and ours.keeps_helpers,
            "jobs": [dict(job.request) for job in jobs],
            "seconds": int(60 + _PATIENCE * (seconds + 1) * (len(jobs) + 1)),  # in case the checker is killed
            "memory": MEMORY,
        }
        process = self._process()
        try:
            process.connection.settimeout(60)
            with contextlib.suppress(OSError):  # the process has ended; reading its answer says how
                send(process.connection, request)
            yield _Child(process, ours)
        finally:
            process.close()

    def _process(self) -> Process:
        """A new process; on Linux, the first one that was started forks it."""
        if not _FORKS:
            process, self.limits = start(self.runner, self.preload, forks=False)
            return process
        forked = self._server and fork(self._server)
        if forked is None:
            self.__exit__()
            self._server, self.limits = start(self.runner, self.preload, forks=True)
            forked = fork(self._server)
        if forked is None:
            raise UserError("the process that runs the students' files was killed just after it started")
        return forked


def _is_replaced(path: Path) -> bool:
    """Whether a student's code has deleted its file, or put a link in the place of the file or of a folder above it."""
    return path.resolve() != path or not path.is_file()


def _of_definitions(outcome: Outcome, failure: str) -> Outcome:
    """The outcome of a function if only its file's definitions were run, because of `failure`."""
    if outcome.missing:
        return Outcome(failure=failure)  # it may be defined where the file fails
    return dataclasses.replace(outcome, remark=f"tested without the code outside of classes and functions: {failure}")


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


class _Child:
    """The checker's view of the process of one file. It never waits longer than a limit."""

    def __init__(self, process: Process, ours: Ours | None) -> None:
        self._process, self._ours = process, ours

    def load(self, seconds: float) -> None:
        """Waits until the student's file is loaded; raises _ProcessFailed if it cannot be loaded."""
        answer = self._receive(seconds, NOT_LOADED)
        if isinstance(answer, dict):
            raise _ProcessFailed(NOT_LOADED + explain(answer))

    def answer(self, cases: int, seconds: float) -> Outcome:
        """Waits for the next function's outcome; raises _ProcessFailed if there will be none."""
        answer = self._receive(seconds, "")
        if isinstance(answer, str):
            return Outcome(missing=answer)
        if not isinstance(answer, list) or len(answer) != cases or not all(isinstance(a, dict) for a in answer):
            raise _ProcessFailed("writes into the checker's own pipe")
        return Outcome(answers=answer)

    def _receive(self, seconds: float, doing: str) -> Any:
        """The next answer; raises _ProcessFailed with a reason that begins with `doing` if there is none."""
        begin, before = time.monotonic(), self._process.cpu_seconds()
        connection = self._process.connection
        try:
            while True:
                while not select.select([connection], [], [], seconds / 4)[0]:
                    waited, taken = time.monotonic() - begin, self._process.cpu_seconds() - before
                    # Without a CPU time, `taken` is not a number, and the clock alone decides.
                    if waited >= seconds and not (taken < 0.9 * seconds and waited < _PATIENCE * seconds):
                        raise TimeoutError
                message = receive(connection, seconds)
                if not (self._ours and isinstance(message, dict) and "call" in message):
                    return message
                send(connection, _computed(self._ours, message))
        except TimeoutError as error:
            raise _ProcessFailed(f"{doing}takes longer than {seconds:g} s: an endless loop?") from error
        except OverflowError as error:
            raise _ProcessFailed(f"{doing}returns more than {LARGEST_MESSAGE // 2**20} megabytes") from error
        except (EOFError, OSError) as error:
            raise _ProcessFailed(doing + self._end()) from error
        except ValueError as error:
            raise _ProcessFailed(f"{doing}writes into the checker's own pipe") from error

    def _end(self) -> str:
        """Describes how the process ended after it has closed the connection."""
        status = self._process.ended()
        if status >= 0:
            return f"ends the process with status {status}"
        name = signal.Signals(-status).name
        return f"crashes ({name})" if name != "SIGKILL" else "closes the checker's own pipe, or the system kills it"


def _computed(ours: Ours, message: Mapping[str, Any]) -> dict[str, Any]:
    """The reply to a call of one of our functions."""
    name, arguments = message["call"], message.get("arguments")
    if not isinstance(name, str) or not isinstance(arguments, list):
        raise ValueError("no call")
    try:
        return {"returned": ours.compute(name, arguments)}
    except (ValueError, TypeError, LookupError, ArithmeticError) as error:
        return {"raised": str(error)[:400]}


def explain(answer: Mapping[str, Any]) -> str:
    """The error that the student's code raised, as the end of a sentence."""
    raised, message, where = (str(answer.get(key, "")) for key in ("raised", "message", "where"))
    where = f" ({where})" if where else ""
    if raised == "SystemExit":
        return f"calls sys.exit{where}"
    if raised == "MemoryError" or "can't allocate memory" in message:  # the second is torch's
        return f"needs more than {MEMORY // 2**30} GB of memory{where}"
    return f"raises {raised}: {message}{where}" if message else f"raises {raised}{where}"
