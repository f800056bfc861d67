"""A sheet of one experiment for hw_report's tests; `toy_homework` runs it."""

import sys
from pathlib import Path
from types import MappingProxyType

import pytest

from hw_common.commands import cli
from hw_common.runs import files
from hw_report import __main__, sheets
from hw_report.experiments import Command, Experiment
from hw_report.sheets import Sheet

SOURCE = """\
#import "data.typ": *
#set document(title: report.title, date: none)
#report.profile #report.date #report.sample #report.group
= Question 1
#fixed(summary("toy").score) #label-of("toy") #published("softmax")
#fig("toy.curves", [Curves.], alt: "A toy curve.")
"""


def collect(collector):
    """The toy's numbers and figure."""
    collector.run("toy")
    collector.figure("toy.curves", "toy", "curves")


COMMAND = Command(("toy_homework",), ("jobs",), {"sample": 0.5, "full": 150})
EXPERIMENT = Experiment("toy", "toys, Question 1", "hw_ocr", COMMAND, "{profile}-toy", collect, {"": "hw_ocr-measured"})
SHEETS = {
    name: Sheet(name, f"Toy {number}", "Toys, 2025", ("hw_ocr",), ("toy",))
    for number, name in enumerate(("toy-a", "toy-b"), start=1)
}


def set_up(tmp_path, monkeypatch):
    """A results folder, with two toy sheets in place of the real ones; both want the same experiment."""
    sources = tmp_path / "reports"
    sources.mkdir()
    for name in SHEETS:
        (sources / f"{name}.typ").write_text(SOURCE)
    (sources / "data.typ").write_bytes((sheets.REPORT_FILES / "data.typ").read_bytes())
    monkeypatch.setattr(sheets, "REPORT_FILES", sources)
    monkeypatch.setattr(sheets, "RECORDS", tmp_path / "record")
    (tmp_path / "record").mkdir()
    monkeypatch.setattr(sheets, "SHEETS", SHEETS)
    monkeypatch.setattr(__main__, "SHEETS", SHEETS)
    for module in (sheets, __main__):
        monkeypatch.setattr(module, "EXPERIMENTS", MappingProxyType({"toy": EXPERIMENT}))
    here = Path(__file__).resolve().parent
    monkeypatch.setenv("PYTHONPATH", f"{here}:{here.parents[1]}")
    results = tmp_path / "my results"
    results.mkdir()
    order(results)
    return results


def order(results, **orders):
    """Sets what the toy does when it is run."""
    files.write_json(results / "orders.json", orders)


def calls(results):
    """The arguments of each call of the toy so far."""
    path = results / "calls.txt"
    return path.read_text().splitlines() if path.exists() else []


if __name__ == "__main__":  # a build in a process of its own, to be interrupted
    with pytest.MonkeyPatch.context() as patch:
        folder = Path(sys.argv[1])
        toys = set_up(folder, patch)
        order(toys, wait=True)
        cli.run_command(lambda: __main__.main(["build", "--profile", "sample", "--results_dir", str(toys)]))
