"""`python -m hw_attention_theory.scaling`: time and memory of both attentions against the length of the sequence."""

import argparse
from collections.abc import Sequence
from typing import Any

from hw_attention_theory.folders import check_own, new_folder
from hw_attention_theory.measure import Case, Meter
from hw_attention_theory.presets import HOMEWORK
from hw_attention_theory.scaling_report import report
from hw_common.commands import cli
from hw_common.commands.cli import add_flag
from hw_common.runs import files
from hw_common.runs.config import available_cores, check_same_arguments
from hw_common.runs.errors import Stopped, UserError, signal_of
from hw_common.runs.run_folder import CONFIG, Run

COMMAND = "hw_attention_theory.scaling"
POINTS = "points.json"
_MOST_FEATURES = 10_000
_LONGEST = 2**22
_FREE = ("results_dir", "overwrite")
_DESCRIPTION = """\
Measures time and memory of Softmax(Q Kᵀ) V and of its linear approximation (ist-2023-24-hw2 Q1.1 and Q1.4) for
sequences of 128, 256, … positions, fits the exponents, and finds the length from which the linear one is faster.

  python -m hw_attention_theory.scaling                       up to 65 536 positions, two to five minutes
  python -m hw_attention_theory.scaling --max_length 4096 --dimensions 16 --terms 3

Every measurement runs in a process of its own and is kept at once: the same command again goes on where an interrupted
one was. Softmax is measured as far as its L×L matrices fit --max_gigabytes. Writes a run folder with table and figure.
"""


