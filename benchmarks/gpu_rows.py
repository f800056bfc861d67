"""The rows of the table of `python -m benchmarks` from the gpu.json of benchmarks/gpu.sh."""

from collections.abc import Iterator, Mapping
from typing import Any


def rows_of(found: Mapping[str, Any]) -> dict[str, Any]:
    """The entry of benchmarks/measured.json: machine, date and rows."""
    rows = [{"command": "benchmarks/gpu.sh", "threads": "GPU", **row} for row in _rows(found)]
    return {"machine": f"{found['device']}, {found['cores']} CPU cores", "date": found["date"], "rows": rows}


def _rows(found: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    rounds = found["rounds"]
    checks = found.get("checks", [])
    held = sum(check["holds"] for check in checks)
    if checks:
        yield _row("checks of training on the GPU that hold", held, held, held, 1, f"at least {len(checks)}")
    for row in found.get("speed", []):
        title = f"GPU, {row['what']}: straightforward code ÷ ours in {row['precision']}"
        yield _row(title, row["ratio"], row["low"], row["high"], rounds)
        rate = row["examples_per_second"]
        yield _row(f"GPU, {row['what']}: ours in {row['precision']}", rate, rate, rate, 1, unit="a second")
    for row in found.get("attention", []):
        name = f"GPU, 65 536 positions, {row['what'].removeprefix('attention, ')} attention"
        yield _row(f"{name}: time", *[row["milliseconds"]] * 3, 1, unit="ms")
        yield _row(f"{name}: memory", *[row["gigabytes"]] * 3, 1, unit="GB")


def _row(
    what: str, value: float, low: float, high: float, rounds: int, goal: str = "", unit: str = ""
) -> dict[str, Any]:
    reached = not goal or value >= float(goal.split()[-1])
    return {
        "what": what, "value": value, "low": low, "high": high, "rounds": rounds, "unit": unit, "goal": goal,
        "reached": reached,
    }  # fmt: skip
