"""`python -m hw_report build`: runs the missing experiments of the sheets, then writes their PDFs."""

import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hw_common.commands.train_all import pass_on
from hw_common.runs import files
from hw_common.runs.errors import Stopped, UserError, signal_of
from hw_report import document
from hw_report.collect import Collector, NotThere
from hw_report.experiments import Command, Experiment
from hw_report.sheets import Sheet

_STOPPED = {130, 143}  # exit statuses of a command that has saved on SIGINT or SIGTERM
_RESUMES = "the build was stopped; the same command resumes it"


@dataclass(frozen=True)
class Settings:
    """Settings of a build that all sheets share."""

    profile: str  # "sample" or "full"
    results_dir: Path  # folder with the run folders; the PDFs are written into its subfolder reports/
    # Values of flags for the commands, by name; None for a flag that was not given.
    options: Mapping[str, str | None] = field(default_factory=dict)
    # The user's own runs, by the name of the experiment that they replace: the path of the first run folder. The names
    # of the other run folders begin with its name.
    use: Mapping[str, Path] = field(default_factory=dict)

    def command_line(self, command: Command) -> list[str]:
        """The words after `python -m` for a command."""
        line = [*command.words, "--profile", self.profile, "--results_dir", str(self.results_dir)]
        for name in command.options:
            value = self.options.get(name)
            line += [f"--{name}", value] if value is not None else []
        return line

    def by_hand(self, command: Command) -> str:
        """The whole command line, to type by hand."""
        return shlex.join(["python", "-m", *self.command_line(command)])

    def build_by_hand(self, sheet: Sheet) -> str:
        """The command line that builds `sheet`, to type by hand."""
        line = ["python", "-m", "hw_report", "build", sheet.name, "--profile", self.profile]
        line += ["--results_dir", str(self.results_dir)]
        if self.use:
            line += ["--use", *(f"{name}={path}" for name, path in self.use.items())]
        return shlex.join(line)

    def check_use(self, sheets: Sequence[Sheet]) -> None:
        """Checks the names in `use`.

        Raises:
            UserError: a name is not that of an experiment of `sheets`.
        """
        known = {experiment.name for sheet in sheets for experiment in sheet.its_experiments()}
        if foreign := self.use.keys() - known:
            one = min(foreign)
            raise UserError(f"--use {one}: these sheets have no such experiment, only {', '.join(sorted(known))}")

    def collect(self, experiment: Experiment) -> Collector:
        """The numbers and figures of an experiment.

        Raises:
            NotThere: a part is missing; the message names the command that makes it.
            UserError: a part is damaged; the message names the command that makes it again.
        """
        own = self.use.get(experiment.name)
        folder = own or experiment.folder(self.results_dir, self.profile)
        collector = Collector(experiment.homework, folder, self.by_hand(experiment.command), own is not None)
        try:
            experiment.collect(collector)
        except (KeyError, TypeError, IndexError, ValueError) as error:
            raise UserError(
                f"the summaries of {folder}* have unexpected content ({type(error).__name__}: {error}); make them "
                f"again with: {collector.remake(folder)}"
            ) from error
        return collector

    def collect_all(self, sheet: Sheet) -> dict[str, Collector]:
        """The numbers and figures of all experiments of a sheet, by name; see `collect` for the errors."""
        return {experiment.name: self.collect(experiment) for experiment in sheet.its_experiments()}


def build(sheets: Sequence[Sheet], settings: Settings) -> list[Path]:
    """Runs the missing experiments, then writes the PDFs of `sheets`; returns their paths.

    Raises:
        UserError: typst or a report's file is missing, a run folder is damaged, or a command failed. The other
            commands and PDFs are finished first.
        Stopped: Ctrl-C or SIGTERM, after the running command has saved its state.
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
    """The commands whose results are missing; each occurs once, even if several experiments need it."""
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
    """Runs `commands` one after another; returns a message for each that failed."""
    if commands:
        minutes = sum(command.minutes[settings.profile] for command in commands)
        print(f"commands to run first, {duration(minutes)} in all on two cores:")
    for command in commands:
        print(f"  {settings.by_hand(command)}  ({duration(command.minutes[settings.profile])})", flush=True)
    failures = []
    for command in commands:
        print(f"\n==== {settings.by_hand(command)}", flush=True)
        status = _call([sys.executable, "-m", *settings.command_line(command)])
        if status in _STOPPED:
            raise Stopped(status - 128, _RESUMES)
        if status != 0:
            failures.append(f"a command ended with status {status}; run it by hand: {settings.by_hand(command)}")
    return failures


def _call(line: Sequence[str]) -> int:
    """Runs a command to its end and returns its status; passes Ctrl-C and SIGTERM on and waits until it has saved."""
    process = subprocess.Popen(line, start_new_session=True)  # Ctrl-C then goes to this process alone
    try:
        return process.wait()
    except KeyboardInterrupt as interrupt:
        pass_on(interrupt, process)
        process.wait()
        raise Stopped(signal_of(interrupt), _RESUMES) from None


def duration(minutes: float) -> str:
    """A rough duration in words."""
    if minutes < 1:
        return f"about {60 * minutes:.0f} s"
    return f"about {minutes:.0f} min" if minutes < 120 else f"about {minutes / 60:.0f} h"
