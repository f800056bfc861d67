"""Imports run one way: a homework imports hw_common and itself, and hw_common knows no homework."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = sorted(path.parent.name for path in ROOT.glob("hw_*/__init__.py"))
HOMEWORKS = [name for name in PACKAGES if name not in ("hw_common", "hw_report", "hw_check")]


def imported(path):
    """Names of the modules that a file imports, inside functions too; a relative import counts as one of ours."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or "" if node.level == 0 else path.parent.name


def test_there_is_something_to_look_at():
    assert {"hw_common", "hw_cnn"} <= set(PACKAGES)
    assert "hw_common" in {name.partition(".")[0] for name in imported(ROOT / "hw_cnn" / "train.py")}


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_run_one_way(package):
    allowed = {"hw_common", package} | (set(HOMEWORKS) if package in ("hw_report", "hw_check") else set())
    for path in sorted((ROOT / package).rglob("*.py")):
        ours = {name.partition(".")[0] for name in imported(path) if name.startswith("hw_")}
        assert ours <= allowed, f"{path.relative_to(ROOT)} imports {', '.join(sorted(ours - allowed))}"


@pytest.mark.parametrize("package", HOMEWORKS)
def test_models_know_no_paths_no_flags_and_no_figures(package):
    path = ROOT / package / "models.py"
    if path.exists():
        assert not {"argparse", "pathlib", "os", "matplotlib"} & {name.partition(".")[0] for name in imported(path)}


def test_commands_are_imported_without_torch():
    """So that help and wrong arguments are answered at once."""
    paths = [path for path in ROOT.glob("hw_*/*.py") if '__name__ == "__main__"' in path.read_text()]
    modules = [f"{path.parent.name}.{path.stem}" for path in sorted(paths)]
    assert {"hw_cnn.train", "hw_report.__main__"} <= set(modules)
    code = f"""
import importlib, sys
for module in {modules}:
    importlib.import_module(module)
    if "torch" in sys.modules:
        sys.exit(module + " imports torch")
"""
    finished = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
