"""hw_check.sandbox: a student's code cannot see our answers, harm the machine or outlive the check."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest
from graded import SHEET, all_rows, graded, sandbox
from numpy_mistakes import STUDENT

from hw_check import sandbox as module
from hw_check.sandbox import Sandbox
from hw_check.submission import copied

REPOSITORY = Path(__file__).resolve().parents[2]
is_root_on_linux = pytest.mark.skipif(
    not (sys.platform.startswith("linux") and os.geteuid() == 0), reason="only root on Linux can give up rights"
)


def reported(tmp_path, expression):
    """What `expression` gives in the process of a student's file, as text."""
    (tmp_path / "layers.py").write_text(
        "import ctypes, gc, glob, os, socket, subprocess, sys\n"
        f"def fc_forward(x, w, b):\n    raise ValueError(str({expression}))\n"
    )
    [row] = [row for row in all_rows(tmp_path) if row.function == "fc_forward"]
    return row.hint


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("sys.argv + sys.orig_argv + sys.path + [repr(f) for f in sys.meta_path]", ""),
        ("[m for m in sys.modules if m.startswith('hw_')]", "[]"),
        ("sys.modules['__main__'].__dict__.keys()", ""),
        ("os.getcwd()", "student-"),
        ("sorted(os.environ.values())", ""),
        ("[s for o in gc.get_objects() for s in gc.get_referents(o) if isinstance(s, str) and "
         f"{str(REPOSITORY)[::-1]!r}[::-1] in s.replace({sys.prefix[::-1]!r}[::-1], '')]", "[]"),
        ("[f.f_code.co_filename for f in sys._current_frames().values()]", "layers.py"),
    ],
    ids=["arguments and paths", "modules", "main", "folder", "environment", "memory", "frames"],
)  # fmt: skip
def test_there_is_no_path_to_our_files(tmp_path, expression, says):
    hint = reported(tmp_path, expression).replace(sys.prefix, "")  # Python's own folder may lie inside the repository
    assert hint.startswith("raises ValueError") and says in hint
    assert str(REPOSITORY) not in hint


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("__import__('hw_numpy.layers')", "No module named 'hw_numpy'"),
        (f"open({str(REPOSITORY / 'hw_numpy' / 'layers.py')!r}).read()", "does not allow opening layers.py"),
        (f"os.open({str(REPOSITORY / 'README.md')!r}, 0)", "does not allow opening README.md"),
        ("open('/tmp/elsewhere', 'w')", "does not allow opening elsewhere"),
        ("os.remove('/tmp/elsewhere')", "does not allow changing files elsewhere"),
        ("subprocess.run(['ls'])", "does not allow starting processes"),
        ("os.fork()", "does not allow starting processes"),
        ("socket.create_connection(('127.0.0.1', 9))", "does not allow using the network"),
    ],
    ids=["import", "open", "os.open", "write", "remove", "subprocess", "fork", "network"],
)
def test_forbidden_calls_raise_an_error(tmp_path, expression, says):
    assert says in reported(tmp_path, expression)


@is_root_on_linux
def test_root_gives_up_rights(tmp_path):
    reported(tmp_path, "0")  # the limits are known once a file has run
    limits = sandbox(SHEET.runner, SHEET.preload).limits
    assert "limits on memory, time, files and processes" in limits
    if "a user without rights" in limits:
        assert "False" in reported(tmp_path, "os.getuid() == 0")
        assert "-1" in reported(tmp_path, "ctypes.CDLL(None).setuid(0)")
        assert "-1" in reported(tmp_path, "ctypes.CDLL(None).fork()")
    if "the checker's files hidden" in limits:
        path = str(REPOSITORY / "hw_numpy" / "layers.py")
        assert "-1" in reported(tmp_path, f"ctypes.CDLL(None).open({path!r}.encode(), 0)")
    if "no network" in limits:
        assert "[(1, 'lo')]" in reported(tmp_path, "socket.if_nameindex()")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs a C library with symlink")
