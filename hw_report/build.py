"""`python -m hw_report build`: writes the PDFs of the sheets, from records or after running the missing experiments."""

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hw_common.commands.processes import last_line, run_processes
from hw_common.commands.train_all import default_jobs
from hw_common.runs import files
from hw_common.runs.errors import Stopped, UserError, signal_of
from hw_report import document
from hw_report.collect import Collector, NotThere, RecordCollector
from hw_report.experiments import Command, Experiment
from hw_report.sheets import Sheet, records_of

_STOPPED = {130, 143}  # exit statuses of a command that has saved on SIGINT or SIGTERM
_RESUMES = "the build was stopped; the same command resumes it"


@dataclass(frozen=True)
class Settings:
    """Settings of a build that all sheets share."""

    profile: str  # "record", "sample" or "full"
    results_dir: Path  # folder with the run folders; the PDFs are written into its subfolder reports/
    # Values of flags for the commands, by name; None for a flag that was not given.
    options: Mapping[str, str | None] = field(default_factory=dict)
    # The user's own runs, by the name of the experiment that they replace: the path of the first run folder. The names
    # of the other run folders begin with its name.
    use: Mapping[str, Path] = field(default_factory=dict)

    @property
    def training_profile(self) -> str:
        """The profile of commands that train; for reports from records, the profile of the recorded runs."""
        return "full" if self.profile == "record" else self.profile

    def command_line(self, command: Command) -> list[str]:
        """The words after `python -m` for a command."""
        line = [*command.words, "--profile", self.training_profile, "--results_dir", str(self.results_dir)]
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
        """The numbers and figures of an experiment; from records, those that were recorded.

        Raises:
            NotThere: a part is missing; the message names the command that makes it.
            UserError: a part is damaged; the message names the command that makes it again.
        """
        own = self.use.get(experiment.name)
        folder = own or experiment.folder(self.results_dir, self.training_profile)
        by_hand = self.by_hand(experiment.command)
        collector = Collector(experiment.homework, folder, by_hand, own is not None)
        if self.profile == "record" and own is None:
            collector = RecordCollector(experiment.homework, folder, by_hand, records=records_of(experiment))
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
    """Runs the missing experiments and writes the PDF of each sheet as soon as its experiments are there.

    Returns:
        The paths of the PDFs, in the order in which they were written.

    Raises:
        UserError: typst or a report's file is missing, a run folder is damaged, or a command failed. The other
            commands and PDFs are finished first.
        Stopped: Ctrl-C or SIGTERM, after the running commands have saved their state.
    """
    document.check(sheets)
    settings.check_use(sheets)
    building = _Build(settings, {sheet: _missing_commands(sheet, settings) for sheet in sheets})
    try:
        building.run()
    except KeyboardInterrupt as interrupt:
        raise Stopped(signal_of(interrupt), _RESUMES) from None
    if building.failures:
        raise UserError("; ".join(building.failures))
    return building.paths


def _missing_commands(sheet: Sheet, settings: Settings) -> list[Command]:
    """The commands whose results are missing; each occurs once, even if several experiments need it."""
    commands: dict[Command, None] = {}
    for experiment in sheet.its_experiments():
        try:
            settings.collect(experiment)
        except NotThere:
            if experiment.name in settings.use:
                raise
            commands[experiment.command] = None
    return list(commands)


class _Build:
    """One call of `build`.

    On the sample, the commands run side by side, because each of them keeps a single core busy. In full, they run one
    after another, and each of them trains several networks side by side.
    """

    def __init__(self, settings: Settings, missing: Mapping[Sheet, list[Command]]) -> None:
        self.settings = settings
        self.missing = dict(missing)  # the commands that have not ended yet, for each PDF that is not written yet
        self.paths: list[Path] = []
        self.failures: list[str] = []
        self.commands = {"-".join(command.words).replace("--", ""): command for command in self._in_order()}
        jobs = int(settings.options.get("jobs") or default_jobs())
        self.at_a_time = min(jobs, len(self.commands)) if settings.profile == "sample" else 1
        of_each = {"jobs": str(jobs // self.at_a_time)} if self.at_a_time > 1 else {}
        self.for_each = dataclasses.replace(settings, options={**settings.options, **of_each})
        self.logs = settings.results_dir / "logs" if self.at_a_time > 1 else None

    def run(self) -> None:
        """Runs the commands and writes the PDFs."""
        self._announce()
        self._write_pdfs()
        lines = {name: self.for_each.command_line(command) for name, command in self.commands.items()}
        if self.logs:
            self.logs.mkdir(parents=True, exist_ok=True)
        run_processes(lines, self.at_a_time, self.logs, self._ended, self._started)

    def _in_order(self) -> list[Command]:
        """The commands of the quickest sheet first, then all others; in both, the longest come first."""
        minutes = {command: command.minutes[self.settings.profile] for own in self.missing.values() for command in own}
        first = min(self.missing.values(), key=lambda own: sum(minutes[command] for command in own), default=[])
        return sorted(minutes, key=lambda command: (command not in first, -minutes[command]))

    def _announce(self) -> None:
        minutes = [command.minutes[self.settings.profile] for command in self.commands.values()]
        if minutes:
            total = max(max(minutes), sum(minutes) / self.at_a_time)
            together = f", {self.at_a_time} at a time" if self.at_a_time > 1 else ""
            print(f"commands to run first, {duration(total)} in all on two cores{together}:")
        for command, each in zip(self.commands.values(), minutes, strict=True):
            print(f"  {self.settings.by_hand(command)}  ({duration(each)})", flush=True)
        if self.logs and minutes:
            print(f"their output goes to {self.logs}", flush=True)

    def _started(self, name: str) -> None:
        if self.logs is None:
            print(f"\n==== {self.settings.by_hand(self.commands[name])}", flush=True)

    def _ended(self, name: str, status: int) -> None:
        line = self.settings.by_hand(self.commands[name])
        if status in _STOPPED:
            raise Stopped(status - 128, _RESUMES)
        if status != 0:
            log = self.logs / f"{name}.log" if self.logs else None
            what = f": {last_line(log)} (log: {log})" if log else ""
            self.failures.append(f"a command ended with status {status}{what}; run it by hand: {line}")
        elif self.logs:
            print(f"finished: {line}", flush=True)
        for commands in self.missing.values():
            commands[:] = [command for command in commands if command is not self.commands[name]]
        self._write_pdfs()

    def _write_pdfs(self) -> None:
        """Writes the PDFs whose commands have all ended."""
        for sheet in [sheet for sheet, commands in self.missing.items() if not commands]:
            del self.missing[sheet]
            try:
                pdf = document.render(sheet, self.settings.profile, self.settings.collect_all(sheet))
                path = document.path_of(sheet, self.settings.results_dir, self.settings.profile)
                path.parent.mkdir(parents=True, exist_ok=True)
                files.write_bytes(path, pdf)
            except UserError as error:
                self.failures.append(f"{sheet.name}: {error}")
            else:
                self.paths.append(path)
                print(path, flush=True)


def duration(minutes: float) -> str:
    """A rough duration in words."""
    if minutes < 1:
        return f"about {60 * minutes:.0f} s"
    return f"about {minutes:.0f} min" if minutes < 120 else f"about {minutes / 60:.0f} h"
