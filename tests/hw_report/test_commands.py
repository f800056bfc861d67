"""`python -m hw_report` through its real entry point, on a toy sheet."""

import dataclasses
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
import report_toys
import toy_homework
from matplotlib import font_manager
from report_toys import calls, order

from hw_common.commands import cli
from hw_common.record import record
from hw_common.runs import files, fonts
from hw_common.runs.errors import UserError
from hw_report import notebook, sheets, submission
from hw_report.__main__ import main
from hw_report.build import Settings

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def toys(tmp_path, monkeypatch):
    """A results folder, with two toy sheets in place of the real ones."""
    return report_toys.set_up(tmp_path, monkeypatch)


def build(results, *words):
    profile = [] if "--profile" in words else ["--profile", "sample"]
    main(["build", *words, *profile, "--results_dir", str(results)])


def pdfs(results):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (results / "reports").rglob("*.pdf")}


# ── list ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_list_shows_all_sheets_and_which_pdfs_are_there(tmp_path, capsys):
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "dsl-2019-hw3.pdf").touch()
    main(["list", "--results_dir", str(tmp_path)])
    printed = capsys.readouterr().out
    for name in ("convnets-2024-a2", "eecs545-w20-hw4", "ist-2021-22-hw2", "ist-2023-24-hw2"):
        assert f"no PDF yet: python -m hw_report build {name}\n" in printed
    assert "Deep Structured Learning" in printed and str(tmp_path / "reports" / "dsl-2019-hw3.pdf") in printed


# ── build ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_build_runs_a_shared_experiment_once_and_the_second_time_nothing(toys, capfd):
    build(toys, "--jobs", "3")
    assert calls(toys) == [f"--profile sample --results_dir {toys} --jobs 3"]
    printed = capfd.readouterr().out
    assert re.search(r"python -m toy_homework --profile sample --results_dir '.*' --jobs 3  \(about 30 s\)", printed)
    first = pdfs(toys)
    assert sorted(first) == ["toy-a.pdf", "toy-b.pdf"]
    build(toys)
    assert len(calls(toys)) == 1 and pdfs(toys) == first
    assert "commands to run first" not in capfd.readouterr().out


def test_the_full_profile_says_beforehand_what_it_runs_and_about_how_long(toys, capfd):
    build(toys, "toy-a", "--profile", "full")
    printed = capfd.readouterr().out
    assert printed.index("about 2 h in all") < printed.index("\n==== python -m toy_homework --profile full")
    assert sorted(pdfs(toys)) == ["toy-a.pdf"]


def test_commands_of_the_sample_run_side_by_side_and_each_pdf_follows_its_own(toys, monkeypatch, capfd):
    command = dataclasses.replace(report_toys.COMMAND, words=("toy_homework", "--name", "slow"), minutes={"sample": 1})
    slow = dataclasses.replace(report_toys.EXPERIMENT, name="slow", command=command, head="{profile}-slow")
    monkeypatch.setattr(sheets, "EXPERIMENTS", {**sheets.EXPERIMENTS, "slow": slow})
    monkeypatch.setitem(sheets.SHEETS, "toy-b", dataclasses.replace(sheets.SHEETS["toy-b"], experiments=("slow",)))
    build(toys, "--jobs", "5")
    assert sorted(line.endswith("--jobs 2") for line in calls(toys)) == [True, True]
    printed = capfd.readouterr().out
    assert "about 1 min in all on two cores, 2 at a time" in printed and f"their output goes to {toys}" in printed
    finished, written = ([printed.index(end) for end in ends] for ends in (("finished: ",), ("toy-a.pdf", "toy-b.pdf")))
    assert finished[0] < min(written) and sorted(pdfs(toys)) == ["toy-a.pdf", "toy-b.pdf"]
    assert sorted(path.name for path in (toys / "logs").iterdir()) == ["toy_homework-name-slow.log", "toy_homework.log"]


