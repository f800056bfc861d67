"""A run is a folder, `results/<homework>/<name>/`, and this is the only code that lays one out.

    config.json       everything that went in: arguments, data hashes, versions, git revision, host
    metrics.csv       one row per epoch
    summary.json      the final numbers: the only file that reports read
    *.png, *.pdf      figures
    best.safetensors  weights of the best epoch
    last.pt           everything needed to go on

Nothing here imports torch, so that a wrong run folder is refused at once.
"""

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
BEST, LAST = "best.safetensors", "last.pt"
_LOCK = ".lock"


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
        for key in ("data", "host", "roles"):
            if not isinstance(config.get(key, {}), dict):
                raise UserError(f"{folder / CONFIG} is damaged: its {key} is not an object")
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

    def public_arguments(self) -> dict[str, Any]:
        """The command's arguments without paths and addresses; of an input's path, the last part is kept."""
        roles = self.config.get("roles")
        if roles is None:  # a folder of an earlier version
            is_place = {name: name.endswith("_dir") or name == "resume" for name in self.arguments}
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
