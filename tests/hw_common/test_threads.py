"""The number of threads: counted from the work in a step, bounded by cores and environment, recorded and kept."""

import json
from types import SimpleNamespace

import pytest
import tiny
import torch
from torch import nn

from hw_cnn import train
from hw_cnn.models import FashionCNN
from hw_common.runs import launch
from hw_common.training import distributed, threads
from hw_common.training.determinism import generator_states
from hw_common.training.loop import Training

CPU = torch.device("cpu")


def loss_of_sequence(model, batch):
    outputs = model(batch[0])
    outputs = outputs[0] if isinstance(outputs, tuple) else outputs
    return outputs.mean(), len(batch[0]), {}


@pytest.mark.parametrize(
    ("model", "shape", "expected"),
    [
        (nn.Linear(3, 4), (5, 3), 5 * 3 * 4),
        (nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3)), (5, 2, 4, 4), 5 * 16 * 2 * 3 * 9),
        (nn.LSTM(3, 4, batch_first=True), (5, 6, 3), 5 * 6 * (3 + 4) * 4 * 4),
        (nn.LSTM(3, 4, 2, bidirectional=True, batch_first=True), (5, 6, 3), 5 * 6 * 2 * (3 + 4 + 8 + 4) * 4 * 4),
        (FashionCNN(), (8, 1, 28, 28), 8 * (784 * 144 + 144 * 4608 + 1152 * 600 + 600 * 120 + 1200)),
    ],
)  # fmt: skip
def test_multiply_adds_of_a_forward_pass(model, shape, expected):
    assert threads.count_multiply_adds(model.train(), loss_of_sequence, (torch.rand(shape),)) == expected
    assert model.training


def test_counting_changes_neither_model_nor_generators():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 2)).train()
    before = tiny.plain([model.state_dict(), generator_states()])
    threads.count_multiply_adds(model, tiny.loss, next(iter(tiny.Batches(tiny.rows(4, 0), 4).epoch(0))))
    assert tiny.plain([model.state_dict(), generator_states()]) == before


@pytest.mark.parametrize(
    ("rows", "cores", "expected"), [(1, 4, 1), (2, 4, 1), (3, 4, 2), (4, 4, 2), (64, 4, 4), (64, 1, 1)]
)
def test_the_work_in_a_step_decides(monkeypatch, rows, cores, expected):
    monkeypatch.setattr(launch, "most_threads", lambda: cores)
    monkeypatch.setattr(threads, "WORK_PER_THREAD", 2 * 3 * 2)  # two rows of the model
    training = Training(model=nn.Linear(3, 2), batches=tiny.Batches(tiny.rows(rows, 0), rows), optimizer=None,
                        loss_function=tiny.loss, evaluate=None, monitor="")  # fmt: skip
    assert threads.threads_for(training, CPU) == expected


@pytest.mark.parametrize("cores", [1, 4])
def test_processes_with_any_number_of_cores_take_part_in_the_mean(monkeypatch, cores):
    """A process that did not take part would let the others wait for ever."""
    given = []
    monkeypatch.setattr(launch, "most_threads", lambda: cores)
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    monkeypatch.setattr(distributed, "sum_over_processes", lambda work: given.append(work.item()) or work + 3 * 18.0)
    monkeypatch.setattr(threads, "WORK_PER_THREAD", 18.0)  # three rows of the model
    training = Training(model=nn.Linear(3, 2), batches=SimpleNamespace(epoch=lambda epoch: [tiny.rows(3, 0)]),
                        optimizer=None, loss_function=tiny.loss, evaluate=None, monitor="")  # fmt: skip
    assert threads.threads_for(training, CPU) == min(2, cores) and given == [18.0]


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, 8),
        ({"OMP_NUM_THREADS": "3"}, 3),
        ({"OMP_NUM_THREADS": "64"}, 8),
        ({"OMP_NUM_THREADS": "0"}, 8),
        ({"OMP_NUM_THREADS": "4,2"}, 8),
        ({"OMP_NUM_THREADS": "1", "TORCHELASTIC_RUN_ID": "a", "LOCAL_WORLD_SIZE": "3", "WORLD_SIZE": "3", "RANK": "0",
          "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}, 2),
    ],
)  # fmt: skip
def test_cores_processes_and_environment_limit_the_number(monkeypatch, variables, expected):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(launch, "available_cores", lambda: 8)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert launch.most_threads() == expected


def test_the_chosen_number_is_recorded_and_kept_on_resume(monkeypatch, tmp_path, undrawn):
    monkeypatch.setattr(launch, "most_threads", lambda: 2)
    for work, expected in ((1e6, 2), (1e12, 1)):
        monkeypatch.setattr(threads, "WORK_PER_THREAD", work)
        results = tmp_path / str(expected)
        train.main(["--dataset", "sample", "--network", "oct", "--epochs", "1", "--batch_size", "64", "--results_dir",
                    str(results), "--name", "run"])  # fmt: skip
        config = json.loads((results / "hw_cnn" / "run" / "config.json").read_text())
        assert (config["host"]["threads"], config["arguments"]["threads"]) == (expected, None)
        monkeypatch.setattr(threads, "WORK_PER_THREAD", 1e6)
        assert train.COMMAND.parse(["--resume", str(results / "hw_cnn" / "run")]).threads == expected
    torch.set_num_threads(1)
