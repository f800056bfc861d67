"""The command hw_check: arguments, reports and many students at once."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import graded
import numpy_mistakes as mistakes
import pytest
from numpy_mistakes import plant

import hw_numpy
from hw_check import __main__ as check
from hw_check import many, report
from hw_check.eecs545.functions import FILES
from hw_check.rows import Row
from hw_common.runs.errors import UserError

REPOSITORY = Path(__file__).resolve().parents[2]
OURS = Path(hw_numpy.__file__).parent


def test_our_own_files_get_full_points(capsys):
    assert check.main([]) == 0
    output = capsys.readouterr().out
    assert output.splitlines()[-1].startswith("73 of 73 points")
    assert all(str(OURS / file) in output for file in FILES)


def test_json_holds_everything(tmp_path, capsys):
    plant(tmp_path, [mistakes.LAYERS[0], mistakes.LAYERS[4]])
    assert check.main([str(tmp_path), "--json", "--seed", "3"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert (report["seed"], report["of"], report["complete"]) == (3, 73, False)
    assert report["points"] == sum(f["points"] for f in report["functions"]) == 43 - 3 - 2
    functions = {f["function"]: f for f in report["functions"]}
    assert functions["fc_forward"].keys() == {
        "function", "file", "question", "points", "of", "status", "tried", "error", "hint", "remarks"
    }  # fmt: skip
    assert functions["fc_forward"]["status"] == "failed" and functions["ConvNet.loss"]["status"] == "missing"


def test_same_seed_same_report(tmp_path, capsys):
    plant(tmp_path, mistakes.LAYERS[:1])
    reports = []
    for seed in (1, 1, 2):
        check.main([str(tmp_path), "--json", "--seed", str(seed)])
        reports.append(capsys.readouterr().out)
    assert reports[0] == reports[1] != reports[2]


def test_table_names_the_mistake(tmp_path, capsys):
    assert check.main([str(plant(tmp_path, mistakes.LAYERS[:1]))]) == 1
    output = capsys.readouterr().out
    [line] = [line for line in output.splitlines() if line.startswith("1a  fc_forward")]
    assert "0 / 3" in line and "FAILED out: the bias b is not added" in line
    assert "The files ran with: " in output
    assert max(map(len, output.splitlines())) <= max(120, len(str(tmp_path)) + 12)


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["nowhere"], "nowhere is not a folder"),
        (["."], "holds none of layers.py, softmax.py"),
        (["--seconds", "0"], "--seconds: expected a number above 0, got '0'"),
        (["--seed", "-1"], "--seed: expected a whole number"),
        ([".", "too", "many"], "too many"),
        (["eecs454", "."], "there is no sheet eecs454; expected one of eecs545-w20-hw4"),
        (["--all"], "--all needs FOLDER"),
        ([".", "--all", "--json"], "--all needs FOLDER, and writes JSON and HTML by itself"),
        ([".", "--all"], ". holds no folders"),
        ([".", "--out", "x"], "--out is for --all"),
        (["--points", "1"], "--points"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_use_is_one_line(tmp_path, monkeypatch, argv, says):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        check.main(argv)
    assert says in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("command", "folder", "status"),
    [("hw_check", "nowhere", 2), ("hw_check", "a student", 1), ("hw_numpy.check", "a student", 1)],
)
def test_exit_status_of_the_real_command_from_another_folder(tmp_path, command, folder, status):
    (tmp_path / "a student").mkdir()
    (tmp_path / "a student" / "softmax.py").write_text("")
    finished = subprocess.run(
        [sys.executable, "-m", command, folder],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert finished.returncode == status
    assert len(finished.stderr.splitlines()) == (1 if status == 2 else 0)
    assert ("0 of 73 points" in finished.stdout) == (status == 1)


def test_help_is_answered_before_numpy_is_imported():
    code = "import sys\nfrom hw_check import __main__ as c\n"
    code += "try: c.main(['--help'])\nexcept SystemExit: sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, stdout=subprocess.DEVNULL).returncode == 0


def test_page_for_the_student_shows_the_code_s_text_as_text(tmp_path):
    (tmp_path / "layers.py").write_text("raise ValueError('<script>alert(1)</script>')")
    page = tmp_path / "page.html"
    assert check.main(["eecs545-w20-hw4", str(tmp_path), "--html", str(page)]) == 1
    text = page.read_text()
    assert "&lt;script&gt;" in text and "<script>" not in text
    assert "0 of 73 points" in text and "fc_forward" in text
    row = Row("CNN", "<script>.py", "2.2", 0, 1, "failed", ("<b>",), hint="<i>", remarks=("<u>",))
    assert not re.search("<(script|b|i|u)>", report.page([row], graded.SHEET, "<b>", 0).partition("<table>")[2])


# Many students


@pytest.fixture
def students(tmp_path):
    """Three students: a good one, one in a nested folder with a mistake, and one who has handed in nothing."""
    folder = tmp_path / "students"
    folder.mkdir()
    plant(folder / "good", [], ["layers.py"])
    (folder / "=nested").mkdir()
    plant(folder / "=nested" / "HW4", mistakes.LAYERS[:1])
    (folder / "empty").mkdir()
    (folder / "a file").write_text("")
    (folder / "__MACOSX").mkdir()
    (folder / "caf\udce9").mkdir()  # a name that is not UTF-8
    (folder / "good" / "caf\udce9.py").write_text("")
    return folder


def test_all_students_are_graded_side_by_side_and_not_twice(students, tmp_path, monkeypatch, capsys):
    argv = ["eecs545-w20-hw4", str(students), "--all", "--out", str(tmp_path / "grades"), "--jobs", "2"]
    assert check.main(argv) == 0
    assert "graded before" not in capsys.readouterr().out
    with open(tmp_path / "grades" / "grades.csv", newline="") as file:
        rows = {row["student"]: row for row in csv.DictReader(file)}
    points = {"good": "43", "'=nested": "40", "empty": "0", "caf\ufffd": "0"}
    assert {name: row["points"] for name, row in rows.items()} == points
    assert {row["of"] for row in rows.values()} == {"73"}
    assert rows["'=nested"]["fc_forward"] == "0" and "holds none of" in rows["empty"]["note"]
    for name in ("good", "=nested", "empty"):
        assert (tmp_path / "grades" / f"{name}.html").is_file()
        assert json.loads((tmp_path / "grades" / f"{name}.json").read_text())["sheet"] == "eecs545-w20-hw4"

    (students / "empty" / "layers.py").write_text("")
    assert check.main(argv) == 0
    output = capsys.readouterr().out
    assert output.count("graded before") == 3 and "empty: 0 of 73 points\n" in output

    for path in ("good", "=nested", "empty"):
        shutil.rmtree(students / path)
    monkeypatch.setattr(many, "_hash_of_our_code", lambda: "another version")
    assert check.main(argv) == 0 and "graded before" not in capsys.readouterr().out


def test_killed_process_costs_one_student_s_grade(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(many, "_grade", graded.grade_or_die)
    for name in ("a", "b", "killer", "c", "raiser", "d"):
        (tmp_path / "students" / name).mkdir(parents=True)
    assert check.main(["eecs545-w20-hw4", str(tmp_path / "students"), "--all", "--out", str(tmp_path / "grades")]) == 1
    with open(tmp_path / "grades" / "grades.csv", newline="") as file:
        rows = {row["student"]: (row["points"], row["note"]) for row in csv.DictReader(file)}
    notes = {
        "killer": "the check failed: its process was killed, perhaps because memory ran out",
        "raiser": "the check failed: ValueError: a fault",
    }
    assert rows == {name: ("", notes[name]) if name in notes else ("1", "") for name in sorted(rows)} and len(rows) == 6


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)], ids=["Ctrl-C", "kill"])
def test_interrupt_ends_at_once_and_the_next_run_goes_on(students, tmp_path, capsys, number, status):
    for i in range(3):
        plant(students / f"loop {i}", [])
        (students / f"loop {i}" / "layers.py").write_text("while True: pass")
    out = tmp_path / "grades"
    argv = [sys.executable, "-m", "hw_check", "eecs545-w20-hw4", str(students), "--all", "--out", str(out)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "TMPDIR": str(tmp_path)}
    process = subprocess.Popen([*argv, "--seconds", "600"], env=environment, stdout=subprocess.PIPE, text=True)
    line = process.stdout.readline()  # one student is graded; the loops would take ten minutes each
    process.send_signal(number)
    process.communicate(timeout=60)  # until all its processes have ended
    assert process.returncode == status
    assert line.startswith("1/7 ")
    end = time.monotonic() + 20
    while list(tmp_path.glob("student-*")) and time.monotonic() < end:  # after a kill, the other processes tidy up
        time.sleep(0.05)
    assert not list(tmp_path.glob("student-*"))
    with open(out / "grades.csv", newline="") as file:
        before = next(csv.DictReader(file))

    for i in range(3):
        shutil.rmtree(students / f"loop {i}")
    assert check.main([*argv[3:], "--seconds", "600"]) == 0
    assert f"{line.strip().partition(' ')[2]} (graded before)\n" in capsys.readouterr().out
    with open(out / "grades.csv", newline="") as file:
        rows = {row["student"]: row for row in csv.DictReader(file)}
    assert rows[before["student"]] == rows[before["student"]] | before and len(rows) == 4
