"""Reads only the definitions in notebooks and scripts: imports, classes, functions and simple values."""

import ast
import itertools
import json
import re
import tokenize
from collections.abc import Collection, Iterator
from pathlib import Path

_HARMLESS = {"torch", "np", "numpy", "math", "nn", "F", "T"}  # modules whose functions a definition may call
_NOT_HARMLESS = {"load", "hub", "save"}  # functions of these modules that read or write files
_BUILTINS = {"int", "float", "len", "range", "list", "tuple", "dict", "set", "min", "max", "sum", "round", "str"}
# Allowed from any module: they only make an object that holds values or settings, or add a setting to it.
_HOLDERS = {"SimpleNamespace", "Namespace", "namedtuple", "OrderedDict", "defaultdict", "deque", "partial",
            "ArgumentParser", "add_argument", "parse_args"}  # fmt: skip
_COMMAND = re.compile(r"\s*([%!?]|[\w., ]+=\s*[%!])|.*\?\s*$")  # lines such as %time, !pip, x = !ls and f?
_CELL = "# code cell "  # the line before each cell in the file that is written for a notebook; see child.py
_SAFELY = "__import__('contextlib').suppress(Exception)"  # a kept value may use a name that was left out


def write_definitions(folder: Path) -> None:
    """Writes, for every notebook in `folder`, a Python file with its definitions, unless there is one."""
    for notebook, cells in _notebooks(folder):
        target = notebook.with_suffix(".py")
        if not target.exists():
            parsed = [(i, _without_commands(cell)) for i, cell in enumerate(cells, 1) if statements(cell)]
            text = _definitions("\n".join(f"{_CELL}{i}\n{cell}" for i, cell in parsed))
            target.write_text(text, encoding="utf-8")


def code_of(folder: Path) -> Iterator[tuple[Path, str]]:
    """The whole code of every notebook and script in `folder`."""
    for notebook, cells in _notebooks(folder):
        yield notebook, "\n".join(cells)
    for script in scripts(folder):
        yield script, read(script)


def broken_code(folder: Path) -> Iterator[str]:
    """Yields a message for each script and each notebook cell that holds classes or functions but cannot be parsed."""
    for notebook, cells in _notebooks(folder):
        for number, cell in enumerate(cells, 1):
            if error := _error(cell):
                yield f"{notebook.name}, code cell {number}, {error}"
    for script in scripts(folder):
        if error := _error(read(script)):
            yield f"{script.name}, {error}"


def _error(text: str) -> str:
    """The error that Python reports for a text with definitions; empty if there is none."""
    try:
        ast.parse(_without_commands(text))
    except SyntaxError as error:
        return f"line {error.lineno}: {error.msg}" if re.search(r"^(class|def) ", text, re.MULTILINE) else ""
    except (ValueError, RecursionError, MemoryError) as error:
        return str(error)
    return ""


def handed_in(script: Path) -> Path:
    """The notebook for which `write_definitions` has written `script`; else `script` itself."""
    return script.with_suffix(".ipynb") if read(script).startswith(_CELL) else script


def scripts(folder: Path) -> list[Path]:
    """The Python files in `folder`, at any depth."""
    return sorted(path for path in folder.rglob("*.py") if path.is_file())


