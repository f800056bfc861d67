"""Where a sweep's trials are kept and handed out: an Optuna study that several processes and machines may share."""

import contextlib
import socket
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna import storages
from optuna.exceptions import ExperimentalWarning
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from hw_cnn.sweep_report import Trials
from hw_common.runs.config import without_password
from hw_common.runs.errors import UserError

_HEARTBEAT_SECONDS = 30
Grid = Sequence[tuple[float, int]]


class TrialFailed(Exception):
    """A trial that ended with an error; the others go on."""


class SharedStudy:
    """The study of one sweep, opened by a process that holds the lock of the sweep's folder.

    Args:
        name: of the sweep.
        storage: Optuna storage address or path of a journal file; None for a journal in `folder`.
        folder: the sweep's folder.
        flags: what every trial has in common; machines that share a study must agree on it.

    Raises:
        UserError: the storage cannot be opened, or its sweep of that name has other flags.
    """

    def __init__(self, name: str, storage: str | None, folder: Path, flags: Mapping[str, Any]) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._worker = f"{socket.gethostname()}:{folder.resolve()}"
        self._study = optuna.create_study(
            storage=_open_storage(storage or str(folder / "study.journal")),
            sampler=optuna.samplers.RandomSampler(seed=0),  # never asked: every trial is enqueued
            study_name=name,
            direction="maximize",
            load_if_exists=True,
        )
        own = {
            key: value if isinstance(value, (int, float, type(None))) else str(value) for key, value in flags.items()
        }
        theirs = self._study.user_attrs.get("flags", own)
        for key in sorted(own.keys() | theirs.keys()):
            if own.get(key) != theirs.get(key):
                raise UserError(
                    f"the sweep {name} in {storage} was started with --{key} {theirs.get(key)}, not {own.get(key)}; "
                    "choose another --name"
                )
        self._study.set_user_attr("flags", own)

    def enqueue_missing(self, grid: Grid) -> int:
        """Frees dead processes' trials, queues what nobody has done or is doing; returns how many of `grid` wait."""
        with _no_warnings():
            storages.fail_stale_trials(self._study)
        for trial in self._study.get_trials(states=(TrialState.RUNNING,)):
            if trial.user_attrs.get("worker") == self._worker:  # the folder's lock is ours, so that process is gone
                self._study.tell(trial.number, state=TrialState.FAIL)
        states = (TrialState.COMPLETE, TrialState.WAITING, TrialState.RUNNING)
        known = [t.params or t.system_attrs.get("fixed_params", {}) for t in self._study.get_trials(states=states)]
        for lr, seed in grid:
            if {"lr": lr, "seed": seed} not in known:
                self._study.enqueue_trial({"lr": lr, "seed": seed})
        return sum(key in grid for key in self._queue())

    def _queue(self) -> list[tuple[float, int]]:
        """Learning rate and seed of all trials that wait, those of other machines' grids too."""
        waiting = self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        fixed = [trial.system_attrs["fixed_params"] for trial in waiting if "fixed_params" in trial.system_attrs]
        return [(parameters["lr"], parameters["seed"]) for parameters in fixed]

    def run(self, grid: Grid, jobs: int, train: Callable[[float, int], Mapping[str, Any]]) -> None:
        """Takes trials from the queue, `jobs` at a time, until none of `grid` is left in it.

        Args:
            grid: the sweep's trials; others go back to the end of the queue.
            jobs: trials side by side.
            train: (learning rate, seed) to what is kept of the trial; its "summary" has the accuracy. It raises
                TrialFailed for a trial that failed.
        """

        def objective(trial: optuna.Trial) -> float:
            lr, seed = trial.suggest_float("lr", 0, sys.float_info.max), trial.suggest_int("seed", 0, 2**31)
            trial.set_user_attr("worker", self._worker)
            if (lr, seed) not in grid:
                if "fixed_params" in self._study.get_trials(deepcopy=False)[trial.number].system_attrs:  # was queued
                    self._study.enqueue_trial({"lr": lr, "seed": seed})
                raise optuna.TrialPruned
            if self._is_taken(trial):
                raise optuna.TrialPruned
            kept = train(lr, seed)
            for key, value in kept.items():
                trial.set_user_attr(key, value)
            return kept["summary"]["final"]["validation_accuracy"]

        while set(queue := self._queue()) & set(grid):
            self._study.optimize(objective, n_trials=len(queue), n_jobs=jobs, catch=(TrialFailed,))

    def _is_taken(self, trial: optuna.Trial) -> bool:
        """Whether a machine that started at the same moment queued, and somebody does, the same trial."""
        return any(
            other.number < trial.number
            and other.params == trial.params
            and other.state in (TrialState.RUNNING, TrialState.COMPLETE)
            for other in self._study.get_trials(deepcopy=False)
        )

    def complete(self, grid: Grid) -> Trials:
        """What was kept of the finished trials of `grid`, whichever machine ran them.

        Raises:
            UserError: they were trained on different data.
        """
        trials: Trials = {}
        for trial in self._study.get_trials(states=(TrialState.COMPLETE,)):
            key = (trial.params["lr"], trial.params["seed"])
            if key in grid:
                trials.setdefault(key, trial.user_attrs)
        hashes = [attributes["hashes"] for attributes in trials.values()]
        for (lr, seed), other in zip(trials, hashes, strict=True):
            if other != hashes[0]:
                raise UserError(f"the trial with lr {lr:g}, seed {seed} was trained on other data files than the first")
        return trials


@contextlib.contextmanager
def _no_warnings() -> Iterator[None]:
    """Heartbeats are experimental, says Optuna; our users need not know."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield


def _open_storage(address: str) -> storages.BaseStorage:
    """A journal file, or what the address says.

    Raises:
        UserError: it cannot be opened, or is SQLite, which hands one trial to two workers now and then.
    """
    if address.startswith("sqlite"):
        raise UserError("--storage: SQLite does not lock its trials; use a file's path (a journal) or postgresql://…")
    try:
        if "://" not in address:
            return storages.JournalStorage(JournalFileBackend(address))
        if address.startswith("redis"):
            return storages.get_storage(address)
        grace = 4 * _HEARTBEAT_SECONDS  # then the trials of a machine that died become free again
        with _no_warnings():
            return storages.RDBStorage(address, heartbeat_interval=_HEARTBEAT_SECONDS, grace_period=grace)
    except Exception as error:  # whatever the storage's driver raises
        raise UserError(f"cannot open the storage {without_password(address)}: {str(error).splitlines()[0]}") from error
