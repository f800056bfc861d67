"""Two processes train like one with the same batch: losses, weights, and resuming after an interruption."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
import torch
from torch import nn
from two_processes import COUNT

from hw_common.runs import checkpoints
from hw_common.runs.run_folder import LAST
from hw_common.training import distributed

SCRIPT = Path(__file__).resolve().parents[1] / "support" / "two_processes.py"


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    """The folder in which two processes left their runs."""
    results = tmp_path_factory.mktemp("results")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([*torchrun, SCRIPT, results], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return results / tiny.HOMEWORK


def progress_and_weights(folder):
    state = checkpoints.load_state(folder / LAST)
    rows = [{name: value for name, value in row.items() if name != "seconds"} for row in state["progress"]["rows"]]
    return rows, state["model"], state["generators"]


def test_two_processes_end_where_one_does(two_processes, tmp_path):
    run = tiny.new_run(tmp_path)
    tiny.train(run, count=COUNT)
    rows, weights, generators = progress_and_weights(run.folder)
    other_rows, other_weights, other_generators = progress_and_weights(two_processes / "whole")
    for name, tensor in weights.items():
        torch.testing.assert_close(other_weights[name], tensor, rtol=1e-5, atol=1e-6)
    for row, other in zip(rows, other_rows, strict=True):
        assert other == pytest.approx(row, rel=1e-5)
    assert tiny.plain(other_generators) == tiny.plain(generators)


def test_a_signal_to_one_process_stops_both_and_leaves_no_trace(two_processes):
    for rank in (0, 1):
        said = (two_processes.parent / f"said-{rank}").read_text()
        assert said.startswith("stopped after epoch 2, step 2 of 4")
    rows, weights, generators = progress_and_weights(two_processes / "whole")
    other_rows, other_weights, other_generators = progress_and_weights(two_processes / "stopped")
    assert tiny.plain(other_weights) == tiny.plain(weights)
    assert tiny.plain(other_generators) == tiny.plain(generators)
    for row, other in zip(rows, other_rows, strict=True):
        assert other == pytest.approx(row, rel=1e-12)  # the sums of both processes were added up earlier


def test_one_process_is_left_alone(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    distributed.start(torch.device("cpu"))
    assert (distributed.world_size(), distributed.is_main()) == (1, True)
    assert distributed.share(5) == slice(0, 5)
    assert distributed.sum_over_processes(torch.tensor([1.0, 2.0])).tolist() == [1.0, 2.0]
    model = nn.Linear(1, 1)
    assert distributed.parallelize(model, torch.device("cpu")) is model
    distributed.stop()


@pytest.mark.parametrize("size", [2, 3, 4])
def test_shares_of_a_batch_are_disjoint_and_complete_and_nearly_equal(monkeypatch, size):
    monkeypatch.setattr(distributed, "world_size", lambda: size)
    for count in range(size, 10):
        shares = []
        for rank in range(size):
            monkeypatch.setattr(distributed.dist, "get_rank", lambda rank=rank: rank)
            shares.append(list(range(count))[distributed.share(count)])
        assert sum(shares, []) == list(range(count))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
