"""Exponents and crossovers from the measurements of `scaling`, with table and figure."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from hw_attention_theory.presets import CITATIONS
from hw_common.commands import over_seeds
from hw_common.runs import files
from hw_common.runs.run_folder import TABLE, Run

_FITS = (
    "attention", "D", "terms", "M", "exponent of time", "of CPU time", "of memory", "of memory without chunks",
    "longest L", "its time", "its memory beyond the inputs", "memory of the process",
)  # fmt: skip
_CROSSOVERS = ("D", "terms", "M", "linear is faster from L =", "interval")

Points = Sequence[Mapping[str, Any]]
LogRatios = Sequence[tuple[int, float]]  # length and log(linear / softmax), in order of length
FIT_FROM = 1024  # the shortest sequence fitted, in positions; with shorter ones, the overhead of calls dominates
_MULTIPLE = 32  # matrix products are faster for lengths that are multiples of it
_FIT_BYTES = 16e6  # the smallest memory fitted; below it, memory that the process reuses distorts the measurement


def report(run: Run, points: Points, threads: int) -> dict[str, Any]:
    """Writes table, figure and summary.json into the folder of `run` and prints the table; returns the summary."""
    from hw_attention_theory import plots  # imports matplotlib

    summary = {
        "name": run.folder.name,
        "source": CITATIONS["2023-24"],
        "threads": threads,
        "fits": [fit(series) for series in by_attention(points)],
        "crossovers": find_crossovers(points),
        "points": sorted(points, key=lambda point: point["L"]),  # figures connect them in this order
    }
    text = markdown(summary)
    title = f"{CITATIONS['2023-24']}.1 and Q1.4, {threads} thread{'s' * (threads > 1)}, fp32"
    plots.scaling(run.folder, summary, title)
    files.write_bytes(run.folder / TABLE, text.encode())
    run.write_summary(summary)
    print(f"\n{text}\ntable and figure are in {run.folder}")
    return summary


def by_attention(points: Points) -> list[list[Mapping[str, Any]]]:
    """The points of each attention, dimension D and number of series terms (None for softmax), in order of length."""
    series: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for point in points:
        series.setdefault((point["attention"], point["D"], point["K"]), []).append(point)
    in_order = sorted(series.items(), key=lambda item: (item[0][2] is not None, item[0][1], item[0][2]))
    return [sorted(of_one, key=lambda point: point["L"]) for _, of_one in in_order]


def fit(series: Points) -> dict[str, Any]:
    """The exponents of time and memory of one attention's points, and the measurements of its longest sequence.

    The lengths near a crossover, which are no powers of two, are left out: there are many of them within an octave.
    Each exponent has its standard error. Keys with "plain" are for linear attention without chunks.
    """
    long = [point for point in series if point["L"] >= FIT_FROM and _is_power_of_two(point["L"])]
    last = series[-1]
    numbers: dict[str, Any] = {name: last[name] for name in ("attention", "D", "K", "M")}
    for what, key, least in (
        ("time", "seconds", 0.0), ("cpu_time", "cpu_seconds", 0.0), ("memory", "bytes", _FIT_BYTES),
        ("plain_memory", "plain_bytes", _FIT_BYTES),
    ):  # fmt: skip
        pairs = [(point["L"], point[key]) for point in long if (point.get(key) or 0) > least]
        numbers[f"{what}_exponent"], numbers[f"{what}_exponent_error"] = exponent(pairs)
    plain = [point for point in series if point.get("plain_bytes") is not None]
    return {
        **numbers,
        "fitted_from": FIT_FROM,
        "longest": last["L"],
        **{f"longest_{name}": last[name] for name in ("seconds", "cpu_seconds", "bytes", "process_bytes")},
        "longest_plain": plain[-1]["L"] if plain else None,
        "longest_plain_bytes": plain[-1]["plain_bytes"] if plain else None,
    }


def exponent(pairs: Sequence[tuple[float, float]]) -> tuple[float | None, float | None]:
    """The slope of the least-squares line through the logarithms of `pairs`, and its standard error.

    Both are None for fewer than three pairs.
    """
    if len(pairs) < 3:
        return None, None
    x, y = ([math.log(pair[i]) for pair in pairs] for i in (0, 1))
    slope, intercept = statistics.linear_regression(x, y)
    squares = sum((b - intercept - slope * a) ** 2 for a, b in zip(x, y, strict=True))
    return slope, math.sqrt(squares / (len(x) - 2) / (len(x) * statistics.pvariance(x)))


def find_crossovers(points: Points) -> list[dict[str, Any]]:
    """For each dimension and number of terms, the length from which linear attention is faster than softmax.

    "length" comes from the medians of the ratios. The interval from "low" to "high" holds every length at which the
    quartiles of the rounds do not say which attention is faster; "high" is None if it ends beyond the last length.
    """
    rows = []
    for series in by_attention(points):
        compared = [point for point in series if point.get("ratio") is not None]
        if not compared:
            continue
        low, median, high = ([(point["L"], math.log(point["ratio"][i])) for point in compared] for i in range(3))
        length, how = _crossover(median)
        first, last = _first_below(low), _crossover(high)
        row = {name: series[0][name] for name in ("D", "K", "M")}
        rows.append(
            {**row, "length": length, "how": how, "low": first, "high": last[0] if last[1] != "extrapolated" else None}
        )
    return rows


def next_length(points: Points) -> int | None:
    """The length to measure next to find the length from which linear attention is faster.

    It lies between the last length at which linear attention was slower and the next one. If these two are at most 10 %
    apart or have no multiple of 32 between them, the search ends, except at a power of two: there, softmax attention is
    slower than at the lengths around it, so the length after it is measured too. None at the end of the search, if
    linear attention was faster at all lengths, or if it was slower at the longest one.

    Args:
        points: those of linear attention with one dimension and number of terms.
    """
    ratios = sorted((point["L"], point["ratio"][1]) for point in points if point.get("ratio") is not None)
    last = max((i for i, (_, ratio) in enumerate(ratios) if ratio >= 1), default=None)
    if last is None or last + 1 == len(ratios):
        return None
    below, above = ratios[last][0], ratios[last + 1][0]
    middle = _MULTIPLE * round(math.sqrt(below * above) / _MULTIPLE)
    if above > 1.1 * below and below < middle < above:
        return middle
    after, is_longest = above + _MULTIPLE, last + 2 == len(ratios)
    return after if _is_power_of_two(above) and not is_longest and after not in dict(ratios) else None


def _is_power_of_two(length: int) -> bool:
    return length.bit_count() == 1


def _first_below(log_ratios: LogRatios) -> float | None:
    """The first length at which log(linear / softmax) is below 0, interpolated over log L; None if there is none."""
    below = next((i for i, (_, log_ratio) in enumerate(log_ratios) if log_ratio < 0), None)
    if below is None:
        return None
    return _zero(log_ratios[below - 1], log_ratios[below]) if below else float(log_ratios[0][0])


def _crossover(log_ratios: LogRatios) -> tuple[float | None, str]:
    """The length from which log(linear / softmax) stays below 0, interpolated over log L, and how it was found."""
    slower = [i for i, (_, log_ratio) in enumerate(log_ratios) if log_ratio >= 0]
    if not slower:
        return float(log_ratios[0][0]), "at or below the shortest length"
    last = slower[-1]
    if last < len(log_ratios) - 1:
        return _zero(log_ratios[last], log_ratios[last + 1]), "measured"
    if len(log_ratios) < 2:
        return None, "not measured"
    before, after = log_ratios[-2:]
    return (None, "beyond what was measured") if after[1] >= before[1] else (_zero(before, after), "extrapolated")


def _zero(before: tuple[int, float], after: tuple[int, float]) -> float:
    """The length at which the ratio is 1, if its logarithm is linear in log L between two points (L, log ratio)."""
    slope = (after[1] - before[1]) / math.log(after[0] / before[0])
    return before[0] * math.exp(-before[1] / slope)


def markdown(summary: Mapping[str, Any]) -> str:
    """Exponents and crossovers as two tables."""
    fits = [
        (
            "softmax" if row["K"] is None else "linear",
            str(row["D"]),
            _cell(row["K"]),
            _cell(row["M"]),
            *(_exponent_cell(row, what) for what in ("time", "cpu_time", "memory", "plain_memory")),
            str(row["longest"]),
            f"{row['longest_seconds']:.3g} s",
            f"{row['longest_bytes'] / 1e6:.0f} MB",
            f"{row['longest_process_bytes'] / 1e9:.2f} GB",
        )
        for row in summary["fits"]
    ]
    crossovers = [
        (str(row["D"]), str(row["K"]), str(row["M"]),
         f"{row['length']:.0f} ({row['how']})" if row["length"] is not None else row["how"], interval(row))
        for row in summary["crossovers"]
    ]  # fmt: skip
    return f"{over_seeds.markdown(_FITS, fits)}\n{over_seeds.markdown(_CROSSOVERS, crossovers)}"


def interval(crossover: Mapping[str, Any]) -> str:
    """The interval of a crossover in words; empty if no lower quartile of the ratios is below 1."""
    low, high = crossover["low"], crossover["high"]
    if low is None:
        return ""
    return f"from {low:.0f} on" if high is None else f"{low:.0f}–{high:.0f}"


def _exponent_cell(row: Mapping[str, Any], what: str) -> str:
    value, error = row[f"{what}_exponent"], row[f"{what}_exponent_error"]
    return "" if value is None else f"{value:.2f} ± {error:.2f}"


def _cell(value: int | None) -> str:
    return "" if value is None else str(value)
