"""A file of features that can be written for hours, killed at any moment, and trusted afterwards.

A folder holds the features of some images:

    features.npy  (images, regions, 512) float16, to be memory-mapped
    index.json    how they were made, and the hash of each image whose row is done

A row counts only once index.json says so, and index.json is written, whole, after the row is on disk.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from hw_common import files
from hw_common.errors import UserError

SCHEMA = 1
ARRAY, INDEX = "features.npy", "index.json"

Hashes = Mapping[str, str | None]


class _UnusableError(Exception):
    """Why features on disk cannot be used."""


class FeatureFile:
    """The features in one folder; only one process at a time may write there.

    Attributes:
        folder: where they are.
        recipe: how they are made: whatever changes the numbers, as JSON.
        hashes: of each image, in the order of the rows; None where the row is not done.
    """

    def __init__(self, folder: Path, recipe: Mapping[str, Any], row_shape: tuple[int, int]) -> None:
        self.folder = folder
        self.recipe = dict(recipe)
        self.hashes: dict[str, str | None] = {}
        self._row_shape = row_shape
        self._rows: dict[str, int] = {}
        self._written: dict[str, str] = {}  # since the latest commit
        self._offset = 0  # of the first row, in bytes

    def prepare(self, wanted: Mapping[str, str]) -> None:
        """Makes a row for each image of `wanted` (name to hash), keeping those that are done and still right.

        Raises:
            UserError: the folder cannot be written.
        """
        try:
            found, array = self._read()
        except _UnusableError as reason:
            print(f"{self.folder}: {reason}; all features are computed anew")
            found, array = {}, None
        if list(found) == list(wanted) and all(digest in (None, wanted[name]) for name, digest in found.items()):
            self._use(found)
            return
        old_rows = {digest: row for row, digest in enumerate(found.values()) if digest is not None}
        self._use(dict.fromkeys(wanted))
        self._write_index()  # from here on the old rows, which are about to move, count as not done
        kept = {name: digest for name, digest in wanted.items() if digest in old_rows}
        self._lay_out({name: array[old_rows[digest]] for name, digest in kept.items()} if kept else {})
        self.hashes.update(kept)
        self._write_index()

    @property
    def missing(self) -> list[str]:
        """Names of the images whose rows are not done."""
        return [name for name, digest in self.hashes.items() if digest is None]

    def write(self, names: Sequence[str], digests: Sequence[str], features: np.ndarray) -> None:
        """Writes rows (B, regions, 512) float16; they count from the next `commit` on."""
        # Through a file and not through the memory map: there, a full disk would be a SIGBUS instead of an error.
        with self._disk_errors(), open(self.folder / ARRAY, "r+b") as file:
            for name, row in zip(names, features, strict=True):
                self._write_row(file, name, row)
        self._written.update(zip(names, digests, strict=True))

    def commit(self) -> None:
        """Makes what was written count."""
        if self._written:
            with self._disk_errors(), open(self.folder / ARRAY, "r+b") as file:
                os.fsync(file.fileno())
            self.hashes.update(self._written)
            self._written = {}
            self._write_index()

    def array(self) -> np.ndarray:
        """All rows (images, regions, 512) float16, memory-mapped; stays as it is if the file is laid out anew."""
        return self._map(len(self.hashes)).view(np.ndarray)  # np.memmap itself makes each look-up slow

    def _use(self, hashes: Hashes) -> None:
        self.hashes = dict(hashes)
        self._rows = {name: row for row, name in enumerate(hashes)}

    def _read(self) -> tuple[Hashes, np.ndarray | None]:
        """What is on disk: hashes and rows of the images; nothing where there is no index yet."""
        if not (self.folder / INDEX).exists():
            return {}, None
        try:
            index = files.read_json(self.folder / INDEX)
        except UserError as error:
            raise _UnusableError(f"{INDEX} cannot be read") from error
        hashes = index.get("images") if isinstance(index, dict) else None
        if not isinstance(hashes, dict) or not all(isinstance(value, str | None) for value in hashes.values()):
            raise _UnusableError(f"{INDEX} is damaged")
        differing = [key for key, value in self._head().items() if index.get(key) != value]
        if differing:
            raise _UnusableError(f"what is there was made with another {' and another '.join(differing)}")
        if not any(hashes.values()):  # killed before anything was done
            return {}, None
        return hashes, self._map(len(hashes))

    def _map(self, images: int) -> np.ndarray:
        try:
            # Read-only, also because NumPy would make a file that is too short longer.
            array = np.load(self.folder / ARRAY, mmap_mode="r", allow_pickle=False)
        except (OSError, EOFError, ValueError, SyntaxError) as error:
            raise _UnusableError(f"{ARRAY} is missing, damaged or cut short") from error
        if array.shape != (images, *self._row_shape) or array.dtype != np.float16 or not array.flags.c_contiguous:
            raise _UnusableError(f"{ARRAY} is not what {INDEX} says")
        self._offset = array.offset
        return array

    def _head(self) -> dict[str, Any]:
        return {"schema": SCHEMA, **self.recipe}

    def _write_index(self) -> None:
        files.write_json(self.folder / INDEX, {**self._head(), "images": self.hashes})

    def _lay_out(self, rows: Mapping[str, np.ndarray]) -> None:
        """Puts a new array, with `rows` filled in, in place of the old one; who has the old one mapped keeps it."""
        temporary = self.folder / f".{ARRAY}{files.TEMPORARY_SUFFIX}"
        with self._disk_errors():
            shape = (len(self.hashes), *self._row_shape)
            self._offset = np.lib.format.open_memmap(temporary, "w+", np.float16, shape).offset
            with open(temporary, "r+b") as file:
                for name, row in rows.items():
                    self._write_row(file, name, row)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.folder / ARRAY)

    def _write_row(self, file: BinaryIO, name: str, row: np.ndarray) -> None:
        row = np.ascontiguousarray(row, dtype=np.float16)
        file.seek(self._offset + self._rows[name] * row.nbytes)
        file.write(row)

    @contextlib.contextmanager
    def _disk_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(
                f"cannot write {self.folder / ARRAY}: {error.strerror}; make room or choose another --results_dir, "
                "and the same command goes on"
            ) from error
