"""A study that machines share: each trial is done once, under the same flags; finished trials reach every machine."""

import optuna
import pytest

from hw_cnn import sweep
from hw_cnn.sweep_report import Trial
from hw_cnn.sweep_study import SharedStudy
from hw_common.runs.errors import UserError

GRID = [(0.1, 1), (0.2, 1), (0.3, 1)]


@pytest.fixture
def journal(tmp_path):
    return str(tmp_path / "journal")


def machine(tmp_path, journal, name="a", **flags):
    (tmp_path / name).mkdir(exist_ok=True)
    study = SharedStudy("sweep", journal, tmp_path / name, {"epochs": 1, **flags})
    study.enqueue_missing(GRID)
    return study


def do(study, keys):
    for lr, seed in keys:
        summary = {"final": {"validation_accuracy": lr}}
        study.conclude((lr, seed), Trial(summary, [{"epoch": 1}], {"data": "hash"}))
    return keys


def test_machines_do_each_trial_once_and_all_see_the_result(tmp_path, journal):
    first, second = machine(tmp_path, journal), machine(tmp_path, journal, "b")
    claimed = first.claim(GRID, 2)
    assert claimed == GRID[:2]
    assert do(second, second.claim(GRID, 2)) == GRID[2:]
    do(first, claimed)
    first.enqueue_missing(GRID)
    assert first.claim(GRID, 3) == second.claim(GRID, 3) == []
    for study in (first, second):
        found = study.finished(GRID)
        assert {
            lr: [trial.summary["final"]["validation_accuracy"] for trial in of_lr] for lr, of_lr in found.items()
        } == {lr: [lr] for lr, _ in GRID}
        assert found[0.1][0] == Trial({"final": {"validation_accuracy": 0.1}}, [{"epoch": 1}], {"data": "hash"})


def test_a_trial_of_a_killed_process_is_done_again_but_not_one_of_another_machine(tmp_path, journal):
    machine(tmp_path, journal).claim(GRID, 1)  # a process that is killed now leaves it running
    assert machine(tmp_path, journal, "b").claim(GRID, 3) == GRID[1:]  # the other machine may still be running it
    assert machine(tmp_path, journal).claim(GRID, 3) == GRID[:1]


def test_a_trial_that_was_queued_twice_is_done_once(tmp_path, journal):
    study = machine(tmp_path, journal)
    study._study.enqueue_trial({"lr": 0.1, "seed": 1})  # by a machine that started at the same moment
    assert study.claim(GRID, 9) == GRID


def test_the_trials_of_a_larger_grid_are_left_alone(tmp_path, journal):
    small, large = machine(tmp_path, journal), machine(tmp_path, journal, "b")
    assert do(small, small.claim(GRID[2:], 9)) == GRID[2:]
    assert do(large, large.claim(GRID, 9)) == GRID[:2]
    assert sum(map(len, large.finished(GRID).values())) == 3


def test_a_failed_trial_is_tried_again_next_time(tmp_path, journal):
    study = machine(tmp_path, journal)
    for key in study.claim(GRID, 9):
        study.conclude(key, None)
    assert study.claim(GRID, 9) == [] and not any(study.finished(GRID).values())
    assert machine(tmp_path, journal).claim(GRID, 9) == GRID


def test_other_flags_are_refused(tmp_path, journal):
    machine(tmp_path, journal)
    with pytest.raises(UserError, match="was started with --epochs 1, not 2; choose another --name"):
        machine(tmp_path, journal, "b", epochs=2)


def test_a_database_is_told_that_the_claimed_trials_are_running(tmp_path, journal, monkeypatch):
    database = optuna.storages.RDBStorage(f"sqlite:///{tmp_path}/db", heartbeat_interval=30)
    monkeypatch.setattr("hw_cnn.sweep_study._open_storage", lambda address: database)
    study = machine(tmp_path, journal)
    [(lr, seed)] = study.claim(GRID, 1)
    told = []
    monkeypatch.setattr(database, "record_heartbeat", told.append)
    with study.heartbeat():
        pass
    assert told == [study._claimed[lr, seed]._trial_id]


FLAGS = ["--dataset", "sample", "--network", "oct", "--epochs", "1", "--batch_size", "64", "--threads", "1", "--name",
         "tiny", "--lrs", "0.01", "0.1"]  # fmt: skip


def test_machines_share_a_sweep(tmp_path, journal, undrawn):
    share = ["--storage", journal, "--jobs", "1", "--results_dir"]
    first = sweep.parse([*FLAGS, *share, str(tmp_path / "a")]).run()
    second = sweep.parse([*FLAGS, *share, str(tmp_path / "b")]).run()
    assert first["table"] == second["table"] and [row["lr"] for row in first["table"]] == [0.01, 0.1]
    assert {path.name for path in (tmp_path / "a" / "hw_cnn").iterdir()} == {
        "tiny",
        "tiny-lr0.01-seed42",
        "tiny-lr0.1-seed42",
    }
    assert [path.name for path in (tmp_path / "b" / "hw_cnn").iterdir()] == ["tiny"]
    with pytest.raises(UserError, match="1 of 1 training runs failed: tiny-lr1e.30-seed42: .* not finite"):
        sweep.parse([*FLAGS, "1e30", *share, str(tmp_path / "b")]).run()
    assert len(sweep.parse([*FLAGS, *share, str(tmp_path / "b")]).run()["table"]) == 2
