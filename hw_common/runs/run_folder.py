"""A run is a folder, `results/<homework>/<name>/`, and this is the only code that lays one out.

    config.json       everything that went in: arguments, data hashes, versions, git revision, host
    metrics.csv       one row per epoch
    summary.json      the final numbers: the only file that reports read
    *.png, *.pdf      figures
    best.safetensors  weights of the best epoch
    last.pt           everything needed to go on

Nothing here imports torch, so that a wrong run folder is refused at once.
"""

import datetime
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from hw_common.runs import files
from hw_common.runs.errors import UserError

SCHEMA = 1
CONFIG, METRICS, SUMMARY = "config.json", "metrics.csv", "summary.json"
BEST, LAST = "best.safetensors", "last.pt"
_LOCK = ".lock"
_PACKAGES = ("torch", "torchvision", "numpy", "scikit-learn", "captum", "optuna")
_PLACES = {"data_dir", "dataset_dir", "results_dir", "resume", "storage"}  # arguments that are paths of one machine
_FILES = {"weights"}  # arguments that may be paths, whose last part tells something
# Arguments that say where things are and not what is computed: they may change between start and resume.
_FREE_ON_RESUME = {"resume", "data_dir", "results_dir", "overwrite", "tensorboard", "dry_run"}
# Arguments that older run folders lack, with the value that they were trained with.
_ADDED_LATER = {"kernels": "fast"}


