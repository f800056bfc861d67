"""Judges, from the text of the code, how Task 3.2 of convnets-2024-a2 measures inference times and their ratio."""

import ast
import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from hw_check.definitions import code_of, statements
from hw_check.rows import Row

_GOOD_CLOCKS = {"perf_counter", "perf_counter_ns", "default_timer", "monotonic", "monotonic_ns", "elapsed_time"}
_WHOLE_TOOLS = {
    "timeit",
    "repeat",
    "Timer",
    "blocked_autorange",
    "adaptive_autorange",
}  # these repeat the runs themselves
_WAITING = {"synchronize", "item", "cpu", "numpy", "tolist"}  # functions that wait for the GPU
_OWN = re.compile(r"(^|_)(own|my|mine|custom|propri[a-z]*|manual|naive)(_|$)|^my|Own|My|Custom")
_POOR_CLOCKS = {"time": "time.time()", "time_ns": "time.time_ns()", "now": "datetime.now()", "clock": "time.clock()"}


_NO_WARM_UP = "the networks are not run before the clock is first read: the first run includes the start-up time"
_NO_SYNCHRONIZATION = "the GPU is not waited for before the clock is read: call torch.cuda.synchronize()"
_INVERTED = "the ratio is default / own; the sheet asks for own / default"
_OTHER_CALLS = {"print", "range", "append", "no_grad", "len", "synchronize"}  # calls that do not run a network
_COSTS = {_INVERTED: 0.05, _NO_WARM_UP: 0.03, _NO_SYNCHRONIZATION: 0.03}
# A CUDA event is a clock that is read by record(); elapsed_time() only computes the difference of two events.
_CLOCKS = _GOOD_CLOCKS | _POOR_CLOCKS.keys() | {"record"}
POINTS = 0.1


def measured_ratio(folder: Path) -> Row:
    """The row of the measurement; a poor clock only leads to a remark, but the other mistakes cost points."""
    row = Row("measured ratio", "", "3.2", 0, POINTS, "missing", hint="no file measures the time of inference")
    for path, text in code_of(folder):
        tree = ast.Module(statements(text), [])
        called = _calls(tree)
        poor = next((name for name in _POOR_CLOCKS if name in called and _is_clock(name, text)), "")
        tools = "%timeit" in text or called & _WHOLE_TOOLS
        if not (tools or called & _GOOD_CLOCKS or poor):
            continue
        mistakes = [] if tools or _warms_up(tree, text) else [_NO_WARM_UP]
        if not tools and _times_a_gpu(tree) and not _called_beside_clocks(tree) & _WAITING:
            mistakes.append(_NO_SYNCHRONIZATION)
        if _is_inverted(list(ast.walk(tree))):
            mistakes.append(_INVERTED)
        points = round(max(0.0, POINTS - sum(_COSTS[text] for text in mistakes)), 2)
        clock = f"measures with {_POOR_CLOCKS[poor]}, which jumps when the clock is set" if poor else ""
        remarks = (f"{clock}: use time.perf_counter()",) if clock and not called & _GOOD_CLOCKS and not tools else ()
        status = "partly" if mistakes else "passed"
        return dataclasses.replace(
            row, file=path.name, points=points, status=status, hint="; ".join(mistakes), remarks=remarks
        )
    return row


