"""One machine of a shared sweep, without training: takes a trial, prints it, concludes it, until none is left.

python sweep_worker.py STORAGE FOLDER [killed]: `killed` ends the process by SIGKILL as soon as it holds a trial.
"""

import os
import signal
import sys
from pathlib import Path

from hw_cnn.sweep_report import Trial
from hw_cnn.sweep_study import SharedStudy

GRID = [(lr, seed) for seed in (1, 2, 3) for lr in (0.01, 0.1)]


def main(storage: str, folder: Path, killed: bool) -> None:
    """Waits until the test says "start", so that all machines begin at the same moment."""
    print("ready", flush=True)
    sys.stdin.readline()
    study = SharedStudy("sweep", storage, folder, {"epochs": 1})
    study.enqueue_missing(GRID)
    while claimed := study.claim(GRID, 1):
        print(*claimed[0], flush=True)
        if killed:
            os.kill(os.getpid(), signal.SIGKILL)
        summary = {"final": {"validation_accuracy": claimed[0][0]}}
        study.conclude(claimed[0], Trial(summary, [{"epoch": 1}], {"data": "hash"}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), "killed" in sys.argv[3:])
