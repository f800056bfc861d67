"""The table of `python -m benchmarks`: rows, docs/speed.md, and a benchmark that the real command runs."""

import importlib
import importlib.util
import json
import shutil
from pathlib import Path

import pytest

from hw_common.commands import environment
from hw_common.runs.errors import UserError

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
ROW = {"command": "benchmarks/cnn.py --threads 1", "what": "a ÷ b", "value": 1.234, "low": 1.0, "high": 120.4,
       "rounds": 5, "unit": "", "goal": "at least 1.2", "reached": True, "threads": 1}  # fmt: skip
LAST = {**ROW, "what": "memory", "value": 2.5, "rounds": 1, "unit": "GB", "goal": "at most 2", "reached": False}
MEASURED = {"cnn": {"machine": "2 cores, X", "date": "2026-01-02", "rows": [ROW, LAST]}}


def load(name):
    spec = importlib.util.spec_from_file_location(f"benchmarks_{name.strip('_')}", BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def runner(tmp_path, monkeypatch):
    module = load("__main__")
    (tmp_path / "measured.json").write_text(json.dumps(MEASURED))
    (tmp_path / "speed.md").write_text("before\n<!-- benchmarks -->\nold\n<!-- end of the table -->\nafter\n")
    monkeypatch.setattr(module, "MEASURED", tmp_path / "measured.json")
    monkeypatch.setattr(module, "DOCS", tmp_path / "speed.md")
    return module


def test_speed_md_is_renewed_from_the_stored_rows(runner, tmp_path, capsys):
    assert runner.main(["--no_run", "--write"]) == 0
    text = (tmp_path / "speed.md").read_text()
    assert text.startswith("before\n<!-- benchmarks -->\n\n| what |") and text.endswith(
        "<!-- end of the table -->\nafter\n"
    )
    assert "| [a ÷ b](../benchmarks/cnn.py) | 1 | 1.23 | 1–120 | 5 | at least 1.2 | reached |" in text
    assert "| [memory](../benchmarks/cnn.py) | 1 | 2.5 GB |  | 1 | at most 2 | **missed** |" in text
    assert "Measured on 2026-01-02 (2 cores, X)." in text
    assert "| a ÷ b | 1 | 1.23 | 1–120 | 5 | at least 1.2 | reached |" in capsys.readouterr().out


def test_speed_md_has_the_rows_of_measured_json():
    module = load("__main__")
    text = module.DOCS.read_text()
    assert module.filled(text, json.loads(module.MEASURED.read_text())) == text


def test_what_cannot_be_done_is_one_line(runner, tmp_path):
    with pytest.raises(UserError, match="no benchmark 'gnn', expected one of cnn, busy"):
        runner.main(["gnn"])
    (tmp_path / "speed.md").write_text("no place")
    with pytest.raises(UserError, match="it needs «<!-- benchmarks -->»"):
        runner.main(["--no_run", "--write"])
    (tmp_path / "measured.json").unlink()
    with pytest.raises(UserError, match="without --no_run"):
        runner.main(["--no_run"])


def test_a_benchmark_that_fails_keeps_the_rows_measured_before(runner, tmp_path, monkeypatch, capfd):
    (tmp_path / "cnn.py").write_text("raise SystemExit('no data')")
    monkeypatch.setattr(runner, "HERE", tmp_path)
    assert runner.main(["cnn"]) == 1
    assert json.loads((tmp_path / "measured.json").read_text()) == MEASURED
    assert "its old rows are kept" in capfd.readouterr().err


def test_a_benchmark_hands_its_rows_over(runner, tmp_path, monkeypatch):
    program = (
        f"import sys; sys.path.insert(0, {str(BENCHMARKS)!r}); import harness; harness.parse(harness.parser('', 3))\n"
    )
    program += "harness.print_ratio('t', {'baseline': [2, 3, 8], 'ours': [1, 1, 2]}, 'baseline', 'ours', at_least=4)"
    (tmp_path / "sweep.py").write_text(program)
    monkeypatch.setattr(runner, "HERE", tmp_path)
    monkeypatch.setattr(runner, "RUNS", {"cnn": [[]], "sweep": [["--threads", "1"]]})
    assert runner.main(["sweep"]) == 0
    stored = json.loads((tmp_path / "measured.json").read_text())
    assert stored["cnn"] == MEASURED["cnn"]
    [row] = stored["sweep"]["rows"]
    assert row == {"command": "benchmarks/sweep.py --threads 1", "what": "t: straightforward code ÷ ours", "value": 3.0,
                   "low": 2.0, "high": 4.0, "rounds": 3, "unit": "", "goal": "at least 4", "reached": False,
                   "threads": 1}  # fmt: skip


def test_every_benchmark_is_in_the_table_or_has_a_command_of_its_own(runner):
    shared = {"__main__", "harness", "rows", "gpu", "gpu_checks", "gpu_rows", "fuzz_files", "fuzz_readers", "speech"}
    assert {path.stem for path in BENCHMARKS.glob("*.py")} - shared == set(runner.RUNS)


def test_the_results_of_a_gpu_join_the_table(runner, tmp_path, capsys):
    speed = {"what": "images, batch 8", "precision": "fp32", "ratio": 0.63, "low": 0.6, "high": 0.7,
             "examples_per_second": 2520.9}  # fmt: skip
    attention = {"what": "attention, linear, fast", "milliseconds": 1.7, "gigabytes": 0.16}
    found = {"device": "card X", "cores": 16, "date": "2026-01-03", "rounds": 2, "speed": [speed],
             "attention": [attention], "checks": [{"holds": True}, {"holds": False}]}  # fmt: skip
    (tmp_path / "gpu.json").write_text(json.dumps(found))
    assert runner.main(["--gpu", str(tmp_path / "gpu.json"), "--write"]) == 0
    text = (tmp_path / "speed.md").read_text()
    assert (
        "[checks of training on the GPU that hold](../benchmarks/gpu.sh) | GPU | 1 |  | 1 | at least 2 | **missed** |"
        in text
    )
    assert (
        "GPU, images, batch 8: straightforward code ÷ ours in fp32](../benchmarks/gpu.sh) | GPU | 0.63 | 0.6–0.7 | 2 |"
        in text
    )
    assert "ours in fp32](../benchmarks/gpu.sh) | GPU | 2521 images a second |" in text
    assert "65 536 positions, linear, fast attention: memory" in text and "2026-01-03 (card X, 16 CPU cores)" in text
    assert json.loads((tmp_path / "measured.json").read_text())["cnn"] == MEASURED["cnn"]  # the other rows stay


@pytest.fixture
def gpu_checks(monkeypatch):
    monkeypatch.setattr(environment, "set_up", lambda: None)
    return load("gpu_checks")


def test_the_checks_on_a_gpu_give_flags_that_their_commands_take(gpu_checks, tmp_path):
    for check in gpu_checks.CHECKS:
        command = importlib.import_module(f"{check.module}.train").COMMAND
        arguments = command.parse(gpu_checks.flags_of(check, tmp_path, "cpu"))
        assert arguments.device == "cpu" and arguments.name == f"{check.name}-cpu"


def test_the_checks_on_a_gpu_tell_equal_runs_from_different_ones(gpu_checks, trained, tmp_path):
    check = gpu_checks.Check("tiny", "hw_cnn", (), 0.01)
    run = {kind: tmp_path / "hw_cnn" / f"tiny-{kind}" for kind in gpu_checks.KINDS}
    for folder in run.values():
        shutil.copytree(trained("hw_cnn.train").folder, folder)

    def wrong(**texts):
        rows = gpu_checks.judge(check, tmp_path, {kind: texts.get(kind, "") for kind in run})
        return [row["asked"] for row in rows if not row["holds"]]

    assert wrong() == []
    assert wrong(bf16="status 1: no memory") == ["trains (bf16), no nondeterministic operation"]
    metrics = run["cut"] / "metrics.csv"
    metrics.write_text(metrics.read_text().replace(",1.3", ",1.7"))
    assert wrong() == ["interrupted and resumed: the same bits"]
    shutil.copy(metrics, run["cuda"])
    assert wrong() == ["losses on CPU and GPU within 0.01", "bf16: losses within 0.1 of fp32's"]
    (run["cuda"] / "summary.json").unlink()
    assert wrong() == []
