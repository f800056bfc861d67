"""Grades a folder: draws the cases, runs the student's files and judges the answers."""

import ast
import dataclasses
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.random import Generator

from hw_check.definitions import read, statements
from hw_check.eecs545 import ours
from hw_check.eecs545.cases import Case, Layer
from hw_check.eecs545.functions import FILES, FUNCTIONS, Function
from hw_check.eecs545.helpers import helpers
from hw_check.eecs545.judge import judge, judge_for_own_forward, missing
from hw_check.rows import Row
from hw_check.sandbox import NOT_LOADED, Job, Outcome, Sandbox
from hw_common.runs.errors import UserError


def grade(
    folder: Path, seed: int, seconds: float, sandbox: Sandbox, names: Mapping[str, str]
) -> Iterator[Row]:  # fmt: skip
    """Yields the rows of all functions in the order of the sheet, file by file.

    Args:
        folder: a copy of the student's folder.
        seed: seed of all shapes and numbers.
        seconds: time limit for all cases of a function.
        sandbox: runs the files.
        names: must be empty, because the files import one another by the names of their functions.

    Raises:
        UserError: `names` is not empty.
    """
    if names:
        raise UserError("--class is not for this sheet, whose files use one another's functions by name")
    wrong: list[str] = []  # names of the functions so far that did not pass
    for file in FILES:
        functions = [function for function in FUNCTIONS if function.file == file]
        if not (folder / file).is_file():
            yield from (missing(f, f"{file} is not there") for f in functions if f.points)
            continue
        for row in _File(folder / file, functions, seed, seconds, sandbox).rows(wrong):
            if row.status == "failed" and row.function.endswith("(lstm)") and not _mentions_lstm(folder / file):
                row = dataclasses.replace(row, status="missing", hint="not written yet")
            wrong += [row.function] if row.status in ("failed", "partly") else []
            if row.of or row.status not in ("missing", "unclear"):  # functions without points may be missing
                yield row


def _mentions_lstm(path: Path) -> bool:
    """Whether a file uses names or attributes of LSTMs, or compares a cell type with "lstm" outside of __init__.

    The course's __init__ already accepts the cell type "lstm", so a class without an LSTM fails only later.
    """
    nodes = [part for statement in statements(read(path)) for part in ast.walk(statement)]
    constructors = [node for node in nodes if isinstance(node, ast.FunctionDef) and node.name == "__init__"]
    constructed = {id(part) for node in constructors for part in ast.walk(node)}
    names = [getattr(node, "id", getattr(node, "attr", "")) for node in nodes]
    texts = [node.value for node in nodes if isinstance(node, ast.Constant) and id(node) not in constructed]
    return any("lstm" in name.lower() for name in names) or "lstm" in texts


