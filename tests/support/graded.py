"""Grades students' folders with one sandbox for each kind of sheet, which all tests share."""

import functools
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hw_check.rows import Row
from hw_check.sandbox import Sandbox
from hw_check.sheets import sheet
from hw_check.submission import copied

SHEET = sheet("eecs545-w20-hw4")


@functools.cache
def sandbox(runner: str, preload: tuple[str, ...]) -> Sandbox:
    """The sandbox, whose first process starts with the first graded file and ends with the tests."""
    return Sandbox(runner, preload)


def rows_of(
    name: str, folder: Path, seed: int = 0, seconds: float = 20.0, names: Mapping[str, str] | None = None
) -> list[Row]:  # fmt: skip
    """The rows of the sheet called `name`."""
    sheet_ = sheet(name)
    with copied(folder) as copy:
        return list(sheet_.grade(copy, seed, seconds, sandbox(sheet_.runner, sheet_.preload), names or {}))


def one_row(name: str, folder: Path, function: str, seconds: float = 20.0) -> Row:
    """The row of one function or class."""
    [row] = [row for row in rows_of(name, folder, seconds=seconds) if row.function == function]
    return row


def all_rows(folder: Path, seed: int = 0, seconds: float = 15.0) -> list[Row]:
    """The rows of all functions of eecs545-w20-hw4."""
    return rows_of(SHEET.name, folder, seed, seconds)


def graded(folder: Path, seed: int = 0, seconds: float = 15.0) -> dict[str, Row]:
    """The rows of the files that are there, by function."""
    return {row.function: row for row in all_rows(folder, seed, seconds) if (folder / row.file).exists()}


def grade_or_die(name: str, student: Path, *arguments: Any) -> dict[str, Any]:
    """Stands in for the grading of one student, in a process of `--all`."""
    if student.name == "killer":
        os.kill(os.getpid(), signal.SIGKILL)
    if student.name == "raiser":
        raise ValueError("a fault")
    row = {"function": "f", "of": 1, "points": 1}
    return {"points": 1, "of": 1, "functions": [row]}