def _notebooks(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """The code cells of all notebooks that can be read."""
    for notebook in sorted(folder.rglob("*.ipynb")):
        try:
            cells = json.loads(notebook.read_text(encoding="utf-8-sig"))["cells"]
            yield notebook, ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        except (ValueError, LookupError, TypeError, OSError, RecursionError):
            continue


def read(script: Path) -> str:
    """The text of a script."""
    return script.read_text(encoding=_encoding(script), errors="replace")


def _encoding(script: Path) -> str:
    """The encoding that a script declares."""
    try:
        with open(script, "rb") as file:
            return tokenize.detect_encoding(file.readline)[0]
    except SyntaxError:  # it declares an unknown one
        return "utf-8"


def reduce_to_definitions(script: Path) -> bool:
    """Removes the code outside of definitions if a script has definitions; returns whether any was removed."""
    text = read(script)
    kept = _definitions(_without_commands(text))
    if kept == text or not any(isinstance(node, ast.FunctionDef | ast.ClassDef) for node in statements(kept)):
        return False
    script.write_text(kept, encoding=_encoding(script), errors="replace")
    return True


def statements(text: str) -> list[ast.stmt]:
    """The statements of a script or a notebook's cell, without commands that work only in notebooks; [] if broken."""
    try:
        return [node for node in ast.parse(_without_commands(text)).body if _is_shallow(node)]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []


def _is_shallow(node: ast.AST) -> bool:
    """Whether the functions of the module ast can handle a statement; sums of 1000 terms are too deep for them."""
    try:
        return bool(ast.unparse(node))
    except RecursionError:
        return False


def _without_commands(text: str) -> str:
    """`text` itself if it is Python; otherwise `text` with `pass` for each line that works only in notebooks."""
    try:
        ast.parse(text)
        return text
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return "\n".join("pass" if _COMMAND.match(line) else line for line in text.split("\n"))


def inside(node: ast.stmt) -> ast.stmt:
    """The statement itself, or the assignment in the `with` statement that `write_definitions` puts around it."""
    return node.body[0] if isinstance(node, ast.With) and ast.unparse(node.items[0]) == _SAFELY else node


def _definitions(text: str) -> str:
    """`text` with `pass` in place of every statement that is not a definition; the lines keep their numbers."""
    nodes = statements(text)
    if not nodes:
        return ""
    own = {node.name for node in nodes if isinstance(node, ast.ClassDef) and _may_be_made(node)}
    code = text.encode()
    starts = list(itertools.accumulate(map(len, code.splitlines(keepends=True)), initial=0))
    parts, end = [], 0
    for node in nodes:
        begin = starts[node.lineno - 1] + node.col_offset
        assert node.end_lineno is not None and node.end_col_offset is not None
        parts.append(code[end:begin])
        end = starts[node.end_lineno - 1] + node.end_col_offset
        if not _is_definition(node, own):
            parts.append(b"\n" * (node.end_lineno - node.lineno) + b"pass")
        elif isinstance(node, ast.Assign | ast.AnnAssign) and not node.col_offset:
            parts.append(f"with {_SAFELY}: ".encode() + code[begin:end])
        else:
            parts.append(code[begin:end])
    return b"".join([*parts, code[end:]]).decode()


def _may_be_made(node: ast.ClassDef) -> bool:
    """Whether objects of a student's class may be made: a network, a layer, a named tuple or a class without bases."""
    return not node.bases or "Module" in ast.unparse(node) or "NamedTuple" in ast.unparse(node.bases[0])


def _is_definition(node: ast.stmt, own: Collection[str]) -> bool:
    """Whether a statement defines something, and cannot train, draw, read or download anything.

    `own` are the student's own classes of which objects may be made.
    """
    node = inside(node)
    if isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef | ast.Pass):
        return True
    if isinstance(node, ast.Expr):
        if isinstance(node.value, ast.Call) and ast.unparse(node.value.func).endswith(".add_argument"):
            return _is_simple(node.value, own)
        return isinstance(node.value, ast.Constant)  # a docstring, which must stay before an import from __future__
    if isinstance(node, ast.Assign | ast.AnnAssign):
        return node.value is not None and _is_simple(node.value, own)
    if isinstance(node, ast.If):  # such as: if torch.cuda.is_available(): device = "cuda"
        return _is_simple(node.test, own) and all(_is_definition(n, own) for n in (*node.body, *node.orelse))
    if isinstance(node, ast.Try):  # such as: try: import tqdm
        blocks = (node.body, *(handler.body for handler in node.handlers), node.orelse, node.finalbody)
        return all(_is_definition(n, own) for n in itertools.chain(*blocks))
    return False


def _is_simple(value: ast.expr, own: Collection[str]) -> bool:
    """Whether an expression calls only harmless functions."""
    return all(_is_harmless(node.func, own) for node in ast.walk(value) if isinstance(node, ast.Call))


def _is_harmless(function: ast.expr, own: Collection[str]) -> bool:
    names = ast.unparse(function).split(".")
    if names[-1] in _HOLDERS:
        return True
    if len(names) == 1:
        return names[0] in _BUILTINS or names[0] in own
    return names[0] in _HARMLESS and not _NOT_HARMLESS.intersection(names)