def _functions(tree: ast.AST) -> dict[str, ast.FunctionDef]:
    return {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def _timing(functions: Mapping[str, ast.FunctionDef]) -> dict[str, ast.FunctionDef]:
    """The functions that read a clock."""
    return {name: node for name, node in functions.items() if _calls(node) & _CLOCKS}


def _called_beside_clocks(tree: ast.AST) -> set[str]:
    """The calls between the first and the last clock reading of each function, or of the file if no function has any.

    Calls inside the called functions are included. A function that reads a clock only once counts as a whole.
    """
    functions = _functions(tree)
    beside = set().union(*map(_calls_between_clocks, _timing(functions).values() or [tree]))
    return beside.union(*(_calls(functions[name]) for name in beside if name in functions))


def _calls_between_clocks(node: ast.AST) -> set[str]:
    calls = [(part.lineno, set(_called(part))) for part in ast.walk(node) if isinstance(part, ast.Call)]
    lines = [line for line, names in calls if names & _CLOCKS]
    if len(lines) < 2:
        return _calls(node)
    return set().union(*(names for line, names in calls if min(lines) <= line <= max(lines)))


def _times_a_gpu(tree: ast.Module) -> bool:
    """Whether the timed code uses CUDA, or a name that was moved to a GPU, directly or through a device."""
    timing = _timing(_functions(tree))
    reads = [i for i, node in enumerate(tree.body) if not isinstance(node, ast.FunctionDef) and _calls(node) & _CLOCKS]
    timed: list[ast.AST] = [*timing.values(), *(tree.body[reads[0] : reads[-1] + 1] if reads else [])]
    timed += [
        node for node in ast.walk(tree) if isinstance(node, ast.Call) and not timing.keys().isdisjoint(_called(node))
    ]
    moved = _moved(tree)
    return any(_uses_cuda(node) or names_in(node) & moved for node in timed)


def _uses_cuda(node: ast.AST) -> bool:
    """Whether a node mentions CUDA, other than to ask whether it is there or to wait for it."""
    return "cuda" in re.sub(r"torch\.cuda\.(is_available|synchronize)\(\)", "", ast.unparse(node))


def _moved(tree: ast.AST) -> set[str]:
    """The names that were moved to a GPU, by .cuda() or .to(), and the names of devices that may be GPUs."""
    moved: set[str] = set()
    lines = [node for node in ast.walk(tree) if isinstance(node, ast.Assign | ast.Expr)]
    for _ in range(2):  # a device is named first, networks move to it afterwards
        for line in lines:
            calls = [node for node in ast.walk(line) if isinstance(node, ast.Call)]
            moves = [node for node in calls if set(_called(node)) & {"cuda", "to", "device"}]
            if not any("cuda" in ast.unparse(node) or names_in(node) & moved for node in moves):
                continue
            targets = line.targets if isinstance(line, ast.Assign) else moves
            moved |= set().union(*map(names_in, targets)) - {"torch", "nn"}
    return moved


def _calls(node: ast.AST) -> set[str]:
    return {name for part in ast.walk(node) for name in _called(part)}


def names_in(node: ast.AST) -> set[str]:
    """The names that the code below a node mentions."""
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}


def _is_inverted(nodes: Sequence[ast.AST]) -> bool:
    """Whether a time of the default network is divided by one of the student's network, never the other way round."""
    assigned: dict[str, ast.expr] = {}
    for node in nodes:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                assigned[ast.unparse(target)] = node.value
                if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                    pairs = zip(target.elts, node.value.elts, strict=False)
                    assigned |= {ast.unparse(name): value for name, value in pairs}

    def is_own(value: ast.expr, depth: int = 2) -> bool:
        names = names_in(value)
        values = [assigned[name] for name in names if depth and name in assigned]
        return any(_OWN.search(name) for name in names) or any(is_own(one, depth - 1) for one in values)

    sides = [
        (is_own(node.left), is_own(node.right), ast.unparse(node.left).lower())
        for node in nodes
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)
    ]
    is_time = re.compile("default|time|net|dur|tim|torch|std|orig")
    right_way = any(left and not right for left, right, _ in sides)
    return not right_way and any(right and not left and is_time.search(text) for left, right, text in sides)


def _is_clock(name: str, text: str) -> bool:
    """Whether a function with this name usually reads a clock."""
    return any(f"{owner}.{name}(" in text for owner in ("time", "datetime", "datetime.datetime")) or (
        f"from time import {name}" in text
    )


def _called(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Call):
        yield ast.unparse(node.func).rpartition(".")[2]


def _warms_up(tree: ast.AST, text: str) -> bool:
    """Whether the text mentions a warm-up, or the code runs what it times once before reading a clock."""
    if "warm" in text.lower():
        return True
    for node in ast.walk(tree):
        for block in (getattr(node, name, None) for name in ("body", "orelse")):
            if isinstance(block, list) and _runs_before_the_clock(block):
                return True
    return False


def _runs_before_the_clock(block: Sequence[ast.stmt]) -> bool:
    """Whether a block calls something both before its first clock reading and between its first and last one.

    If a loop of the block holds all clock readings, everything in the loop counts as timed.
    """
    calls = [_calls(node) for node in block]
    readings = [i for i, names in enumerate(calls) if names & _CLOCKS]
    if not readings or len(readings) == 1 and not isinstance(block[readings[0]], ast.For | ast.While):
        return False
    between = calls[readings[0] + 1 : readings[-1]] if len(readings) > 1 else [calls[readings[0]]]
    timed = set().union(*between) - _CLOCKS - _OTHER_CALLS
    return any(names & timed for names in calls[: readings[0]])