class Run:
    """One run folder.

    Attributes:
        folder: where it is.
        config: the content of config.json.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        self.folder = folder
        self.config = config
        self._lock: FileLock | None = None

    @classmethod
    def create(cls, results_dir: Path, config: Mapping[str, Any], name: str, *, overwrite: bool = False) -> "Run":
        """Makes the folder `<results_dir>/<homework>/<name>`, or `<name>-2`, `-3`… where that is taken.

        Raises:
            UserError: the folder cannot be written, or another process is writing the run to overwrite.
        """
        parent = results_dir / config["homework"]
        try:
            parent.mkdir(parents=True, exist_ok=True)
            folder = parent / name
            if overwrite and folder.exists():
                run = cls(folder, config)
                run._check_is_one()
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
    def open(cls, folder: Path, homework: str) -> "Run":
        """Opens an existing run for reading.

        Raises:
            UserError: it is no run folder of `homework`, or its config.json is damaged.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise UserError(f"{folder} is not a run folder: there is no such folder")
        if not (folder / CONFIG).is_file():
            raise UserError(f"{folder} is not a run folder: it has no {CONFIG}")
        config = files.read_json(folder / CONFIG)
        if not isinstance(config, dict) or not isinstance(config.get("arguments"), dict):
            raise UserError(f"{folder / CONFIG} is damaged: it holds no arguments")
        if config.get("schema") != SCHEMA:
            raise UserError(f"{folder / CONFIG} has schema {config.get('schema')!r}, expected {SCHEMA}")
        for key in ("data", "host"):
            if not isinstance(config.get(key, {}), dict):
                raise UserError(f"{folder / CONFIG} is damaged: its {key} is no object")
        if config.get("homework") != homework:
            raise UserError(f"{folder} is a run of {config.get('homework')!r}, expected one of {homework!r}")
        return cls(folder, config)

    @classmethod
    def reopen(cls, folder: Path, homework: str) -> "Run":
        """Opens an existing run for writing: locks it and clears away what a killed process left half-written."""
        run = cls.open(folder, homework)
        try:
            run._claim()
        except OSError as error:
            raise UserError(f"cannot write to {folder}: {error.strerror}") from error
        return run

    def _claim(self) -> None:
        self._lock = FileLock(self.folder / _LOCK)  # an OS lock: it dies with its process
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise UserError(f"{self.folder} is being written by another process; choose another --name") from error
        files.remove_stale(self.folder)
        files.check_writable(self.folder)

    def _check_is_one(self) -> None:
        begun = f".{CONFIG}{files.TEMPORARY_SUFFIX}"  # all that a process leaves that is killed at once
        if any(e.name != begun for e in self._entries()) and not (self.folder / CONFIG).is_file():
            raise UserError(
                f"{self.folder} is in the way: it is not a run folder (it has no {CONFIG}) and is not replaced"
            )

    def _entries(self) -> list[Path]:
        return [entry for entry in self.folder.iterdir() if entry.name != _LOCK]

    def _clear(self) -> None:
        entries = self._entries()
        for entry in sorted(entries, key=lambda entry: entry.name == CONFIG):  # last, so that a kill can be repeated
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()

    def close(self) -> None:
        """Lets other processes write the folder again."""
        if self._lock is not None:
            self._lock.release()

    def discard_if_empty(self) -> None:
        """Removes a new run that failed before it had anything worth keeping."""
        if not (self.folder / LAST).exists():
            shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of the command that started the run."""
        return self.config["arguments"]

    def arguments_without_places(self) -> dict[str, Any]:
        """The command's arguments as others may read them: none is a path, and of weights the file's name is left."""
        return {
            name: Path(value).name if name in _FILES and value else value
            for name, value in self.arguments.items()
            if name not in _PLACES
        }

    @property
    def is_finished(self) -> bool:
        """Whether the run has its final numbers."""
        return (self.folder / SUMMARY).is_file()

    def summary(self) -> dict[str, Any]:
        """The final numbers.

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
        """Writes metrics.csv, a row per epoch."""
        files.write_csv(self.folder / METRICS, rows)

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Writes summary.json; from then on the run counts as finished."""
        files.write_json(self.folder / SUMMARY, {"schema": SCHEMA, **summary})

    @property
    def resume_command(self) -> str:
        """What to type to go on with this run."""
        processes = self.config.get("host", {}).get("processes", 1)
        start = "python" if processes == 1 else f"torchrun --nproc_per_node={processes}"
        return f"{start} -m {self.config['command']} --resume {shlex.quote(str(self.folder))}"

    def free_stem(self, stem: str) -> str:
        """`stem`, or `stem-2`, `stem-3`… so that a figure made later replaces none made before."""
        taken = {entry.stem for entry in self.folder.iterdir()}
        return next(name for name in _numbered(stem) if name not in taken)


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


def check_same_arguments(run: Run, given: Mapping[str, Any]) -> None:
    """Refuses to go on with a run under other arguments than its own.

    Raises:
        UserError: names the first difference.
    """
    for name, value in given.items():
        own, value = run.arguments.get(name, _ADDED_LATER.get(name)), _plain(value)
        if name not in _FREE_ON_RESUME and value != own:
            raise UserError(f"cannot resume {run.folder} with --{name} {value}: it was started with --{name} {own}")


def _plain(value: Any) -> Any:
    """A value as JSON keeps it."""
    return str(value) if isinstance(value, Path) else value


def check_same_data(run: Run, hashes: Mapping[str, str]) -> None:
    """Refuses to go on with a run on other data than its own.

    Raises:
        UserError: names the first file that differs.
    """
    own = run.config.get("data", {})
    for name in sorted(own.keys() | hashes.keys()):
        if own.get(name) != hashes.get(name):
            raise UserError(
                f"cannot resume {run.folder}: the data file {name} is not the one it was started with "
                f"(SHA-256 {hashes.get(name, 'none')[:16]}, then {own.get(name, 'none')[:16]})"
            )


def check_same_host(run: Run, host: Mapping[str, Any]) -> None:
    """Refuses to go on where the same bits cannot be had: another kind of device, or more or fewer processes.

    Raises:
        UserError: names the difference.
    """
    own = run.config.get("host", {})
    for name, value in host.items():
        if own.get(name) != value:
            raise UserError(
                f"cannot resume {run.folder} with {name} {value}: it was started with {own.get(name)}; "
                f"go on with: {run.resume_command}"
            )


def without_password(value: Any) -> Any:
    """`value`, with stars for the password of any address in it."""
    return re.sub(r"(://[^/@:\s]*):[^/@\s]*@", r"\1:***@", value) if isinstance(value, str) else value


def describe(
    homework: str, command: str, arguments: Mapping[str, Any], data_hashes: Mapping[str, str], host: Mapping[str, Any]
) -> dict[str, Any]:
    """The content of config.json for a new run."""
    return {
        "schema": SCHEMA,
        "homework": homework,
        "command": command,
        "arguments": {name: without_password(_plain(value)) for name, value in arguments.items()},
        "data": dict(data_hashes),
        "versions": {"python": platform.python_version(), **{name: metadata.version(name) for name in _PACKAGES}},
        "git": _git_revision(),
        "host": {"machine": platform.machine(), "cores": available_cores(), **host},
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "argv": [without_password(word) for word in sys.argv[1:]],
    }


def available_cores() -> int:
    """How many CPU cores this process may use (fewer than the machine has under taskset or in a container)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _git_revision() -> str | None:
    """The commit of this code, with `-dirty` where files differ from it; None outside a git checkout."""
    try:
        return subprocess.run(
            ["git", "describe", "--always", "--dirty", "--exclude=*", "--abbrev=40"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
