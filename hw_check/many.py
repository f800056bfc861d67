"""Grades a folder of many students, side by side. A stopped run continues where it stopped."""

import contextlib
import functools
import hashlib
import multiprocessing
import os
import queue
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from hw_check import report
from hw_check.rows import printable
from hw_check.sandbox import Sandbox
from hw_check.sheets import sheet
from hw_check.submission import SUFFIXES, copied, find, unpack_advice
from hw_common.data.file_names import is_junk
from hw_common.runs import files
from hw_common.runs.errors import UserError

_sandbox: Sandbox | None = None  # one per process, for all students that this process grades
_idle = threading.Event()  # set while this process grades nobody
_idle.set()


def grade_all(name: str, folder: Path, out: Path, seed: int, seconds: float, jobs: int) -> int:
    """Grades every student in `folder`; writes a JSON file and a page for each student, and grades.csv.

    A student has handed in a folder or, for sheets whose classes may be anywhere, a single file. A student with the
    same files, seed and time limit as in an earlier run of the same version is not graded again.

    Returns the exit status: 0 if all students are graded, 1 if the check itself failed for some of them.

    Raises:
        UserError: there is nothing to grade in `folder`.
        OSError: `out` cannot be written.
    """
    suffixes = SUFFIXES if sheet(name).anywhere else ()
    found = folder.iterdir() if folder.is_dir() else []
    students = sorted(path for path in found if path.is_dir() or path.suffix in suffixes)
    students = [path for path in students if not is_junk(path.name) and path.resolve() != out.resolve()]
    if not students:
        raise UserError(f"{folder} holds no folders; expected a folder for each student{unpack_advice(folder)}")
    out.mkdir(parents=True, exist_ok=True)
    results: dict[str, Mapping[str, Any]] = {}
    for number, (student, result, is_new) in enumerate(_results(name, students, out, seed, seconds, jobs), 1):
        results[student] = result
        _write_table(out / "grades.csv", results)
        reached = f"{result['points']:g} of {result['of']:g} points" if result.get("functions") else result["note"]
        print(
            f"{number}/{len(students)} {_shown(student)}: {reached}{'' if is_new else ' (graded before)'}", flush=True
        )
    print(f"{out / 'grades.csv'} holds the points of {len(results)} students")
    return 1 if any("points" not in result for result in results.values()) else 0


def _results(
    name: str, students: list[Path], out: Path, seed: int, seconds: float, jobs: int
) -> Iterator[tuple[str, Mapping[str, Any], bool]]:
    """Yields the results of the students that were graded before, then those of the others as they come."""
    left = []
    for student in students:
        before = _graded_before(out / f"{student.name}.json", _fingerprint(name, student, seed, seconds))
        if before is None:
            left.append(student)
        else:
            yield student.name, before, False
    if not left:
        return
    done: queue.SimpleQueue[tuple[str, Mapping[str, Any]]] = queue.SimpleQueue()
    waiting = deque((name, student, out, seed, seconds) for student in left)
    threads = [threading.Thread(target=_grade_from, args=(waiting, done)) for _ in range(min(jobs, len(left)))]
    try:
        for thread in threads:
            thread.start()
        for _ in left:
            yield *done.get(), True
    except BaseException:  # after Ctrl-C, for example, the grading in progress is abandoned
        waiting.clear()
        while any(thread.is_alive() for thread in threads):
            for process in multiprocessing.active_children():
                process.terminate()
            time.sleep(0.5)  # gives the processes time to delete the copies
        raise


def _grade_from(waiting: deque[Any], done: "queue.SimpleQueue[tuple[str, Mapping[str, Any]]]") -> None:
    """Grades waiting students, one after another, in a process; if it is killed, a new process continues."""
    pool = None
    with contextlib.suppress(IndexError):  # no student is left
        while True:
            arguments = waiting.popleft()
            context = multiprocessing.get_context("spawn")
            pool = pool or ProcessPoolExecutor(1, context, initializer=_prepare_process)
            try:
                result = pool.submit(_grade, *arguments).result()
            except BaseException as error:  # a fault of the checker must not stop the other students' grading
                result = {"note": f"the check failed: {type(error).__name__}: {error}"}
                if isinstance(error, BrokenProcessPool):
                    result = {"note": "the check failed: its process was killed, perhaps because memory ran out"}
                    pool = None
            done.put((arguments[1].name, result))
    if pool:
        pool.shutdown()


