"""The README's table: from the records, and from nothing else."""

import re
from pathlib import Path

import pytest

from hw_common.runs import files
from hw_common.runs.errors import UserError
from hw_report import answers, table
from hw_report.__main__ import main
from hw_report.answers import Answer
from hw_report.published import PUBLISHED
from hw_report.sheets import SHEETS

ROOT = Path(__file__).resolve().parents[2]
README = f"# Title\n\n{table.BEGIN}\nold\n{table.END}\nmore\n"


def of_seeds(summary):
    return answers.mean(summary["table"][0], "accuracy")


LINE = Answer("toy 1", "python -m toy", "curves", "accuracy", "hw_toy-run", of_seeds, "softmax")


@pytest.fixture
def records(tmp_path):
    row = {"accuracy": 0.98765, "accuracy_std": 0.0012}
    files.write_json(tmp_path / "hw_toy-run.json", {"summary.json": {"schema": 1, "seeds": [1, 2], "table": [row]}})
    return tmp_path


def test_a_line_has_command_figure_number_and_published_number(records):
    [_, _, line] = table.table([LINE], records).splitlines()
    assert line == "| toy 1 | `python -m toy` | curves | accuracy, 2 seeds | 0.9877 ± 0.0012 | 0.9767 |"


def test_what_could_not_be_measured_says_so(records):
    unmeasured = Answer("toy 2", "python -m toy", "curves", "accuracy", published="softmax")
    [_, _, line] = table.table([unmeasured], records).splitlines()
    assert line.endswith("| not measured | 0.9767 |")
    [_, _, line] = table.table([Answer("toy 3", "python -m toy", "picture")], records).splitlines()
    assert line == "| toy 3 | `python -m toy` | picture |  |  |  |"


def test_numbers_are_printed_as_means_or_counts():
    assert answers.mean({"a": 0.5, "a_std": 0.25}, "a") == "0.5000 ± 0.2500"
    assert answers.mean({"a": 0.5, "a_std": 0.0}, "a") == "0.5000"  # one seed
    assert answers.mean({"a": 10298}, "a") == "10298"


def test_every_sheet_has_its_lines_and_every_published_number_a_key():
    lines = list(answers.answers())
    assert {line.question.split()[0] for line in lines} == set(SHEETS)
    assert {line.published for line in lines if line.published} <= set(PUBLISHED)
    assert all(line.record and line.what for line in lines if line.number)


def test_the_commands_exist():
    for line in answers.answers():
        module = re.match(r"python -m (hw_\w+)(?:\.(\w+))?", line.command)
        assert (ROOT / module[1] / f"{module[2] or '__main__'}.py").is_file(), line.command


def test_the_readme_has_the_table_of_the_records():
    readme = (ROOT / "README.md").read_text()
    assert f"{table.BEGIN}\n{table.table()}{table.END}" in readme, "run: python -m hw_report table --write README.md"


def test_the_table_is_put_between_its_markers(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(table, "answers", lambda: [Answer("toy 3", "python -m toy", "picture")])
    path = tmp_path / "README.md"
    path.write_text(README)
    main(["table", "--write", str(path)])
    assert path.read_text() == README.replace("old\n", table.table())
    main(["table", "--write", str(path)])
    assert "replaced" in (printed := capsys.readouterr().out.splitlines())[0] and "is that of the records" in printed[1]
    main(["table"])
    assert capsys.readouterr().out == table.table()


@pytest.mark.parametrize("text", ["", "no markers", table.BEGIN, f"{table.END}\n{table.BEGIN}\n"])
def test_a_readme_without_markers_is_left_alone(tmp_path, text):
    path = tmp_path / "README.md"
    path.write_text(text)
    with pytest.raises(UserError, match="has no place for the table: put a line"):
        table.replace(path)
    assert path.read_text() == text


def test_a_readme_that_is_none(tmp_path):
    with pytest.raises(UserError, match="cannot read"):
        table.replace(tmp_path)
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="cannot read"):
        table.replace(tmp_path / "binary")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            None,
            r"hw_toy-run\.json is missing; make it with: python -m hw_common\.record RUN .* this makes: python -m toy",
        ),
        (
            '{"summary.json": {"schema": 2}}',
            r"is damaged: expected a summary\.json of schema 1; make it anew with: python",
        ),
        ("[]", r"is damaged: expected"),
        (
            '{"summary.json": {"schema": 1, "table": NaN}}',
            r"is damaged: it holds NaN.*make it anew with: python -m hw_common",
        ),
        (
            '{"summary.json": {"schema": 1}}',
            r"does not hold the number of toy 1, accuracy \(KeyError.*this makes: python",
        ),
        ('{"summary.json": {"schema": 1, "table": [{}]}}', r"does not hold the number of toy 1"),
        ('{"summary.json": {"schema": 1, "table": [{"accuracy": "x"}]}}', r"does not hold the number of toy 1"),
    ],
)
def test_a_bad_record_gets_one_line(records, content, message):
    path = records / "hw_toy-run.json"
    path.unlink()
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        table.table([LINE], records)
    assert "\n" not in str(caught.value)
