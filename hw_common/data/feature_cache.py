"""A file of rows that can be written for hours, killed at any moment, and trusted afterwards.

A folder holds what was computed from some items (the features of an image, the spectrogram of a clip):

    rows.bin     (rows, width) float16, to be memory-mapped; only ever appended to
    index.json   how they were made, and for each item, named by the hash of what it was made from: its first row, the
                 number of its rows and their CRC-32

An item counts only once index.json names it, and index.json is written, whole, after the rows are on disk. Rows of
items that nobody asks for any more stay until the folder is deleted.
"""

import contextlib
import os
import time
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from hw_common.runs import files
from hw_common.runs.errors import UserError

SCHEMA = 1
ROWS, INDEX = "rows.bin", "index.json"
_SAVE_EVERY = 2.0  # seconds: what a kill can cost

Place = tuple[int, int, int]  # first row, rows, CRC-32


class FeatureCache:
    """The rows in one folder.

    Attributes:
        folder: where they are.
        recipe: how they are made: whatever changes the numbers, as JSON.
        width: numbers in a row.
        damaged: items that the index names and that are not as it says, as far as was looked.
    """

    def __init__(self, folder: Path, recipe: Mapping[str, Any], width: int) -> None:
        self.folder = folder
        self.recipe = dict(recipe)
        self.width = width
        self.damaged: set[str] = set()
        self._places: dict[str, Place] = {}
        self._end = 0  # rows that count
        self._rows = np.empty((0, width), np.float16)
        self._pending: dict[str, Place] = {}
        self._saved = time.monotonic()

    @contextlib.contextmanager
    def locked(self) -> Iterator["FeatureCache"]:
        """Opens the folder for writing, as the only process, and takes up what is in it.

        Raises:
            UserError: the folder cannot be written.
        """
        lock = FileLock(self.folder / ".lock")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                print(f"{self.folder}: waiting for another process that is at work there", flush=True)
                lock.acquire()
        except OSError as error:
            raise UserError(f"cannot write to {self.folder}: {error.strerror}; choose another --results_dir") from error
        try:
            files.remove_stale(self.folder)
            self._load()
            yield self
        finally:
            lock.release()

    def holds(self, key: str) -> bool:
        """Whether the rows of the item are there and undamaged; may be asked from several threads."""
        if key not in self._places:
            return False
        first, count, checksum = self._places[key]
        if zlib.crc32(self._rows[first : first + count]) == checksum:
            return True
        self.damaged.add(key)
        return False

    def append(self, key: str, rows: np.ndarray) -> None:
        """Adds the rows (n, width) of an item; they count from the next `commit` on, which happens every 2 seconds."""
        rows = np.ascontiguousarray(rows, dtype=np.float16)
        with self._disk_errors(), open(self.folder / ROWS, "r+b") as file:
            file.seek(self._end * 2 * self.width)
            file.write(rows)
        self._pending[key] = self._end, len(rows), zlib.crc32(rows)
        self._end += len(rows)
        if time.monotonic() - self._saved > _SAVE_EVERY:
            self.commit()

    def commit(self) -> None:
        """Makes what was appended count."""
        if self._pending:
            with self._disk_errors(), open(self.folder / ROWS, "r+b") as file:
                os.fsync(file.fileno())
            places = {**self._places, **self._pending}
            files.write_json(self.folder / INDEX, {**self._head(), "items": places})
            self._rows = self._map(self._end)
            self._places, self._pending = places, {}
        self._saved = time.monotonic()

    def take(self, key: str) -> np.ndarray:
        """The rows (n, width) float16 of an item that is held; read-only, memory-mapped."""
        first, count, _ = self._places[key]
        return self._rows[first : first + count]

    def count(self, key: str) -> int:
        """How many rows an item has that is held."""
        return self._places[key][1]

    def _load(self) -> None:
        """Reads the index; what it names beyond the end of the file is not there."""
        self._places, self._end = {}, 0
        if (self.folder / INDEX).exists():
            try:
                self._places = self._read_index()
            except ValueError as reason:
                print(f"{self.folder}: {reason}; everything is computed anew", flush=True)
        size = (self.folder / ROWS).stat().st_size if (self.folder / ROWS).exists() else 0
        rows = size // (2 * self.width)
        self.damaged = {key for key, place in self._places.items() if place[0] + place[1] > rows}
        self._places = {key: place for key, place in self._places.items() if key not in self.damaged}
        if not self._places:  # who has an old file mapped keeps it
            files.write_bytes(self.folder / ROWS, b"")
        self._end = max((first + count for first, count, _ in self._places.values()), default=0)
        self._rows = self._map(self._end)

    def _read_index(self) -> dict[str, Place]:
        """The places in index.json; raises ValueError with what is wrong with it."""
        try:
            index = files.read_json(self.folder / INDEX)
        except UserError:
            raise ValueError(f"{INDEX} cannot be read") from None
        items = index.get("items") if isinstance(index, dict) else None
        if not isinstance(items, dict) or not all(map(_is_place, items.values())):
            raise ValueError(f"{INDEX} is damaged")
        differing = [key for key, value in self._head().items() if index.get(key) != value]
        if differing:
            raise ValueError(f"what is there was made with another {' and another '.join(differing)}")
        return {key: tuple(place) for key, place in items.items()}

    def _head(self) -> dict[str, Any]:
        return {"schema": SCHEMA, "width": self.width, **self.recipe}

    def _map(self, rows: int) -> np.ndarray:
        if rows == 0:  # which cannot be mapped
            return np.empty((0, self.width), np.float16)
        # Not np.memmap itself, which makes each look-up slow.
        return np.memmap(self.folder / ROWS, np.float16, "r", shape=(rows, self.width)).view(np.ndarray)

    @contextlib.contextmanager
    def _disk_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(
                f"cannot write {self.folder / ROWS}: {error.strerror}; make room or choose another --results_dir, and "
                "the same command goes on"
            ) from error


def _is_place(value: Any) -> bool:
    """Whether `value` is a list of three numbers that are not negative."""
    return isinstance(value, list) and len(value) == 3 and all(type(n) is int and 0 <= n < 2**40 for n in value)
