"""Runs one training command with many sets of flags, several at a time; finished runs are not repeated."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from hw_common.commands.processes import last_line, run_processes
from hw_common.commands.training_command import ResumableCommand
from hw_common.runs.config import available_cores
from hw_common.runs.errors import UserError
from hw_common.runs.run_folder import Run

_BYTES_PER_JOB = 6e9  # memory of the largest training run, speech recognition with batches of 64 clips


class TrainingsFailed(UserError):
    """Some of several training runs failed; `finished` holds the finished runs by name."""

    def __init__(self, message: str, finished: Mapping[str, Run]) -> None:
        super().__init__(message)
        self.finished = finished


def default_jobs() -> int:
    """The default of --jobs: one training run for each core, but not more than the memory can hold.

    Runs that train side by side, each on one thread, finish sooner than if each in turn had all cores, because their
    threads do not wait for one another.
    """
    if not hasattr(os, "sysconf"):  # Windows
        return available_cores()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, min(available_cores(), int(memory / _BYTES_PER_JOB)))


def train_all(
    command: ResumableCommand, wanted: Mapping[str, Sequence[str]], results_dir: Path, jobs: int, logs: Path
) -> dict[str, Run]:
    """Returns the finished runs of `wanted` by name; trains or resumes them first if necessary.

    Args:
        command: the command that trains.
        wanted: the flags of each run, without --results_dir and --name, by the name of its run folder.
        results_dir: folder of all run folders.
        jobs: number of runs at a time. With 1, they run in this process; otherwise, each runs in a new process, and
            the processes share the cores evenly.
        logs: folder for the output of the new processes, <name>.log.

    Raises:
        TrainingsFailed: some runs failed; all others are finished.
        UserError: a run folder of one of the names was made with other flags.
        KeyboardInterrupt: Ctrl-C or SIGTERM with several jobs, after all active runs have saved.
        Stopped: Ctrl-C or SIGTERM with a single job, after the active run has saved.
    """
    argvs = {name: command.flags_to_finish(flags, results_dir, name) for name, flags in wanted.items()}
    missing = {name: argv for name, argv in argvs.items() if argv}
    failures = _train_here(command, missing) if jobs == 1 else _train_in_processes(command, missing, jobs, logs)
    finished = {name: results_dir / command.homework / name for name in wanted if name not in failures}
    runs = {name: Run.open(folder, command.homework) for name, folder in finished.items()}
    if failures:
        reasons = _reasons({name: failures[name] for name in wanted if name in failures})
        where = "" if jobs == 1 else f" (logs: {logs})"
        raise TrainingsFailed(f"{len(failures)} of {len(wanted)} training runs failed: {reasons}{where}", runs)
    return runs


def _reasons(failures: Mapping[str, str]) -> str:
    """The reasons of failed runs, given by name; a reason that several runs share is written once."""
    names: dict[str, list[str]] = {}
    for name, reason in failures.items():
        names.setdefault(reason, []).append(name)
    return "; ".join(f"{', '.join(of_reason)}: {reason}" for reason, of_reason in names.items())


def _train_here(command: ResumableCommand, missing: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Trains one run after the other; returns the reason of each failure by the name of the run."""
    failures = {}
    for name, argv in missing.items():
        print(f"\n{name}", flush=True)
        try:
            command.main(argv)
        except UserError as error:
            failures[name] = str(error)
    return failures


def _train_in_processes(
    command: ResumableCommand, missing: Mapping[str, Sequence[str]], jobs: int, logs: Path
) -> dict[str, str]:
    """Trains `jobs` runs at a time; returns the reason of each failure by the name of the run."""
    failures = {}

    def ended(name: str, status: int) -> None:
        print(f"{name}: {'finished' if status == 0 else f'status {status}'}", flush=True)
        if status != 0:
            failures[name] = f"ended with status {status}: {last_line(logs / f'{name}.log')}"

    run_processes({name: [command.name, *argv] for name, argv in missing.items()}, jobs, logs, ended)
    return failures
