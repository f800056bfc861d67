"""The program of each process in `test_distributed.py`: it trains, is stopped by a signal to one process, resumes."""

import os
import signal
import sys
from pathlib import Path

import tiny
import torch

from hw_common.runs import checkpoints
from hw_common.runs.errors import Stopped
from hw_common.runs.run_folder import LAST
from hw_common.training import distributed

COUNT = 16  # batches of 5, 5, 5 and 1: two processes share them unevenly, and cannot share the last one at all


def main(results: Path) -> None:
    """Leaves the runs `whole` and `stopped` in `results`, and each process's message when it was stopped in a file."""
    distributed.start(torch.device("cpu"))
    is_main = distributed.is_main()
    tiny.train(tiny.new_run(results, "whole") if is_main else None, count=COUNT)

    run = tiny.new_run(results, "stopped") if is_main else None
    steps = iter(range(tiny.EPOCHS * tiny.STEPS))

    def loss(model, batch):
        if next(steps) == 5 and not is_main:  # the second step of the second epoch
            os.kill(os.getpid(), signal.SIGTERM)
        return tiny.loss(model, batch)

    try:
        tiny.train(run, count=COUNT, loss_function=loss, save_minutes=1e-9)  # a checkpoint after each step
    except Stopped as stopped:
        (results / f"said-{os.environ['RANK']}").write_text(str(stopped))
    torch.distributed.barrier()  # the main process has saved
    tiny.train(run, checkpoints.load_state(results / tiny.HOMEWORK / "stopped" / LAST), count=COUNT)
    distributed.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