@pytest.mark.skipif(shutil.which("pdftotext") is None, reason="reads the PDF with pdftotext, from poppler-utils")
def test_a_report_says_whether_it_is_of_sample_runs(toys):
    texts = {}
    for profile in ("sample", "full"):
        build(toys, "toy-a", "--profile", profile)
        path = toys / "reports" / profile / "toy-a.pdf"
        texts[profile] = subprocess.run(["pdftotext", path, "-"], capture_output=True, text=True, check=True).stdout
    assert "sample 2025-03-01 true" in texts["sample"] and "sample toys, seed 7" in texts["sample"]
    assert "full 2025-03-01 false" in texts["full"] and "0.8750" in texts["full"]


def test_a_failure_names_the_command_and_goes_on(toys, capfd):
    order(toys, fail=True)
    with pytest.raises(
        UserError, match=r"a command ended with status 2; run it by hand: python -m toy_homework --profile sample"
    ) as caught:
        build(toys)
    assert "toy-a: " in str(caught.value) and "toy-b: " in str(caught.value)
    assert "the toy is broken" in capfd.readouterr().err and not (toys / "reports").exists()
    order(toys)
    build(toys)
    assert len(calls(toys)) == 2 and len(pdfs(toys)) == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_build_stops_what_it_runs(tmp_path, number):
    line = [sys.executable, str(ROOT / "tests" / "support" / "report_toys.py"), str(tmp_path)]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(line, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path})
    deadline = time.monotonic() + 20
    while not calls(tmp_path / "my results") and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    _, error = process.communicate(timeout=20)
    assert process.returncode == 128 + number
    assert error == "the build was stopped; the same command resumes it\n"


def test_a_report_knows_no_places_of_the_machine(toys):
    arguments = {"data_dir": "/home/me", "weights": "/home/me/resnet.safetensors", "lr": 0.5}
    toy_homework.make_run(toys, "sample-toy", arguments=arguments)
    shown = Settings("sample", toys).collect(report_toys.EXPERIMENT).numbers["toy"].as_json()
    assert shown["arguments"] == {"seed": 7, "weights": "resnet.safetensors", "lr": 0.5}
    assert "/" not in shown["folder"].removeprefix("hw_ocr/")


def test_own_runs_take_the_place_of_an_experiments(toys):
    folder = toy_homework.make_run(toys / "elsewhere", "mine", dataset="letters")
    build(toys, "toy-a", "--use", f"toy={folder}", "--profile", "full")
    assert calls(toys) == [] and len(pdfs(toys)) == 1


def test_a_report_from_records_trains_nothing_and_names_its_command(toys, capfd):
    folder = toy_homework.make_run(toys, "measured", dataset="letters")
    record(folder, sheets.RECORDS)
    build(toys, "toy-a", "--profile", "record")
    assert calls(toys) == [] and capfd.readouterr().out == f"{toys / 'reports' / 'toy-a.pdf'}\n"
    found = Settings("record", toys).collect(report_toys.EXPERIMENT)
    assert found.numbers["toy"].as_json()["folder"] == "hw_ocr-measured" and list(found.pictures) == ["toy.curves"]
    shutil.rmtree(sheets.RECORDS / "hw_ocr-measured")
    assert not Settings("record", toys).collect(report_toys.EXPERIMENT).numbers


def test_training_runs_of_a_recorded_comparison_are_found(toys):
    folder = toy_homework.make_run(toys, "measured", dataset="letters")
    record(folder, sheets.RECORDS)
    (sheets.RECORDS / "hw_ocr-measured" / "runs").mkdir()
    shutil.copytree(folder, sheets.RECORDS / "hw_ocr-measured" / "runs" / "a-seed7")
    found = Settings("record", toys).collect(report_toys.EXPERIMENT)
    assert found.run("toy.a", "-a-seed7")["score"] == 0.875 and found.run("toy.b", "-b-seed7") == {}
    found.figures("toy.b", "curves")
    found.figures("toy.a", "curves", "other")
    assert list(found.pictures) == ["toy.curves", "toy.a.curves"]


# ── submission ───────────────────────────────────────────────────────────────────────────────────────────────────────


def submit(results, *words):
    main(["submission", *words, "--results_dir", str(results)])


