"""The five sheets' sources: they compile with what sample runs leave behind, and answer every question."""

import re
import shutil
import subprocess

import pytest
import report_runs

from hw_report import sheets
from hw_report.__main__ import main
from hw_report.sheets import SHEETS
from hw_report.sources import EXPERIMENTS

QUESTIONS = {
    "convnets-2024-a2": [f"Task {n}" for n in ("1.0", "1.1", "1.2", "2.1", "3.1", "3.2", "3.3", "3.4")],
    "dsl-2019-hw3": ["1.1", "1.2", "1.3", "1.4", "2.1", "2.2", "2.3"],
    "eecs545-w20-hw4": [
        *("1 (a)", "1 (b)", "1 (c)", "2 (a)", "2 (b)", "2 (c)", "3 (a)", "3 (b)", "3 (c)"),
        *("4 (a)", "4 (b)", "4 (c)", "4 (d)", "5 (a)", "5 (b)", "5 (c)", "5 (d)", "5 (e)"),
    ],
    "ist-2021-22-hw2": [
        *("1.1", "1.2", "1.3.1", "1.3.2", "2.1", "2.2", "2.3", "3.1 (a)", "3.1 (b)", "3.1 (c)"),
    ],
    "ist-2023-24-hw2": ["1.1", "1.2", "1.3", "1.4", "2.1", "2.2", "2.3", "3.1", "3.2", "3.3", "3.4"],
}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    report_runs.unpack(folder)
    return folder


def build(results, name):
    main(["build", name, "--results_dir", str(results)])
    return results / "reports" / f"{name}.pdf"


def test_all_sheets_are_looked_at():
    assert set(QUESTIONS) == set(SHEETS)
    assert {name for sheet in SHEETS.values() for name in sheet.experiments} == set(EXPERIMENTS)


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_sheet_compiles_without_warnings_to_the_same_bytes(results, name, capfd):
    path = build(results, name)
    assert capfd.readouterr().out == f"{path}\n"  # no warning, and nothing was run
    first = path.read_bytes()
    assert build(results, name).read_bytes() == first
    if shutil.which("pdftotext"):  # not every machine has it
        text = subprocess.run(["pdftotext", "-l", "1", path, "-"], capture_output=True, text=True, check=True).stdout
        assert "sample" in text.lower() and SHEETS[name].course.lower() in text.lower()


@pytest.mark.parametrize("name", QUESTIONS)
def test_every_question_has_an_answer_under_its_number(name):
    source = SHEETS[name].source.read_text()
    headings = [found.end() for found in re.finditer(r"^=+ ", source, re.MULTILINE)]
    for question in QUESTIONS[name]:
        [start] = [place for place in headings if re.match(rf"{re.escape(question)}(?![\d.])(?! \()", source[place:])]
        answer = source[source.index("\n", start) :].split("\n=")[0]
        assert len(answer.strip()) > 100, question


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_sheet_says_nothing_for_a_missing_number(name):
    source = SHEETS[name].source.read_text()
    assert "default: none" not in source and 'default: "' not in source
    for word in ("TODO", "missing", "lorem"):
        assert not re.search(rf"\b{word}\b", re.sub(r"is missing|are missing|missing values", "", source)), word


def test_sources_import_nothing_from_elsewhere():
    for path in sheets.SOURCES.glob("*.typ"):
        assert set(re.findall(r'#import "([^"]+)"', path.read_text())) <= {"style.typ", "data.typ"}, path
        assert not re.search(r"@preview|datetime\.today|https?://(?!arxiv|doi)", path.read_text()), path
