"""What a run folder holds, as values that compare with `==`, and a signal that keeps a run from being finished."""

import csv
import json
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from hw_common.runs import checkpoints
from hw_common.runs.run_folder import BEST, LAST, METRICS, SUMMARY


def numbers_of(folder: Path) -> tuple[Any, ...]:
    """Everything of a finished run that has to repeat bit for bit: times and host facts are left out."""
    with open(folder / METRICS, newline="") as file:
        rows = [{name: cell for name, cell in row.items() if name != "seconds"} for row in csv.DictReader(file)]
    summary = json.loads((folder / SUMMARY).read_text())
    del summary["speed"], summary["name"]
    weights = {name: tensor.tolist() for name, tensor in checkpoints.load_state(folder / LAST)["model"].items()}
    return rows, summary, weights, (folder / BEST).read_bytes()


def times_of_writing(folder: Path) -> dict[Path, int]:
    """When each file of weights below `folder` was written."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")}


def interrupt(patch: pytest.MonkeyPatch, module: ModuleType, names: Sequence[str], number: int) -> None:
    """Ctrl-C at the `number`-th call of any of the functions `names` of `module`, counted together."""
    calls = []

    def interrupting(function: Callable) -> Callable:
        def call_it(*arguments: Any) -> Any:
            calls.append(function)
            if len(calls) == number:
                os.kill(os.getpid(), signal.SIGINT)
            return function(*arguments)

        return call_it

    for name in names:
        patch.setattr(module, name, interrupting(getattr(module, name)))
