"""Imports go in one direction: a homework imports hw_common and itself, and hw_common knows no homework."""

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


def own_files():
    """The file of every module of ours, by the module's name; a package is its __init__.py."""
    paths = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    names = (".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in paths)
    return dict(zip(names, paths, strict=True))


FILES = own_files()


def at_runtime(path, inside_functions=True):
    """Names of our modules that a file imports when it runs, that is, not only for the type checker."""
    nodes = [ast.parse(path.read_text())]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not inside_functions:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in FILES)
        elif isinstance(node, ast.ImportFrom) and node.module in FILES:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in FILES else node.module for name in names)
        nodes += ast.iter_child_nodes(node)


def test_no_file_imports_itself_through_others():
    """There are no circles, not even through imports inside functions."""
    left = {name: set(at_runtime(path)) - {name} for name, path in FILES.items()}
    while done := [name for name, imports in left.items() if not imports & left.keys()]:
        for name in done:
            del left[name]
    assert not left, "a circle: " + ", ".join(sorted(left))


WINGS = ("runs", "data", "training", "commands")  # each may import those before it


@pytest.mark.parametrize("wing", WINGS)
def test_each_wing_of_hw_common_stands_on_those_before(wing):
    lower = WINGS[: WINGS.index(wing) + 1]
    for name, path in FILES.items():
        if name.startswith(f"hw_common.{wing}."):
            for other in at_runtime(path):
                assert other.split(".")[1] in lower, f"{name} imports {other}"
            if wing == "commands":
                outside = [other for other in at_runtime(path, inside_functions=False) if ".training." in other]
                assert not outside, f"{name} imports {outside} outside a function, and with it torch"


def test_no_file_reaches_its_own_package_by_importlib():
    """hw_check imports the files that students hand in; nothing else imports a module by its name."""
    users = {name for name, path in FILES.items() if "import_module" in path.read_text()}
    assert users <= {"hw_check.child"}


SHEET_FILES = ("layers", "rnn_layers", "softmax", "cnn", "rnn", "optim", "gradient_check", "solver")


@pytest.mark.parametrize("name", [name for name in SHEET_FILES if f"hw_numpy.{name}" in FILES])
def test_the_numpy_layers_import_numpy_alone(name):
    allowed = {"numpy", "hw_numpy", *SHEET_FILES, *sys.stdlib_module_names}  # or as files that are handed in
    assert {module.partition(".")[0] for module in imported(FILES[f"hw_numpy.{name}"])} <= allowed


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
    """Torch is not imported before the arguments are checked, so that --help and errors are quick."""
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
