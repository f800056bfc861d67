"""The rows that the grader of a sheet yields, and the facts about a sheet that the command needs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hw_check.sandbox import Sandbox


@dataclass(frozen=True)
class Row:
    """A line of the report: a function or class that is graded by itself."""

    function: str  # name of the function
    file: str  # name of the student's file; empty if no file defines the function
    question: str  # question of the sheet; empty if the sheet does not ask for the function
    points: float  # points reached
    of: float  # maximum number of points; 0 if the function is only checked
    status: str  # "passed", "partly", "failed", "missing", or "unclear" (it could not be tested)
    tried: tuple[str, ...] = ()  # the kinds of cases that were tried
    error: float | None = None  # largest relative error in double precision; None if there are no numbers
    hint: str = ""  # the mistake; for a function that passed, a note
    remarks: tuple[str, ...] = ()  # what is unusual, and costs nothing unless the remark says so


@dataclass(frozen=True)
class Sheet:
    """A sheet that can be graded."""

    name: str
    files: tuple[str, ...]  # names of the files that a student hands in
    points: float  # maximum number of points
    elsewhere: str  # what a person has to grade, for the report
    runner: str  # our module that calls the student's functions in the sandbox
    # Takes the folder with the student's files, the seed, the seconds for each function, the sandbox, and the places of
    # the classes and functions that the student has renamed; yields the rows.
    grade: "Callable[[Path, int, float, Sandbox, Mapping[str, str]], Iterator[Row]]"
    preload: tuple[str, ...] = ("numpy",)  # packages that the sandbox imports once
    example: Path | None = None  # our own answers in the form of a student's folder
    anywhere: bool = False  # whether the classes may be in files of any name


def is_complete(rows: Sequence[Row]) -> bool:
    """Whether everything that the sheet asks for got full points."""
    return all(row.points >= row.of for row in rows)


_LONGEST_TEXT = 400  # characters


def printable(text: str) -> str:
    """A text that may quote the student's code, without control characters, and not too long."""
    clean = "".join(letter if letter.isprintable() else " " for letter in text)
    return clean if len(clean) <= _LONGEST_TEXT else clean[:_LONGEST_TEXT] + "…"
