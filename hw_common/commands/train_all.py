"""Many trainings of one command, side by side, each an ordinary run folder; finished ones are not done again."""

import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from hw_common.commands.training_command import TrainingCommand, flags_to_resume
from hw_common.runs.errors import UserError, signal_of
from hw_common.runs.run_folder import CONFIG, Run, available_cores, check_same_arguments

_POLL_SECONDS = 0.1


def train_all(
    command: TrainingCommand, wanted: Mapping[str, Sequence[str]], results_dir: Path, jobs: int, logs: Path
) -> dict[str, Run]:
    """The finished runs of `wanted`: found, resumed or trained.

    Args:
        command: trains.
        wanted: name of a run folder to the flags of its training, without --results_dir and --name; without --threads,
            trainings share the cores evenly.
        results_dir: where run folders are.
        jobs: trainings at a time; a single one runs in this process, several in one each.
        logs: folder for <name>.log, what each of those processes prints.

    Raises:
        UserError: trainings failed (the others were done all the same), or a run folder of that name has other flags.
        KeyboardInterrupt: on Ctrl-C or SIGTERM, after the running trainings have saved; Stopped from a single one.
    """
    threads = max(1, available_cores() // jobs)
    argvs = {name: _what_is_missing(command, flags, results_dir, name, threads) for name, flags in wanted.items()}
    missing = {name: argv for name, argv in argvs.items() if argv}
    failures = _train_here(command, missing) if jobs == 1 else _train_in_processes(command, missing, jobs, logs)
    if failures:
        raise UserError(f"{len(failures)} of {len(wanted)} trainings failed: {'; '.join(failures)}")
    return {name: Run.open(results_dir / command.homework / name, command.homework) for name in wanted}


def _what_is_missing(
    command: TrainingCommand, flags: Sequence[str], results_dir: Path, name: str, threads: int
) -> list[str]:
    """The arguments that finish the run `name`; none if it is finished."""
    folder = results_dir / command.homework / name
    flags = [*flags, "--results_dir", str(results_dir), "--name", name]
    arguments = command.parse(flags)
    if not (folder / CONFIG).is_file():
        share = [] if arguments.threads else ["--threads", str(threads)]
        return [*flags, *share, "--overwrite"]  # of what a kill may have left where it had just begun
    run = Run.open(folder, command.homework)
    check_same_arguments(run, {**vars(arguments), "threads": run.arguments.get("threads")})
    return [] if run.is_finished else flags_to_resume(folder, arguments)


def _train_here(command: TrainingCommand, missing: Mapping[str, Sequence[str]]) -> list[str]:
    """Trains one after the other; returns what to say about those that failed."""
    failures = []
    for name, argv in missing.items():
        print(f"\n{name}", flush=True)
        try:
            command.main(argv)
        except UserError as error:
            failures.append(f"{name}: {error}")
    return failures


def _train_in_processes(
    command: TrainingCommand, missing: Mapping[str, Sequence[str]], jobs: int, logs: Path
) -> list[str]:
    """Trains `jobs` at a time; returns what to say about those that failed."""
    waiting = list(missing.items())
    running: dict[str, subprocess.Popen] = {}
    failures = []
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                name, argv = waiting.pop(0)
                running[name] = _start(command, argv, logs / f"{name}.log")
            time.sleep(_POLL_SECONDS)
            for name in [name for name, process in running.items() if process.poll() is not None]:
                status = running.pop(name).returncode
                print(f"{name}: {'finished' if status == 0 else f'status {status}'}", flush=True)
                if status != 0:
                    log = logs / f"{name}.log"
                    last_line = (log.read_text().strip().splitlines() or ["no output"])[-1]
                    failures.append(f"{name} ended with status {status}: {last_line} (log: {log})")
    except KeyboardInterrupt as interrupt:
        for process in running.values():
            process.send_signal(signal_of(interrupt))
        for process in running.values():
            process.wait()
        raise
    return failures


def _start(command: TrainingCommand, argv: Sequence[str], log: Path) -> subprocess.Popen:
    # A session of its own: Ctrl-C goes to this process, which passes it on once.
    with open(log, "a") as output:
        argv = [sys.executable, "-m", command.name, *argv]
        return subprocess.Popen(argv, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
