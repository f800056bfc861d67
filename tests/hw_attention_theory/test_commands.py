"""Every command of hw_attention_theory through its real entry point: the files it writes, resume, bad input."""

import json
import os
import shutil
import signal
import sys
from pathlib import Path

import cnn_files
import numpy as np
import pytest
from PIL import Image

from hw_attention_theory import (
    claims,
    compare,
    experiment,
    measure,
    parameter_counts,
    reproduce,
    scaling,
    train,
    verify,
)
from hw_attention_theory.presets import Settings
from hw_common.commands import cli
from hw_common.runs.errors import Stopped, UserError

FOLDER = "hw_attention_theory"
RUN_FILES = {".lock", "config.json", "metrics.csv", "summary.json", "best.safetensors", "last.pt"}
TINY = ["--side", "7", "--n", "4", "--d", "2", "--epochs", "2", "--batch_size", "3", "--threads", "1"]


def figure_files(stem):
    return {f"{stem}.png", f"{stem}.pdf"}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """Twelve training and five test images in MNIST's format."""
    folder = tmp_path_factory.mktemp("data")
    cnn_files.write_idx(folder)
    return folder


@pytest.fixture
def quick_claims(monkeypatch):
    """Three claims and no figure."""
    monkeypatch.setattr(claims, "CLAIMS", claims.CLAIMS[:3])
    monkeypatch.setattr(verify, "_NORMS", (0.5,))
    monkeypatch.setattr(verify, "_REPEATS", 1)


class Meter:
    """A stand-in for the real meter, with known times."""

    measured = []

    def __init__(self, threads, rounds):
        pass

    def measure(self, cases, max_bytes):
        self.measured.extend(cases)
        seconds = [1e-9 * c.L**2 if c.K is None else 1e-8 * c.L * c.features for c in cases]
        return [
            {"attention": case.attention, "L": case.L, "D": case.D, "K": case.K, "M": case.features,
             "seconds": own, "cpu_seconds": own, "rounds": 1, "bytes": 8 * case.L**2, "process_bytes": 10**9,
             "plain_bytes": 8 * case.L * case.features if case.K else None,
             "ratio": [f * own / seconds[0] for f in (0.9, 1, 1.1)] if case.K and cases[0].K is None else None}
            for case, own in zip(cases, seconds, strict=True)
        ]  # fmt: skip

    def close(self):
        pass


@pytest.fixture
def meter(monkeypatch):
    monkeypatch.setattr(scaling, "Meter", Meter)
    monkeypatch.setattr(Meter, "measured", [])
    return Meter


def train_tiny(data_dir, results, *flags):
    train.main(["--data_dir", str(data_dir), "--results_dir", str(results), *TINY, *flags])
    return results / FOLDER


def summary_of(folder):
    return json.loads((folder / "summary.json").read_text())


