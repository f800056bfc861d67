"""Several training runs at a time, with a stub as the training command, so that processes start fast."""

import argparse
import json
import os
import signal
import threading
import time

import pytest

from hw_common.commands import cli, train_all
from hw_common.commands.training_command import TrainingCommand
from hw_common.runs import launch
from hw_common.runs.errors import UserError
from hw_common.runs.roles import Role

STUB = """
import argparse, json, os, signal, sys, time
from pathlib import Path
flags = argparse.ArgumentParser()
for name in ("results_dir", "name", "resume", "data_dir", "do", "threads"):
    flags.add_argument(f"--{name}")
flags.add_argument("--overwrite", action="store_true")
given = flags.parse_args()
folder = Path(given.resume or f"{given.results_dir}/hw_stub/{given.name}")
if not given.resume:
    folder.mkdir(parents=True)
    own = {"do": given.do, "name": given.name, "threads": given.threads and int(given.threads)}
    config = {"schema": 1, "homework": "hw_stub", "command": "hw_stub.train", "arguments": own,
              "limit": os.environ.get("OMP_NUM_THREADS")}
    (folder / "config.json").write_text(json.dumps(config))
    if given.do == "fail":
        sys.exit("error: it went wrong")
    if given.do == "wait":
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        print("waiting", flush=True)
        time.sleep(60)
(folder / "log").open("a").write("resumed " if given.resume else "trained ")
(folder / "summary.json").write_text('{"schema": 1}')
"""


def stub_parser():
    flags = cli.Parser("stub", "")
    cli.add_flag(flags, "do")
    cli.add_flag(flags, "name", role=Role.RUNNING)
    for name in ("results_dir", "data_dir", "resume"):
        cli.add_flag(flags, name, role=Role.PLACE)
    cli.add_flag(flags, "threads", role=Role.RUNNING, type=int)
    cli.add_flag(flags, "overwrite", role=Role.CALL, action="store_true")
    return flags


def stub_resolve(arguments: argparse.Namespace):
    return argparse.Namespace(**{name: getattr(arguments, name) for name in ("do", "name", "threads", "resume")},
                              data_dir=arguments.data_dir or "here", results_dir=arguments.results_dir)  # fmt: skip


@pytest.fixture
def stub(tmp_path, monkeypatch):
    """A command `hw_stub.train` that trains nothing: --do says how it ends."""
    package = tmp_path / "packages" / "hw_stub"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "train.py").write_text(STUB)
    monkeypatch.syspath_prepend(package.parent)
    return TrainingCommand("hw_stub", stub_parser, stub_resolve, prepare=None)


def logs(results, *names):
    return [(results / "hw_stub" / name / "log").read_text() for name in names]


def test_missing_trainings_are_done_and_finished_ones_are_not(stub, tmp_path):
    wanted = {name: ["--do", "finish"] for name in ("a", "b", "c")}
    found = train_all.train_all(stub, wanted, tmp_path, 2, tmp_path)
    assert {name: run.is_finished for name, run in found.items()} == {"a": True, "b": True, "c": True}
    (tmp_path / "hw_stub" / "b" / "summary.json").unlink()
    train_all.train_all(stub, wanted, tmp_path, 2, tmp_path)
    assert logs(tmp_path, "a", "b", "c") == ["trained ", "trained resumed ", "trained "]


def test_they_go_on_where_their_folder_has_moved(stub, tmp_path):
    train_all.train_all(stub, {"a": ["--do", "finish"]}, tmp_path, 2, tmp_path)
    (tmp_path / "hw_stub" / "a" / "summary.json").unlink()
    (tmp_path / "moved").mkdir()
    (tmp_path / "hw_stub").rename(tmp_path / "moved" / "hw_stub")
    train_all.train_all(stub, {"a": ["--do", "finish"]}, tmp_path / "moved", 2, tmp_path)
    assert logs(tmp_path / "moved", "a") == ["trained resumed "]


