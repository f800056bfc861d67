"""The same seed gives the same bits, and the state of every generator can be restored."""

import random

import numpy as np
import pytest
import torch

from hw_common.runs import checkpoints, launch
from hw_common.runs.errors import UserError
from hw_common.training import determinism


def draw():
    return random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn(), torch.rand(1).item()


def test_set_up_seeds_every_generator():
    draws = []
    for seed in (1, 1, 2, 2**31 - 1):
        determinism.set_up(seed, "cpu", threads=1)
        draws.append(draw())
    assert draws[0] == draws[1]
    assert all(len(set(numbers)) == 3 for numbers in zip(*draws, strict=True))


def test_set_up_sets_device_and_threads():
    assert determinism.set_up(0, "cpu", threads=1) == torch.device("cpu")
    assert torch.get_num_threads() == 1


def test_a_gpu_that_is_not_there_is_the_users_error(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="use --device cpu"):
        determinism.set_up(0, "cuda", threads=1)
    assert determinism.set_up(0, "auto", threads=1).type == "cpu"


def test_each_process_needs_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(launch, "read", lambda: launch.Launch(world_size=2, local_world_size=2))
    for device in ("auto", "cuda"):
        with pytest.raises(UserError, match=r"2 processes for 1 GPU\(s\); start 1, or use --device cpu"):
            determinism.set_up(0, device, threads=1)
    assert determinism.set_up(0, "cpu", threads=1).type == "cpu"


def test_generators_go_on_from_a_checkpoint_as_if_nothing_had_happened(tmp_path):
    draw()  # leaves the second of a pair of normal numbers waiting in Python's and NumPy's generators
    checkpoints.save_state(tmp_path / "s", determinism.generator_states())
    first = draw()
    determinism.restore_generators(checkpoints.load_state(tmp_path / "s"))
    assert draw() == first
