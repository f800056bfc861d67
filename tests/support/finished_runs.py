"""The contents of a run folder as values that compare with `==`."""

import csv
import hashlib
import json
from pathlib import Path
from typing import Any

import safetensors.numpy

from hw_common.runs import checkpoints
from hw_common.runs.run_folder import LAST, METRICS, SUMMARY


def numbers_of(folder: Path) -> dict[str, Any]:
    """Everything in a run folder that must be the same, bit for bit, whenever the same training is repeated.

    Times, the run's name and the figures are left out.
    """
    found: dict[str, Any] = {METRICS: [{**row, "seconds": 0} for row in rows_of(folder)]}
    for path in folder.iterdir():
        if path.suffix == ".safetensors":
            tensors = safetensors.numpy.load_file(path)
            found[path.name] = {name: tensors[name].tobytes() for name in tensors if name != "seconds"}
        elif path.name not in (METRICS, SUMMARY, "config.json") and path.suffix in (".csv", ".json"):
            found[path.name] = path.read_bytes()
    if (folder / LAST).is_file():
        model = checkpoints.load_state(folder / LAST)["model"]
        found[LAST] = {name: tensor.numpy().tobytes() for name, tensor in model.items()}
    summary = json.loads((folder / SUMMARY).read_text())
    return {**found, SUMMARY: {**summary, "speed": 0, "name": ""}}


def rows_of(folder: Path) -> list[dict[str, str]]:
    """The rows of metrics.csv, as text."""
    with open(folder / METRICS, newline="") as file:
        return list(csv.DictReader(file))


def summary_of(folder: Path) -> dict[str, Any]:
    """The content of summary.json."""
    return json.loads((folder / SUMMARY).read_text())


def contents_of(folder: Path) -> dict[str, tuple[int, str]]:
    """Every file below `folder` with its time of writing and its SHA-256."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in folder.rglob("*")
        if path.is_file()
    }


def times_of_writing(folder: Path) -> dict[Path, int]:
    """Every file of weights below `folder` with the time at which it was written."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")}
