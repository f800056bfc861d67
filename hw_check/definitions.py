"""Reads only the definitions in notebooks and scripts: imports, classes, functions and simple values."""

import ast
import json
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

_HARMLESS = {"torch", "np", "numpy", "math", "nn", "F", "T"}  # modules whose functions a definition may call
_NOT_HARMLESS = {"load", "hub", "save"}  # but not these, which read or write files
_BUILTINS = {"int", "float", "len", "range", "list", "tuple", "dict", "set", "min", "max", "sum", "round", "str"}


def write_definitions(folder: Path) -> None:
    """Writes, for every notebook in `folder`, a Python file with its definitions, unless there is one."""
    for notebook, cells in _notebooks(folder):
        target = notebook.with_suffix(".py")
        if not target.exists():
            nodes = [node for cell in cells for node in statements(cell)]
            target.write_text("\n\n".join(_definitions(nodes)), encoding="utf-8")


def code_of(folder: Path) -> Iterator[tuple[Path, str]]:
    """The whole code of every notebook and script in `folder`."""
    for notebook, cells in _notebooks(folder):
        yield notebook, "\n".join(cells)
    for script in sorted(folder.rglob("*.py")):
        yield script, script.read_text(encoding="utf-8", errors="replace")


def _notebooks(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """The code cells of all notebooks that can be read."""
    for notebook in sorted(folder.rglob("*.ipynb")):
        try:
            cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
            yield notebook, ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        except (ValueError, LookupError, TypeError, OSError, RecursionError):
            continue


def reduce_to_definitions(script: Path) -> bool:
    """Removes everything but the definitions from a script; returns whether there are any."""
    kept = list(_definitions(statements(script.read_text(encoding="utf-8", errors="replace"))))
    if kept:
        script.write_text("\n\n".join(kept), encoding="utf-8")
    return bool(kept)


def statements(text: str) -> list[ast.stmt]:
    """The statements of a script or a notebook's cell, without the commands that only notebooks know; [] if broken."""
    lines = ["pass" if line.lstrip().startswith(("%", "!")) else line for line in text.split("\n")]
    for code in (text, "\n".join(lines)):
        try:
            return ast.parse(code).body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
    return []


def _definitions(nodes: Sequence[ast.stmt]) -> Iterator[str]:
    """The text of every definition among the statements of a script or a notebook."""
    classes = {node.name for node in nodes if isinstance(node, ast.ClassDef) and "Module" in ast.unparse(node)}
    for node in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef):
            yield ast.unparse(node)
        elif (
            isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None and _is_simple(node.value, classes)
        ):
            # Such as: device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
            yield f"try:\n    {ast.unparse(node)}\nexcept Exception:\n    pass"


def _is_simple(value: ast.expr, classes: Collection[str]) -> bool:
    """Whether an expression calls only functions that cannot train, draw, read or download anything.

    `classes` are the student's own networks and layers; making one counts as harmless.
    """
    return all(_is_harmless(node.func, classes) for node in ast.walk(value) if isinstance(node, ast.Call))


def _is_harmless(function: ast.expr, classes: Collection[str]) -> bool:
    names = ast.unparse(function).split(".")
    if len(names) == 1:
        return names[0] in _BUILTINS or names[0] in classes
    return names[0] in _HARMLESS and not _NOT_HARMLESS.intersection(names)
