"""Runs the checks of a sheet with networks: finds the student's classes, wherever they are, and judges the answers."""

import ast
import dataclasses
import itertools
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator

from hw_check.definitions import broken_code, handed_in, inside, read, scripts, statements, write_definitions
from hw_check.rows import Row, printable
from hw_check.sandbox import Job, Outcome, Sandbox, explain

TORCH = ("numpy.random", "torch", "torchvision", "matplotlib.pyplot")
"""Packages that most students use; the sandbox imports them once. `import numpy` alone does not import numpy.random."""


BROKEN = ("expected a tensor", "returns NaN or infinity")
"""Endings of the messages about networks that are unusable; these mistakes cost points in every check."""


@dataclass(frozen=True)
class Finding:
    """What an answer shows."""

    mistake: str = ""  # empty if everything is right
    remark: str = ""  # what is unusual, but right


@dataclass(frozen=True)
class Probe:
    """One case of a check."""

    title: str  # the kind of case, for the report
    request: Mapping[str, Any]  # the computation that the sandbox is asked for
    judge: Callable[[Mapping[str, Any]], Finding]
    cost: float = 1.0  # share of the points that a mistake costs
    reasons: Mapping[str, str] = field(default_factory=dict)  # parts of error messages, and why the error is raised


@dataclass(frozen=True)
class Check:
    """A class or function that is graded by itself."""

    name: str  # name in the course's files
    file: str  # name of the course's file, to choose among several files
    question: str
    points: float
    probes: Callable[[Generator], list[Probe]]  # draws the cases
    seeks: str = ""  # name of the class in the course's files, if it is not `name`, for a second check of a class
    # Recognizes the class by its code, where the sheet leaves the name to the student. If the class inherits from
    # other classes of the student, `like` is also called with a module of all these classes.
    like: Callable[[ast.AST], bool] | None = None


def grade_checks(
    checks: Sequence[Check], folder: Path, seed: int, seconds: float, sandbox: Sandbox, names: Mapping[str, str]
) -> Iterator[Row]:
    """Yields the row of every check.

    Args:
        checks: the sheet's checks.
        folder: a copy of the student's folder.
        seed: seed of weights and inputs.
        seconds: time limit for each check.
        sandbox: runs the files.
        names: "file.py:Class" for each class or function of the course's files that the student has renamed.
    """
    write_definitions(folder)
    defined = definitions(folder)
    places: dict[str, tuple[Path | None, str]] = {}
    for check in checks:
        taken = [places[other.name] for other in checks if other.like and other.name in places]
        places[check.name] = _place(check, folder, defined, names, taken if check.like else ())
    rows: dict[str, Row] = {}
    for path in dict.fromkeys(path for path, _ in places.values() if path):
        here = [check for check in checks if places[check.name][0] == path]
        probes = {check.name: check.probes(np.random.default_rng([seed, number])) for number, check in enumerate(here)}
        jobs = [_job(check, places[check.name][1], probes[check.name]) for check in here]
        outcomes = sandbox.run_file(path, jobs, seconds, root=folder)
        file = printable(str(handed_in(path).relative_to(folder)))
        charged: set[str] = set()
        for check in here:
            row, mistakes = _row(
                dataclasses.replace(check, file=file), probes[check.name], outcomes[check.name], charged
            )
            remarks = (*row.remarks, outcomes[check.name].remark, _elsewhere(places[check.name], folder, defined))
            rows[check.name] = dataclasses.replace(row, remarks=tuple(filter(None, remarks)))
            charged |= mistakes
    broken = "".join(f"; cannot be parsed: {text}" for text in itertools.islice(broken_code(folder), 3))
    for check in checks:
        sought = check.seeks or check.name
        advice = broken or f'; if it has another name, use --class "{sought}=FILE.py:NAME"'
        hint = printable(f"no file defines {sought}{advice}")
        row = rows.get(check.name, Row(check.name, "", check.question, 0, check.points, "missing", hint=hint))
        if check.points or row.status != "missing":
            yield row


Definition = tuple[Path, str, ast.stmt]


def definitions(folder: Path) -> list[Definition]:
    """File, name and code of the classes, functions and nn.Sequential networks at the top level of all Python files.

    If a file defines a name twice, the last definition counts, as in Python.
    """
    found: dict[tuple[Path, str], ast.stmt] = {}
    for path in scripts(folder):
        for node in map(inside, statements(read(path))):
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                found[path, node.name] = node
            elif isinstance(node, ast.Assign) and _SEQUENTIAL.match(ast.unparse(node.value)):
                found |= {(path, target.id): node for target in node.targets if isinstance(target, ast.Name)}
    return [(path, name, node) for (path, name), node in found.items()]


_SEQUENTIAL = re.compile(r"(lambda.*?: )?(torch\.)?nn\.Sequential\(")


