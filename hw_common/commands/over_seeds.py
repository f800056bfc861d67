"""Means and standard deviations over seeds, as rows of a table and in words, and tables in Markdown."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def deviation(values: Sequence[float]) -> float:
    """Returns the standard deviation of `values`; 0 for a single value."""
    return statistics.stdev(values) if len(values) > 1 else 0.0


def over_seeds(
    summaries: Sequence[Mapping[str, Any]], metrics: Iterable[str], epochs: Iterable[str] = ("final", "best")
) -> dict[str, Any]:
    """Makes a row of a table: number of runs, training time, and mean and standard deviation of metrics.

    Args:
        summaries: contents of summary.json of the runs of one row, one per seed.
        metrics: names of the metrics.
        epochs: keys of each summary that hold the metrics of an epoch: the final and the best one.

    Returns:
        "seeds", "training_seconds", and <epoch>_<metric>, <epoch>_<metric>_std and <epoch>_<metric>_each (the values of
        the single seeds).
    """
    row: dict[str, Any] = {
        "seeds": len(summaries),
        "training_seconds": statistics.mean(summary["speed"]["training_seconds"] for summary in summaries),
    }
    metrics = list(metrics)
    for epoch in epochs:
        for metric in metrics:
            values = [summary[epoch][metric] for summary in summaries]
            row[f"{epoch}_{metric}"] = statistics.mean(values)
            row[f"{epoch}_{metric}_std"] = deviation(values)
            row[f"{epoch}_{metric}_each"] = values
    return row


def cell(row: Mapping[str, Any], name: str) -> str:
    """Returns a number of a row with four decimals and, over several seeds, its deviation; "" if it is None."""
    if row[name] is None:
        return ""
    spread = row.get(f"{name}_std")
    return f"{row[name]:.4f}" + (f" ± {spread:.4f}" if spread is not None and row["seeds"] > 1 else "")


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a table in Markdown."""
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (head, ["---"] * len(head), *rows))


def in_words(count: int) -> str:
    """Describes means over `count` seeds."""
    return "one seed" if count == 1 else f"mean and standard deviation over {count} seeds"