def test_a_submission_unpacks_installs_and_runs(toys, tmp_path, capsys):
    build(toys, "toy-a")
    submit(toys, "toy-a", "--group", "group-12")
    path = toys / "submissions" / "toy-a" / "group-12.zip"
    assert str(path) in capsys.readouterr().out
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "unpacked")
    assert {name.partition("/")[0] for name in names} == {"group-12"}
    assert {name.split("/")[1] for name in names} == {
        "LICENSE", "README.md", "hw_common", "hw_ocr", "pyproject.toml", "requirements.lock", "toy-a.pdf",
    }  # fmt: skip
    assert not [name for name in names if "__pycache__" in name or ".." in name]
    install = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target", tmp_path / "lib"]
    unpacked = tmp_path / "unpacked" / "group-12"
    quiet = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PYTHONPATH": str(tmp_path / "lib")}
    subprocess.run([sys.executable, *install, unpacked], check=True, env=quiet, cwd=tmp_path)
    line = ["-m", "hw_ocr.train", "--dataset", "sample", "--model", "cnn", "--dry_run", "--threads", "1"]
    assert (tmp_path / "lib" / "hw_ocr" / "train.py").is_file()  # and comes before this repository's
    done = subprocess.run([sys.executable, *line], env=quiet, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "no run folder was made" in done.stdout


def test_a_submission_has_the_same_bytes_and_the_groups_name(toys):
    build(toys, "toy-a")
    submit(toys, "toy-a", "--group", "a")
    path = toys / "submissions" / "toy-a" / "a.zip"
    first = path.read_bytes()
    submit(toys, "toy-a", "--group", "a")
    assert path.read_bytes() == first
    submit(toys, "toy-a", "--group", "b")
    pdf = {group: zipfile.ZipFile(path.with_stem(group)).read(f"{group}/toy-a.pdf") for group in "ab"}
    assert pdf["a"] != pdf["b"]


def test_a_submission_has_the_notebook_with_its_outputs(toys, monkeypatch, capsys):
    build(toys, "toy-a")
    path = "notebooks/convnets_2024_a2.ipynb"
    sheet = dataclasses.replace(report_toys.SHEETS["toy-a"], notebook=path, notebook_shows="toy")
    monkeypatch.setitem(sheets.SHEETS, "toy-a", sheet)
    shown = lambda source, run, data: f"{source.name} shows {run.folder.name}{data}"  # noqa: E731
    monkeypatch.setattr(notebook, "with_outputs", shown)
    submit(toys, "toy-a", "--group", "a", "--data_dir", " of my data")
    with zipfile.ZipFile(toys / "submissions" / "toy-a" / "a.zip") as archive:
        assert archive.read(f"a/{path}") == b"convnets_2024_a2.ipynb shows sample-toy of my data"
    assert f"running {path}; it shows {toys}" in capsys.readouterr().out


def test_a_groups_name_is_drawn_in_its_script_or_refused(toys, monkeypatch):
    stix = [entry for entry in font_manager.fontManager.ttflist if entry.name == "STIXGeneral"]
    monkeypatch.setattr(fonts, "_installed", lambda: stix)
    monkeypatch.setattr(fonts, "_found", {})
    build(toys, "toy-a")
    for group, font in (("Ёжик-Ωmega", b"Libertinus"), ("קבוצה", b"DejaVuSans"), ("の-1", b"STIXGeneral")):
        submit(toys, "toy-a", "--group", group)
        with zipfile.ZipFile(toys / "submissions" / "toy-a" / f"{group}.zip") as archive:
            assert font in archive.read(f"{group}/toy-a.pdf")
    for group, letter in (("第三组", "三"), ("स्त्री", "त")):
        with pytest.raises(UserError, match=f"^--group {group}: no installed font has {letter}; install a font that"):
            submit(toys, "toy-a", "--group", group)
        assert not (toys / "submissions" / "toy-a" / f"{group}.zip").exists()


@pytest.mark.parametrize(
    "group", ["../up", "a/b", "", ".hidden", "two words", "C:", "x" * 200, "caf\udce9", "a\u202fb", "👩"]
)
def test_a_submissions_name_is_safe(toys, group):
    with pytest.raises(UserError, match=r"--group: expected a plain folder name"):
        submit(toys, "toy-a", "--group", group)


def test_a_submission_wants_runs(toys):
    with pytest.raises(
        UserError, match=r"is missing or .*; make it with: python -m toy_homework .* hw_report build toy-a"
    ):
        submit(toys, "toy-a", "--group", "a")


# ── bad input ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["build", "toy-c"], "there is no sheet 'toy-c'; python -m hw_report list shows them: toy-a, toy-b"),
        (["submission", "toy-c", "--group", "a"], "there is no sheet 'toy-c'"),
        (["build", "--use", "toy"], "--use: expected EXPERIMENT=FOLDER with one of toy, got 'toy'"),
        (["build", "--use", "cnn=x"], "--use: expected EXPERIMENT=FOLDER with one of toy, got 'cnn=x'"),
        (["build", "--profile", "half"], "--profile: invalid choice: 'half'"),
        (["build", "--jobs", "0"], "--jobs: expected a whole number"),
        (["build", "--weights", "imagenet"], "--weights needs --profile full; the profile record needs no files"),
        (
            ["build", "toy-a", "--use", "toy=nowhere"],
            "nowhere is missing or was only begun; make it with: python -m toy_homework",
        ),
        (["submission", "toy-a"], "the following arguments are required: "),
        (["print"], "invalid choice: 'print'"),
    ],
)
def test_wrong_words_get_one_line(toys, words, message):
    with pytest.raises(UserError) as caught:
        main([*words, *(["--results_dir", str(toys)] if words[0] != "print" else [])])
    assert message in str(caught.value)
    assert calls(toys) == []


