"""`python -m hw_attention_theory.scaling`: measures time and memory of both attentions against the sequence length."""

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from hw_attention_theory.folders import check_command, new_folder
from hw_attention_theory.measure import Case, Meter
from hw_attention_theory.presets import HOMEWORK, count_features
from hw_attention_theory.scaling_report import next_length, report
from hw_common.commands import cli
from hw_common.commands.cli import add_flag
from hw_common.runs import files
from hw_common.runs.config import check_same_arguments
from hw_common.runs.errors import Stopped, UserError, signal_of
from hw_common.runs.run_folder import CONFIG, Run

COMMAND = "hw_attention_theory.scaling"
POINTS = "points.json"
_MAX_FEATURES = 10_000
_LONGEST = 2**22
_DESCRIPTION = """\
Measures time and memory of Softmax(Q Kᵀ) V and of its linear approximation (ist-2023-24-hw2 Q1.1 and Q1.4) for
sequences of 128, 256, … positions, fits the exponents, and finds the length from which linear attention is faster,
with further measurements near it.
Linear attention is that of --kernels fast, which works in chunks; the plain one keeps all features in memory.

  python -m hw_attention_theory.scaling                       up to 65 536 positions, two to six minutes
  python -m hw_attention_theory.scaling --max_length 4096 --dimensions 16 --terms 3

The attentions with the same length and dimension are timed alternately, until the medians of the first and the second
half of the rounds differ by at most 3 %, for at most --rounds rounds and about 20 s. With one thread, CPU time is
measured, which other programs disturb less. Memory is measured in a new process for each case. Measurements are stored
at once, so the same command resumes after an interruption. Softmax attention is measured up to the longest sequence
whose L×L matrices fit into --max_gigabytes. Writes a run folder with table and figure.
"""


@dataclass(frozen=True)
class Settings:
    """The cases to measure and how to measure them."""

    max_length: int  # longest sequence, in positions
    dimensions: list[int]  # values of D in ascending order
    terms: list[int]  # values of K in ascending order
    rounds: int  # largest number of timed rounds of each case
    max_seconds: float  # longest expected time of a call
    max_gigabytes: float  # largest size of softmax attention's L×L matrices
    threads: int  # threads of torch
    name: str  # name of the run folder

    @classmethod
    def from_arguments(cls, arguments: argparse.Namespace) -> "Settings":
        """Takes the settings out of the command line's arguments; without --threads, one thread is used."""
        values = {setting.name: getattr(arguments, setting.name) for setting in fields(cls)}
        values["dimensions"], values["terms"] = sorted(set(arguments.dimensions)), sorted(set(arguments.terms))
        return cls(**{**values, "threads": arguments.threads or 1})


def parser() -> cli.Parser:
    """All flags."""
    flags = cli.Parser(f"python -m {COMMAND}", _DESCRIPTION)
    group = flags.add_argument_group("what to measure")
    add_flag(group, "max_length", type=cli.positive_int, default=65536, help="longest sequence (default: 65536)")
    add_flag(group, "dimensions", type=cli.positive_int, nargs="+", default=[4, 8, 16, 32],
             help="features per query, key and value (default: 4 8 16 32); combinations with --terms that give more "
             f"than {_MAX_FEATURES} features of φ, such as 32 with 5, are left out")  # fmt: skip
    add_flag(group, "terms", type=cli.positive_int, nargs="+", default=[3, 5],
             help="terms of the exponential series, odd (default: 3 5)")  # fmt: skip
    add_flag(group, "rounds", type=cli.positive_int, default=50, help="largest number of timed rounds (default: 50)")
    add_flag(group, "max_seconds", type=cli.positive_float, default=10.0,
             help="skip cases in which one call would take longer (default: 10)")  # fmt: skip
    add_flag(group, "max_gigabytes", type=cli.positive_float, default=4.0,
             help="skip cases whose L×L matrices would be larger (default: 4)")  # fmt: skip
    group = flags.add_argument_group("run")
    add_flag(group, "threads", type=cli.positive_int, help="CPU threads (default: 1)")
    cli.add_results_dir_flag(group)
    add_flag(group, "name", type=cli.run_name, default="scaling", help="name of the run folder (default: scaling)")
    add_flag(group, "overwrite", action="store_true", help="measure again instead of keeping that folder's results")
    return flags


def run_scaling(argv: Sequence[str] | None = None) -> Run:
    """Runs the command line `argv`; returns its finished run folder.

    Raises:
        UserError: a flag is wrong, the folder was made by another command or with other flags, or a measurement failed.
        Stopped: on Ctrl-C or SIGTERM; finished measurements are kept.
    """
    arguments = parser().parse_args(argv)
    settings = Settings.from_arguments(arguments)
    _check(settings)
    run = _open(settings, arguments.results_dir, arguments.overwrite)
    try:
        if run.is_finished:
            print(f"{run.folder} is finished already; --overwrite measures again")
            return run
        report(run, _measure(settings, run), settings.threads)
        return run
    except KeyboardInterrupt as interrupt:
        message = f"stopped; the same command resumes with the measurements in {run.folder}"
        raise Stopped(signal_of(interrupt), message) from None
    finally:
        run.close()


def main(argv: Sequence[str] | None = None) -> None:
    """Measures the missing cases, then writes table, figure and summary."""
    run_scaling(argv)