def _grade(name: str, student: Path, out: Path, seed: int, seconds: float) -> Mapping[str, Any]:
    """Grades one student, in a process of the pool, and writes the results."""
    _idle.clear()
    try:
        return _grade_and_write(name, student, out, seed, seconds)
    finally:
        _idle.set()


def _grade_and_write(name: str, student: Path, out: Path, seed: int, seconds: float) -> Mapping[str, Any]:
    global _sandbox
    graded = sheet(name)
    if _sandbox is None:
        _sandbox = Sandbox(graded.runner, graded.preload)
    fingerprint = _fingerprint(name, student, seed, seconds)
    try:
        with copied(find(student, graded.files, graded.anywhere)) as copy:
            rows = list(graded.grade(copy, seed, seconds, _sandbox, {}))
    except UserError as error:
        rows, note = [], _shown(str(error).replace(str(student), student.name))
    else:
        note = ""
    result = {**report.as_json(rows, graded, seed, _sandbox.limits), "note": note, "fingerprint": fingerprint}
    files.write_text(out / f"{student.name}.html", report.page(rows, graded, _shown(student.name), seed, note))
    files.write_json(out / f"{student.name}.json", result)
    return result


def _prepare_process() -> None:
    """Leaves Ctrl-C to the parent. When the parent ends, this process deletes the student's copy and ends, too."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
    _idle.wait(5)  # until the copy and half-written files are deleted
    os._exit(1)  # else the pool would wait for the next student


def _graded_before(path: Path, fingerprint: str) -> Mapping[str, Any] | None:
    """The result of an earlier run, if its fingerprint is the same."""
    try:
        result = files.read_json(path)
    except UserError:
        return None
    return result if isinstance(result, dict) and result.get("fingerprint") == fingerprint else None


@functools.cache
def _hash_of_our_code() -> str:
    """A hash of all our packages, because the checks use the layers of the homeworks."""
    code = sorted(Path(__file__).parents[1].glob("hw_*/**/*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in code)).hexdigest()


def _fingerprint(name: str, student: Path, seed: int, seconds: float) -> str:
    """A hash of everything that the result depends on: the student's Python files, the arguments and our own code."""
    digest = hashlib.sha256(f"{name} {seed} {seconds} {_hash_of_our_code()}".encode())
    for path in [student] if student.is_file() else sorted([*student.rglob("*.py"), *student.rglob("*.ipynb")]):
        if path.is_file() and not path.is_symlink():
            digest.update(os.fsencode(path.relative_to(student)) + f" {files.sha256(path)}".encode())
    return digest.hexdigest()


def _write_table(path: Path, results: Mapping[str, Mapping[str, Any]]) -> None:
    """A row for each student, a column for each function with points."""
    columns: dict[str, None] = {}
    for result in results.values():
        columns |= dict.fromkeys(row["function"] for row in result.get("functions", []) if row["of"])
    rows = []
    for student, result in sorted(results.items()):
        points = {row["function"]: f"{row['points']:g}" for row in result.get("functions", [])}
        formula = student[0] in "=+-@"  # a spreadsheet would run it
        rows.append(
            {
                "student": f"'{student}" if formula else _shown(student),
                **{key: f"{result[key]:g}" if key in result else "" for key in ("points", "of")},
                **{name: points.get(name, "") for name in columns},
                "note": result.get("note", ""),
            }
        )
    files.write_csv(path, rows)


def _shown(name: str) -> str:
    """A name as it is shown; bytes in it that are not UTF-8, and control characters, are replaced."""
    return printable(os.fsencode(name).decode(errors="replace"))
