"""Weights and training states on disk. Reading them never runs code from the file."""

import contextlib
import io
import json
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from hw_common.runs import files
from hw_common.runs.errors import UserError

_METADATA = "written for"


def save_weights(path: Path, weights: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Writes a state dict as safetensors, with metadata that `load_weights` checks."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    # One entry, because safetensors writes several entries in an order that varies.
    entry = {_METADATA: json.dumps(dict(metadata), sort_keys=True)}
    files.write_bytes(path, safetensors.torch.save(weights, metadata=entry))


def load_weights(path: Path, metadata: Mapping[str, str]) -> dict[str, Tensor]:
    """Reads weights that `save_weights` wrote.

    Raises:
        UserError: the file is missing, damaged or not a safetensors file, or its metadata differ from `metadata`.
    """
    try:
        with open_safetensors(path) as file:
            found = json.loads((file.metadata() or {}).get(_METADATA, "{}"))
            for name, expected in metadata.items():
                if found.get(name) != expected:
                    raise UserError(f"{path} holds weights for {name} {found.get(name)!r}, expected {expected!r}")
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (ValueError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} has no valid metadata: {error}") from error
    except FileNotFoundError as error:
        raise UserError(f"cannot read weights from {path}: there is no such file") from error
    except OSError as error:
        raise UserError(f"cannot read weights from {path}: {error.strerror or error}") from error
    except safetensors.SafetensorError as error:
        raise UserError(f"{path} is damaged or not a safetensors file: {error}") from error


@contextlib.contextmanager
def open_safetensors(path: Path) -> Iterator[Any]:
    """Opens a safetensors file like `safetensors.safe_open`, but also accepts paths that are not UTF-8."""
    with contextlib.ExitStack() as stack:
        name = str(path)
        if any("\ud800" <= character <= "\udfff" for character in name):
            name = f"/dev/fd/{stack.enter_context(open(path, 'rb')).fileno()}"
        yield stack.enter_context(safetensors.safe_open(name, framework="pt"))


def load_into(model: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    """Copies `weights` into `model`.

    Raises:
        UserError: names or shapes of the weights differ, or a weight is complex; the message names the first layers.
    """
    own = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    theirs = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if own != theirs:
        differing = sorted(name for name in own.keys() | theirs.keys() if own.get(name) != theirs.get(name))
        shown = "; ".join(
            f"{name}: {theirs.get(name, 'missing')}, expected {own.get(name, 'none')}" for name in differing[:3]
        )
        more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
        raise UserError(f"the weights in {path} do not fit this network: {shown}{more}")
    if found := [name for name, tensor in weights.items() if tensor.is_complex()]:
        raise UserError(f"the weights in {path} do not fit this network: {found[0]} holds complex numbers")
    model.load_state_dict(weights)


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Writes a training state, which consists of tensors, numbers, strings, lists and dicts."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    files.write_bytes(path, buffer.getbuffer())


def load_state(path: Path) -> dict[str, Any]:
    """Reads a training state onto the CPU.

    Raises:
        UserError: the file is missing, damaged or not a training state, or contains pickled code, which is not run.
    """
    try:
        state = load_pickled(path)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:  # a wrong byte can cause any exception
        raise UserError(
            f"{path} is damaged or not a training state (no code in it was run): {reason(error)}"
        ) from error
    if not isinstance(state, dict):
        raise UserError(f"{path} is not a training state: it contains a {type(state).__name__}")
    return state


def load_pickled(path: Path) -> Any:
    """Loads a file of torch.save onto the CPU without running code from it; a damaged file can cause any exception."""
    with warnings.catch_warnings(action="ignore"):  # torch warns about some damaged files before it raises
        return torch.load(path, map_location="cpu", weights_only=True)


def reason(error: Exception) -> str:
    """Returns the first line of torch's message, without torch's advice to load the file unsafely."""
    first = str(error).split("\n", 1)[0]
    return type(error).__name__ if not first or "weights_only" in first else first
