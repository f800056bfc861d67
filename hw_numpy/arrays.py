"""Weights and states of solvers on disk: safetensors files, written whole or not at all, that need no torch to read."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy
from numpy import ndarray

from hw_common.runs import files
from hw_common.runs.errors import UserError

_METADATA = "written for"  # as in hw_common.runs.checkpoints, which reads these files too


def save(path: Path, arrays: Mapping[str, ndarray], metadata: Mapping[str, str]) -> None:
    """Writes arrays by name; `metadata` says what they belong to, for `load` to check.

    Raises:
        UserError: the disk is full, or the folder cannot be written.
    """
    entry = {_METADATA: json.dumps(dict(metadata), sort_keys=True)}
    # safetensors writes an array's memory as it lies, and would transpose one that is not stored row by row.
    rows_first = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    files.write_bytes(path, safetensors.numpy.save(rows_first, metadata=entry))


def load(path: Path, metadata: Mapping[str, str]) -> dict[str, ndarray]:
    """Reads arrays that `save` wrote.

    Raises:
        UserError: the file is missing, cut short, no safetensors file, or says that it belongs to something else.
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
        raise UserError(f"{path} is damaged or no safetensors file: {error}") from error
