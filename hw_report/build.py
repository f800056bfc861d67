"""`python -m hw_report build`: runs what is missing of the sheets' experiments, then writes their PDFs."""

import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hw_common.runs import files
from hw_common.runs.errors import Stopped, UserError, signal_of
from hw_report import document
from hw_report.collect import Collector, NotThere
from hw_report.sheets import Sheet
from hw_report.sources import Command, Experiment

_STOPPED = {130, 143}  # exit statuses of a command that has saved on SIGINT or SIGTERM
_GOES_ON = "the build was stopped; the same command goes on where it was"


@dataclass(frozen=True)
class Settings:
    """What is the same for all sheets of a build.

    Attributes:
        profile: "sample" or "full".
        results_dir: where run folders are and the PDFs go to.
        options: flags for the commands, by name; None for what was not given.
        use: run folders to take in place of an experiment's own, by its name: path of the first, with which the
            names of the others begin.
    """

    profile: str
    results_dir: Path
    options: Mapping[str, str | None] = field(default_factory=dict)
    use: Mapping[str, Path] = field(default_factory=dict)

    def command_line(self, command: Command) -> list[str]:
        """What to type behind `python -m` for a command."""
        line = [*command.words, "--profile", self.profile, "--results_dir", str(self.results_dir)]
        for name in command.options:
            value = self.options.get(name)
            line += [f"--{name}", value] if value is not None else []
        return line

    def by_hand(self, command: Command) -> str:
        """The whole command line, as one types it."""
        return shlex.join(["python", "-m", *self.command_line(command)])

    def build_by_hand(self, sheet: Sheet) -> str:
        """The command line that builds `sheet`, as one types it."""
        line = ["python", "-m", "hw_report", "build", sheet.name, "--profile", self.profile]
        line += ["--results_dir", str(self.results_dir)]
        if self.use:
            line += ["--use", *(f"{name}={path}" for name, path in self.use.items())]
        return shlex.join(line)

    def check_use(self, sheets: Sequence[Sheet]) -> None:
        """Finds out whether `use` names experiments of `sheets` only.

        Raises:
            UserError: it does not.
        """
        known = {experiment.name for sheet in sheets for experiment in sheet.its_experiments()}
        if foreign := self.use.keys() - known:
            one = min(foreign)
            raise UserError(f"--use {one}: these sheets have no such experiment, only {', '.join(sorted(known))}")

    def collect(self, experiment: Experiment) -> Collector:
        """What an experiment left behind.

        Raises:
            NotThere: not all of it is there; the message names the command.
            UserError: something of it is damaged; likewise.
        """
        own = self.use.get(experiment.name)
        folder = own or experiment.folder(self.results_dir, self.profile)
        collector = Collector(experiment.homework, folder, self.by_hand(experiment.command), own is not None)
        try:
            experiment.collect(collector)
        except (KeyError, TypeError, IndexError, ValueError) as error:
            raise UserError(
                f"a {type(error).__name__} in the summaries of {folder}*: {error} is not as {experiment.homework} "
                f"writes it; make them anew with: {collector.anew(folder)}"
            ) from error
        return collector

    def collect_all(self, sheet: Sheet) -> dict[str, Collector]:
        """What the experiments of a sheet left behind, by their names; raises as `collect`."""
        return {experiment.name: self.collect(experiment) for experiment in sheet.its_experiments()}


def build(sheets: Sequence[Sheet], settings: Settings) -> list[Path]:
    """Runs what is missing, then writes the PDFs of `sheets`; returns their paths.

    Raises:
        UserError: typst or a sheet's source is missing, a run folder is damaged, or commands failed (whatever else
            could be done was done all the same).
        Stopped: on Ctrl-C or SIGTERM, after the running command has saved.
    """
    document.check(sheets)
    settings.check_use(sheets)
    failures = _run(_missing_commands(sheets, settings), settings)
    paths = []
    for sheet in sheets:
        try:
            pdf = document.render(sheet, settings.profile, settings.collect_all(sheet))
            paths.append(document.path_of(sheet, settings.results_dir))
            paths[-1].parent.mkdir(parents=True, exist_ok=True)
            files.write_bytes(paths[-1], pdf)
            print(paths[-1], flush=True)
        except UserError as error:
            failures.append(f"{sheet.name}: {error}")
    if failures:
        raise UserError("; ".join(failures))
    return paths


def _missing_commands(sheets: Sequence[Sheet], settings: Settings) -> list[Command]:
    """The commands whose experiments are not all there; each once, though several experiments or sheets want it."""
    commands: dict[Command, None] = {}
    for sheet in sheets:
        for experiment in sheet.its_experiments():
            try:
                settings.collect(experiment)
            except NotThere:
                if experiment.name in settings.use:
                    raise
                commands[experiment.command] = None
    return list(commands)


def _run(commands: Sequence[Command], settings: Settings) -> list[str]:
    """Runs `commands` one after the other; returns what to say about those that failed."""
    if commands:
        minutes = sum(command.minutes[settings.profile] for command in commands)
        print(f"to run first, {duration(minutes)} in all on two cores:")
    for command in commands:
        print(f"  {settings.by_hand(command)}  ({duration(command.minutes[settings.profile])})", flush=True)
    failures = []
    for command in commands:
        print(f"\n==== {settings.by_hand(command)}", flush=True)
        status = _call([sys.executable, "-m", *settings.command_line(command)])
        if status in _STOPPED:
            raise Stopped(status - 128, _GOES_ON)
        if status != 0:
            failures.append(f"status {status} of a command that can be run by hand: {settings.by_hand(command)}")
    return failures


def _call(line: Sequence[str]) -> int:
    """Runs a command to its end and returns its status; Ctrl-C and SIGTERM are passed on once, and it may save."""
    process = subprocess.Popen(line, start_new_session=True)  # a session of its own: Ctrl-C goes to this process
    try:
        return process.wait()
    except KeyboardInterrupt as interrupt:
        process.send_signal(signal_of(interrupt))
        process.wait()
        raise Stopped(signal_of(interrupt), _GOES_ON) from None


def duration(minutes: float) -> str:
    """How long something takes, in words."""
    if minutes < 1:
        return f"about {60 * minutes:.0f} s"
    return f"about {minutes:.0f} min" if minutes < 120 else f"about {minutes / 60:.0f} h"
