"""A study that machines share: each trial is done once, under the same flags; finished trials reach every machine."""

import re
import signal
import socket
from pathlib import Path

import postgres
import pytest
import sqlalchemy
import sweep_worker
from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState
from sweep_worker import Machine

from hw_cnn import sweep, sweep_storage
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


@pytest.mark.parametrize("content", [b"my notes\n", b"a,b\n1,2\n", b"{\n}\n\n", b'{"a": 1}\n', b"\x80\x04\n"])
def test_a_file_that_is_no_journal_is_one_line_and_stays_as_it_is(tmp_path, journal, content):
    Path(journal).write_bytes(content)
    with pytest.raises(UserError, match=r"(--storage|cannot open the storage) \S+journal: "):
        machine(tmp_path, journal)
    assert Path(journal).read_bytes() == content


@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
def test_a_server_that_says_nothing_ends_in_one_line(monkeypatch, kind):
    for name, value in {"_ATTEMPTS": 1, "_SECONDS_TO_CONNECT": 1, "_SECONDS_TO_ANSWER": 1}.items():
        monkeypatch.setattr(sweep_storage, name, value)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"{kind}://u@127.0.0.1:{server.getsockname()[1]}/d"
        with pytest.raises(UserError, match=f"cannot open the storage {kind}://u@127"):
            sweep_storage.open_storage(address)


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


def test_a_machine_that_lost_its_trial_concludes_it_without_harm(tmp_path, journal):
    slow = machine(tmp_path, journal)
    [key] = slow.claim(GRID, 1)
    slow._study.tell(slow._claimed[key].number, state=TrialState.FAIL)  # another machine, after the grace period
    do(slow, [key])
    assert not slow.finished(GRID)[key[0]]
    assert key in machine(tmp_path, journal).claim(GRID, 9)


# ── all storages ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def server():
    """The address of a PostgreSQL server."""
    with postgres.server() as address:
        yield address


@pytest.fixture(params=["journal", "sqlite", "postgresql"])
def storage(request, tmp_path):
    """The address of an empty storage of each kind."""
    if request.param == "postgresql":
        name = re.sub(r"\W", "_", request.node.name)[:60].lower()
        return postgres.new_database(request.getfixturevalue("server"), name)
    return {"journal": f"{tmp_path}/journal", "sqlite": f"sqlite:///{tmp_path}/sweep.db"}[request.param]


def test_four_machines_that_start_at_once_on_an_empty_storage_do_each_trial_once(storage, tmp_path):
    machines = [Machine(storage, tmp_path / name) for name in "abcd"]
    for each in machines:
        each.start()
    trials, statuses = zip(*(each.end() for each in machines), strict=True)
    assert statuses == (0, 0, 0, 0) and sorted(sum(trials, [])) == sorted(sweep_worker.GRID)


def test_a_killed_machine_that_is_started_again_takes_its_trial_up(storage, tmp_path):
    ended = []
    for name, killed in (("a", True), ("b", False), ("a", False)):
        started = Machine(storage, tmp_path / name, killed)
        started.start()
        ended.append(started.end())
    (killed, status), (others, _), (again, _) = ended
    assert killed == again == [(0.01, 1)] and status == -signal.SIGKILL
    assert sorted(others) == sorted(set(sweep_worker.GRID) - {(0.01, 1)})


@pytest.mark.parametrize("storage", ["sqlite", "postgresql"], indirect=True)
def test_another_machine_takes_up_a_trial_without_heartbeats(storage, tmp_path):
    lost = machine(tmp_path, storage)
    assert lost.claim(GRID, 1) == GRID[:1]
    assert machine(tmp_path, storage, "b").claim(GRID[:1], 1) == []  # its heartbeat is fresh
    with lost._storage.engine.begin() as connection:
        connection.execute(sqlalchemy.text("UPDATE trial_heartbeats SET heartbeat = '2000-01-01 00:00:00'"))
    assert machine(tmp_path, storage, "b").claim(GRID[:1], 1) == GRID[:1]


def test_heartbeats_go_on_while_the_database_does_not_answer(tmp_path, monkeypatch):
    study = machine(tmp_path, f"sqlite:///{tmp_path}/sweep.db")
    study.claim(GRID, 1)
    told = []

    def record(trial_id):
        told.append(trial_id)
        raise StorageInternalError

    monkeypatch.setattr(study._storage, "record_heartbeat", record)
    monkeypatch.setattr(sweep_storage, "HEARTBEAT_SECONDS", 0.001)
    with study.heartbeat():
        while len(told) < 2:
            pass
    assert set(told) == {study._claimed[GRID[0]]._trial_id}


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("redis://127.0.0.1:6379/0", r"--storage redis://127.0.0.1:6379/0: expected postgresql://…, mysql://…, sqlite"),
        ("sqlite://", "expected postgresql://…"),
        (
            "postgresql://u:secret@127.0.0.1:1/x",
            r"cannot open the storage postgresql://u:\*\*\*@127.0.0.1:1/x: .*refused",
        ),
        ("postgres://u@127.0.0.1:1/x", "cannot open the storage postgres://u@127.0.0.1:1/x: .*refused"),
        ("mysql://u:secret@127.0.0.1:1/x", r"cannot open the storage mysql://u:\*\*\*@127.0.0.1:1/x: .*refused"),
        ("mariadb://u@127.0.0.1:1/x", "cannot open the storage mariadb://.*refused"),
        ("postgresql+pg8000://u:p@h/x", r"driver that is not installed: pip install pg8000 \(or write postgresql://…"),
        ("postgresql://u@h:port/x", "cannot open the storage"),
        ("no/such/folder/journal", "cannot open the storage no/such/folder/journal: .*No such file"),
        ("damaged", "--storage damaged: the file exists and is not the journal of a sweep; give another path"),
    ],
)
def test_a_storage_that_cannot_be_opened_is_one_line(address, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sweep_storage.time, "sleep", lambda seconds: None)
    (tmp_path / "damaged").write_text("no journal\nat all\n")
    with pytest.raises(UserError, match=message) as refused:
        sweep_storage.open_storage(address)
    assert "\n" not in str(refused.value) and "secret" not in str(refused.value)


FLAGS = ["--dataset", "sample", "--network", "oct", "--epochs", "1", "--batch_size", "64", "--threads", "1", "--name",
         "tiny", "--lrs", "0.01", "0.1"]  # fmt: skip


@pytest.mark.parametrize("storage", ["postgresql"], indirect=True)
def test_a_database_that_stops_answering_is_one_line(storage, tmp_path, monkeypatch):
    def gone(*arguments):
        raise StorageInternalError("the server closed the connection\nunexpectedly")

    monkeypatch.setattr(SharedStudy, "claim", gone)
    with pytest.raises(UserError, match="does not answer: the server closed the connection; the same command resumes"):
        sweep.parse([*FLAGS, "--storage", storage, "--results_dir", str(tmp_path)]).run()


def test_machines_share_a_sweep(tmp_path, storage, undrawn):
    share = ["--storage", storage, "--jobs", "1", "--results_dir"]
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
