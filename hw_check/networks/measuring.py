"""Remarks on how Task 3.2 of convnets-2024-a2 measures the time of inference, from the text of the code alone."""

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path

from hw_check.definitions import code_of, statements

_GOOD_CLOCKS = {"perf_counter", "perf_counter_ns", "default_timer", "monotonic", "monotonic_ns", "elapsed_time"}
_WHOLE_TOOLS = {
    "timeit",
    "repeat",
    "Timer",
    "blocked_autorange",
    "adaptive_autorange",
}  # these repeat the runs themselves
_POOR_CLOCKS = {"time": "time.time()", "time_ns": "time.time_ns()", "now": "datetime.now()", "clock": "time.clock()"}


def measuring_remarks(folder: Path) -> tuple[str, list[str]]:
    """Name of the file that measures, "" if none does, and what is unwise about the measurement."""
    for path, text in code_of(folder):
        called = {name for node in ast.walk(ast.Module(statements(text), [])) for name in _called(node)}
        has_magic = "%timeit" in text
        if called & (_GOOD_CLOCKS | _WHOLE_TOOLS) or has_magic:
            tools = has_magic or called & _WHOLE_TOOLS
            return path.name, [] if tools or _warms_up(text) else [_NO_WARM_UP]
        poor = next((name for name in _POOR_CLOCKS if name in called and _is_clock(name, text)), "")
        if poor:
            clock = f"measures with {_POOR_CLOCKS[poor]}, which jumps when the clock is set: use time.perf_counter()"
            return path.name, [clock] if _warms_up(text) else [clock, _NO_WARM_UP]
    return "", []


_NO_WARM_UP = "the networks are not run before the first clock: the first run includes the time for starting up"


def _is_clock(name: str, text: str) -> bool:
    """Whether a function with this name usually reads a clock."""
    return any(f"{owner}.{name}(" in text for owner in ("time", "datetime", "datetime.datetime")) or (
        f"from time import {name}" in text
    )


def _called(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Call):
        yield ast.unparse(node.func).rpartition(".")[2]


def _warms_up(text: str) -> bool:
    """Whether the text mentions a warm-up, or runs the timed code once before the clock."""
    if "warm" in text.lower():
        return True
    clocks = _GOOD_CLOCKS | _POOR_CLOCKS.keys()
    tree = ast.Module(statements(text), [])
    for node in ast.walk(tree):
        for block in (getattr(node, name, None) for name in ("body", "orelse")):
            if isinstance(block, list) and _runs_before_the_clock(block, clocks):
                return True
    return False


def _runs_before_the_clock(block: Sequence[ast.stmt], clocks: set[str]) -> bool:
    """Whether a block calls, before its first clock, what it calls between its first and last clock."""
    calls = [{name for part in ast.walk(node) for name in _called(part)} for node in block]
    places = [i for i, names in enumerate(calls) if names & clocks]
    if len(places) < 2:
        return False
    timed = set().union(*calls[places[0] + 1 : places[-1]]) - clocks - {"print", "range", "append", "no_grad", "len"}
    return any(names & timed for names in calls[: places[0]])
