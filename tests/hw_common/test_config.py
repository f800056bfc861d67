"""config.json: its content, and the settings in which a resumed run must agree with it."""

import json
import os
import subprocess
import sys

import pytest
import tiny

from hw_common.runs.config import check_same_arguments, check_same_data, check_same_host, describe, without_password
from hw_common.runs.errors import UserError
from hw_common.runs.roles import Role
from hw_common.runs.run_folder import Run


def run_with(**config):
    return Run("folder", {**tiny.CONFIG, **config})


def test_resume_refuses_other_arguments():
    run = run_with()
    check_same_arguments(run, {"epochs": 3, "data_dir": "elsewhere"}, {"data_dir": Role.PLACE})
    with pytest.raises(UserError, match="--epochs 4: it was started with --epochs 3"):
        check_same_arguments(run, {"epochs": 4})


def test_arguments_that_an_older_run_lacks_had_their_default():
    check_same_arguments(run_with(), {"kernels": "fast"}, defaults={"kernels": "fast"})
    with pytest.raises(UserError, match="--kernels plain: it was started with --kernels fast"):
        check_same_arguments(run_with(), {"kernels": "plain"}, defaults={"kernels": "fast"})


@pytest.mark.parametrize(("role", "refuses"), [
    (Role.TRAINED, True), (Role.RUNNING, True), (Role.PLACE, False), (Role.OUTPUT, False), (Role.CALL, False),
])  # fmt: skip
def test_the_role_decides_whether_an_argument_may_change(role, refuses):
    run = run_with(arguments={"flag": "one"})
    assert role.may_change_on_resume is not refuses
    if refuses:
        with pytest.raises(UserError, match="--flag other: it was started with --flag one"):
            check_same_arguments(run, {"flag": "other"}, {"flag": role})
    else:
        check_same_arguments(run, {"flag": "other"}, {"flag": role})


@pytest.mark.parametrize(("own", "given", "same"), [
    ("/old/set.tar", "/new/set.tar", True), ("/old/set", "/old/other", False), (None, "/new/set", False),
    ("imagenet", "imagenet", True), ("imagenet", "none", False), (None, None, True),
])  # fmt: skip
def test_an_input_may_have_moved_but_not_become_another(own, given, same):
    run = run_with(arguments={"dataset_dir": own})
    if same:
        check_same_arguments(run, {"dataset_dir": given}, {"dataset_dir": Role.INPUT})
    else:
        with pytest.raises(UserError, match="--dataset_dir"):
            check_same_arguments(run, {"dataset_dir": given}, {"dataset_dir": Role.INPUT})


def test_where_no_hashes_are_compared_an_input_keeps_its_path():
    run, roles = run_with(arguments={"weights": "a/best.safetensors"}), {"weights": Role.INPUT}
    check_same_arguments(run, {"weights": "a/best.safetensors"}, roles, may_have_moved=False)
    with pytest.raises(UserError, match="--weights b/best.safetensors: it was started with --weights a/best"):
        check_same_arguments(run, {"weights": "b/best.safetensors"}, roles, may_have_moved=False)


def test_resume_refuses_other_data_and_hosts():
    run = run_with(data={"a.npz": "12"}, host={"device": "cpu", "processes": 1})
    check_same_data(run, {"a.npz": "12"})
    for hashes in ({"a.npz": "13"}, {}, {"a.npz": "12", "b.npz": "14"}):
        with pytest.raises(UserError, match="the data file [ab].npz is not the one"):
            check_same_data(run, hashes)
    check_same_data(run_with(data={"old/a/b": "12"}), {"new/a/b": "12"})
    with pytest.raises(UserError, match="the data file old/a/b is not the one"):
        check_same_data(run_with(data={"old/a/b": "12"}), {"new/a/b": "13"})
    check_same_host(run, {"device": "cpu", "processes": 1})
    with pytest.raises(UserError, match="processes 2: it was started with 1"):
        check_same_host(run, {"device": "cpu", "processes": 2})


def test_describe_says_where_a_number_comes_from(tmp_path):
    arguments, roles = {"data_dir": tmp_path, "lr": 0.1}, {"data_dir": Role.PLACE, "unused": Role.CALL}
    config = json.loads(json.dumps(describe("hw_tiny", "hw_tiny.train", arguments, roles, {"a": "12"}, {"threads": 1})))
    assert config["arguments"] == {"data_dir": str(tmp_path), "lr": 0.1}
    assert config["roles"] == {"data_dir": "place"}
    assert config["data"] == {"a": "12"}
    assert config["versions"]["torch"] and config["host"]["threads"] == 1
    assert config.keys() >= {"git", "started", "argv", "schema", "homework", "command"}


def test_public_arguments_hold_no_path():
    arguments = {
        "lr": 0.1,
        "data_dir": "/home/me/data",
        "weights": "/home/me/w.pt",
        "storage": "a://b",
        "network": None,
    }
    roles = {"data_dir": "place", "weights": "input", "storage": "place"}
    expected = {"lr": 0.1, "weights": "w.pt", "network": None}
    assert run_with(arguments=arguments, roles=roles).public_arguments() == expected


def test_public_arguments_of_an_older_run_hold_no_path():
    arguments = {"lr": 0.1, "data_dir": "data", "dataset_dir": None, "resume": None, "weights": "/home/me/w.pt"}
    assert run_with(arguments=arguments).public_arguments() == {"lr": 0.1, "weights": "w.pt"}


def test_available_cores_counts_those_this_process_may_use():
    code = (
        "import os; from hw_common.runs.config import available_cores as cores; "
        "os.sched_setaffinity(0, {0}); print(cores())"
    )
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system has no affinity")
    first = min(os.sched_getaffinity(0))
    assert subprocess.check_output([sys.executable, "-c", code.replace("{0}", f"{{{first}}}")], text=True) == "1\n"


def test_passwords_are_not_written_down():
    address = "postgresql://user:secret@host:5432/x?a=b:c@d"
    assert without_password(address) == "postgresql://user:***@host:5432/x?a=b:c@d"
    assert without_password(f"--storage={address}") == "--storage=postgresql://user:***@host:5432/x?a=b:c@d"
    for plain in ("postgresql://user@host/x", "results/a:b@c", 7, None):
        assert without_password(plain) == plain
    config = describe("h", "c", {"storage": address}, {}, {}, {})
    assert config["arguments"] == {"storage": without_password(address)}
