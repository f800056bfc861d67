"""The five sheets' sources: they compile with the results of sample runs."""

import io
import os
import re
import shutil
import subprocess
import sys
import zipfile

import pytest
import report_runs

from hw_report import sheets, submission
from hw_report.__main__ import main
from hw_report.experiments import EXPERIMENTS
from hw_report.index import INDEX
from hw_report.listing import listings, source
from hw_report.sheets import SHEETS


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    report_runs.unpack(folder)
    return folder


def build(results, name):
    main(["build", name, "--profile", "sample", "--results_dir", str(results)])
    return results / "reports" / "sample" / f"{name}.pdf"


def test_every_sheet_has_an_index_and_every_experiment_a_sheet():
    assert set(INDEX) == set(SHEETS)
    assert {name for sheet in SHEETS.values() for name in sheet.experiments} == set(EXPERIMENTS)


@pytest.mark.parametrize("name", SHEETS)
def test_a_sheet_compiles_without_warnings_to_the_same_bytes(results, name, capfd):
    path = build(results, name)
    assert capfd.readouterr().out == f"{path}\n"  # no warning, and nothing was run
    first = path.read_bytes()
    assert build(results, name).read_bytes() == first
    if shutil.which("pdftotext"):  # not every machine has it
        text = subprocess.run(["pdftotext", "-l", "1", path, "-"], capture_output=True, text=True, check=True).stdout
        assert "sample" in text.lower() and SHEETS[name].course.lower() in text.lower()


@pytest.mark.parametrize("there", [True, False], ids=["records", "no records"])
def test_all_sheets_compile_from_records_and_say_what_was_not_recorded(tmp_path, monkeypatch, capfd, there):
    if not there:
        monkeypatch.setattr(sheets, "RECORDS", tmp_path)
    main(["build", "--results_dir", str(tmp_path)])
    assert capfd.readouterr().out.splitlines() == [str(tmp_path / "reports" / f"{name}.pdf") for name in SHEETS]


@pytest.mark.parametrize("name", SHEETS)
def test_every_record_of_an_experiment_is_in_its_place_or_not_recorded_yet(name):
    for experiment in SHEETS[name].its_experiments():
        for path in sheets.records_of(experiment).values():
            assert path.relative_to(sheets.RECORDS).parts[0].startswith(f"{experiment.homework}-")


@pytest.mark.parametrize("name", SHEETS)
def test_a_sheet_says_nothing_for_a_missing_number(name):
    text = SHEETS[name].report_file.read_text()
    assert "default: none" not in text and 'default: "' not in text
    for word in ("TODO", "missing", "lorem"):
        assert not re.search(rf"\b{word}\b", re.sub(r"is missing|are missing|missing values", "", text)), word


def test_sources_import_nothing_from_elsewhere():
    for path in sheets.REPORT_FILES.glob("*.typ"):
        assert set(re.findall(r'#import "([^"]+)"', path.read_text())) <= {"style.typ", "data.typ"}, path
        assert not re.search(r"@preview|datetime\.today|https?://(?!arxiv|doi)", path.read_text()), path


@pytest.mark.parametrize("name", SHEETS)
def test_the_tests_that_a_sheet_names_exist(name):
    tests = "".join(path.read_text() for path in (sheets.REPOSITORY / "tests").glob("hw_*/*.py"))
    for word in re.findall(r"`(test_\w+)`", SHEETS[name].report_file.read_text()):
        assert f"def {word}(" in tests, word
    for path in re.findall(r"`(\w+/[\w/]+\.\w+)`", SHEETS[name].report_file.read_text()):
        assert (sheets.REPOSITORY / path).is_file(), path