def test_a_failed_training_does_not_stop_the_others(stub, tmp_path):
    wanted = {"a": ["--do", "fail"], "b": ["--do", "finish"], "c": ["--do", "finish"]}
    message = r"1 of 3 training runs failed: a: ended with status 1: error: it went wrong \(logs:"
    with pytest.raises(UserError, match=message):
        train_all.train_all(stub, wanted, tmp_path, 2, tmp_path)
    assert logs(tmp_path, "b", "c") == ["trained ", "trained "]


def test_a_reason_that_failed_trainings_share_is_written_once(stub, tmp_path):
    wanted = {name: ["--do", "fail"] for name in "abc"}
    with pytest.raises(UserError, match=r"^3 of 3 training runs failed: a, b, c: .*it went wrong \(logs: ") as failed:
        train_all.train_all(stub, wanted, tmp_path, 2, tmp_path)
    assert str(failed.value).count("it went wrong") == 1


def test_a_run_folder_with_other_flags_is_not_taken_for_it(stub, tmp_path):
    train_all.train_all(stub, {"a": ["--do", "finish"]}, tmp_path, 2, tmp_path)
    with pytest.raises(UserError, match="with --do fail: it was started with --do finish"):
        train_all.train_all(stub, {"a": ["--do", "fail"]}, tmp_path, 2, tmp_path)


def test_a_signal_reaches_the_running_trainings(stub, tmp_path):
    def stop_when_both_wait():
        for name in ("a", "b"):
            while "waiting" not in (log.read_text() if (log := tmp_path / f"{name}.log").exists() else ""):
                time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, cli._terminate)  # as run_command does
    try:
        stopper = threading.Thread(target=stop_when_both_wait)
        stopper.start()
        started = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            train_all.train_all(stub, {name: ["--do", "wait"] for name in "abc"}, tmp_path, 2, tmp_path)
        assert time.monotonic() - started < 50  # they did not sleep to the end
        stopper.join()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert not (tmp_path / "hw_stub" / "c").exists()
    train_all.train_all(stub, {name: ["--do", "wait"] for name in "ab"}, tmp_path, 2, tmp_path)
    assert logs(tmp_path, "a", "b") == ["resumed ", "resumed "]


@pytest.mark.parametrize(
    ("jobs", "runs", "limit"), [(2, "abc", "3"), (4, "ab", "3"), (3, "abc", "2"), (9, "abcdefgh", "1")]
)
def test_runs_side_by_side_share_the_cores(stub, tmp_path, monkeypatch, jobs, runs, limit):
    monkeypatch.setattr(launch, "most_threads", lambda: 6)
    train_all.train_all(stub, dict.fromkeys(runs, ["--do", "finish"]), tmp_path, jobs, tmp_path)
    configs = [json.loads((tmp_path / "hw_stub" / name / "config.json").read_text()) for name in runs]
    assert {(config["limit"], config["arguments"]["threads"]) for config in configs} == {(limit, None)}


def test_given_threads_are_kept(stub, tmp_path):
    train_all.train_all(stub, {"a": ["--do", "finish", "--threads", "7"]}, tmp_path, 2, tmp_path)
    config = json.loads((tmp_path / "hw_stub" / "a" / "config.json").read_text())
    assert config["arguments"]["threads"] == 7


@pytest.mark.parametrize(("cores", "gigabytes", "jobs"), [(4, 64, 4), (4, 13, 2), (4, 2, 1), (1, 64, 1)])
def test_cores_and_memory_decide_how_many_run_at_a_time(monkeypatch, cores, gigabytes, jobs):
    monkeypatch.setattr(train_all, "available_cores", lambda: cores)
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 1000, "SC_PHYS_PAGES": gigabytes * 10**6}.get)
    assert train_all.default_jobs() == jobs


def test_without_a_number_of_memory_pages_the_cores_decide(monkeypatch):
    monkeypatch.setattr(train_all, "available_cores", lambda: 5)
    monkeypatch.delattr(os, "sysconf")  # Windows has none
    assert train_all.default_jobs() == 5
