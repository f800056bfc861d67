"""A study that machines share: each trial is done once, under the same flags and on the same data."""

import pytest

from hw_cnn.sweep_study import SharedStudy, TrialFailed
from hw_common.runs.errors import UserError

GRID = [(0.1, 1), (0.2, 1), (0.3, 1)]


@pytest.fixture
def journal(tmp_path):
    return str(tmp_path / "journal")


def machine(tmp_path, journal, name="a", **flags):
    (tmp_path / name).mkdir(exist_ok=True)
    return SharedStudy("sweep", journal, tmp_path / name, {"epochs": 1, **flags})


def trained(done, hashes="same"):
    """A training that notes what it did."""

    def train(lr, seed):
        done.append((lr, seed))
        return {"summary": {"final": {"validation_accuracy": lr}}, "hashes": {"data": hashes}, "rows": []}

    return train


def test_two_machines_do_each_trial_once(tmp_path, journal):
    first, second, done = machine(tmp_path, journal), machine(tmp_path, journal, "b"), []
    assert first.enqueue_missing(GRID) == 3
    first.run(GRID[:2], 1, trained(done))
    assert second.enqueue_missing(GRID) == 1
    second.run(GRID, 1, trained(done))
    assert sorted(done) == GRID
    assert first.complete(GRID).keys() == second.complete(GRID).keys() == set(GRID)
    assert first.enqueue_missing(GRID) == 0


def test_a_trial_of_a_killed_process_is_done_again_but_not_one_of_another_machine(tmp_path, journal):
    def hang(study):
        study.enqueue_missing(GRID)
        trial = study._study.ask()  # a process that is killed now leaves it running
        trial.suggest_float("lr", 0, 1), trial.suggest_int("seed", 0, 9)
        trial.set_user_attr("worker", study._worker)

    hang(machine(tmp_path, journal))
    assert machine(tmp_path, journal, "b").enqueue_missing(GRID) == 2  # the other machine may still be at it
    assert machine(tmp_path, journal).enqueue_missing(GRID) == 3


def test_a_trial_that_was_queued_twice_is_done_once(tmp_path, journal):
    study, done = machine(tmp_path, journal), []
    study.enqueue_missing(GRID[:1])
    study._study.enqueue_trial({"lr": 0.1, "seed": 1})  # by a machine that started at the same moment
    study.run(GRID, 1, trained(done))
    assert done == GRID[:1]


def test_the_trials_of_a_larger_grid_are_left_alone(tmp_path, journal):
    small, large, done = machine(tmp_path, journal), machine(tmp_path, journal, "b"), []
    assert large.enqueue_missing(GRID) == 3 and small.enqueue_missing(GRID[2:]) == 1
    small.run(GRID[2:], 1, trained(done))
    assert done == GRID[2:]
    large.run(GRID, 1, trained(done))
    assert sorted(done) == GRID and large.complete(GRID).keys() == set(GRID)


def test_a_failed_trial_is_tried_again_next_time(tmp_path, journal):
    def fail(lr, seed):
        raise TrialFailed

    study = machine(tmp_path, journal)
    assert study.enqueue_missing(GRID) == 3
    study.run(GRID, 1, fail)
    assert study.complete(GRID) == {}
    assert study.enqueue_missing(GRID) == 3


def test_other_flags_and_other_data_are_refused(tmp_path, journal):
    study, done = machine(tmp_path, journal), []
    with pytest.raises(UserError, match="was started with --epochs 1, not 2; choose another --name"):
        machine(tmp_path, journal, "b", epochs=2)
    study.enqueue_missing(GRID)
    study.run(GRID[:1], 1, trained(done))
    study.run(GRID, 1, trained(done, hashes="other"))
    with pytest.raises(UserError, match="was trained on other data files than the first"):
        study.complete(GRID)
