"""Collects the numbers and figures of run folders, each under the key by which a report asks for it."""

import contextlib
import datetime
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hw_common.record import RUNS
from hw_common.runs import files
from hw_common.runs.errors import UserError
from hw_common.runs.run_folder import CONFIG, SUMMARY, Run

FIGURE_SUFFIX = ".pdf"
SAMPLE = "sample"  # the value of "dataset" in a summary if the data are a built-in sample


class NotThere(UserError):
    """A run, a number or a figure has not been made yet; the message names the command that makes it."""


@dataclass(frozen=True)
class Numbers:
    """A JSON object from a run folder, and where it comes from."""

    content: Any  # the object
    run: Run
    data: str  # the data set in words
    sample: bool  # whether the data are a built-in sample
    seeds: tuple[int, ...]  # seeds of the training runs behind the numbers

    @property
    def date(self) -> str:
        """The day on which the run was started, as YYYY-MM-DD."""
        return self.run.config["started"][:10]

    def as_json(self) -> dict[str, Any]:
        """The object that the reports read."""
        folder = self.run.folder
        record = f"{folder.parents[1].name}/" if folder.parent.name == RUNS else ""
        return {
            "content": self.content,
            "data": self.data,
            "sample": self.sample,
            "seeds": list(self.seeds),
            "date": self.date,
            "folder": record + folder.name,
            "command": self.run.config["command"],
            "arguments": self.run.public_arguments(),
        }


@dataclass(frozen=True)
class Picture:
    """The file of a figure, and the key of the numbers of its run."""

    path: Path
    of: str


@dataclass
class Collector:
    """Collects the numbers and figures of one experiment."""

    homework: str  # package whose run folders are read
    head: Path  # path of the first run folder; the names of the others begin with its name
    command: str  # the whole command line that makes the run folders
    own: bool = False  # whether these are runs of the user, made by another command
    numbers: dict[str, Numbers] = field(default_factory=dict)  # the collected numbers by key
    pictures: dict[str, Picture] = field(default_factory=dict)  # the collected figures by key

    def run(self, key: str, suffix: str = "", *, name: str = "", data: str = "") -> Mapping[str, Any]:
        """Collects the summary of a run folder and returns it.

        Args:
            key: key of the numbers.
            suffix: text that is appended to the name of `head`; the result is the folder's name.
            name: the whole name of the folder, in place of the suffix.
            data: the data in words, if the summary names no data set.

        Raises:
            NotThere: the run is missing or unfinished.
            UserError: its summary is damaged, of another schema, or names no data.
        """
        folder = self.folder(suffix, name)
        if not (folder / CONFIG).is_file():
            raise NotThere(f"{folder} is missing or was only begun; make it with: {self.command}")
        try:
            run = Run.open(folder, self.homework)
            if not run.is_finished:
                raise NotThere(f"{folder} has no {SUMMARY}; finish it with: {self.command}")
            summary = run.summary()
            self.numbers[key] = _numbers(run, {"data": data or None, **summary})
        except NotThere:
            raise
        except UserError as error:
            raise UserError(f"{error}; make it again with: {self.remake(folder)}") from error
        return summary

    def folder(self, suffix: str, name: str) -> Path:
        """The path of a run folder; see `run` for the arguments."""
        return self.head.with_name(name or self.head.name + suffix)

    def file(
        self, key: str, of: str, name: str, command: str = "", select: Callable[[Any], Any] = lambda content: content
    ) -> None:
        """Collects another JSON file of a collected run.

        Args:
            key: key of these numbers.
            of: key of the run.
            name: name of the file.
            command: command that writes the file if the run folder is appended to it; "" if the run writes the file.
            select: picks the wanted part of the content.

        Raises:
            NotThere: the file is missing.
            UserError: the file is damaged.
        """
        whole = self.numbers[of]
        path = whole.run.folder / name
        again = self._remake_file(path, command)
        if not path.is_file():
            raise NotThere(f"{path} is missing; make it with: {again}")
        try:
            content = select(files.read_json(path))
        except (KeyError, TypeError, IndexError) as error:
            raise UserError(
                f"{path} is damaged: unexpected content ({type(error).__name__}: {error}); make it again with: {again}"
            ) from error
        except UserError as error:
            raise UserError(f"{error}; make it again with: {again}") from error
        self.numbers[key] = Numbers(content, whole.run, whole.data, whole.sample, whole.seeds)

    def figure(self, key: str, of: str, stem: str, command: str = "") -> None:
        """Collects the figure `stem`.pdf of a collected run; see `file` for the other arguments and the errors."""
        path = self.numbers[of].run.folder / (stem + FIGURE_SUFFIX)
        if not path.is_file() or path.stat().st_size == 0:
            raise NotThere(f"the figure {path} is missing; make it with: {self._remake_file(path, command)}")
        self.pictures[key] = Picture(path, of)

    def figures(self, of: str, *stems: str, command: str = "") -> None:
        """Collects figures of a collected run, each with the key <of>.<stem>; see `file` for the other arguments."""
        for stem in stems:
            self.figure(f"{of}.{stem.replace('_', '-')}", of, stem, command)

    def _remake_file(self, path: Path, command: str) -> str:
        """The command line that makes a file of a run again, after removing the old file."""
        if not command:
            return self.remake(path.parent)
        folder = shlex.quote(str(path.parent))
        return f"rm -f {folder}/{path.stem}.* && {command} {folder}"

    def remake(self, folder: Path) -> str:
        """The command line that makes a run folder again."""
        if self.own:
            return f"{self.command} (then run hw_report without --use)"
        return f"rm -r {shlex.quote(str(folder))} && {self.command}"