def refusal(command, *flags):
    """The one line that the user sees."""
    with pytest.raises(UserError) as caught:
        command([*map(str, flags)])
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ── train ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("attention", ["softmax", "taylor"])
def test_a_run_folder_holds_what_was_promised(data_dir, tmp_path, attention, capsys):
    folder = train_tiny(data_dir, tmp_path / "with spaces", "--attention", attention) / f"mnist7-{attention}"
    assert {path.name for path in folder.iterdir()} == RUN_FILES | figure_files("curves")
    assert Image.open(folder / "curves.png").size[0] > 500
    summary = summary_of(folder)
    assert summary["images"] == {"training": 11, "validation": 1, "test": 5}
    assert (summary["data"], summary["attention"], summary["length"]) == ("MNIST", attention, 49)
    assert summary["terms"] == (3 if attention == "taylor" else None)
    assert summary["final"]["epoch"] == 2 and 0 <= summary["best"]["test_accuracy"] <= 1
    assert summary["speed"]["training_seconds"] > 0 and summary["speed"]["peak_memory_mb"] > 0
    model = experiment.build_model(Settings.from_arguments(train.COMMAND.parse(["--attention", attention, *TINY])))
    assert summary["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    assert "images per second" in capsys.readouterr().out


def test_a_dry_run_writes_nothing(tmp_path, capsys):
    train.main(["--dataset", "sample", "--attention", "taylor", "--threads", "1", "--dry_run", "--results_dir",
                str(tmp_path)])  # fmt: skip
    assert list(tmp_path.iterdir()) == []
    assert "read as 64 pixels" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--terms", "3"], "--terms is a setting of --attention taylor, not of softmax"),
        (["--attention", "taylor", "--terms", "4"], "--terms: expected an odd number, got 4"),
        (["--attention", "taylor", "--terms", "9"], "--terms: expected a whole number from 1 to 7, got '9'"),
        (["--attention", "taylor", "--terms", "7", "--d", "32"], "more than the limit of 100000; choose fewer terms"),
        (["--side", "9"], "--side: expected one of 28, 14, 7 for mnist, got 9"),
        (["--dataset", "sample", "--side", "28"], "--side: expected one of 8, 4 for sample, got 28"),
        (["--n", "2000"], "--n: expected a whole number from 1 to 1024, got '2000'"),
    ],
)
def test_wrong_flags(tmp_path, flags, says):
    with pytest.raises(UserError, match=says):
        train.main([*flags, "--results_dir", str(tmp_path)])
    assert list(tmp_path.iterdir()) == []


def test_damaged_data_ends_the_training_before_it_begins(tmp_path):
    cnn_files.write_idx(tmp_path, train_labels=cnn_files.idx(np.full(12, 10, np.uint8)))
    message = refusal(train.main, "--data_dir", tmp_path, "--results_dir", tmp_path / "results")
    assert "train has the label 10, expected 0 to 9" in message
    assert not (tmp_path / "results").exists()


# ── parameter_counts and verify ──────────────────────────────────────────────────────────────────────────────────────


def test_parameter_counts(tmp_path, capsys, monkeypatch):
    flags = ["--results_dir", str(tmp_path)]
    assert parameter_counts.main(flags) == 0
    folder = tmp_path / FOLDER / "parameter_counts"
    assert {path.name for path in folder.iterdir()} == {".lock", "config.json", "summary.json"}
    summary = summary_of(folder)
    assert [network["parameters"] for network in summary["networks"]] == [10_298, 236_310] and summary["holds"]
    assert "8·(5·5·3 + 1) =     608" in capsys.readouterr().out
    monkeypatch.setattr(parameter_counts, "_BIAS", 0)  # a wrong formula
    assert parameter_counts.main(flags) == 1
    assert "formulas and torch DISAGREE" in capsys.readouterr().out
    assert not summary_of(folder)["holds"]  # the same folder again


