"""Exponents and crossovers from the measurements of `scaling`, with table and figure."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from hw_attention_theory.presets import CITATIONS
from hw_common.runs import files
from hw_common.runs.run_folder import Run

Points = Sequence[Mapping[str, Any]]
FIT_FROM = 1024  # the shortest sequence fitted, in positions; with shorter ones, the overhead of calls dominates
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
        "points": list(points),
    }
    text = markdown(summary)
    title = f"{CITATIONS['2023-24']}.1 and Q1.4, {threads} thread{'s' * (threads > 1)}, fp32"
    plots.scaling(run.folder, summary, title)
    files.write_bytes(run.folder / "table.md", text.encode())
    run.write_summary(summary)
    print(f"\n{text}\ntable and figure are in {run.folder}")
    return summary


def by_attention(points: Points) -> list[list[Mapping[str, Any]]]:
    """The points of each attention, dimension D and number of series terms (None for softmax), in order of length."""
    series: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for point in points:
        series.setdefault((point["attention"], point["D"], point["K"]), []).append(point)
    return [sorted(of_one, key=lambda point: point["L"]) for of_one in series.values()]


def fit(series: Points) -> dict[str, Any]:
    """The exponents of time and memory of one attention's points, and the measurements of its longest sequence."""
    long = [point for point in series if point["L"] >= FIT_FROM]
    large = [point for point in long if point["bytes"] >= _FIT_BYTES]
    last = series[-1]
    return {
        **{name: last[name] for name in ("attention", "D", "K", "M")},
        "time_exponent": exponent([(point["L"], point["seconds"]) for point in long]),
        "cpu_time_exponent": exponent([(p["L"], p["cpu_seconds"]) for p in long if p["cpu_seconds"] > 0]),
        "memory_exponent": exponent([(point["L"], point["bytes"]) for point in large]),
        "fitted_from": FIT_FROM,
        "longest": last["L"],
        **{f"longest_{name}": last[name] for name in ("seconds", "cpu_seconds", "bytes", "process_bytes")},
    }


def exponent(pairs: Sequence[tuple[float, float]]) -> float | None:
    """The slope of the least-squares line through the logarithms of `pairs`; None for fewer than three pairs."""
    if len(pairs) < 3:
        return None
    x, y = ([math.log(pair[i]) for pair in pairs] for i in (0, 1))
    x_mean, y_mean = sum(x) / len(x), sum(y) / len(y)
    products = sum((a - x_mean) * (b - y_mean) for a, b in zip(x, y, strict=True))
    return products / sum((a - x_mean) ** 2 for a in x)


def find_crossovers(points: Points) -> list[dict[str, Any]]:
    """For each dimension and number of terms, the length from which linear attention is faster than softmax."""
    seconds = {
        (series[0]["D"], series[0]["K"]): {point["L"]: point["seconds"] for point in series}
        for series in by_attention(points)
    }
    features = {(point["D"], point["K"]): point["M"] for point in points}
    rows = []
    for (D, K), linear in seconds.items():
        if K is not None and (D, None) in seconds:
            softmax = seconds[D, None]
            log_ratios = [(L, math.log(linear[L] / softmax[L])) for L in sorted(linear.keys() & softmax.keys())]
            length, how = _crossover(log_ratios)
            rows.append({"D": D, "K": K, "M": features[D, K], "length": length, "how": how})
    return rows


def _crossover(log_ratios: Sequence[tuple[int, float]]) -> tuple[float | None, str]:
    """The length from which log(linear / softmax) stays below 0, interpolated over log L, and how it was found."""
    if not log_ratios:
        return None, "not measured"
    slower = [i for i, (_, log_ratio) in enumerate(log_ratios) if log_ratio >= 0]
    if not slower:
        return float(log_ratios[0][0]), "at or below the shortest length"
    last = slower[-1]
    if last == len(log_ratios) - 1 and len(log_ratios) < 2:
        return None, "not measured"
    how = "extrapolated" if last == len(log_ratios) - 1 else "measured"
    before, after = log_ratios[-2:] if how == "extrapolated" else log_ratios[last : last + 2]
    slope = (after[1] - before[1]) / math.log(after[0] / before[0])
    if slope >= 0:
        return None, "beyond what was measured"
    return before[0] * math.exp(-before[1] / slope), how


def markdown(summary: Mapping[str, Any]) -> str:
    """Exponents and crossovers as two tables."""
    lines = [
        "| attention | D | terms | M | exponent of time | of CPU time | of memory "
        "| longest L | its time | its memory beyond the inputs | memory of the process |",
        "|" + "---|" * 11,
    ]
    for row in summary["fits"]:
        lines.append(
            f"| {'softmax' if row['K'] is None else 'linear'} | {row['D']} | {_cell(row['K'])} | {_cell(row['M'])} "
            f"| {_cell(row['time_exponent'], '.2f')} | {_cell(row['cpu_time_exponent'], '.2f')} "
            f"| {_cell(row['memory_exponent'], '.2f')} | {row['longest']} "
            f"| {row['longest_seconds']:.3g} s | {row['longest_bytes'] / 1e6:.0f} MB "
            f"| {row['longest_process_bytes'] / 1e9:.2f} GB |"
        )
    lines += ["", "| D | terms | M | linear is faster from L = |", "|---|---|---|---|"]
    for row in summary["crossovers"]:
        length = f"{row['length']:.0f} ({row['how']})" if row["length"] is not None else row["how"]
        lines.append(f"| {row['D']} | {row['K']} | {row['M']} | {length} |")
    return "\n".join(lines) + "\n"


def _cell(value: float | None, how: str = "") -> str:
    return "" if value is None else format(value, how)
