"""The run folder, `results/<homework>/<name>/`.

    config.json       arguments, hashes of the data, versions, git revision, host
    metrics.csv       metrics, one row per epoch
    summary.json      final metrics
    *.png, *.pdf      figures
    best.safetensors  weights of the best epoch
    last.pt           training state, from which a run resumes

Nothing here imports torch, so that a wrong run folder is reported at once.
"""

import contextlib
import os
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from hw_common.runs import files
from hw_common.runs.errors import UserError
from hw_common.runs.roles import Role

SCHEMA = 1
CONFIG, METRICS, SUMMARY = "config.json", "metrics.csv", "summary.json"
TABLE = "table.md"  # a comparison's results as a Markdown table
BEST, LAST = "best.safetensors", "last.pt"
_LOCK = ".lock"  # held while a process trains the run
_FIGURES_LOCK = ".figures.lock"  # held while a process adds figures to a finished run


class Run:
    """A run folder: its path `folder` and the content of its config.json, `config`."""

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        self.folder = folder
        self.config = config
        self._lock: FileLock | None = None

    @classmethod
    def create(cls, results_dir: Path, config: Mapping[str, Any], name: str, *, overwrite: bool = False) -> "Run":
        """Makes the folder `<results_dir>/<homework>/<name>`, or `<name>-2`, `-3`… if the name is taken.

        Raises:
            UserError: the folder is not writable; or the one to replace is in use, or is not a run folder.
        """
        parent = results_dir / config["homework"]
        try:
            parent.mkdir(parents=True, exist_ok=True)
            folder = parent / name
            if overwrite and folder.exists():
                run = cls(folder, config)
                run._check_is_run_folder()
                run._claim()
                run._clear()
            else:
                run = cls(_new_folder(parent, name), config)
                run._claim()
        except OSError as error:
            raise UserError(
                f"cannot write to {parent}: {error.strerror}; choose another place with --results_dir"
            ) from error
        try:
            files.write_json(run.folder / CONFIG, config)
        except UserError:
            run.discard_if_empty()
            run.close()
            raise
        return run

    @classmethod
    def find_of_job(cls, results_dir: Path, config: Mapping[str, Any], name: str) -> Path | None:
        """Returns the latest of the folders `name`, `name-2`, `name-3`… that the same torchrun call made, if any.

        Args:
            results_dir: folder of all run folders.
            config: the content of config.json that a new run would have, with the torchrun call as `job`.
            name: name of the run folder.
        """
        found = None
        for candidate in _numbered(name):
            folder = results_dir / config["homework"] / candidate
            if not folder.is_dir():
                return found
            with contextlib.suppress(UserError):
                own = cls.open(folder, config["homework"]).config
                if all(own.get(key) == config[key] for key in ("command", "arguments", "job")):
                    found = folder
        raise AssertionError("unreachable")

    @classmethod
    def open(cls, folder: Path, homework: str | None = None) -> "Run":
        """Opens an existing run for reading; `homework` None accepts a run of any homework.

        Raises:
            UserError: `folder` is not a run folder of `homework`, or its config.json is damaged or of another schema.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise UserError(f"{folder} is not a run folder: there is no such folder")
        if not (folder / CONFIG).is_file():
            raise UserError(f"{folder} is not a run folder: it has no {CONFIG}")
        config = files.read_json(folder / CONFIG)
        own = config.get("homework") if isinstance(config, dict) else None
        if homework is None and not (isinstance(own, str) and own.isidentifier()):  # it becomes a part of paths
            raise UserError(f"{folder / CONFIG} is damaged: it names no homework")
        if not isinstance(config, dict) or not isinstance(config.get("arguments"), dict):
            raise UserError(f"{folder / CONFIG} is damaged: it holds no arguments")
        if config.get("schema") != SCHEMA:
            raise UserError(f"{folder / CONFIG} has schema {config.get('schema')!r}, expected {SCHEMA}")
        for key in ("data", "host", "roles"):
            if not isinstance(config.get(key, {}), dict):
                raise UserError(f"{folder / CONFIG} is damaged: its {key} is not an object")
        if homework is not None and own != homework:
            raise UserError(f"{folder} is a run of {own!r}, expected one of {homework!r}")
        return cls(folder, config)

    @classmethod
    def reopen(cls, folder: Path, homework: str) -> "Run":
        """Opens an existing run for writing: locks it and removes temporary files of killed processes."""
        run = cls.open(folder, homework)
        try:
            run._claim()
        except OSError as error:
            raise UserError(f"cannot write to {folder}: {error.strerror}") from error
        return run

    def _claim(self) -> None:
        self._lock = FileLock(self.folder / _LOCK)  # the system releases the lock when the process ends
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise UserError(f"{self.folder} is being written by another process; choose another --name") from error
        files.remove_stale(self.folder)
        files.check_writable(self.folder)

    def _check_is_run_folder(self) -> None:
        # A run that was killed as it started has nothing but its unfinished config.json.
        others = [entry for entry in self._entries() if not files.is_temporary(entry, CONFIG)]
        if others and not (self.folder / CONFIG).is_file():
            raise UserError(f"{self.folder} is not replaced because it is not a run folder: it has no {CONFIG}")

    def _entries(self) -> list[Path]:
        return [entry for entry in self.folder.iterdir() if entry.name != _LOCK]

    def _clear(self) -> None:
        # config.json is removed last, so that the folder remains a run folder if the process is killed.
        for entry in sorted(self._entries(), key=lambda entry: entry.name == CONFIG):
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()

    def close(self) -> None:
        """Releases the lock of the folder."""
        if self._lock is not None:
            self._lock.release()

    def discard_if_empty(self) -> None:
        """Removes a new run that failed before its first checkpoint."""
        if not (self.folder / LAST).exists():
            if os.name == "nt":
                self.close()  # Windows does not remove a folder with an open file, such as the lock
            shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of the command that started the run."""
        return self.config["arguments"]

    def public_arguments(self) -> dict[str, Any]:
        """The arguments without paths and addresses of this machine; the last part of an input's path is kept."""
        roles = self.config.get("roles")
        if roles is None:  # a folder of an earlier version
            is_place = {
                name: name.endswith("_dir") or name == "resume" or "://" in str(value)
                for name, value in self.arguments.items()
            }
            roles = {name: Role.PLACE.value if is_place[name] else Role.INPUT.value for name in self.arguments}
        public = {}
        for name, value in self.arguments.items():
            if roles.get(name) == Role.INPUT.value and isinstance(value, str) and "/" in value:
                value = Path(value).name
            if roles.get(name) != Role.PLACE.value:
                public[name] = value
        return public

    @property
    def is_finished(self) -> bool:
        """Whether the run has its summary.json."""
        return (self.folder / SUMMARY).is_file()

    def summary(self) -> dict[str, Any]:
        """Reads the final metrics.

        Raises:
            UserError: the run is unfinished, or its summary is damaged or of another schema.
        """
        if not self.is_finished:
            raise UserError(f"{self.folder} has no {SUMMARY}; finish it with: {self.resume_command}")
        summary = files.read_json(self.folder / SUMMARY)
        if not isinstance(summary, dict) or summary.get("schema") != SCHEMA:
            raise UserError(f"{self.folder / SUMMARY} is damaged: expected an object of schema {SCHEMA}")
        return summary

    def write_metrics(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Writes metrics.csv, with one row per epoch."""
        files.write_csv(self.folder / METRICS, rows)

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Writes summary.json, which marks the run as finished."""
        files.write_json(self.folder / SUMMARY, {"schema": SCHEMA, **summary})

    @property
    def resume_command(self) -> str:
        """The command line that resumes this run."""
        processes = self.config.get("host", {}).get("processes", 1)
        start = "python" if processes == 1 else f"torchrun --nproc_per_node={processes}"
        return f"{start} -m {self.config['command']} --resume {shlex.quote(str(self.folder))}"

    @contextlib.contextmanager
    def free_stem(self, stem: str) -> Iterator[str]:
        """Yields `stem`, or `stem-2`, `stem-3`… if a figure of that name exists, for files written in the with block.

        Until the block ends, other processes that call this for the same run wait.

        Raises:
            UserError: the folder is not writable.
        """
        lock = FileLock(self.folder / _FIGURES_LOCK)
        try:
            lock.acquire()
        except OSError as error:
            raise UserError(f"cannot write to {self.folder}: {error.strerror}") from error
        try:
            taken = {entry.stem for entry in self.folder.iterdir()}
            yield next(name for name in _numbered(stem) if name not in taken)
        finally:
            lock.release()


def _numbered(name: str) -> Iterator[str]:
    yield name
    number = 2
    while True:
        yield f"{name}-{number}"
        number += 1


def _new_folder(parent: Path, name: str) -> Path:
    for candidate in _numbered(name):
        try:
            (parent / candidate).mkdir()
        except FileExistsError:
            continue
        return parent / candidate
    raise AssertionError("unreachable")