def test_verify(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(verify, "_REPEATS", 2)
    assert verify.main(["--draws", "2", "--results_dir", str(tmp_path)]) == 0
    folder = tmp_path / FOLDER / "verify"
    assert {path.name for path in folder.iterdir()} == (
        {".lock", "config.json", "summary.json", "claims.md"} | figure_files("approximation")
    )
    summary = summary_of(folder)
    assert [row["name"] for row in summary["claims"]] == [claim.name for claim in claims.CLAIMS]
    assert summary["holds"] and all(row["holds"] and row["draws"] == 2 for row in summary["claims"])
    for row in summary["approximation"]:
        assert 0 < row["error"] and (row["bound"] is None or row["error"] <= row["bound"])
    printed = capsys.readouterr().out
    assert printed.count("holds  ist-") == len(claims.CLAIMS) and "all claims hold" in printed
    assert len((folder / "claims.md").read_text().splitlines()) == 2 + len(claims.CLAIMS)


def test_verify_ends_with_status_1_where_a_claim_fails(tmp_path, capsys, monkeypatch, undrawn, quick_claims):
    wrong = claims.Claim("wrong", "none", "1 is 0", lambda rng: ({"L": 1}, float("nan")), 0.0, draws=1)
    monkeypatch.setattr(claims, "CLAIMS", (*claims.CLAIMS, wrong))
    monkeypatch.setattr(sys, "argv", ["verify", "--draws", "1", "--results_dir", str(tmp_path)])
    with pytest.raises(SystemExit) as caught:
        cli.run_command(verify.main)
    assert caught.value.code == 1
    assert "FAILED: wrong" in capsys.readouterr().out
    summary = summary_of(tmp_path / FOLDER / "verify")
    assert not summary["holds"] and summary["claims"][-1]["largest_error"] is None


def test_verify_replaces_its_own_folder_and_no_other(data_dir, tmp_path, undrawn, quick_claims):
    flags = ["--draws", "1", "--results_dir", tmp_path]
    train_tiny(data_dir, tmp_path, "--name", "mine")
    message = refusal(verify.main, *flags, "--name", "mine")
    assert "was made by a command other than hw_attention_theory.verify; choose another --name" in message
    assert (tmp_path / FOLDER / "mine" / "best.safetensors").exists()
    for _ in range(2):
        verify.main([*map(str, flags)])
    assert {path.name for path in (tmp_path / FOLDER).iterdir()} == {"mine", "verify"}


def test_an_interrupted_verify_leaves_nothing(tmp_path, monkeypatch, quick_claims):
    monkeypatch.setattr(claims, "check", lambda *arguments: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        verify.main(["--results_dir", str(tmp_path)])
    assert list((tmp_path / FOLDER).iterdir()) == []


# ── scaling ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_scaling_measures_in_processes_of_its_own(tmp_path, capsys):
    scaling.main(["--max_length", "256", "--dimensions", "2", "--terms", "3", "--threads", "1", "--rounds", "1",
                  "--results_dir", str(tmp_path)])  # fmt: skip
    folder = tmp_path / FOLDER / "scaling"
    files = {".lock", "config.json", "summary.json", "points.json", "table.md"} | figure_files("scaling")
    assert {path.name for path in folder.iterdir()} == files
    points = summary_of(folder)["points"]
    assert [(row["attention"], row["L"], row["M"]) for row in points if row["L"] in (128, 256)] == [
        ("softmax", 128, None), ("taylor", 128, 6), ("softmax", 256, None), ("taylor", 256, 6)
    ]  # fmt: skip
    assert {row["L"] for row in points} <= {128, 160, 192, 224, 256}  # with lengths near the crossover
    assert all(row["seconds_low"] <= row["seconds"] <= row["seconds_high"] for row in points)
    assert all(row["seconds_low"] > 0 and 0 <= row["bytes"] < row["process_bytes"] for row in points)
    for row in points[1::2]:
        low, median, high = row["ratio"]
        assert 0 < low <= median <= high and row["plain_bytes"] >= 0
    assert "| linear | 2 | 3 | 6 |" in capsys.readouterr().out


def test_scaling_knows_exponents_and_crossovers(tmp_path, meter, undrawn, capsys):
    flags = ["--max_length", "16384", "--dimensions", "8", "16", "16", "--terms", "5", "3", "--max_gigabytes", "0.5",
             "--results_dir", str(tmp_path)]  # fmt: skip
    scaling.main(flags)
    folder = tmp_path / FOLDER / "scaling"
    summary = summary_of(folder)
    assert [(row["D"], row["K"], row["longest"]) for row in summary["fits"]] == [
        (8, None, 4096), (16, None, 4096), (8, 3, 16384), (8, 5, 16384), (16, 3, 16384), (16, 5, 16384)
    ]  # fmt: skip
    for row in summary["fits"]:
        assert row["time_exponent"] == pytest.approx(2 if row["K"] is None else 1)
        assert row["time_exponent_error"] == pytest.approx(0, abs=1e-6)
    lengths = {(row["D"], row["K"]): (row["length"], row["how"]) for row in summary["crossovers"]}
    assert lengths[8, 3] == (pytest.approx(450), "measured") and lengths[16, 5][1] == "extrapolated"
    [row] = [row for row in summary["crossovers"] if (row["D"], row["K"]) == (8, 3)]
    assert (row["low"], row["high"]) == (pytest.approx(0.9 * 450), pytest.approx(1.1 * 450))
    before = len(meter.measured)
    scaling.main(flags)
    assert len(meter.measured) == before and "is finished already" in capsys.readouterr().out
    scaling.main([*flags, "--overwrite"])
    assert len(meter.measured) == 2 * before


@pytest.mark.parametrize("done", [4, 8])
def test_a_stopped_measurement_goes_on(tmp_path, meter, undrawn, monkeypatch, done):
    flags = ["--max_length", "512", "--dimensions", "8", "--terms", "3", "--results_dir", str(tmp_path)]
    own = Meter.measure

    def stopping(self, cases, max_bytes):
        if len(self.measured) == done:
            os.kill(os.getpid(), signal.SIGINT)
        return own(self, cases, max_bytes)

    with monkeypatch.context() as patch:
        patch.setattr(Meter, "measure", stopping)
        with pytest.raises(Stopped, match="the same command resumes"):
            scaling.main(flags)
    folder = tmp_path / FOLDER / "scaling"
    assert len(json.loads((folder / "points.json").read_text())) == done and not (folder / "summary.json").exists()
    says = refusal(scaling.main, *flags, "--rounds", 3)
    assert "cannot resume" in says and "--rounds 3" in says and "choose another --name, or --overwrite" in says
    scaling.main(flags)
    lengths = [case.L for case in meter.measured if case.K == 3]
    assert lengths == [128, 256, 512, 352, 416, 448, 480]  # 450 is where linear attention becomes faster
    points = [(row["L"], row["K"]) for row in summary_of(folder)["points"]]
    assert points == [(L, K) for L in sorted(lengths) for K in (None, 3)]


def test_softmax_attention_has_one_point_for_each_length(tmp_path, meter, undrawn):
    """The searches with 7 and with 9 terms, which end at 280 and 450, both measure it at 352 positions."""
    scaling.main(["--max_length", "512", "--dimensions", "2", "--terms", "7", "9", "--results_dir", str(tmp_path)])
    assert [(case.L, case.K) for case in meter.measured].count((352, None)) == 2
    points = [(row["L"], row["K"]) for row in summary_of(tmp_path / FOLDER / "scaling")["points"]]
    assert len(points) == len(set(points)) and {(352, None), (352, 7), (352, 9)} <= set(points)


def test_what_would_take_too_long_is_left_out(tmp_path, meter, undrawn):
    scaling.main(["--max_length", "4096", "--dimensions", "8", "--terms", "3", "--max_seconds", "0.001",
                  "--results_dir", str(tmp_path)])  # fmt: skip
    points = summary_of(tmp_path / FOLDER / "scaling")["points"]
    assert max(row["L"] for row in points if row["K"] is None) == 512  # 1024 was expected to take 0.00105 s
    assert max(row["L"] for row in points if row["K"] == 3) == 2048


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--max_length", "100"], "--max_length: expected a whole number from 256 to 4194304, got 100"),
        (["--max_length", "10000000"], "--max_length: expected a whole number from 256 to 4194304"),
        (["--terms", "2"], "--terms: expected odd numbers, got 2"),
        (["--dimensions", "1000", "--terms", "3"], "all combinations exceed 10000 features"),
    ],
)
def test_wrong_measurements(tmp_path, meter, flags, says):
    assert says in refusal(scaling.main, *flags, "--results_dir", tmp_path)
    assert list(tmp_path.iterdir()) == [] and not meter.measured


