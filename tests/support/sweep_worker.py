"""One machine of a shared sweep, without training: takes a trial, sends it, concludes it, until none is left.

The machines are forks of the tests' process, because the imports of a new process take half a second.
"""

import importlib
import multiprocessing
import os
import signal
from multiprocessing.connection import Connection
from pathlib import Path

from hw_cnn.sweep_report import Trial
from hw_cnn.sweep_study import SharedStudy

GRID = [(lr, seed) for seed in (1, 2, 3) for lr in (0.01, 0.1)]
FORKS = multiprocessing.get_context("fork")


for needed in ("alembic.command", "sqlalchemy.orm", "psycopg"):
    importlib.import_module(needed)  # optuna imports them when a storage is opened


def work(test: Connection, end_of_test: Connection, storage: str, folder: Path, killed: bool) -> None:
    """Works when the test says so, so that all machines begin at the same moment.

    `killed`: whether the process ends by SIGKILL as soon as it holds a trial.
    """
    end_of_test.close()  # else this process would hold it open, and not notice that the test has ended
    test.send("ready")
    test.recv()
    study = SharedStudy("sweep", storage, folder, {"epochs": 1})
    study.enqueue_missing(GRID)
    while claimed := study.claim(GRID, 1):
        test.send(claimed[0])
        if killed:
            os.kill(os.getpid(), signal.SIGKILL)
        summary = {"final": {"validation_accuracy": claimed[0][0]}}
        study.conclude(claimed[0], Trial(summary, [{"epoch": 1}], {"data": "hash"}))


class Machine:
    """A process that works on a sweep."""

    def __init__(self, storage: str, folder: Path, killed: bool = False) -> None:
        """Returns when the process is ready."""
        folder.mkdir(exist_ok=True)
        self._own, its = FORKS.Pipe()
        self._process = FORKS.Process(target=work, args=(its, self._own, storage, folder, killed), daemon=True)
        self._process.start()
        its.close()
        assert self._own.recv() == "ready"

    def start(self) -> None:
        """Lets the process work."""
        self._own.send("start")

    def end(self) -> tuple[list[tuple[float, int]], int]:
        """Waits for the process; returns the trials that it took, and its status."""
        taken = []
        try:
            while True:
                taken.append(self._own.recv())
        except EOFError:
            self._process.join()
        return taken, self._process.exitcode