class _File:
    """One file of a student, with the cases for its functions."""

    def __init__(
        self, path: Path, functions: Sequence[Function], seed: int, seconds: float, sandbox: Sandbox
    ) -> None:  # fmt: skip
        self._path, self._functions, self._seed, self._seconds = path, functions, seed, seconds
        self._sandbox = sandbox
        self._cases = {f.name: f.spec.cases(f.name, self._random(f)) for f in functions}

    def rows(self, wrong: Sequence[str]) -> list[Row]:
        """The rows of all functions. A function that fails because of another function is tried again without it.

        Args:
            wrong: names of the functions in earlier files that did not pass.
        """
        rows = self._first_try()
        forward_is_right = {name: row.points >= row.of and row.status == "passed" for name, row in rows.items()}
        backward = [f for f in self._functions if f.needs and rows[f.name].status != "passed"]
        for function, row in self._with_right_caches(backward):
            is_better = not forward_is_right[function.needs or ""] and row.points > rows[function.name].points
            note = (f"tested with a right cache, because {function.needs} is wrong",) if is_better else ()
            if is_better or row.status == "missing":
                rows[function.name] = dataclasses.replace(row, remarks=(*row.remarks, *note))
        following = [f for f in backward if not forward_is_right[f.needs or ""] and rows[f.name].status != "passed"]
        for function, row in self._for_own_forward(following):
            if row.points > rows[function.name].points:
                rows[function.name] = row
        for function in following:
            row = rows[function.name]
            if not row.points and row.status == "failed" and row.hint.startswith(f"{function.needs} "):
                hint = f"not tested, because {row.hint}"
                rows[function.name] = dataclasses.replace(row, status="unclear", hint=hint)
        for function, row in self._with_our_layers([f for f in self._functions if f.uses], rows):
            rows[function.name] = row
        for function in self._functions:
            if function.uses and rows[function.name].status in ("failed", "partly"):
                row, notes = rows[function.name], self._helper_notes(function, wrong)
                rows[function.name] = dataclasses.replace(row, remarks=(*row.remarks, *notes))
        first, *others = rows.values()
        return [dataclasses.replace(first, remarks=tuple(filter(None, (*first.remarks, self._remark)))), *others]

    def _first_try(self) -> dict[str, Row]:
        outcomes = self._sandbox.run_file(self._path, [self._job(f) for f in self._functions], self._seconds)
        self._remark = outcomes[self._functions[0].name].remark
        return {f.name: judge(f, self._cases[f.name], outcomes[f.name]) for f in self._functions}

    def _with_right_caches(self, functions: Sequence[Function]) -> Iterator[tuple[Function, Row]]:
        """Tries backward functions with caches of the documented form."""
        changed = [
            (f, [_layer(f).with_cache(case) for case in self._cases[f.name]]) for f in functions if _layer(f).caches
        ]
        outcomes = self._run(changed)
        for function, cases in changed:
            yield function, judge(function, cases, outcomes[function.name])

    def _for_own_forward(self, functions: Sequence[Function]) -> Iterator[tuple[Function, Row]]:
        """Compares gradients with centred differences of the student's own forward functions."""
        changed = []
        for function in functions:
            rng = self._random(function)
            changed.append((function, [_layer(function).with_moved(case, rng) for case in self._cases[function.name]]))
        outcomes = self._run(changed)
        for function, cases in changed:
            row = judge_for_own_forward(function, cases, outcomes[function.name])
            if row is not None:
                yield function, row

    def _with_our_layers(
        self, functions: Sequence[Function], rows: Mapping[str, Row]
    ) -> Iterator[tuple[Function, Row]]:
        """Tries methods of networks with our layers in place of the student's; yields better rows."""
        failed = [f for f in functions if rows[f.name].status in ("failed", "partly", "unclear")]
        if not failed:
            return
        outcomes = self._with_ours([self._job(function) for function in failed], failed[0].uses)
        for function in failed:
            own, row = rows[function.name], judge(function, self._cases[function.name], outcomes[function.name])
            names = " and ".join(f"{name}.py" for name in function.uses)
            if (row.points, row.status == "passed") > (own.points, own.status == "passed"):
                note = f"tested with our {names}, because it fails with the student's own: {own.hint}"
                yield function, dataclasses.replace(row, remarks=(*row.remarks, note))
            elif row.points == own.points and row.error is not None and row.hint and row.hint != own.hint:
                # This hint describes the function's own mistake, because the functions that it uses are ours here.
                yield function, dataclasses.replace(row, remarks=(*row.remarks, f"tested with our {names}"))

    def _with_ours(self, jobs: Sequence[Job], modules: Sequence[str]) -> dict[str, Outcome]:
        """Runs jobs with our functions in the student's `modules`, or in place of modules that cannot be loaded."""
        replaced = dataclasses.replace(ours.OURS, modules={name: ours.OURS.modules[name] for name in modules})
        outcomes = self._sandbox.run_file(self._path, jobs, self._seconds, replaced)
        if any(outcome.failure.startswith(NOT_LOADED) for outcome in outcomes.values()):
            replaced = dataclasses.replace(replaced, keeps_helpers=False)
            outcomes = self._sandbox.run_file(self._path, jobs, self._seconds, replaced)
        return outcomes

    def _helper_notes(self, function: Function, wrong: Sequence[str]) -> Iterator[str]:
        """Yields remarks about the student's helpers in modules where functions of the sheet are wrong."""
        for module in function.uses:
            asked_for = ours.OURS.modules[module]
            mistaken = [name for name in wrong if name in asked_for]
            names = helpers(self._path, module, asked_for)
            if names and mistaken:
                yield (
                    f"helpers in {module}.py ({', '.join(names)}) cannot be replaced by ours: a mistake that they "
                    f"share with {' or '.join(mistaken)} also costs points here"
                )

    def _run(self, changed: Sequence[tuple[Function, list[Case]]]) -> dict[str, Outcome]:
        """Runs the functions, each on its own cases, even if the function that they need has failed."""
        jobs = [dataclasses.replace(f.spec.job(f.name, cases), needs=None) for f, cases in changed]
        return self._sandbox.run_file(self._path, jobs, self._seconds) if jobs else {}

    def _job(self, function: Function) -> Job:
        return function.spec.job(function.name, self._cases[function.name])

    def _random(self, function: Function) -> Generator:
        return np.random.default_rng([self._seed, zlib.crc32(function.name.encode())])


def _layer(function: Function) -> Layer:
    assert isinstance(function.spec, Layer)  # only layers have backward functions
    return function.spec
