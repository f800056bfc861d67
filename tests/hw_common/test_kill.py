"""SIGKILL at any moment leaves whole files; `benchmarks/kills.py` has the method and does it twenty times as often.

It runs in a process of its own, which forks: forking a process whose earlier tests have started threads could hang.
"""

import re
import subprocess
import sys
from pathlib import Path

KILLS = Path(__file__).resolve().parents[2] / "benchmarks" / "kills.py"

# Writes to the file itself instead of beside it, and leaves a temporary file where it is killed.
CARELESS = """
import runpy, sys
from hw_common.runs import files
def write_bytes(path, data):
    with files.open(path, "wb") as file:
        file.write(data)
        file.flush()
    files.os.replace(path, path)
files.write_bytes = write_bytes
sys.argv[1:] = ["--kills", "16", "--random", "0"]
runpy.run_path({path!r}, run_name="__main__")
"""


def test_a_hundred_kills_leave_whole_files_and_the_same_end():
    command = [sys.executable, KILLS, "--kills", "100", "--random", "5"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    rows = re.findall(r"^(.{30})((?: +[0-9]+){5})$", done.stdout, re.MULTILINE)
    table = {name.strip(): [int(cell) for cell in cells.split()] for name, cells in rows}
    kills, hits, torn, stale, different = table["all chosen"]
    assert kills == 100 and hits >= 0.9 * kills and (torn, stale, different) == (0, 0, 0)
    kinds = {name.rpartition(",")[0] for name in table if "," in name}
    assert kinds == {
        "config.json",
        "metrics.csv",
        "best.safetensors",
        "last.pt",
        "curves.png",
        "curves.pdf",
        "summary.json",
    }


def test_a_careless_writer_is_found_out():
    code = CARELESS.format(path=str(KILLS))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1, done.stdout + done.stderr[-2000:]
    assert "a file is torn" in done.stdout
