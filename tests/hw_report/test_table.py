"""The tables of README.md and docs/measured.md: made from the index and the records alone."""

import shutil
from pathlib import Path

import pytest

from hw_common.runs import files
from hw_common.runs.errors import UserError
from hw_report import table
from hw_report.__main__ import main
from hw_report.index import Answer, Number

PAGE = "# Title\n\n<!-- table: index -->\n{}<!-- end of the table -->\nmore\n"
NUMBER = Number("accuracy", "hw_toy-run", "accuracy", {"row": "a"}, published="softmax", main=True)
ANSWER = Answer("1(a)", "toys", "hw_toy/a.py:One Two hw_toy/b.py:three", "toy --all", ("curves",), (NUMBER,))
INDEX = {"toys": [ANSWER]}


@pytest.fixture
def records(tmp_path):
    row = {"row": "a", "accuracy": 0.98765, "accuracy_std": 0.0012}
    (tmp_path / "hw_toy-run").mkdir()
    files.write_json(tmp_path / "hw_toy-run" / "config.json", {"schema": 1, "homework": "hw_toy", "arguments": {}})
    files.write_json(tmp_path / "hw_toy-run" / "summary.json", {"schema": 1, "seeds": [1, 2], "table": [row]})
    return tmp_path


def test_the_tables_have_code_command_figure_number_and_published_number(records):
    line = "accuracy, 2 seeds | 0.9877 ± 0.0012 | 0.9767 |"
    assert table.main_table(INDEX, records).splitlines()[2:] == [f"| toys 1(a) | {line}"]
    assert table.every_table(INDEX, records).splitlines()[2:] == [
        f"| toys 1(a) | `python -m toy --all` | curves | {line}"
    ]
    code = "[hw_toy/a.py](hw_toy/a.py): `One`, `Two`; [hw_toy/b.py](hw_toy/b.py): `three`"
    assert table.index_table(INDEX).splitlines()[2:] == [f"| toys 1(a) | toys | {code} | `python -m toy --all` |"]


def test_what_could_not_be_measured_says_so(records):
    unmeasured = Number("accuracy", published="softmax", command="toy.other")
    index = {"toys": [Answer("2", "toys", "a.py:b", "toy", numbers=(unmeasured,))]}
    assert table.main_table(index, records).count("\n") == 2
    [line] = table.every_table(index, records).splitlines()[2:]
    assert line == "| toys 2 | `python -m toy.other` |  | accuracy | not measured | 0.9767 |"


@pytest.mark.parametrize("path", table.FILES)
def test_the_files_have_the_tables_of_the_records(path, tmp_path):
    copy = shutil.copy(path, tmp_path)
    assert not table.write(Path(copy)), "run: python -m hw_report table --write"


def test_the_tables_are_put_between_their_markers(tmp_path, capsys, monkeypatch):
    path = tmp_path / "README.md"
    path.write_text(PAGE.format("old\n"))
    monkeypatch.setattr(table, "FILES", (path,))
    main(["table", "--write"])
    assert path.read_text() == PAGE.format(table.index_table())
    main(["table", "--write", str(path)])
    assert capsys.readouterr().out == f"{path}: the tables were renewed\n{path}: the tables are up to date\n"
    main(["table"])
    assert capsys.readouterr().out == "\n".join(make() for make in table.TABLES.values())


def test_the_table_of_a_comparison_is_that_of_its_record(tmp_path, monkeypatch):
    (tmp_path / "hw_toy-both").mkdir()
    (tmp_path / "hw_toy-both" / "table.md").write_text("| a |\n|---|\n| 1 ± 2 |\n", encoding="utf-8")
    monkeypatch.setattr(table.record_table, "__defaults__", (tmp_path,))
    path = tmp_path / "page.md"
    path.write_text("<!-- table: hw_toy-both -->\n<!-- end of the table -->\n", encoding="utf-8")
    assert table.write(path)
    shown = "<!-- table: hw_toy-both -->\n\n| a |\n|---|\n| 1 ± 2 |\n\n<!-- end of the table -->\n"
    assert path.read_text(encoding="utf-8") == shown
    path.write_text(shown.replace("both", "other"), encoding="utf-8")
    with pytest.raises(UserError, match=r"no table «hw_toy-other»: expected one of index, .*or a record that has"):
        table.write(path)


@pytest.mark.parametrize("text", ["", "no markers", "<!-- table: index -->"])
def test_a_readme_without_markers_is_left_alone(tmp_path, text):
    path = tmp_path / "README.md"
    path.write_text(text)
    with pytest.raises(UserError, match="has no place for a table: put a line"):
        table.write(path)
    assert path.read_text() == text


def test_a_file_that_is_none(tmp_path):
    with pytest.raises(UserError, match="cannot read"):
        table.write(tmp_path)
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="cannot read"):
        table.write(tmp_path / "binary")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"hw_toy-run has no summary\.json; make it again with: python -m hw_common\.record RUN"),
        (
            '{"schema": 2}',
            r"summary\.json is damaged: expected an object of schema 1; make it again with: python",
        ),
        ("[]", r"is damaged: expected"),
        (
            '{"schema": 1, "table": NaN}',
            r"is damaged: it contains NaN.*make it again with: python -m hw_common",
        ),
        (
            '{"schema": 1}',
            r"does not hold the number of question 1\(a\), accuracy \(KeyError.*made by: python",
        ),
        ('{"schema": 1, "table": [{}]}', r"does not hold the number of question 1\(a\)"),
        (
            '{"schema": 1, "table": [{"row": "a", "accuracy": "x"}]}',
            r"does not hold the number of question 1\(a\)",
        ),
    ],
)
def test_a_bad_record_gets_one_line(records, content, message):
    path = records / "hw_toy-run" / "summary.json"
    path.unlink()
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        table.main_table(INDEX, records)
    assert "\n" not in str(caught.value)


def test_a_missing_record_names_its_command(tmp_path):
    message = r"hw_toy-run is missing; make it with: python -m hw_common\.record RUN .* RUN: python -m toy --all"
    with pytest.raises(UserError, match=message):
        table.main_table(INDEX, tmp_path)


def test_a_missing_or_damaged_record_of_the_scaling_names_the_commands(tmp_path):
    with pytest.raises(UserError, match=r"is missing.*this command makes RUN: python -m hw_attention_theory\.scaling"):
        table.scaling_table(tmp_path)
    shutil.copytree(table.RECORDS / "hw_attention_theory-scaling", tmp_path / "hw_attention_theory-scaling")
    path = tmp_path / "hw_attention_theory-scaling" / "summary.json"
    files.write_json(path, {**files.read_json(path), "fits": [{"D": 16}]})
    with pytest.raises(UserError, match=r"does not hold exponents and intervals \(KeyError: .*record RUN"):
        table.scaling_table(tmp_path)
