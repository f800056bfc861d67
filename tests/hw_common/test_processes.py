"""Commands in processes that are forks of one process with the slow imports."""

import os
import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only on Linux, the processes are forks")

MAIN = """
import sys
from pathlib import Path
from hw_common.commands import cli
from hw_common.commands.processes import run_processes

def main():
    commands = {name: ["toy.command" if name != "alone" else "alone", name] for name in sys.argv[2:]}
    logs = Path(sys.argv[1]) if sys.argv[1] else None
    run_processes(commands, 2, logs, lambda *ended: print("ended", *ended))

if __name__ == "__main__":
    cli.run_command(main)
"""
COMMAND = """
import os, signal, sys, time
import toy.experiment
[name] = sys.argv[1:]
print("ran", __name__, os.environ["OMP_NUM_THREADS"], os.getsid(0) == os.getpid(), flush=True)
if name == "waits":
    time.sleep(40)
    print("waited")
if name == "fails":
    sys.exit("this went wrong")
if name == "dies":
    os.kill(os.getpid(), signal.SIGKILL)
"""
RAN = "ran __main__ 1 True\n"


@pytest.fixture
def start(tmp_path):
    """Starts the main program with the names of commands; `slow` is the text of the module that is imported first.

    The command "alone" is in no package.
    """
    (tmp_path / "program.py").write_text(MAIN)
    package = tmp_path / "toy"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "command.py").write_text(COMMAND)
    (tmp_path / "alone.py").write_text(COMMAND.replace("import toy.experiment", ""))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}

    def start(*names, logs=tmp_path, slow="print('imported', flush=True)"):
        (package / "experiment.py").write_text(slow)
        return subprocess.Popen(
            [sys.executable, "program.py", str(logs), *names], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, cwd=tmp_path, env=environment, start_new_session=True,
        )  # fmt: skip

    return start


def test_slow_imports_happen_once_and_each_command_has_a_process(start, tmp_path):
    process = start("a", "b", "fails", "dies", "c", "alone")
    said, complaints = process.communicate(timeout=60)
    assert (process.returncode, complaints) == (0, "")
    assert said.splitlines().count("imported") == 1
    assert set(said.splitlines()[1:]) == {
        "ended a 0", "ended b 0", "ended c 0", "ended alone 0", "ended fails 1", f"ended dies {-signal.SIGKILL}",
    }  # fmt: skip
    assert [(tmp_path / f"{name}.log").read_text() for name in ("a", "b", "c", "alone", "dies")] == [RAN] * 5
    assert (tmp_path / "fails.log").read_text() == f"{RAN}this went wrong\n"


def test_without_logs_the_output_is_that_of_the_main_program(start):
    said, complaints = start("a", "fails", logs="").communicate(timeout=60)
    assert said.count("imported") == 2 and said.count(RAN) == 2 and complaints == "this went wrong\n"


def test_ctrl_c_during_the_imports_also_ends_the_command(start, tmp_path):
    process = start("waits", slow="import time; print('imported', flush=True); time.sleep(0.5)")
    assert process.stdout.readline() == "imported\n"
    os.killpg(process.pid, signal.SIGINT)  # Ctrl-C in a terminal reaches the whole group of processes
    said, complaints = process.communicate(timeout=30)
    # The message is one line, without a traceback.
    assert (process.returncode, said, complaints.count("\n")) == (130, "", 1)
    assert "waited" not in (tmp_path / "waits.log").read_text()