def parser() -> cli.Parser:
    """All flags."""
    flags = cli.Parser(f"python -m {COMMAND}", _DESCRIPTION)
    group = flags.add_argument_group("what to measure")
    add_flag(group, "max_length", type=cli.positive_int, default=65536, help="longest sequence (default: 65536)")
    add_flag(group, "dimensions", type=cli.positive_int, nargs="+", default=[4, 8, 16, 32],
             help="numbers per query, key and value (default: 4 8 16 32)")  # fmt: skip
    add_flag(group, "terms", type=cli.positive_int, nargs="+", default=[3, 5],
             help="terms of the exponential series, odd (default: 3 5)")  # fmt: skip
    add_flag(group, "rounds", type=cli.positive_int, default=20, help="calls of which the fastest counts (default: 20)")
    add_flag(group, "max_seconds", type=cli.positive_float, default=10.0, help="longest call expected (default: 10)")
    add_flag(group, "max_gigabytes", type=cli.positive_float, default=4.0, help="largest matrices (default: 4)")
    group = flags.add_argument_group("run")
    add_flag(group, "threads", type=cli.positive_int, help="CPU threads (default: all cores)")
    cli.add_results_dir_flag(group)
    add_flag(group, "name", type=cli.run_name, default="scaling", help="name of the run folder (default: scaling)")
    add_flag(group, "overwrite", action="store_true", help="measure again what that folder has already")
    return flags


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Checked arguments.

    Raises:
        UserError: a flag is wrong.
    """
    arguments = parser().parse_args(argv)
    arguments.dimensions, arguments.terms = sorted(set(arguments.dimensions)), sorted(set(arguments.terms))
    arguments.threads = arguments.threads or available_cores()
    if not 256 <= arguments.max_length <= _LONGEST:
        raise UserError(f"--max_length: expected a whole number from 256 to {_LONGEST}, got {arguments.max_length}")
    for terms in arguments.terms:
        if terms % 2 == 0:
            raise UserError(f"--terms: expected odd numbers, got {terms}; with an even one, weights can be negative")
    if not _pairs(arguments):
        raise UserError(
            f"--dimensions, --terms: each pair of them makes more than {_MOST_FEATURES} features; choose smaller ones"
        )
    return arguments


def main(argv: Sequence[str] | None = None) -> None:
    """Measures what is missing, then writes table, figure and summary."""
    measure_scaling(parse(argv))


def measure_scaling(arguments: argparse.Namespace) -> Run:
    """The finished run folder that `arguments` describe: found, continued or new.

    Raises:
        UserError: the folder is another command's or has other arguments, or a measurement failed.
        Stopped: on Ctrl-C or SIGTERM; what was measured is kept.
    """
    run = _open(arguments)
    try:
        if run.is_finished:
            print(f"{run.folder} is finished already; --overwrite measures again")
            return run
        points = _measure(arguments, run)
        report(run, points, arguments.threads)
        return run
    except KeyboardInterrupt as interrupt:
        message = f"stopped; the same command goes on with what is in {run.folder}"
        raise Stopped(signal_of(interrupt), message) from None
    finally:
        run.close()


def _open(arguments: argparse.Namespace) -> Run:
    kept = {name: value for name, value in vars(arguments).items() if name not in _FREE}
    folder = arguments.results_dir / HOMEWORK / arguments.name
    check_own(arguments.results_dir, arguments.name, COMMAND)
    if arguments.overwrite or not (folder / CONFIG).is_file():
        return new_folder(arguments.results_dir, arguments.name, COMMAND, kept, {"threads": arguments.threads})
    run = Run.reopen(folder, HOMEWORK)
    try:
        check_same_arguments(run, kept)
    except UserError as error:
        run.close()
        raise UserError(f"{error}; choose another --name, or --overwrite") from error
    return run


def _pairs(arguments: argparse.Namespace) -> list[tuple[int, int]]:
    """Dimensions and terms to measure: those with so many features that nobody would use them are left out."""
    pairs = [(D, K) for D in arguments.dimensions for K in arguments.terms]
    return [(D, K) for D, K in pairs if Case("taylor", 1, D, K).features <= _MOST_FEATURES]


def _series(arguments: argparse.Namespace) -> list[list[Case]]:
    """What to measure, the cases of each attention from short to long."""
    lengths = [2**i for i in range(7, arguments.max_length.bit_length()) if 2**i <= arguments.max_length]
    pairs = _pairs(arguments)
    wanted = [("softmax", D, None) for D in sorted({D for D, _ in pairs})] + [("taylor", D, K) for D, K in pairs]
    return [[Case(attention, L, D, K) for L in lengths] for attention, D, K in wanted]


def _measure(arguments: argparse.Namespace, run: Run) -> list[dict[str, Any]]:
    """All points; those that the run folder has are not measured again."""
    points = _read(run)
    meter = Meter(arguments.threads, arguments.rounds)
    try:
        for series in _series(arguments):
            last = None
            for case in series:
                found = next((point for point in points if _is(point, case)), None)
                if found is None and _is_too_large(case, last, arguments):
                    break  # and so are the longer ones
                if found is None:
                    found = meter.measure(case)
                    points.append(found)
                    files.write_json(run.folder / POINTS, points)
                    print(_line(found), flush=True)
                last = found
    finally:
        meter.close()
    return points


def _is(point: dict[str, Any], case: Case) -> bool:
    return all(point[name] == getattr(case, name) for name in ("attention", "L", "D", "K"))


def _is_too_large(case: Case, last: dict[str, Any] | None, arguments: argparse.Namespace) -> bool:
    """Whether `case` is expected to take too much memory or time, after what half its length, `last`, took."""
    matrices = 2 * 4 * case.L**2 if case.K is None else 0  # scores and probabilities in fp32
    growth = 4 if case.K is None else 2
    seconds = growth * last["seconds"] if last is not None else 0.0
    return matrices > arguments.max_gigabytes * 1e9 or seconds > arguments.max_seconds


def _read(run: Run) -> list[dict[str, Any]]:
    """What an interrupted measurement has kept."""
    path = run.folder / POINTS
    if not path.is_file():
        return []
    points = files.read_json(path)
    numbers = ("L", "D", "seconds", "cpu_seconds", "bytes", "process_bytes")
    if not isinstance(points, list) or not all(
        isinstance(point, dict)
        and {"attention", "K", "M"} <= point.keys()
        and all(isinstance(point.get(name), int | float) for name in numbers)
        for point in points
    ):
        raise UserError(f"{path} is damaged: expected a list of measurements; remove it, or use --overwrite")
    return points


def _line(point: dict[str, Any]) -> str:
    what = "softmax" if point["K"] is None else f"linear, {point['K']} terms, M = {point['M']}"
    return (
        f"D {point['D']:3}  L {point['L']:7}  {what:28} {1e3 * point['seconds']:10.2f} ms "
        f"{point['bytes'] / 1e6:9.1f} MB beyond the inputs"
    )


if __name__ == "__main__":
    cli.run_command(main)
