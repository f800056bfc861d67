"""The program, texts, folders and environment with which the sandbox starts its processes."""

import ast
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
BOOT = """\
import json, sys, types
config = json.loads(sys.stdin.buffer.readline())
sys.path += config["packages"]
for name, text in config.pop("texts").items():
    module = sys.modules[name] = types.ModuleType(name)
    exec(compile(text, "checker", "exec"), module.__dict__)
sys.modules["hw_check.child"].main(config)
"""
"""The program of a process: it reads the texts of our modules, and then runs `child.main`."""


def texts(*modules: str) -> dict[str, str]:
    """The texts of `modules` and of all our modules that they import, in an order in which they can be loaded."""
    found: dict[str, str] = {}
    for module in modules:
        text = (_ROOT / module.replace(".", "/")).with_suffix(".py").read_text(encoding="utf-8")
        nodes = [node for node in ast.parse(text).body if isinstance(node, ast.ImportFrom)]
        imported = [node.module for node in nodes if node.module and node.module.startswith("hw_check.")]
        found = {**found, **texts(*imported), module: text}
    return found


def package_folders(names: Sequence[str]) -> list[str]:
    """The folders in which the packages are installed."""
    specs = [importlib.util.find_spec(name) for name in ("numpy", *(n.partition(".")[0] for n in names))]
    return list(dict.fromkeys(str(Path(spec.origin).parents[1]) for spec in specs if spec and spec.origin))


def hidden_folders() -> list[str]:
    """Our packages and, in a whole repository, the other folders beside them; not folders that contain Python."""
    whole = (_ROOT / "pyproject.toml").is_file()
    folders = [path for path in _ROOT.iterdir() if path.is_dir() and (whole or path.name.startswith("hw_"))]
    needed = [Path(path).resolve() for path in (sys.prefix, sys.base_prefix, *package_folders(()))]
    return [str(path) for path in folders if not any(need.is_relative_to(path) for need in needed)]


def environment() -> dict[str, str]:
    """Environment of the processes: one thread, no windows, and none of the caller's variables."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    needed = {name: os.environ[name] for name in ("SYSTEMROOT",) if name in os.environ}  # Windows needs it for sockets
    return {"PATH": os.defpath, "LANG": "C.UTF-8", "MPLBACKEND": "Agg", "USER": "student", **threads, **needed}
