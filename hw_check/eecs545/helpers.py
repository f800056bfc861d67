"""Finds the functions that a student wrote in addition to those of the sheet, and uses in another file."""

import ast
from collections.abc import Collection
from pathlib import Path

from hw_check.definitions import read, statements


def helpers(path: Path, module: str, known: Collection[str]) -> list[str]:
    """Names of functions that `module`.py defines and the file at `path` uses.

    Args:
        path: the student's file, which imports `module`.
        module: name of another file in the same folder, without its suffix.
        known: names of functions that are left out.
    """
    own, body = _read(path), _read(path.with_name(f"{module}.py"))
    defined = [node.name for node in body if isinstance(node, ast.FunctionDef) and node.name not in known]
    mine = {node.name for node in own if isinstance(node, ast.FunctionDef)}
    used: set[str] = set()
    for node in (node for statement in own for node in ast.walk(statement)):
        if isinstance(node, ast.Name):
            used.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id != "self":
            used.add(node.attr)
        elif isinstance(node, ast.ImportFrom) and node.module == module:
            used.update(alias.name for alias in node.names)
    return [name for name in dict.fromkeys(defined) if name in used - mine]


def _read(path: Path) -> list[ast.stmt]:
    return statements(read(path)) if path.is_file() else []
