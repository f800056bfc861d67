"""The code of an answer as the reports print it: cut out of the source file when the report is built."""

import ast
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hw_report.index import Answer


def source(path: Path, name: str) -> tuple[int, list[str]]:
    """First line number and the lines of a function, class or method in a Python file, without indentation.

    Args:
        path: the Python file.
        name: its name; a dot leads into a class, as in "Decoder.forward".

    Raises:
        KeyError: the file does not define it.
    """
    text = path.read_text(encoding="utf-8")
    body: Sequence[ast.stmt] = ast.parse(text).body
    node: Any = None
    for part in name.split("."):
        node = next((found for found in body if getattr(found, "name", None) == part), None)
        if node is None:
            raise KeyError(f"{path} does not define {name}")
        body = node.body
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    lines = text.splitlines()[first - 1 : node.end_lineno]
    return first, textwrap.dedent("\n".join(lines)).splitlines()


def listings(answers: Sequence[Answer], repository: Path) -> dict[str, list[dict[str, Any]]]:
    """The pieces of code of each answer, by the label of its section.

    A piece has the keys `file`, `name`, `line` (its first line), `text`, and `shown_at`: the earlier question that
    shows the same piece, or "".
    """
    seen: dict[tuple[str, str], str] = {}
    found: dict[str, list[dict[str, Any]]] = {}
    for answer in answers:
        pieces = []
        for file, name in answer.code():
            first, lines = source(repository / file, name)
            shown_at = seen.setdefault((file, name), answer.question)
            text, elsewhere = ("\n".join(lines), "") if shown_at == answer.question else ("", shown_at)
            pieces.append({"file": file, "name": name, "line": first, "text": text, "shown_at": elsewhere})
        found[answer.section] = pieces
    return found