def test_a_missing_typst_is_found_before_anything_runs(toys, monkeypatch):
    monkeypatch.setitem(sys.modules, "typst", None)
    with pytest.raises(UserError, match="install it with: pip install typst"):
        build(toys)
    assert calls(toys) == []


def test_a_missing_source_is_found_before_anything_runs(toys):
    (toys.parent / "reports" / "toy-b.typ").unlink()
    with pytest.raises(UserError, match=r"toy-b\.typ is missing; get it back with: git checkout -- reports/toy-b\.typ"):
        build(toys)
    assert calls(toys) == []


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ('#summary("toys")', r'asks for summary "toys".*there are: toy'),
        ('#picture("toy.kernels", "kernels")', r'asks for figure "toy.kernels".*there are: toy.curves'),
        ('#record("hw_toy")', "asks for record"),
        ('#published("toy")', "asks for published number"),
        ('#summary("toy").accuracy', "dictionary does not contain key"),
        ('#mean(summary("toy"), "accuracy")', "there is no accuracy among"),
        ('#image("/etc/passwd")', r"file not found|unknown image format|cannot"),
        ("#let", "expected"),
    ],
)
def test_a_source_that_does_not_compile_gives_one_line_and_no_pdf(toys, broken, message):
    build(toys)
    (toys / "reports" / "sample" / "toy-a.pdf").unlink()
    source = toys.parent / "reports" / "toy-a.typ"
    source.write_text(f"{source.read_text()}\n{broken}\n")
    with pytest.raises(UserError, match=rf"reports/toy-a\.typ does not compile: .*({message})") as caught:
        build(toys)
    assert "\n" not in str(caught.value)
    assert sorted(pdfs(toys)) == ["toy-b.pdf"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"schema": 1, "data": "toys", "score": NaN}', r"is damaged: it contains NaN, which is not JSON"),
        (b'{"schema": 2, "data": "toys", "score": 1}', r"is damaged: expected an object of schema 1"),
        (b'{"schema": 1, "score": 1}', r"is damaged: the name of its data is missing"),
        (b"[]", r"is damaged: expected an object of schema 1"),
        (b"\xff", r"is damaged"),
        (b"[" * 100_000, r"is damaged"),
    ],
)
def test_a_damaged_summary_names_the_command(toys, content, message):
    folder = toy_homework.make_run(toys, "sample-toy")
    (folder / "summary.json").write_bytes(content)
    again = rf"make it again with: rm -r '{re.escape(str(folder))}' && python -m toy_homework --profile sample"
    with pytest.raises(UserError, match=rf"{message}.*{again}") as caught:
        build(toys)
    assert "\n" not in str(caught.value) and calls(toys) == [] and not (toys / "reports").exists()


