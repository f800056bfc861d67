"""What run folders say: numbers and figures, each under the key by which a sheet's source asks for it."""

import datetime
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hw_common.runs import files
from hw_common.runs.errors import UserError
from hw_common.runs.run_folder import CONFIG, SCHEMA, SUMMARY, Run

FIGURE_SUFFIX = ".pdf"
SAMPLE = "sample"  # what a summary's "dataset" says of a built-in sample


class NotThere(UserError):
    """A run, a number or a figure has not been made yet; the message names the command that makes it."""


@dataclass(frozen=True)
class Numbers:
    """A JSON object that a command left in a run folder, and where it comes from.

    Attributes:
        content: the object.
        run: the folder.
        data: on which data, in words.
        sample: whether those are a built-in sample.
        seeds: of the trainings behind it.
    """

    content: Any
    run: Run
    data: str
    sample: bool
    seeds: tuple[int, ...]

    @property
    def date(self) -> str:
        """On which day the run was started, as YYYY-MM-DD."""
        return self.run.config["started"][:10]

    def as_json(self) -> dict[str, Any]:
        """As the sheets' sources read it."""
        return {
            "content": self.content,
            "data": self.data,
            "sample": self.sample,
            "seeds": list(self.seeds),
            "date": self.date,
            "folder": f"{self.run.config['homework']}/{self.run.folder.name}",
            "command": self.run.config["command"],
            "arguments": self.run.public_arguments(),
        }


@dataclass(frozen=True)
class Picture:
    """A figure's file, and the key of the numbers of its run."""

    path: Path
    of: str


@dataclass
class Collector:
    """Collects what one experiment left behind.

    Attributes:
        homework: whose run folders they are.
        head: path of the first of them; the others' names begin with its name.
        command: the whole command line that makes them.
        own: whether these are runs of the user's own, made by some other command.
        numbers: what was collected, by key.
        pictures: likewise.
    """

    homework: str
    head: Path
    command: str
    own: bool = False
    numbers: dict[str, Numbers] = field(default_factory=dict)
    pictures: dict[str, Picture] = field(default_factory=dict)

    def run(self, key: str, suffix: str = "", *, name: str = "", data: str = "") -> Mapping[str, Any]:
        """Collects the summary of a run folder and returns it.

        Args:
            key: of its numbers.
            suffix: the folder is `<head><suffix>`, …
            name: … or has this name.
            data: what it was computed from, where the summary names no data set.

        Raises:
            NotThere: there is no such run, or it is unfinished.
            UserError: its summary is damaged, of another schema, or names no data.
        """
        folder = self.head.with_name(name or self.head.name + suffix)
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
            raise UserError(f"{error}; make it anew with: {self.anew(folder)}") from error
        return summary

    def file(
        self, key: str, of: str, name: str, command: str = "", select: Callable[[Any], Any] = lambda content: content
    ) -> Any:
        """Collects another JSON file of a collected run.

        Args:
            key: of these numbers.
            of: key of the run.
            name: of the file.
            command: what writes it, the run's folder left out; "" where the run itself does.
            select: picks what is wanted of its content.

        Raises:
            NotThere: it is missing.
            UserError: it is damaged.
        """
        run = self.numbers[of].run
        path = run.folder / name
        if not path.is_file():
            raise NotThere(f"{path} is missing; make it with: {self._again(run.folder, path.stem, command)}")
        try:
            content = select(files.read_json(path))
        except (KeyError, TypeError, IndexError) as error:
            raise UserError(
                f"{path} is damaged: it is not what was expected ({type(error).__name__}: {error}); "
                f"make it anew with: {self._again(run.folder, path.stem, command)}"
            ) from error
        except UserError as error:
            again = self._again(run.folder, path.stem, command)
            raise UserError(f"{error}; make it anew with: {again}") from error
        whole = self.numbers[of]
        self.numbers[key] = Numbers(content, run, whole.data, whole.sample, whole.seeds)
        return content

    def figure(self, key: str, of: str, stem: str, command: str = "") -> None:
        """Collects a figure of a collected run; arguments and exceptions as `file`."""
        run = self.numbers[of].run
        path = run.folder / (stem + FIGURE_SUFFIX)
        if not path.is_file() or path.stat().st_size == 0:
            raise NotThere(f"the figure {path} is missing; make it with: {self._again(run.folder, stem, command)}")
        self.pictures[key] = Picture(path, of)

    def _again(self, folder: Path, stem: str, command: str) -> str:
        """What to type for a missing file; commands that look at a finished run replace no file of theirs."""
        if not command:
            return self.anew(folder)
        return f"rm -f {shlex.quote(str(folder))}/{stem}.* && {command} {shlex.quote(str(folder))}"

    def anew(self, folder: Path) -> str:
        """What to type to make a run folder again."""
        return f"{self.command} without --use" if self.own else f"rm -r {shlex.quote(str(folder))} && {self.command}"


def _numbers(run: Run, summary: Mapping[str, Any]) -> Numbers:
    data, seeds = summary.get("data"), summary.get("seeds", [run.arguments.get("seed")])
    if not isinstance(data, str):
        raise UserError(f"{run.folder / SUMMARY} is damaged: it does not say on which data")
    try:
        datetime.datetime.fromisoformat(run.config["started"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{run.folder / CONFIG} is damaged: it does not say when the run was started") from error
    seeds = seeds if isinstance(seeds, list) else []
    return Numbers(summary, run, data, summary.get("dataset") == SAMPLE, tuple(s for s in seeds if isinstance(s, int)))


def read_record(path: Path) -> dict[str, Any]:
    """The record of a measured run, as `python -m hw_common.record` wrote it.

    Raises:
        NotThere: there is none.
        UserError: it is damaged or of another schema.
    """
    again = "python -m hw_common.record RUN (the folder of the measured runs)"
    if not path.is_file():
        raise NotThere(f"{path} is missing; make it with: {again}")
    try:
        record = files.read_json(path)
        summary = record.get(SUMMARY) if isinstance(record, dict) else None
        if not isinstance(summary, dict) or summary.get("schema") != SCHEMA:
            raise UserError(f"{path} is damaged: expected a {SUMMARY} of schema {SCHEMA}")
    except UserError as error:
        raise UserError(f"{error}; make it anew with: {again}") from error
    return record
