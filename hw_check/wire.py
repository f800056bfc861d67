"""Messages between the checker and the process of a student's file: numbers and names only, never code.

A message is a JSON header, followed by the bytes of the arrays that the header describes. Reading a message runs no
code, and takes no more memory than the message has bytes, whatever its header claims. Both sides use this file. It
imports the standard library and NumPy alone.
"""

import json
import socket
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

LARGEST_MESSAGE = 2**25  # bytes, a thousand times as many as in the answers of a working file
LARGEST_ARRAY = 2**20  # elements
_LARGEST_HEADER = 2**20  # bytes
_TYPES = {
    *("float64", "float32", "float16", "int64", "int32", "int16", "int8"),
    *("uint64", "uint32", "uint16", "uint8", "bool"),
}


@dataclass(frozen=True)
class Other:
    """Represents a value that is neither a number nor an array."""

    name: str  # type of the value, for messages


def describe(value: Any, depth: int = 3) -> Any:
    """Converts `value` for `encode`: numbers become arrays without axes, other types become `Other`."""
    if isinstance(value, np.ndarray):
        if value.size > LARGEST_ARRAY:
            return Other(f"an array of shape {value.shape}")
        return np.asarray(value) if value.dtype.name in _TYPES else Other(f"an array of {value.dtype.name}")
    if isinstance(value, bool | int | float | np.generic):
        number = np.asarray(value)
        return number if number.dtype.name in _TYPES else Other(type(value).__name__)
    if depth and isinstance(value, tuple | list) and len(value) < 100:
        return [describe(item, depth - 1) for item in value]
    if depth and isinstance(value, dict) and len(value) < 100 and all(isinstance(key, str) for key in value):
        return {key[:100]: describe(item, depth - 1) for key, item in value.items()}
    return Other("None" if value is None else type(value).__name__)


def encode(value: Any) -> bytes:
    """Makes a message of arrays, text, None, and lists and dictionaries of these; other values become `Other`."""
    arrays: list[bytes] = []

    def tag(item: Any) -> list[Any]:
        if isinstance(item, np.ndarray):
            arrays.append(item.astype(item.dtype.newbyteorder("<"), order="C").tobytes())
            return ["array", item.dtype.name, list(item.shape)]
        if isinstance(item, np.generic):
            return tag(np.asarray(item))
        if isinstance(item, Other):
            return ["other", item.name]
        if isinstance(item, dict):
            return ["dict", {str(key): tag(entry) for key, entry in item.items()}]
        if isinstance(item, list | tuple):
            return ["list", [tag(entry) for entry in item]]
        is_plain = item is None or isinstance(item, bool | int | float | str)
        return ["value", item] if is_plain else ["other", type(item).__name__]

    header = json.dumps(tag(value)).encode()
    return b"".join([len(header).to_bytes(8, "big"), header, *arrays])


def decode(message: bytes) -> Any:
    """Reads a message that `encode` made.

    Raises:
        ValueError: the message is damaged, or its header does not match its length.
    """
    length = int.from_bytes(message[:8], "big")
    if len(message) < 8 or length > min(_LARGEST_HEADER, len(message) - 8):
        raise ValueError("the message is cut short")
    position = 8 + length

    def untag(tagged: Any) -> Any:
        nonlocal position
        kind, *rest = tagged
        if kind == "array":
            array, position = _array(message, position, *rest)
            return array
        if kind == "dict":
            return {key: untag(entry) for key, entry in rest[0].items()}
        if kind == "list":
            return [untag(entry) for entry in rest[0]]
        return Other(str(rest[0])) if kind == "other" else rest[0]

    try:
        return untag(json.loads(message[8:position]))
    except (TypeError, AttributeError, LookupError, RecursionError, OverflowError) as error:
        raise ValueError(f"the message is damaged: {error}") from error


def _array(message: bytes, position: int, name: Any, shape: Any) -> tuple[np.ndarray, int]:
    """The array whose bytes begin at `position`, and the position where they end."""
    if name not in _TYPES or len(shape) > 32 or not all(type(side) is int and side >= 0 for side in shape):
        raise ValueError(f"there is no array of {name} and shape {shape}")
    dtype, count = np.dtype(name).newbyteorder("<"), 1
    for side in shape:
        count *= side
    end = position + count * dtype.itemsize
    if end > len(message):
        raise ValueError("the message is shorter than its arrays")
    numbers = np.frombuffer(message, dtype, count, position)
    return numbers.reshape(shape).astype(np.dtype(name)), end


def send(connection: socket.socket, value: Any) -> None:
    """Sends one message; raises TimeoutError if the other side does not read it before the connection's timeout."""
    message = encode(value)
    connection.sendall(len(message).to_bytes(8, "big") + message)


def receive(connection: socket.socket, seconds: float | None = None) -> Any:
    """The next message, which must arrive completely within `seconds` (None: there is no limit).

    Raises:
        TimeoutError: it did not arrive in time.
        EOFError: the other side closed the connection.
        OverflowError: it is longer than LARGEST_MESSAGE.
        ValueError: it is damaged.
    """
    deadline = None if seconds is None else time.monotonic() + seconds
    length = int.from_bytes(_take(connection, 8, deadline), "big")
    if length > LARGEST_MESSAGE:
        raise OverflowError
    return decode(_take(connection, length, deadline))


def _take(connection: socket.socket, count: int, deadline: float | None) -> bytes:
    """The next `count` bytes."""
    taken = bytearray()
    while len(taken) < count:
        if deadline is not None:
            connection.settimeout(max(1e-3, deadline - time.monotonic()))
        chunk = connection.recv(min(2**20, count - len(taken)))
        if not chunk:
            raise EOFError
        taken += chunk
    return bytes(taken)