@pytest.mark.parametrize("name", SHEETS)
def test_every_answer_has_code_a_check_common_mistakes_and_points(name):
    text = SHEETS[name].report_file.read_text()
    sections = re.split(r"^(?==+ )", text, flags=re.MULTILINE)
    for answer in INDEX[name]:
        [section] = [section for section in sections if f"<{answer.section}>" in section.splitlines()[0]]
        parts = [section.index(part) for part in ("#asked[", "#the-code()", "#checked[", "#mistakes[", "#grading[")]
        assert parts == sorted(parts), answer


@pytest.mark.parametrize("name", SHEETS)
def test_code_in_a_report_is_that_of_the_source_files_and_at_most_a_screen(name):
    found = listings(INDEX[name], sheets.REPOSITORY)
    assert found.keys() == {answer.section for answer in INDEX[name]}
    for pieces in found.values():
        for piece in pieces:
            lines = (sheets.REPOSITORY / piece["file"]).read_text().splitlines()[piece["line"] - 1 :]
            shown = piece["text"].splitlines()
            assert [line.strip() for line in lines[: len(shown)]] == [line.strip() for line in shown]
            assert bool(shown) != bool(piece["shown_at"])
        assert 0 <= sum(len(piece["text"].splitlines()) for piece in pieces) <= 60


def test_code_that_no_file_defines_is_named(tmp_path):
    (tmp_path / "a.py").write_text("@property\ndef f():\n    pass\n\n\nclass C:\n    def g(self):\n        return 1\n")
    assert source(tmp_path / "a.py", "f") == (1, ["@property", "def f():", "    pass"])
    assert source(tmp_path / "a.py", "C.g") == (7, ["def g(self):", "    return 1"])
    with pytest.raises(KeyError, match="does not define C.h"):
        source(tmp_path / "a.py", "C.h")


# A command of each sheet that reads a built-in sample, builds its network and takes a step.
TRIES = {
    "convnets-2024-a2": "-m hw_cnn.train --dataset sample --network cifar",
    "dsl-2019-hw3": "-m hw_ocr.train --dataset sample",
    "eecs545-w20-hw4": "digit_classification.py --dataset sample",
    "ist-2021-22-hw2": "-m hw_cnn.train --dataset sample --network fashion",
    "ist-2023-24-hw2": "-m hw_asr.train --dataset sample",
}


@pytest.mark.parametrize("name", SHEETS)
def test_the_commands_of_a_submission_run_after_unzipping_elsewhere(tmp_path, name):
    sheet = SHEETS[name]
    with zipfile.ZipFile(io.BytesIO(submission._zip(submission.code(sheet)))) as archive:
        archive.extractall(tmp_path)
    commands = [["-m", experiment.command.words[0]] for experiment in sheet.its_experiments()]
    shown = {
        " ".join([*words, "--help"]): "usage: " for words in [*commands, *([script] for script, _ in sheet.scripts)]
    }
    for words, expected in {**shown, f"{TRIES[name]} --dry_run": "everything fits"}.items():
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        line = [sys.executable, *words.split()]
        done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0 and expected in done.stdout, (words, done.stderr)
    # A package that the zip lacks may be installed here, so the imports are read as well. Only hw_check's networks need
    # the packages of all sheets.
    wanted = {f"hw_{word}" for path in tmp_path.rglob("*.py") if path.parent.name != "networks"
              for word in re.findall(r"^ *(?:from|import) hw_(\w+)", path.read_text(), re.MULTILINE)}  # fmt: skip
    assert {package for package in wanted if not (tmp_path / package).is_dir()} == set()


def test_the_eecs545_submission_has_the_files_that_its_sheet_lists():
    wanted = {
        "autograder.py", "layers.py", "optim.py", "solver.py", "softmax.py", "digit_classification.py", "cnn.py",
        "rnn_layers.py", "rnn.py", "captioning_solver.py", "coco_utils.py", "image_utils.py", "image_captioning.py",
        "transfer_learning.py",
    }  # fmt: skip
    names = {path.rpartition("/")[2] for path in submission.code(SHEETS["eecs545-w20-hw4"])}
    assert wanted <= names
