"""A sweep that several machines share through an Optuna study; each trial is run by one machine."""

import contextlib
import socket
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna import storages
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from hw_cnn import sweep_storage
from hw_cnn.sweep_report import Trial, report, row_name, trial_of
from hw_common.commands.comparison import Comparison
from hw_common.commands.train_all import TrainingsFailed, train_all
from hw_common.runs.config import without_password
from hw_common.runs.errors import UserError
from hw_common.runs.run_folder import Run

Key = tuple[float, int]  # learning rate, seed


@dataclass(frozen=True)
class SharedSweep(Comparison):
    """A sweep whose training runs are shared among machines."""

    lrs: Sequence[float] = ()  # learning rates
    storage: str = ""  # Optuna storage address, or path of a journal file
    choose_by: str = "last"  # "last" or "best", the epoch whose validation accuracy is compared

    def train_and_report(self, folder: Run) -> dict[str, Any]:
        """Trains what no machine has finished or is training; reports the finished runs of all machines."""
        try:
            return self._train_and_report(folder)
        except sweep_storage.ERRORS as error:
            reason = str(error.__cause__ or error).splitlines()[0]
            message = f"the storage {without_password(self.storage)} does not answer: {reason}"
            raise UserError(f"{message}; the same command resumes") from error

    def _train_and_report(self, folder: Run) -> dict[str, Any]:
        grid = [(lr, seed) for seed in self.seeds for lr in self.lrs]
        study = SharedStudy(self.name, self.storage, folder.folder, self.common)
        study.enqueue_missing(grid)
        failures = []
        while claimed := study.claim(grid, self.jobs):
            names = {key: self.run_name(row_name(key[0]), key[1]) for key in claimed}
            wanted = {name: [*self.flags, "--lr", repr(lr), "--seed", str(seed)] for (lr, seed), name in names.items()}
            finished: Mapping[str, Run]
            try:
                with study.heartbeat():
                    finished = train_all(self.command, wanted, self.results_dir, self.jobs, folder.folder)
            except TrainingsFailed as failed:
                finished = failed.finished
                failures.append(str(failed))
            for key, name in names.items():
                study.conclude(key, trial_of(finished[name]) if name in finished else None)
        trials = study.finished(grid)
        if any(trials.values()):
            summary = report(folder, trials, self.seeds, self.choose_by)
        if failures:
            raise UserError("; ".join(failures))
        if not any(trials.values()):
            raise UserError(f"the sweep {self.name} has no finished run yet; other machines are still training")
        return summary