@pytest.mark.parametrize(
    "content",
    ["[", '{"a": 1}', '[{"L": 1}]', '[{"attention": "softmax", "L": NaN}]', "[1]",
     json.dumps([dict.fromkeys(("L", "D", "K", "M", "seconds", "cpu_seconds", "bytes", "process_bytes"), 1)
                 | {"attention": "taylor", "ratio": [1, 2]}])],
)  # fmt: skip
def test_damaged_points_are_refused(tmp_path, meter, undrawn, content):
    flags = ["--max_length", "256", "--dimensions", "8", "--terms", "3", "--results_dir", str(tmp_path)]
    scaling.main(flags)
    folder = tmp_path / FOLDER / "scaling"
    (folder / "summary.json").unlink()
    (folder / "points.json").write_text(content)
    assert "points.json is damaged" in refusal(scaling.main, *flags)


def test_a_killed_measurement_is_one_line(monkeypatch):
    """Fails as if the system had run out of memory."""
    meter = measure.Meter(threads=1, rounds=1)
    submit = meter._pool.submit
    monkeypatch.setattr(meter._pool, "submit", lambda *arguments: submit(os._exit, 9))
    try:
        with pytest.raises(UserError, match="^attention at L = 1, D = 1 could not be measured .* smaller --max"):
            meter.measure([measure.Case("softmax", 1, 1)], 0)
    finally:
        meter.close()