def _check(settings: Settings) -> None:
    if not 256 <= settings.max_length <= _LONGEST:
        raise UserError(f"--max_length: expected a whole number from 256 to {_LONGEST}, got {settings.max_length}")
    for terms in settings.terms:
        if terms % 2 == 0:
            raise UserError(f"--terms: expected odd numbers, got {terms}; with an even number, weights can be negative")
    if not _pairs(settings):
        message = f"--dimensions, --terms: all combinations exceed {_MAX_FEATURES} features; choose smaller values"
        raise UserError(message)


def _open(settings: Settings, results_dir: Path, overwrite: bool) -> Run:
    """The run folder to measure into: a new one, or the existing one if it has the same settings."""
    folder = results_dir / HOMEWORK / settings.name
    check_command(results_dir, settings.name, COMMAND)
    if overwrite or not (folder / CONFIG).is_file():
        return new_folder(results_dir, settings.name, COMMAND, asdict(settings), threads=settings.threads)
    run = Run.reopen(folder, HOMEWORK)
    try:
        check_same_arguments(run, asdict(settings))
    except UserError as error:
        run.close()
        raise UserError(f"{error}; choose another --name, or --overwrite") from error
    return run


def _pairs(settings: Settings) -> list[tuple[int, int]]:
    """The pairs of dimension and number of terms with at most _MAX_FEATURES features."""
    return [(D, K) for D in settings.dimensions for K in settings.terms if count_features(D, K) <= _MAX_FEATURES]


def _groups(settings: Settings) -> Iterator[list[Case]]:
    """The cases to measure, from short to long; those of one length and dimension are timed alternately."""
    pairs = _pairs(settings)
    for L in (2**i for i in range(7, settings.max_length.bit_length())):
        for D in sorted({D for D, _ in pairs}):
            yield [
                Case("softmax", L, D),
                *(Case("taylor", L, D, terms) for dimension, terms in pairs if dimension == D),
            ]


def _measure(settings: Settings, run: Run) -> list[dict[str, Any]]:
    """Measures the cases that have no point in the run folder yet; returns all points."""
    points = _read(run)
    meter = Meter(settings.threads, settings.rounds)
    last: dict[tuple[int, int | None], dict[str, Any]] = {}  # (D, K) -> point of the longest sequence so far
    ended = set()  # (D, K) of attentions for which longer sequences are too large

    def measure(cases: list[Case]) -> list[dict[str, Any]]:
        found = meter.measure(cases, settings.max_gigabytes * 1e9)
        known = {(point["L"], point["D"], point["K"]) for point in points}
        points.extend(point for point in found if (point["L"], point["D"], point["K"]) not in known)
        files.write_json(run.folder / POINTS, points)
        print("\n".join(map(_line, found)), flush=True)
        return found

    try:
        for cases in _groups(settings):
            ended |= {(c.D, c.K) for c in cases if _is_too_large(c, last.get((c.D, c.K)), settings)}
            wanted = [case for case in cases if (case.D, case.K) not in ended]
            found = [point for point in points if (point["L"], point["D"]) == (cases[0].L, cases[0].D)]
            if wanted and not found:
                found = measure(wanted)
            last |= {(point["D"], point["K"]): point for point in found}
        for D, K in _pairs(settings):
            while length := next_length([point for point in points if (point["D"], point["K"]) == (D, K)]):
                measure([Case("softmax", length, D), Case("taylor", length, D, K)])
    finally:
        meter.close()
    return points


def _is_too_large(case: Case, last: dict[str, Any] | None, settings: Settings) -> bool:
    """Whether `case` is expected to need too much memory or time; `last` is the measurement of half its length."""
    matrices = 2 * 4 * case.L**2 if case.K is None else 0  # scores and probabilities in fp32
    growth = 4 if case.K is None else 2
    seconds = growth * last["seconds"] if last is not None else 0.0
    return matrices > settings.max_gigabytes * 1e9 or seconds > settings.max_seconds


def _read(run: Run) -> list[dict[str, Any]]:
    """The points that an interrupted call has stored; raises UserError if the file is damaged."""
    path = run.folder / POINTS
    if not path.is_file():
        return []
    points = files.read_json(path)
    numbers = ("seconds", "cpu_seconds", "bytes", "process_bytes")
    if not isinstance(points, list) or not all(
        isinstance(point, dict)
        and {"attention", "K", "M"} <= point.keys()
        and isinstance(point.get("L"), int)
        and isinstance(point.get("D"), int)
        and all(isinstance(point.get(name), int | float) for name in numbers)
        and _is_ratio(point.get("ratio"))
        for point in points
    ):
        raise UserError(f"{path} is damaged: expected a list of measurements; remove it, or use --overwrite")
    return points


def _is_ratio(value: Any) -> bool:
    """Whether `value` is a lower quartile, a median and an upper quartile, or None for a point without a ratio."""
    if value is None:
        return True
    is_list = isinstance(value, list) and len(value) == 3
    return is_list and all(isinstance(x, int | float) and 0 < x < math.inf for x in value)


def _line(point: dict[str, Any]) -> str:
    what = "softmax" if point["K"] is None else f"linear, {point['K']} terms, M = {point['M']}"
    return (
        f"D {point['D']:3}  L {point['L']:7}  {what:28} {1e3 * point['seconds']:10.2f} ms "
        f"{point['bytes'] / 1e6:9.1f} MB beyond the inputs"
    )


if __name__ == "__main__":
    cli.run_command(main)
