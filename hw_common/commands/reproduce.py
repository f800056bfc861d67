"""The skeleton of every `python -m <homework>.reproduce`: flags, titles of steps, tables and the list of results."""

import argparse
import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hw_common.commands import cli
from hw_common.commands.cli import add_flag
from hw_common.commands.comparison import Comparison, add_jobs_flag
from hw_common.commands.over_seeds import markdown
from hw_common.commands.training_command import ResumableCommand
from hw_common.runs import files
from hw_common.runs.errors import Stopped, signal_of
from hw_common.runs.roles import Role
from hw_common.runs.run_folder import Run


def parser(homework: str, description: str | None) -> cli.Parser:
    """Declares the flags that all homeworks share."""
    flags = cli.Parser(f"python -m {homework}.reproduce", description or "")
    add_flag(flags, "profile", choices=("sample", "full"), default="sample", help="size of the data (default: sample)")
    add_flag(flags, "data_dir", role=Role.PLACE, help="folder of the data sets of --profile full")
    cli.add_results_dir_flag(flags)
    add_jobs_flag(flags)
    return flags


@dataclass(frozen=True)
class Reproduction:
    """One call of a `reproduce` command."""

    profile: str  # "sample" or "full", the first part of the names of run folders
    results_dir: Path  # folder of all run folders
    folder: Path  # folder of the homework's run folders
    data: Sequence[str]  # --data_dir with its value, or nothing if it was not given
    given: Sequence[str]  # the given flags that are passed on to the training commands, --data_dir included
    where: Sequence[str]  # flags of a comparison that say where and how it runs, without --name
    results: list[Path] = field(default_factory=list)  # paths and patterns to list at the end, in this order

    def train(self, title: str, command: ResumableCommand, flags: Sequence[str], part: str) -> Run:
        """Prints `title` and returns the finished run <profile>-<part>; trains or resumes it first if necessary."""
        print_step(title)
        return command.train_once(flags, self.results_dir, f"{self.profile}-{part}")

    def compare(self, comparison: Comparison, files_of_comparison: Iterable[str], files_of_run: Iterable[str]) -> None:
        """Runs a comparison and lists its files and those of its training runs."""
        comparison.run()
        self.results.extend(comparison.folder / name for name in files_of_comparison)
        runs = [comparison.run_name(row, seed) for seed in comparison.seeds for row in comparison.rows]
        self.results.extend(self.folder / run / name for run in runs for name in files_of_run)

    def write_numbers(self, tables: Sequence[str], part: str = "") -> None:
        """Writes Markdown tables into <profile>-<part>-numbers.md, prints them and lists the file."""
        path = self.folder / "-".join(filter(None, (self.profile, part, "numbers.md")))
        text = "\n".join(tables)
        files.write_text(path, text)
        print(f"\n{text}", end="")
        self.results.append(path)


@contextlib.contextmanager
def start(homework: str, arguments: argparse.Namespace, *passed_on: str) -> Iterator[Reproduction]:
    """Begins a reproduction; at the end of the block, prints its duration and lists its results.

    Args:
        homework: name of the package.
        arguments: the checked arguments of the command.
        passed_on: names of the flags besides --data_dir that are passed on to the training commands.

    Raises:
        Stopped: on Ctrl-C or SIGTERM; all active runs have saved.
    """
    started, values, results_dir = time.monotonic(), vars(arguments), arguments.results_dir
    data, *others = ([f"--{name}={values[name]}"] if values[name] else [] for name in ("data_dir", *passed_on))
    where = ["--results_dir", str(results_dir), "--jobs", str(arguments.jobs)]
    given = sum(others, data)
    reproduction = Reproduction(arguments.profile, results_dir, results_dir / homework, data, given, where)
    try:
        yield reproduction
    except (KeyboardInterrupt, Stopped) as stop:
        number = stop.signal_number if isinstance(stop, Stopped) else signal_of(stop)
        raise Stopped(number, "stopped; the same command resumes where it stopped") from None
    print(f"\nfinished in {time.monotonic() - started:.0f} s; tables and figures:")
    print("\n".join(f"  {path}" for path in dict.fromkeys(reproduction.results)))


def print_step(title: str) -> None:
    """Prints the title of a step."""
    print(f"\n== {title}", flush=True)


def markdown_table(columns: Mapping[str, str], rows: Iterable[Mapping[str, Any]]) -> str:
    """A table in Markdown; `columns` maps titles to format strings, whose fields are keys of a row."""
    return markdown([*columns], ([text.format_map(row) for text in columns.values()] for row in rows))
