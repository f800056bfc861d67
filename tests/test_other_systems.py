"""Imports, training and grading work without the modules and functions that only Linux has."""

import os
import subprocess
import sys

from commands import ROOT

BLOCKED = """
import os, signal, sys

for module in ("fcntl", "resource", "pwd", "grp", "termios", "pty", "syslog"):
    sys.modules[module] = None
for name in ("fork", "forkpty", "killpg", "setsid", "getpgid", "waitid", "sched_getaffinity", "sched_setaffinity",
             "getuid", "geteuid", "getgid", "set_blocking", "mkfifo", "getloadavg", "O_DIRECTORY"):
    delattr(os, name)
for name in ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM", "alarm", "setitimer", "pthread_kill"):
    delattr(signal, name)
"""
TRAIN = """
import commands, finished_runs, pathlib, pytest, types
from commands import MAINS, interrupted, run_command
from hw_common.training import memory

memory.sys = types.SimpleNamespace(platform="win32")  # without mallopt
commands.draw_nothing(pytest.MonkeyPatch())
folder = pathlib.Path(sys.argv[1])
for command, words in (
    ("hw_cnn.train", "--dataset sample --network oct --batch_size 256 --epochs 2 --threads 1"),
    ("hw_numpy.train", "--dataset sample --model softmax --hidden_dims 2 --epochs 2"),
):
    runs = []
    for name in ("whole", "stopped"):
        flags = [*words.split(), "--results_dir", folder, "--name", name]
        runs.append(folder / command.partition(".")[0] / name)
        if name == "whole":
            assert run_command(MAINS[command], *flags).status == 0
            continue
        with interrupted("validation 2"):
            ended = run_command(MAINS[command], *flags)
        assert ended.status == 130, ended
        ended = run_command(MAINS[command], "--resume", runs[-1])
        assert ended.status == 0, ended
    assert finished_runs.numbers_of(runs[0]) == finished_runs.numbers_of(runs[1])
    assert not [path for path in folder.rglob("*.tmp")]
"""
CHECK = """
import runpy

sys.platform = "other"
sys.argv = ["hw_check", sys.argv[1]]
runpy.run_module("hw_check", run_name="__main__")
"""


def blocked(code, *words):
    """Runs `code` in a new process without what other systems lack."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests' / 'support'}"}
    line = [sys.executable, "-W", "ignore", "-c", BLOCKED + code, *map(str, words)]
    return subprocess.run(line, env=environment, capture_output=True, text=True)


def test_training_runs_are_stopped_and_resumed(tmp_path):
    done = blocked(TRAIN, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]


def test_a_student_is_graded(tmp_path):
    (tmp_path / "layers.py").write_text((ROOT / "hw_numpy" / "layers.py").read_text(encoding="utf-8"), encoding="utf-8")
    done = blocked(CHECK, tmp_path)
    assert "fc_forward" in done.stdout and done.stderr == "", (done.stdout, done.stderr[-3000:])


def test_every_text_file_is_opened_with_an_encoding():
    folders = [*ROOT.glob("hw_*"), ROOT / "benchmarks"]
    line = [sys.executable, "-m", "ruff", "check", "--isolated", "--preview", "--select", "PLW1514", *folders]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