@pytest.mark.parametrize("end", ["", "raise ValueError"])
def test_link_that_replaces_the_file_is_not_followed(tmp_path, end):
    other = tmp_path / "of the teacher.py"
    other.write_text("def fc_forward(x): ...\nprint()\n")
    student = tmp_path / "student"
    student.mkdir()
    (student / "layers.py").write_text(
        f"import ctypes\nlibc = ctypes.CDLL(None)\nlibc.unlink(b'layers.py')\n"
        f"libc.symlink({os.fsencode(other)!r}, b'layers.py')\n{end}\ndef fc_forward(x, w, b):\n    raise SystemExit\n"
    )
    assert sum(row.points for row in all_rows(student)) == 0
    assert other.read_text() == "def fc_forward(x): ...\nprint()\n"


def test_students_code_runs_elsewhere_and_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setenv("A_SECRET", "of the teacher")
    hint = reported(tmp_path, "[open('left behind', 'w').write('x'), print('x' * 10**7), os.getpid(), *os.environ]")
    assert str(os.getpid()) not in hint
    assert "A_SECRET" not in hint and "PYTHONPATH" not in hint
    assert {path.name for path in tmp_path.iterdir()} == {"layers.py"}


def test_network_cannot_get_more_from_our_layers_than_their_numbers(tmp_path):
    (tmp_path / "layers.py").write_text("import numpy as np\n")
    (tmp_path / "softmax.py").write_text(
        "import layers\nclass SoftmaxClassifier:\n    def __init__(self, **options): self.params = {}\n"
        "    def loss(self, X, y=None): raise ValueError([vars(layers), layers.fc_forward.__globals__.keys()])\n"
    )
    rows = graded(tmp_path)
    assert rows["SoftmaxClassifier.loss"].points == 0
    assert str(REPOSITORY) not in rows["SoftmaxClassifier.loss"].hint


def test_file_may_import_its_neighbours_and_read_its_own_files(tmp_path):
    (tmp_path / "impl").mkdir()
    (tmp_path / "impl" / "mine.py").write_text((STUDENT / "layers.py").read_text())
    (tmp_path / "note.txt").write_text("hello")
    (tmp_path / "layers.py").write_text("from impl.mine import *\nassert open('note.txt').read() == 'hello'\n")
    assert {row.status for row in graded(tmp_path).values()} == {"passed"}


def test_systems_that_do_not_fork_start_a_process_for_every_file(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_FORKS", False)
    (tmp_path / "layers.py").write_text((STUDENT / "layers.py").read_text() + "\ndef relu_forward(x): exit(3)\n")
    with Sandbox("hw_check.eecs545.inside") as box:
        with copied(tmp_path) as copy:
            rows = {row.function: row for row in SHEET.grade(copy, 0, 15.0, box, {})}
    assert (rows["relu_forward"].status, rows["conv_backward"].status) == ("failed", "passed")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux forks")
def test_killed_server_is_started_again(tmp_path):
    (tmp_path / "layers.py").write_text("def relu_forward(x):\n    raise ValueError('reached')\n")
    with Sandbox("hw_check.eecs545.inside") as box, copied(tmp_path) as copy:
        for _ in range(2):
            rows = list(SHEET.grade(copy, 0, 15.0, box, {}))
            assert any("reached" in row.hint for row in rows)
            os.kill(box._server.pid, signal.SIGKILL)
        assert box._server.wait(0) == -signal.SIGKILL


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells the CPU time")
def test_time_without_a_processor_does_not_count(tmp_path):
    (tmp_path / "layers.py").write_text(f"import time\ntime.sleep(2)\n{(STUDENT / 'layers.py').read_text()}")
    assert {row.status for row in graded(tmp_path, seconds=1.0).values()} == {"passed"}


def test_processes_do_not_outlive_the_sandbox(tmp_path):
    (tmp_path / "layers.py").write_text("while True: pass")
    with Sandbox("hw_check.eecs545.inside") as box:
        with copied(tmp_path) as copy:
            rows = list(SHEET.grade(copy, 0, 0.2, box, {}))
        server = box._server.pid
        children = Path(f"/proc/{server}/task/{server}/children")
        assert not children.exists() or not children.read_text()
    assert rows[0].hint.startswith("importing the file takes longer than 0.2 s")
    deadline = time.monotonic() + 10
    while Path(f"/proc/{server}").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not Path(f"/proc/{server}").exists()