def _place(
    check: Check,
    folder: Path,
    defined: Sequence[Definition],
    names: Mapping[str, str],
    taken: Sequence[tuple[Path | None, str]],
) -> tuple[Path | None, str]:
    """The file with the class or function, and its name there; `taken` are the places of other checks."""
    sought = check.seeks or check.name
    if sought in names:
        file, _, name = names[sought].partition(":")
        path = folder / file
        return (path if path.is_file() and path.resolve().is_relative_to(folder) else None), name
    by_code: list[tuple[Path, str]] = []
    by_bases: list[tuple[Path, str]] = []
    by_name: list[tuple[Path, str]] = []
    for path, name, node in defined:
        if (path, name) in taken:
            continue
        if check.like is not None and check.like(node):
            by_code.append((path, name))
        elif check.like and (bases := _bases(path, node, defined)) and check.like(ast.Module([node, *bases], [])):
            (by_code if name == sought else by_bases).append((path, name))
        elif name == sought:
            by_name.append((path, name))
    # The course's file comes first, then a class of the right name.
    found = sorted(by_code or by_name or by_bases, key=lambda place: (place[0].name != check.file, place[1] != sought))
    # A file with the right name that cannot be parsed is chosen, too, because loading it reports the error.
    return found[0] if found else (next((path for path in scripts(folder) if path.name == check.file), None), sought)


def _bases(path: Path, node: ast.stmt, defined: Sequence[Definition]) -> list[ast.stmt]:
    """The student's classes from which a class in the file `path` inherits, directly or through others."""
    in_this_file_last = sorted(defined, key=lambda definition: definition[0] == path)
    classes = {name: other for _, name, other in in_this_file_last if isinstance(other, ast.ClassDef)}
    found = [node]
    for one in found:  # grows in the loop
        for base in one.bases if isinstance(one, ast.ClassDef) else ():
            parent = classes.get(ast.unparse(base).rpartition(".")[2])
            if parent is not None and parent not in found:
                found.append(parent)
    return found[1:]


def _elsewhere(place: tuple[Path | None, str], folder: Path, defined: Sequence[Definition]) -> str:
    """A remark about other files that define the graded class or function, too; empty if there are none."""
    files = {str(path.relative_to(folder)) for path, name, _ in defined if name == place[1] and path != place[0]}
    return printable(f"{place[1]} is also defined in {', '.join(sorted(files))}, but not graded there") if files else ""


def _job(check: Check, name: str, probes: Sequence[Probe]) -> Job:
    """The job of a check; `name` may also be a call, such as Net(own=True)."""
    more = {"call": name} if "(" in name else {}
    cases = [{**request, **more} for request in _requests(probes)]
    return Job(check.name, {"needs": [name.partition("(")[0]], "cases": cases})


def _requests(probes: Sequence[Probe]) -> list[Mapping[str, Any]]:
    """The requests of the probes; one that several probes share is sent once."""
    return list({id(probe.request): probe.request for probe in probes}.values())


def _row(
    check: Check, probes: Sequence[Probe], outcome: Outcome, charged: Collection[str]
) -> tuple[Row, set[str]]:  # fmt: skip
    """The row of a check, and its mistakes, which cost nothing in a second check of the same class.

    `charged` are the mistakes in the file's checks before this one.
    """
    row = Row(check.name, check.file, check.question, 0, check.points, "failed", tuple(p.title for p in probes))
    if outcome.missing:
        hint = f"{outcome.missing} is not in {check.file}"
        return dataclasses.replace(row, status="missing", tried=(), hint=hint), set()
    if outcome.answers is None:
        return dataclasses.replace(row, tried=(), hint=printable(outcome.failure)), set()
    answers = {id(r): answer for r, answer in zip(_requests(probes), outcome.answers, strict=True)}
    findings = [_finding(probe, answers[id(probe.request)]) for probe in probes]
    share = 1.0
    for probe, finding in zip(probes, findings, strict=True):
        is_broken = "raised" in answers[id(probe.request)] or finding.mistake.endswith(BROKEN)
        is_charged = check.seeks and finding.mistake in charged and not is_broken
        share -= probe.cost * bool(finding.mistake and not is_charged)
    share = max(0.0, round(share, 6))
    if all(map(_is_unwritten, outcome.answers)):
        return dataclasses.replace(row, status="missing", hint="not written yet"), set()
    mistakes = list(dict.fromkeys(finding.mistake for finding in findings if finding.mistake))
    errors = [text for text in mistakes if text.startswith("raises ")]
    mistakes = [text for text in mistakes if text not in errors[1:]]
    again = [f"{text} (costs nothing a second time)" for text in mistakes if share == 1]
    row = dataclasses.replace(
        row,
        points=round(share * check.points, 2),
        status="passed" if share == 1 else "partly" if share else "failed",
        hint="" if again else printable("; ".join(mistakes)),
        remarks=tuple(dict.fromkeys(printable(text) for text in (*again, *(f.remark for f in findings)) if text)),
    )
    return row, set(mistakes)


def _is_unwritten(answer: Mapping[str, Any]) -> bool:
    """Whether nothing has been written in place of `raise NotImplementedError`, `pass`, `return None` or `return 0`."""
    if "raised" in answer:
        return answer["raised"] == "NotImplementedError"
    return answer.get("nothing") is True or not answer.get("names", True)


def _finding(probe: Probe, answer: Mapping[str, Any]) -> Finding:
    """The finding of a probe; an answer of the wrong form is a mistake."""
    if "raised" in answer:
        reasons = [why for part, why in probe.reasons.items() if part in str(answer.get("message"))]
        return Finding(": ".join([explain(answer), *reasons]))
    if answer.get("nothing") is True:
        return Finding("returns NoneType, expected a tensor")
    try:
        with np.errstate(all="ignore"):
            return probe.judge(answer)
    except (TypeError, ValueError, LookupError, AttributeError):
        return Finding("the result does not have the expected form")
