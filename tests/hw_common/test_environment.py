"""Commands in odd environments: closed streams, wrong variables, a user without a name, too little memory."""

import getpass
import os
import re
import signal
import subprocess
import sys

import pytest
from commands import MAINS, ROOT, run_command

from hw_common.commands import cli
from hw_common.runs import launch
from hw_common.runs.errors import UserError

OURS = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID")
TWO = {"WORLD_SIZE": "2", "RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


@pytest.fixture(autouse=True)
def variables(monkeypatch):
    """`variables(A="1")` sets environment variables; at first, no variable of torchrun is set."""
    for name in OURS:
        monkeypatch.delenv(name, raising=False)
    return lambda **values: [monkeypatch.setenv(name, value) for name, value in values.items()]


def python(code, shell='exec "$0" "$@"', **environment):
    """Runs `code` in a new process that a shell starts."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    line = ["sh", "-c", shell, sys.executable, "-c", code]
    return subprocess.run(line, env=environment, capture_output=True, text=True)


CLOSED = """
import os
from hw_common.commands import cli

def main():
    with open(os.sys.argv[1], "w") as file:
        assert file.fileno() > 2
        os.write(1, b"one")
        os.write(2, b"two")
        print("more", file=os.sys.stderr)

cli.run_command(main)
"""


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_nothing_is_written_into_a_file_in_place_of_a_closed_stream(closed, tmp_path):
    done = python(CLOSED, f'exec "$0" "$@" {tmp_path}/file {closed}')
    assert done.returncode == 0 and (tmp_path / "file").read_bytes() == b"", done
    assert done.stdout == ("" if " >&-" in f" {closed}" else "one")


@pytest.mark.parametrize("backend", ["", "module://nope", "qtagg", "agg, or not"])
def test_any_plotting_backend(backend):
    done = python(
        "from hw_common.commands import cli; cli.run_command(lambda: __import__('matplotlib.pyplot') and None)",
        MPLBACKEND=backend,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def library_of_openmp():
    """The OpenMP library of torch, which reads its variables when it is loaded."""
    with open("/proc/self/maps") as file:
        return next(line.split()[-1] for line in file if "libgomp" in line)


@pytest.mark.skipif(sys.platform != "linux", reason="finds the library in /proc")
@pytest.mark.parametrize(("threads", "kept"), [("0", None), ("", None), ("two", None), ("3", "3"), ("3,2", "3,2")])
def test_a_wrong_number_of_openmp_threads_is_no_line_of_openmp(threads, kept):
    load = f"import ctypes, os; ctypes.CDLL({library_of_openmp()!r}); print(os.environ.get('OMP_NUM_THREADS'))"
    done = python(f"from hw_common.commands import environment as e; e.set_up(); {load}", OMP_NUM_THREADS=threads)
    assert (done.stdout, done.stderr) == (f"{kept}\n", "")
    assert kept or "libgomp" in python(load, OMP_NUM_THREADS=threads).stderr


def test_a_user_without_a_name_gets_one(monkeypatch):
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda number: {}[number])
    named = []
    with pytest.raises(SystemExit) as ended:
        cli.run_command(lambda: named.append(getpass.getuser()))
    assert not ended.value.code and re.fullmatch(r"user-\d+", named[0])


WARNING = """
import logging, warnings
from hw_common.commands import cli
from hw_common.runs.errors import UserError

def main():
    warnings.warn("a library's warning")
    logging.getLogger("library").warning("and another")
    raise UserError("our line")

cli.run_command(main)
"""


def test_no_warning_of_a_library_stands_before_our_line():
    assert python(WARNING).stderr == "error: our line\n"
    assert "a library's warning" in python(WARNING, PYTHONWARNINGS="default").stderr


@pytest.mark.skipif(sys.platform != "linux", reason="ulimit -v")
def test_too_little_memory_for_the_libraries_is_one_line(tmp_path):
    code = "from hw_numpy.train import main; from hw_common.commands import cli; cli.run_command(main)"
    flags = f"--dataset sample --model softmax --epochs 1 --results_dir {tmp_path}/results"
    done = python(code, f'ulimit -v 150000; exec "$0" "$@" {flags}')
    assert (done.returncode, done.stdout) == (2, "") and not list(tmp_path.iterdir())
    assert re.fullmatch("error: out of memory[:;] [^\n]+\n", done.stderr)
    code = "from hw_common.commands import environment as e; e.set_up(); print(e.os.environ['OPENBLAS_NUM_THREADS'])"
    assert python(code, 'ulimit -v 1500000; unset OPENBLAS_NUM_THREADS; exec "$0" "$@"').stdout == "1\n"


# ── torchrun's variables ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, (1, 0, 1, 0)),
        ({"WORLD_SIZE": "1", "RANK": "0"}, (1, 0, 1, 0)),
        ({"MASTER_ADDR": "", "MASTER_PORT": "none", "SLURM_PROCID": "3", "OMPI_COMM_WORLD_SIZE": "4"}, (1, 0, 1, 0)),
        (TWO, (2, 1, 1, 0)),
        ({**TWO, "LOCAL_WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "::1"}, (2, 1, 2, 1)),
    ],
)
def test_the_variables_of_torchrun_are_read(values, expected, variables):
    variables(**values)
    assert launch.read() == launch.Launch(*expected)


@pytest.mark.parametrize("name", ["WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_PORT"])
@pytest.mark.parametrize("value", ["", " ", "-1", "2.5", "two", "9" * 5000, "１"])
def test_a_wrong_number_is_named(name, value, variables):
    variables(**{**TWO, name: value})
    with pytest.raises(UserError, match=f"variable {name} is '.*expected a whole number from"):
        launch.read()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE is '0'"),
        ({"LOCAL_WORLD_SIZE": "0"}, "LOCAL_WORLD_SIZE is '0'"),
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE is 2, but RANK is not set"),
        ({"WORLD_SIZE": "2", "RANK": "0"}, "WORLD_SIZE is 2, but MASTER_ADDR is not set"),
        ({"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "a"}, "but MASTER_PORT is not set"),
        ({"RANK": "1"}, r"RANK is '1', expected less than WORLD_SIZE \(not set: 1\)"),
        ({**TWO, "RANK": "2"}, r"RANK is '2', expected less than WORLD_SIZE \(2\)"),
        ({"LOCAL_RANK": "1"}, "LOCAL_RANK is '1', expected less than LOCAL_WORLD_SIZE"),
        ({**TWO, "LOCAL_WORLD_SIZE": "3"}, r"LOCAL_WORLD_SIZE is '3', expected at most WORLD_SIZE \(2\)"),
        ({**TWO, "MASTER_PORT": "65536"}, "MASTER_PORT is '65536'"),
        ({**TWO, "MASTER_ADDR": ""}, "MASTER_ADDR is ''"),
        ({**TWO, "MASTER_ADDR": "http://a/b"}, "MASTER_ADDR is 'http://a/b'"),
    ],
)
def test_variables_that_contradict_one_another_are_one_line(values, message, variables, tmp_path):
    variables(**values)
    ended = run_command(MAINS["hw_ocr.train"], "--dataset", "sample", "--results_dir", tmp_path / "results")
    assert re.search(message, ended.refusal) and not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["hw_numpy.train", "hw_ocr.compare", "hw_check"])
def test_torchrun_with_a_command_of_one_process_is_refused_once(command, variables):
    variables(**TWO, TORCHELASTIC_RUN_ID="none", LOCAL_RANK="0", LOCAL_WORLD_SIZE="2")
    assert "start it with `python -m`, not with torchrun" in run_command(MAINS[command]).refusal
    variables(LOCAL_RANK="1")
    assert (ended := run_command(MAINS[command])).status == 2 and ended.err == ""


JOIN = """
import sys, threading
from hw_common.commands import cli
from hw_common.training import distributed

if sys.argv[1:]:
    threading.Timer(0.5, lambda: __import__("os").kill(__import__("os").getpid(), int(sys.argv[1]))).start()
distributed._SECONDS_TO_JOIN = 60 if sys.argv[1:] else 0.5
cli.run_command(lambda: distributed.start(__import__("torch").device("cpu")), under_torchrun=True)
"""


@pytest.mark.parametrize(
    ("number", "status", "said"),
    [
        ("", 2, "error: the other processes did not answer within 0.5 s at MASTER_ADDR 127.0.0.1, MASTER_PORT 1\n"),
        (int(signal.SIGTERM), 143, "interrupted\n"),
    ],
)
def test_processes_that_do_not_answer_end_in_one_line(number, status, said):
    done = python(JOIN, f'exec "$0" "$@" {number}', **{**TWO, "MASTER_PORT": "1"})
    assert (done.returncode, done.stderr) == (status, said)


def test_an_address_without_a_machine_is_one_line(variables):
    from hw_common.training import distributed

    variables(**{**TWO, "MASTER_ADDR": "nowhere.invalid"})
    with pytest.raises(UserError, match="cannot join the other processes at MASTER_ADDR nowhere.invalid"):
        distributed.start(__import__("torch").device("cpu"))
