"""The rows of the table of `python -m benchmarks` from the gpu.json of benchmarks/gpu.sh."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from benchmarks.rows import Row


def rows_of(found: Mapping[str, Any]) -> dict[str, Any]:
    """The entry of benchmarks/measured.json: machine, date and rows."""
    rows = [{**asdict(row), "command": "benchmarks/gpu.sh"} for row in _rows(found)]
    return {"machine": f"{found['device']}, {found['cores']} CPU cores", "date": found["date"], "rows": rows}


def _rows(found: Mapping[str, Any]) -> Iterator[Row]:
    row = partial(Row.of, threads="GPU")
    checks = found.get("checks", [])
    if checks:
        held = sum(check["holds"] for check in checks)
        yield row("checks of training on the GPU that hold", [held], at_least=len(checks))
    for speed in found.get("speed", []):
        title = f"GPU, {speed['what']}: straightforward code ÷ ours in {speed['precision']}"
        median, low, high = speed["ratio"], speed["low"], speed["high"]
        yield Row(title, median, low, high, found["rounds"], unit="", goal="", reached=True, threads="GPU")
        title = f"GPU, {speed['what']}: ours in {speed['precision']}"
        examples = "clips" if speed["what"].startswith("speech") else speed["what"].partition(",")[0]
        yield row(title, [speed["examples_per_second"]], f"{examples} a second")
    for attention in found.get("attention", []):
        name = f"GPU, 65 536 positions, {attention['what'].removeprefix('attention, ')} attention"
        yield row(f"{name}: time", [attention["milliseconds"]], "ms")
        yield row(f"{name}: memory", [attention["gigabytes"]], "GB")