# ── reproduce ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_reproduce_does_everything_and_the_second_time_nothing(
    data_dir, tmp_path, meter, undrawn, quick_claims, monkeypatch, capsys
):
    monkeypatch.setattr(reproduce, "_TRAININGS", {"sample": TINY})
    flags = ["--results_dir", str(tmp_path), "--data_dir", str(data_dir), "--jobs", "1"]
    reproduce.main(flags)
    folder = tmp_path / FOLDER
    runs = {"parameter_counts", "verify", "sample-softmax", "sample-taylor", "sample-attention-times"}
    assert {path.name for path in folder.iterdir()} == runs | {"sample-numbers.md"}
    printed = [Path(line.strip()) for line in capsys.readouterr().out.splitlines() if line.startswith(f"  {tmp_path}")]
    assert set(printed) == {folder / name for name in runs | {"sample-numbers.md"}}
    table = (folder / "sample-numbers.md").read_text()
    assert "| MNIST | linear attention (3 terms), 49 pixels |" in table
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("summary.json")}
    assert len(before) == 5
    shutil.rmtree(folder / "sample-taylor")
    reproduce.main(flags)
    after = {path: path.stat().st_mtime_ns for path in folder.rglob("summary.json")}
    assert {path.parent.name for path in before if after[path] != before[path]} == {"sample-taylor"}


def test_reproduce_stops_where_a_claim_fails(tmp_path, undrawn, quick_claims, monkeypatch):
    wrong = claims.Claim("wrong", "none", "1 is 0", lambda rng: ({"L": 1}, 1.0), 0.0, draws=1)
    monkeypatch.setattr(claims, "CLAIMS", (wrong,))
    message = refusal(reproduce.main, "--results_dir", tmp_path)
    assert "failed; repeat it with: python -m hw_attention_theory.verify" in message


def test_a_stopped_reproduction_says_how_to_go_on(tmp_path, monkeypatch):
    monkeypatch.setattr(reproduce, "_check", lambda *arguments: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(Stopped, match="the same command resumes where it stopped"):
        reproduce.main(["--results_dir", str(tmp_path)])


# ── all of them ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_comparison_gives_the_standard_error_of_the_difference(data_dir, tmp_path, capsys, undrawn):
    flags = ["--data_dir", str(data_dir), "--results_dir", str(tmp_path), *TINY, "--jobs", "1"]
    compare.main([*flags, "--seeds", "1", "2"])
    folder = tmp_path / FOLDER / "compare-mnist7"
    summary = json.loads((folder / "summary.json").read_text())
    softmax, linear = (row["final_test_accuracy_each"] for row in summary["table"])
    differences = np.mean(softmax) - np.mean(linear)
    error = np.sqrt((np.var(softmax, ddof=1) + np.var(linear, ddof=1)) / 2)
    assert summary["difference"] == pytest.approx({"test_accuracy": differences, "standard_error": error})
    assert f"test accuracy: {differences:+.4f} ± {error:.4f}" in capsys.readouterr().out
    assert {*figure_files("curves"), "table.csv", "table.md"} <= set(os.listdir(folder))
    compare.main([*flags, "--seeds", "1", "--name", "one"])
    assert json.loads((tmp_path / FOLDER / "one" / "summary.json").read_text())["difference"]["standard_error"] is None