def test_a_run_of_another_schema_names_the_command(toys):
    folder = toy_homework.make_run(toys, "sample-toy")
    files.write_json(folder / "config.json", {**files.read_json(folder / "config.json"), "schema": 9})
    with pytest.raises(
        UserError, match=r"has schema 9, expected 1; make it again with: rm -r .* python -m toy_homework"
    ):
        build(toys)


def test_a_run_without_a_date_names_the_command(toys):
    folder = toy_homework.make_run(toys, "sample-toy")
    files.write_json(folder / "config.json", {**files.read_json(folder / "config.json"), "started": "yesterday"})
    with pytest.raises(UserError, match=r"the start time of the run is missing; make it again with: rm -r .* -m toy"):
        build(toys)


def test_a_run_that_was_only_begun_is_made(toys):
    (toys / "hw_ocr" / "sample-toy").mkdir(parents=True)
    build(toys, "toy-a")
    assert len(calls(toys)) == 1


def test_an_unfinished_run_is_finished(toys):
    folder = toy_homework.make_run(toys, "sample-toy")
    (folder / "summary.json").unlink()
    with pytest.raises(UserError, match=r"has no summary\.json; finish it with: python -m toy_homework"):
        submit(toys, "toy-a", "--group", "a")
    build(toys)
    assert len(calls(toys)) == 1


def test_a_missing_figure_names_the_command_and_leaves_the_old_pdf(toys):
    build(toys)
    before = pdfs(toys)
    figure = toys / "hw_ocr" / "sample-toy" / "curves.pdf"
    figure.write_bytes(b"")
    order(toys, fail=True)
    with pytest.raises(UserError, match=r"the figure .*curves\.pdf is missing; make it with: rm -r .* -m toy_homework"):
        build(toys)
    assert pdfs(toys) == before


def test_a_figure_that_is_no_pdf_gives_one_line(toys):
    folder = toy_homework.make_run(toys, "sample-toy")
    (folder / "curves.pdf").write_bytes(b"%PDF-1.7 but not really")
    with pytest.raises(UserError, match=r"reports/toy-a\.typ does not compile: "):
        build(toys, "toy-a")


def test_a_user_error_ends_with_status_2_and_one_line(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["hw_report", "build", "homework-9"])
    with pytest.raises(SystemExit) as caught:
        cli.run_command(main)
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("error: there is no sheet 'homework-9'; python -m hw_report list shows")


@pytest.mark.parametrize("words", [[], ["list"], ["build"], ["submission"], ["table"]])
def test_help_teaches(words, capsys):
    with pytest.raises(SystemExit) as caught:
        main([*words, "--help"])
    assert caught.value.code == 0 and "python -m hw_report" in capsys.readouterr().out


def test_nothing_slow_is_imported_for_a_wrong_word():
    code = "import sys, hw_report.__main__; sys.exit(bool({'torch', 'matplotlib', 'typst'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_a_submission_of_an_incomplete_checkout_names_the_missing_part(tmp_path, monkeypatch):
    monkeypatch.setattr(submission, "REPOSITORY", tmp_path)
    with pytest.raises(UserError, match=r"is missing; get it back with: git checkout -- \S+"):
        submission.code(sheets.SHEETS["dsl-2019-hw3"])
    for name in submission._SHARED:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(UserError, match="the package hw_common is missing; get it back with: git checkout"):
        submission.code(sheets.SHEETS["dsl-2019-hw3"])


def test_the_command_lines_to_type_by_hand_repeat_the_users_options_and_runs(tmp_path):
    settings = Settings("full", tmp_path, {"data_dir": "my data"}, {"ocr": Path("own")})
    sheet = sheets.SHEETS["dsl-2019-hw3"]
    assert settings.build_by_hand(sheet).endswith(f"--profile full --results_dir {tmp_path} --use ocr=own")
    [experiment] = sheet.its_experiments()
    assert settings.by_hand(experiment.command).endswith(f"--results_dir {tmp_path} --data_dir 'my data'")
    with pytest.raises(UserError, match="--use other: these sheets have no such experiment, only "):
        dataclasses.replace(settings, use={"other": Path("own")}).check_use([sheet])