@dataclass
class RecordCollector(Collector):
    """Collects the numbers and figures of one experiment from records. What was not recorded is left out."""

    records: Mapping[str, Path] = field(default_factory=dict)  # record by the suffix or name of its run folder

    def run(self, key: str, suffix: str = "", *, name: str = "", data: str = "") -> Mapping[str, Any]:
        """See `Collector.run`; returns an empty mapping if the run was not recorded."""
        try:
            return super().run(key, suffix, name=name, data=data)
        except NotThere:
            return {}

    def folder(self, suffix: str, name: str) -> Path:
        """The record of a run folder, or a folder of a training run in a record."""
        if path := self.records.get(name or suffix):
            return path
        paths = [path / RUNS / suffix.removeprefix("-") for path in self.records.values()]
        return next((path for path in paths if path.is_dir()), self.head.with_name(name or suffix))

    def file(
        self, key: str, of: str, name: str, command: str = "", select: Callable[[Any], Any] = lambda content: content
    ) -> None:
        """See `Collector.file`."""
        if of in self.numbers:
            with contextlib.suppress(NotThere):
                super().file(key, of, name, command, select)

    def figure(self, key: str, of: str, stem: str, command: str = "") -> None:
        """See `Collector.figure`."""
        if of in self.numbers:
            with contextlib.suppress(NotThere):
                super().figure(key, of, stem, command)


def _numbers(run: Run, summary: Mapping[str, Any]) -> Numbers:
    data, seeds = summary.get("data"), summary.get("seeds", [run.arguments.get("seed")])
    if not isinstance(data, str):
        raise UserError(f"{run.folder / SUMMARY} is damaged: the name of its data is missing")
    try:
        datetime.datetime.fromisoformat(run.config["started"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{run.folder / CONFIG} is damaged: the start time of the run is missing") from error
    seeds = seeds if isinstance(seeds, list) else []
    return Numbers(summary, run, data, summary.get("dataset") == SAMPLE, tuple(s for s in seeds if isinstance(s, int)))


def read_record(path: Path) -> dict[str, Any]:
    """The results ("summary.json") and the configuration in a record or in one of its training runs.

    Raises:
        NotThere: there is no such record.
        UserError: the record is damaged or of another schema.
    """
    again = "python -m hw_common.record RUN (the folder of the measured runs)"
    if not path.is_dir():
        raise NotThere(f"{path} is missing; make it with: {again}")
    try:
        record = path.parents[1] if path.parent.name == RUNS else path
        run = Run.open(path, record.name.partition("-")[0])
        if not run.is_finished:
            raise UserError(f"{path} has no {SUMMARY}")
        return {SUMMARY: run.summary(), **run.config}
    except UserError as error:
        raise UserError(f"{error}; make it again with: {again} --overwrite") from error
