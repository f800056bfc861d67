"""hw_check on the course's skeletons: nothing is written yet, so nothing gets points or looks like an error."""

import ast
import importlib
from pathlib import Path

import pytest
from graded import rows_of
from numpy_mistakes import STUDENT

from hw_check.sheets import NAMES

MODULES = ("transfer", "ist_2021_22", "ist_2023_24", "convnets_2024", "dsl_2019")  # in the order of NAMES
FILES = {"eecs545-w20-hw4": {path.name: path.read_text() for path in sorted(Path(STUDENT).glob("*.py"))}}
FILES |= dict(
    zip(NAMES[1:], (importlib.import_module(f"network_students.{name}").GOOD[0] for name in MODULES), strict=True)
)
BODIES = {
    "pass": "pass",
    "an error": "raise NotImplementedError",
    "None": "loss, grads = None, None  # TODO\nreturn loss, grads",
    "text": "'''Write me.'''\n...",
}


class _Emptied(ast.NodeTransformer):
    """Replaces the body of every function; constructors keep the line that the course's skeletons have."""

    def __init__(self, body, constructor):
        self._body, self._constructor = body, constructor

    def visit_FunctionDef(self, node):
        text = self._constructor if node.name == "__init__" else self._body
        node.body = ast.parse(text).body
        return node


@pytest.mark.parametrize("sheet", NAMES)
@pytest.mark.parametrize("form", BODIES)
def test_skeleton_is_not_written_yet(tmp_path, sheet, form):
    constructor = "self.params = {}" if sheet == NAMES[0] else "super().__init__()"
    for file, text in FILES[sheet].items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(ast.unparse(_Emptied(BODIES[form], constructor).visit(ast.parse(text))))
    rows = rows_of(sheet, tmp_path)
    assert sum(row.of for row in rows) > 0
    assert [
        (row.function, row.points, row.status, row.hint) for row in rows if row.points or row.status != "missing"
    ] == []
