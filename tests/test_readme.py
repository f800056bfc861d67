"""README.md and docs/: their numbers are those of the records, their commands and links exist."""

import importlib
import json
import re
from pathlib import Path

import pytest
import report_runs

from hw_common import record
from hw_common.runs import files
from hw_common.runs.errors import UserError
from hw_report import table
from hw_report.collect import read_record
from hw_report.published import PUBLISHED

REPOSITORY = Path(__file__).parent.parent
README = (REPOSITORY / "README.md").read_text()
DOCS = {path.name: path.read_text() for path in (REPOSITORY / "docs").glob("*.md")}
MEASURED = DOCS["measured.md"]
TEXT = README + "".join(DOCS.values())
# Tables that `hw_report table` writes from the records; tests/hw_report/test_table.py checks that they are up to date.
GENERATED = re.compile(r"<!-- table: .*?<!-- end of the table -->", re.DOTALL)
RECORDS = {path.name: read_record(path) for path in (REPOSITORY / "results" / "record").iterdir()}


def means(row):
    """Every mean ± standard deviation in a row of a table; of one seed, the number alone."""
    names = [name for name in row if f"{name}_std" in row]
    if row.get("seeds") == 1:
        return [f" {row[name]:.4f} " for name in names]
    return [f"{row[name]:.4f} ± {row[f'{name}_std']:.4f}" for name in names]


def chosen_rows(summary):
    """The rows of a comparison that docs/measured.md shows; of a sweep, the row of the chosen learning rate."""
    lr = summary.get("choice", {}).get("lr")
    return [row for row in summary["table"] if lr is None or row["lr"] == lr]


def test_there_are_records():
    assert len(RECORDS) >= 3


@pytest.mark.parametrize("name", RECORDS)
def test_every_record_is_in_measured(name):
    summary = RECORDS[name]["summary.json"]
    for row in chosen_rows(summary) if "table" in summary else []:
        assert any(numbers in MEASURED for numbers in means(row)), row
    if "table" not in summary and "test_accuracy" in summary.get("best", {}):
        assert f"{summary['best']['test_accuracy']:.4f}" in MEASURED


def test_every_mean_in_the_texts_is_in_a_record():
    tables = [content["summary.json"].get("table", []) for content in RECORDS.values()]
    recorded = {numbers for table in tables for row in table for numbers in means(row)}
    published = set(PUBLISHED.values())
    assert table.scaling_table() in TEXT
    assert set(re.findall(r"\d\.\d+ ± \d\.\d+", GENERATED.sub("", TEXT))) <= recorded | published


def numbers(value):
    """Every number in a JSON value."""
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from numbers(item)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


SECTIONS = {text.partition("\n")[0]: text for text in re.split(r"\n(?=## )", MEASURED)}


@pytest.mark.parametrize("title", SECTIONS)
def test_every_number_of_a_section_is_in_the_records_that_it_names(title):
    """Numbers with three or more decimals; a section names records by its tables and by «records:» comments."""
    text = SECTIONS[title]
    names = re.findall(r"<!-- table: (hw_\S+) -->", text)
    names += " ".join(re.findall(r"<!-- records: (.*?) -->", text)).split()
    recorded = [number for name in names for number in numbers(RECORDS[name]["summary.json"])]
    published = " ".join(PUBLISHED.values())
    text = GENERATED.sub("", text)
    for found in re.findall(r"(?<![\w.])\d+\.\d{3,}(?![\w.])", text):
        decimals = len(found.partition(".")[2])
        assert found in published or any(f"{abs(number):.{decimals}f}" == found for number in recorded), found


REPORTS = {path.name: path.read_text() for path in (REPOSITORY / "reports").glob("*.typ")}
RECORDED = [
    number for path in (REPOSITORY / "results" / "record").rglob("*.json") for number in numbers(files.read_json(path))
]


@pytest.mark.parametrize(("name", "text"), [("README.md", README), *DOCS.items(), *REPORTS.items()])
def test_every_number_in_the_texts_is_recorded_or_published(name, text):
    """Numbers with three or more decimals, and durations in tables; a command of its own renews docs/speed.md."""
    if name == "speed.md":
        return
    text = GENERATED.sub("", text)
    published = " ".join(PUBLISHED.values())
    for found in re.findall(r"(?<![\w.])\d+\.\d{3,}(?![\w.])", text):
        decimals = len(found.partition(".")[2])
        assert found in published or any(f"{abs(number):.{decimals}f}" == found for number in RECORDED), found
    for found in re.findall(r"\| (\d+) s \|", text):
        assert any(f"{number:.0f}" == found for number in RECORDED), f"{found} s"
    assert not re.findall(r"\d+ of \d+ test images|\d ?(?:minutes|min|hours) a run|\d(?:\.\d+)? times as long", text)


def test_the_samples_accuracies_are_those_of_a_build():
    runs = json.loads(report_runs.KEPT.read_text())
    pooled, strided = (
        runs[f"hw_cnn/sample-oct-{name}"]["summary.json"]["final"]["test_accuracy"]
        for name in ("lr0.1-seed42", "no_maxpool")
    )
    assert f"`make reproduce` gives {pooled:.3f} and {strided:.3f} (one seed)" in MEASURED


@pytest.mark.parametrize("name", RECORDS)
def test_records_hold_no_paths_of_the_machine(name):
    text = json.dumps(RECORDS[name])
    assert not re.search(r'"/|\.\./', text)
    assert RECORDS[name]["versions"]["torch"] and RECORDS[name]["git"]


@pytest.mark.parametrize("module", sorted(set(re.findall(r"python -m (hw_\w+\.\w+)", TEXT))))
def test_the_commands_exist(module):
    assert callable(importlib.import_module(module).main)


def test_the_readme_is_a_front_page():
    assert README.count("\n") <= 150


@pytest.mark.parametrize("path", ["README.md", *(f"docs/{name}" for name in DOCS)])
def test_links_lead_to_files(path):
    text = (REPOSITORY / path).read_text()
    for link in re.findall(r"\]\(([^)#]+)\)", text) + re.findall(r'src="([^"]+)"', text):
        assert ((REPOSITORY / path).parent / link).exists(), link


def test_a_record_wants_a_finished_run(tmp_path):
    with pytest.raises(UserError, match="is not a run folder"):
        record.main([str(tmp_path), "--into", str(tmp_path / "into")])
