"""A cache of computed features, such as the features of images or the spectrograms of clips.

The process that writes the cache may be killed at any time; the cache stays valid. A cache is a folder:

    rows.bin     all features, (rows, width) float16, memory-mapped; new rows are appended
    index.json   the recipe of the features, and for each item its first row, its number of rows and their CRC-32. The
                 key of an item is a hash of its input.

An item is valid once it is in index.json, which is written atomically after the item's rows are on disk. Rows of items
that are no longer used stay until the folder is deleted.
"""

import contextlib
import os
import time
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from filelock import FileLock

from hw_common.runs import files
from hw_common.runs.errors import UserError

SCHEMA = 1
ROWS, INDEX = "rows.bin", "index.json"
_SAVE_EVERY = 2.0  # seconds between commits; a killed process loses the work since the last one

Location = tuple[int, int, int]  # first row, number of rows, CRC-32 of the rows


class FeatureCache:
    """The cache in the folder `folder`.

    `recipe` contains all settings that change the features, as JSON; `width` is the number of features in a row;
    `damaged` holds the keys of the items found damaged so far. With `keep` false, nothing is written: the folder is
    read if it exists, and appended items stay in memory.
    """

    def __init__(self, folder: Path, recipe: Mapping[str, Any], width: int, keep: bool = True) -> None:
        self.folder = folder
        self.recipe = dict(recipe)
        self.width = width
        self.keep = keep
        self._in_memory: dict[str, np.ndarray] = {}
        self.damaged: set[str] = set()
        self._locations: dict[str, Location] = {}
        self._end = 0  # number of rows in rows.bin that belong to items
        self._rows = np.empty((0, width), np.float16)
        self._pending: dict[str, Location] = {}
        self._saved = time.monotonic()

    @contextlib.contextmanager
    def locked(self) -> Iterator["FeatureCache"]:
        """Locks the folder against other processes and reads its index.

        Raises:
            UserError: the folder cannot be written.
        """
        if not self.keep:
            self._load()
            yield self
            return
        lock = FileLock(self.folder / ".lock")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            files.acquire(lock, f"{self.folder}: waiting for another process that uses this cache")
        except OSError as error:
            raise UserError(f"cannot write to {self.folder}: {error.strerror}; choose another --results_dir") from error
        try:
            files.remove_stale(self.folder)
            self._load()
            yield self
        finally:
            lock.release()

    def holds(self, key: str) -> bool:
        """Whether the cache has the item and it is undamaged. Several threads may call this at the same time."""
        if key not in self._locations:
            return key in self._in_memory
        first, count, checksum = self._locations[key]
        if zlib.crc32(self._rows[first : first + count].data) == checksum:
            return True
        self.damaged.add(key)
        return False

    def append(self, key: str, rows: np.ndarray) -> None:
        """Adds the rows (n, width) of an item, which is valid after the next `commit`; commits every 2 seconds."""
        rows = np.ascontiguousarray(rows, dtype=np.float16)
        if not self.keep:
            self._in_memory[key] = rows
            return
        with self._open_rows() as file:
            file.seek(self._end * 2 * self.width)
            file.write(rows.data)
        self._pending[key] = self._end, len(rows), zlib.crc32(rows.data)
        self._end += len(rows)
        if time.monotonic() - self._saved > _SAVE_EVERY:
            self.commit()

    def commit(self) -> None:
        """Makes the appended items valid."""
        if self._pending:
            with self._open_rows() as file:
                os.fsync(file.fileno())
            locations = {**self._locations, **self._pending}
            files.write_json(self.folder / INDEX, {**self._head(), "items": locations})
            self._rows = self._map(self._end)
            self._locations, self._pending = locations, {}
        self._saved = time.monotonic()

    def take(self, key: str) -> np.ndarray:
        """Returns the rows (n, width) float16 of a valid item; read-only and memory-mapped, unless kept in memory."""
        if key in self._in_memory:
            return self._in_memory[key]
        first, count, _ = self._locations[key]
        return self._rows[first : first + count]

    def count(self, key: str) -> int:
        """Returns the number of rows of a valid item."""
        return len(self.take(key))

    def _load(self) -> None:
        """Reads the index; items whose rows are beyond the end of rows.bin are damaged."""
        self._locations, self._end = {}, 0
        if (self.folder / INDEX).exists():
            try:
                self._locations = self._read_index()
            except ValueError as reason:
                print(f"{self.folder}: {reason}; all features are computed again", flush=True)
        size = (self.folder / ROWS).stat().st_size if (self.folder / ROWS).exists() else 0
        rows = size // (2 * self.width)
        self.damaged = {key for key, location in self._locations.items() if location[0] + location[1] > rows}
        self._locations = {key: location for key, location in self._locations.items() if key not in self.damaged}
        if self.keep and not self._locations:  # a process that still maps the old file keeps reading its old content
            files.write_bytes(self.folder / ROWS, b"")
        self._end = max((first + count for first, count, _ in self._locations.values()), default=0)
        self._rows = self._map(self._end)

    def _read_index(self) -> dict[str, Location]:
        """Reads the locations in index.json; raises ValueError if the file is not usable."""
        try:
            index = files.read_json(self.folder / INDEX)
        except UserError:
            raise ValueError(f"{INDEX} cannot be read") from None
        items = index.get("items") if isinstance(index, dict) else None
        if not isinstance(items, dict) or not all(map(_is_location, items.values())):
            raise ValueError(f"{INDEX} is damaged")
        differing = [key for key, value in self._head().items() if index.get(key) != value]
        if differing:
            raise ValueError(f"the cached features were made with another {' and another '.join(differing)}")
        return {key: tuple(location) for key, location in items.items()}

    def _head(self) -> dict[str, Any]:
        return {"schema": SCHEMA, "width": self.width, **self.recipe}

    def _map(self, rows: int) -> np.ndarray:
        if rows == 0:  # an empty file cannot be mapped
            return np.empty((0, self.width), np.float16)
        # A view as ndarray, because slicing an np.memmap is slow.
        return np.memmap(self.folder / ROWS, np.float16, "r", shape=(rows, self.width)).view(np.ndarray)

    @contextlib.contextmanager
    def _open_rows(self) -> Iterator[IO[bytes]]:
        """Opens rows.bin for writing; an error of the disk becomes a UserError."""
        advice = "free disk space or choose another --results_dir, and run the same command again to continue"
        with files.disk_errors(self.folder / ROWS, advice), open(self.folder / ROWS, "r+b") as file:
            yield file


def _is_location(value: Any) -> bool:
    """Whether `value` is a list of three non-negative integers."""
    return isinstance(value, list) and len(value) == 3 and all(type(n) is int and 0 <= n < 2**40 for n in value)
