"""Grades a folder: draws the cases, runs the student's files and judges the answers."""

import dataclasses
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from hw_check.cases import Case
from hw_check.judge import Row, judge, missing
from hw_check.process import Job, Outcome, run_file
from hw_check.sheet import FILES, FUNCTIONS, Function
from hw_common.runs.errors import UserError

_OURS = Path(__file__).resolve().parents[1] / "hw_numpy"


def grade(folder: Path, seed: int, seconds: float) -> Iterator[Row]:
    """Yields the rows of all functions in the order of the sheet, file by file.

    Args:
        folder: folder with the student's files.
        seed: seed of all shapes and numbers.
        seconds: time limit for all cases of a function.

    Raises:
        UserError: `folder` holds none of the files.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; name the one that holds {', '.join(FILES)}")
    if not any((folder / file).is_file() for file in FILES):
        raise UserError(f"{folder} holds none of {', '.join(FILES)}")
    return (row for file in FILES for row in _grade_file(folder / file, seed, seconds))


def _grade_file(path: Path, seed: int, seconds: float) -> list[Row]:
    functions = [function for function in FUNCTIONS if function.file == path.name]
    if not path.is_file():
        return [missing(function, f"{path.name} is not there") for function in functions]
    cases = {
        f.name: f.spec.cases(f.name, np.random.default_rng([seed, zlib.crc32(f.name.encode())])) for f in functions
    }
    jobs = {function.name: function.spec.job(function.name, cases[function.name]) for function in functions}
    rows = _judge_all(functions, cases, run_file(path, list(jobs.values()), seconds))
    again = [f for f in functions if f.uses and rows[f.name].status in ("failed", "unclear")]
    if again:
        rows |= _again_with_ours(path, again, jobs, cases, seconds, rows)
    return list(rows.values())


def _judge_all(
    functions: Sequence[Function], cases: Mapping[str, Sequence[Case]], outcomes: Mapping[str, Outcome]
) -> dict[str, Row]:
    rows: dict[str, Row] = {}
    for function in functions:
        forward = rows.get(function.needs or "")
        is_sound = forward is None or forward.sound
        rows[function.name] = judge(function, cases[function.name], outcomes[function.name], is_sound)
    return rows


def _again_with_ours(
    path: Path,
    functions: Sequence[Function],
    jobs: Mapping[str, Job],
    cases: Mapping[str, Sequence[Case]],
    seconds: float,
    rows: Mapping[str, Row],
) -> dict[str, Row]:
    """Tests failed functions again, with our versions of the functions that they use; returns the rows that get better.

    This way, a mistake in a function costs no points in the functions that use it.
    """
    ours = {name: _OURS / f"{name}.py" for name in ("layers", "rnn_layers")}
    outcomes = run_file(path, [dataclasses.replace(jobs[f.name], needs=None) for f in functions], seconds, ours)
    uses = {function.name: function.uses for function in functions}
    better = {}
    for name, row in _judge_all(functions, cases, outcomes).items():
        own = rows[name]
        if row.status == "passed":
            hint = f"with our {uses[name]}; with the student's own it fails: {own.hint}"
            better[name] = dataclasses.replace(row, hint=hint)
        elif row.hint != own.hint and row.error is not None and row.points >= own.points:
            # This hint is about the function's own mistake; mistakes in the functions that it uses do not affect it.
            better[name] = dataclasses.replace(row, hint=f"{row.hint} (tried with our {uses[name]})")
    return better