class SharedStudy:
    """The study of one sweep, opened by a process that holds the lock of the sweep's folder.

    Args:
        name: name of the sweep.
        storage: Optuna storage address, or path of a journal file.
        folder: the sweep's folder on this machine.
        flags: arguments that all trials share; the machines must agree on them.

    Raises:
        UserError: the storage cannot be opened, or contains a sweep with this name and other flags.
    """

    def __init__(self, name: str, storage: str, folder: Path, flags: Mapping[str, Any]) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._worker = f"{socket.gethostname()}:{folder.resolve()}"
        self._storage, self._lock = sweep_storage.open_storage(storage)
        with self._lock:
            self._study = optuna.create_study(
                storage=self._storage,
                sampler=optuna.samplers.RandomSampler(seed=0),  # not used: trials are enqueued with their values
                study_name=name,
                direction="maximize",
                load_if_exists=True,
            )
        self._claimed: dict[Key, optuna.Trial] = {}
        ours = {
            key: value if isinstance(value, (int, float, type(None))) else str(value) for key, value in flags.items()
        }
        where = f"the sweep {name} in {without_password(storage)}"
        self._study.set_user_attr("flags", {**ours, **self._same_flags(ours, where)})
        self._same_flags(ours, where)  # a machine that started at the same moment may have replaced them

    def _same_flags(self, ours: Mapping[str, Any], where: str) -> Mapping[str, Any]:
        """Returns the flags in the storage; raises UserError if one of them is not the same as in `ours`."""
        theirs: Mapping[str, Any] = self._study.user_attrs.get("flags", ours)
        for key in sorted(ours.keys() & theirs.keys()):
            if ours[key] != theirs[key]:
                message = f"{where} was started with --{key} {theirs[key]}, not {ours[key]}"
                raise UserError(f"{message}; choose another --name")
        return theirs

    def enqueue_missing(self, grid: Sequence[Key]) -> None:
        """Queues the trials of `grid` that are not yet queued, running or finished.

        A trial counts as failed, and is queued again, if its process is dead.
        """
        with self._lock:
            storages.fail_stale_trials(self._study)
            for trial in self._study.get_trials(states=(TrialState.RUNNING,)):
                # This process holds the lock of the folder, so the process that left the trial running is dead.
                if trial.user_attrs.get("worker") == self._worker:
                    self._study.tell(trial.number, state=TrialState.FAIL)
            states = (TrialState.COMPLETE, TrialState.WAITING, TrialState.RUNNING)
            known = [_values(trial) for trial in self._study.get_trials(deepcopy=False, states=states)]
            for lr, seed in grid:
                if {"lr": lr, "seed": seed} not in known:
                    self._study.enqueue_trial({"lr": lr, "seed": seed})

    def claim(self, grid: Sequence[Key], count: int) -> list[Key]:
        """Takes up to `count` trials of `grid` from the queue; trials of other grids go back to its end."""
        claimed: list[Key] = []
        while len(claimed) < count and set(self._queue()) & set(grid):
            with self._lock:
                trial = self._study.ask()
            self._beat(trial)
            trial.set_user_attr("worker", self._worker)
            lr, seed = trial.suggest_float("lr", 0, sys.float_info.max), trial.suggest_int("seed", 0, 2**31)
            if (lr, seed) in grid and not self._is_taken(trial):
                self._claimed[lr, seed] = trial
                claimed.append((lr, seed))
                continue
            was_queued = "fixed_params" in self._study.get_trials(deepcopy=False)[trial.number].system_attrs
            if (lr, seed) not in grid and was_queued:
                self._study.enqueue_trial({"lr": lr, "seed": seed})
            self._study.tell(trial, state=TrialState.PRUNED)
        return claimed

    def _queue(self) -> list[Key]:
        """Returns all trials in the queue, including trials of other grids."""
        waiting = self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        fixed = [trial.system_attrs["fixed_params"] for trial in waiting if "fixed_params" in trial.system_attrs]
        return [(parameters["lr"], parameters["seed"]) for parameters in fixed]

    def _is_taken(self, trial: optuna.Trial) -> bool:
        """Returns whether an older copy of `trial` waits, runs or is finished.

        Machines that start together enqueue copies. The oldest copy is the one that is trained.
        """
        return any(
            other.number < trial.number
            and _values(other) == trial.params
            and other.state in (TrialState.WAITING, TrialState.RUNNING, TrialState.COMPLETE)
            for other in self._study.get_trials(deepcopy=False)
        )

    @contextlib.contextmanager
    def heartbeat(self) -> Iterator[None]:
        """Records heartbeats of the claimed trials in the database, so that no other machine restarts these trials."""
        stop = threading.Event()

        def beat() -> None:
            while not stop.wait(sweep_storage.HEARTBEAT_SECONDS):
                for trial in self._claimed.values():
                    with contextlib.suppress(*sweep_storage.ERRORS):  # the next heartbeat may succeed
                        self._beat(trial)

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def _beat(self, trial: optuna.Trial) -> None:
        if isinstance(self._storage, storages.RDBStorage):
            self._storage.record_heartbeat(trial._trial_id)

    def conclude(self, key: Key, finished: Trial | None) -> None:
        """Stores a claimed trial as finished, or as failed if `finished` is None."""
        trial = self._claimed.pop(key)
        with contextlib.suppress(UpdateFinishedTrialError):  # heartbeats were missing, so the trial counted as failed
            for name, value in vars(finished).items() if finished is not None else ():
                trial.set_user_attr(name, value)
        if finished is None:
            self._study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)
        else:
            self._study.tell(trial, finished.summary["final"]["validation_accuracy"], skip_if_finished=True)

    def finished(self, grid: Sequence[Key]) -> dict[float, list[Trial]]:
        """Returns the finished trials of `grid` by learning rate, from all machines."""
        found: dict[Key, Trial] = {}
        for trial in self._study.get_trials(states=(TrialState.COMPLETE,)):
            kept = {name: trial.user_attrs[name] for name in ("summary", "rows", "hashes")}
            found.setdefault((trial.params["lr"], trial.params["seed"]), Trial(**kept))
        return {lr: [found[key] for key in grid if key[0] == lr and key in found] for lr, _ in grid}


def _values(trial: FrozenTrial) -> Mapping[str, Any]:
    """The learning rate and the seed of a trial, which may still be waiting."""
    return trial.system_attrs.get("fixed_params", trial.params)
