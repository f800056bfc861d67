"""Saves weights and the states of solvers as safetensors files, without torch."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy
from numpy import ndarray

from hw_common.runs import files
from hw_common.runs.errors import UserError
from hw_numpy.solver import BaseSolver

_METADATA = "written for"  # key of the metadata, the same as in hw_common.runs.checkpoints


def save(path: Path, arrays: Mapping[str, ndarray], metadata: Mapping[str, str]) -> None:
    """Writes arrays by name, with `metadata` that `load` checks. If the writing is interrupted, the old file stays.

    Raises:
        UserError: the disk is full, or the folder cannot be written.
    """
    entry = {_METADATA: json.dumps(dict(metadata), sort_keys=True)}
    # safetensors writes the bytes in memory order, so an array that is not row-major would be read in the wrong order.
    by_rows = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    files.write_bytes(path, safetensors.numpy.save(by_rows, metadata=entry))


def load(path: Path, metadata: Mapping[str, str]) -> dict[str, ndarray]:
    """Reads arrays that `save` wrote.

    Raises:
        UserError: the file is missing, cut short or not a safetensors file, or has other metadata.
    """
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            found = json.loads((file.metadata() or {}).get(_METADATA, "{}"))
            if found != dict(metadata):
                raise UserError(f"{path} was written for {found}, expected {dict(metadata)}")
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except (safetensors.SafetensorError, ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{path} is damaged or not a safetensors file: {error}") from error


def solver_state(solver: BaseSolver, seconds: list[float]) -> dict[str, ndarray]:
    """The state from which `restore_solver` resumes a run; `seconds` holds the time of each epoch."""
    return {**solver.state(), "seconds": np.array(seconds)}


def restore_solver(path: Path, metadata: Mapping[str, str], solver: BaseSolver) -> list[float]:
    """Restores the state that is saved at `path`; returns the time of each epoch in seconds.

    Raises:
        UserError: the file is damaged, or the state does not fit the solver.
    """
    state = load(path, metadata)
    try:
        solver.load_state(state)
        seconds = state["seconds"].tolist()
        if len(seconds) != solver.epoch:
            raise ValueError(f"it holds the times of {len(seconds)} epochs, expected {solver.epoch}")
    except (KeyError, ValueError, TypeError) as error:
        raise UserError(f"{path} does not belong to this run: {error}") from error
    return seconds
