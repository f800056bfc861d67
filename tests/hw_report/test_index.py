"""The index: every question of the sheets, and code, commands, figures and sections that exist."""

import contextlib
import fnmatch
import importlib
import io
import json
import re
import shlex
from pathlib import Path

import pytest
import report_runs

from hw_report.index import INDEX, Answer, Number, mean
from hw_report.published import PUBLISHED
from hw_report.sheets import SHEETS

ROOT = Path(__file__).resolve().parents[2]
# The questions as the sheets number them; of dsl-2019, as the published report does.
QUESTIONS = {
    "ist-2021-22-hw2": "1.1 1.2 1.3.1 1.3.2 2.1 2.2 2.3 3.1(a) 3.1(b) 3.1(c)",
    "ist-2023-24-hw2": "1.1 1.2 1.3 1.4 2.1 2.2 2.3 3.1 3.2 3.3 3.4",
    "convnets-2024-a2": "1.0 1.1 1.2 2.1 3.1 3.2 3.3 3.4",
    "eecs545-w20-hw4": "1(a) 1(b) 1(c) 2(a) 2(b) 2(c) 3(a) 3(b) 3(c) 4(a) 4(b) 4(c) 4(d) 5(a) 5(b) 5(c) 5(d) 5(e)",
    "dsl-2019-hw3": "1.1 1.2 1.3 1.4 2.1 2.2 2.3",
}
ANSWERS = [pytest.param(sheet, one, id=f"{sheet} {one.question}") for sheet, all_ in INDEX.items() for one in all_]
NUMBERS = [number for answers in INDEX.values() for answer in answers for number in answer.numbers]
FIGURES = {
    Path(name).stem
    for folder in json.loads(report_runs.KEPT.read_text()).values()
    for name in folder["figures"]
}  # fmt: skip


def test_every_question_of_the_sheets_has_one_answer():
    assert {sheet: [answer.question for answer in answers] for sheet, answers in INDEX.items()} == {
        sheet: questions.split() for sheet, questions in QUESTIONS.items()
    }


@pytest.mark.parametrize(("sheet", "answer"), ANSWERS)
def test_its_code_can_be_imported_and_called(sheet, answer):
    assert answer.code()
    for path, name in answer.code():
        assert (ROOT / path).is_file()
        found = importlib.import_module(path.removesuffix(".py").replace("/", "."))
        for part in name.split("."):
            found = getattr(found, part)
        assert callable(found)
        assert path.split("/")[0] in (*SHEETS[sheet].packages, "hw_common")


def flags(module, *words):
    """Names of all flags that `python -m module` explains."""
    path = module if (ROOT / f"{module.replace('.', '/')}.py").is_file() else f"{module}.__main__"
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), pytest.raises(SystemExit, match="0"):
        importlib.import_module(path).main([*words, "--help"])
    return set(re.findall(r"(?<![\w-])--?(\w[\w-]*)", printed.getvalue()))


@pytest.mark.parametrize(("sheet", "answer"), ANSWERS)
def test_its_commands_exist_and_know_the_flags(sheet, answer):
    for command in {answer.command, *(number.command for number in answer.numbers if number.command)}:
        module, *words = shlex.split(command)
        known = flags(module, *(word for word in words[:1] if word in ("equivariance", "feature_maps", "grad_cam")))
        if module.endswith(("compare", "sweep")):  # these commands also accept the flags of the training command
            known |= flags(f"{module.split('.')[0]}.train")
        assert {word.strip("-") for word in words if word.startswith("-")} <= known, command


@pytest.mark.parametrize(("sheet", "answer"), ANSWERS)
def test_its_figures_are_drawn_by_a_build(sheet, answer):
    for figure in answer.figures:
        assert fnmatch.filter(FIGURES, figure), figure


@pytest.mark.parametrize(("sheet", "answer"), ANSWERS)
def test_its_section_is_in_the_report(sheet, answer):
    source = SHEETS[sheet].report_file.read_text()
    [(heading, body)] = re.findall(rf"^=+ ([^\n]+) <{re.escape(answer.section)}>\n(.*?)(?=^=|\Z)", source, re.M | re.S)
    assert heading.removeprefix("Task ").replace(" (", "(").startswith(f"{answer.question} ")
    assert "#asked[" in body and len(body.strip()) > 200


def test_published_numbers_and_records_have_what_they_need():
    assert {number.published for number in NUMBERS if number.published} <= set(PUBLISHED)
    assert all(bool(number.record) == bool(number.metric) for number in NUMBERS)
    assert all(number.record or number.published for number in NUMBERS)


def test_code_is_named_by_file_and_name():
    answer = Answer("3.1(b)", "x", "a/b.py:One.two three c/d.py:four", "toy")
    assert answer.code() == [("a/b.py", "One.two"), ("a/b.py", "three"), ("c/d.py", "four")]
    assert answer.section == "q3.1b"


def test_numbers_are_printed_as_means_or_counts():
    assert mean({"a": 0.5, "a_std": 0.25}, "a") == "0.5000 ± 0.2500"
    assert mean({"a": 0.5, "a_std": 0.0}, "a") == "0.5000 ± 0.0000"
    assert mean({"a": 0.5, "a_std": 0.0, "seeds": 1}, "a") == "0.5000"
    assert mean({"a": 10298}, "a") == "10\u202f298"
    assert Number("x", "r", "b.a").read({"b": {"a": 0.5}}) == "0.5000"
    rows = [{"lr": 1, "a": 0.5}, {"lr": 2, "a": 0.25}]
    assert Number("x", "r", "a", {"lr": 2}, "rows").read({"rows": rows}) == "0.2500"
