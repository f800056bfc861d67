"""The table of a comparison."""

import statistics

import pytest

from hw_common.runs.config import describe
from hw_common.runs.run_folder import Run
from hw_ocr import compare, plots


def finished_run(results, name, numbers):
    """A finished run with these accuracies, made without training."""
    config = describe("hw_ocr", "hw_ocr.train", {}, {}, {"ocr/letter.data.gz": "0"}, {})
    run = Run.create(results, config, name)
    epoch = {metric: value for metric, value in zip(compare._METRICS, numbers, strict=True)}
    facts = {"homework": "hw_ocr", "dataset": "ocr", "data": "OCR letters", "network": name[:-1], "parameters": 7}
    run.write_summary({**facts, "final": epoch, "best": epoch, "speed": {"training_seconds": numbers[0]}})
    run.close()
    return run


def test_a_table_has_means_and_deviations_and_chooses_on_validation(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(plots, "comparison", lambda *arguments: None)
    numbers = {  # validation by letter and by word, test by letter and by word
        "cnn2": [(0.90, 0.5, 0.99, 0.9), (0.92, 0.6, 0.97, 0.8)],
        "bilstm": [(0.95, 0.7, 0.90, 0.5), (0.96, 0.8, 0.91, 0.6)],
    }
    trained = {
        row: [finished_run(tmp_path, f"{row}{seed}", of_seed) for seed, of_seed in enumerate(of_row)]
        for row, of_row in numbers.items()
    }
    folder = Run.create(tmp_path, describe("hw_ocr", "hw_ocr.compare", {}, {}, {}, {}), "table")
    summary = compare.report(folder, trained, [0, 1])
    folder.close()
    assert summary["choice"]["row"] == "bilstm"  # though the other one is better on the test data
    assert "0.0450 ahead of cnn2 (more than the spread" in summary["choice"]["reason"]
    for row in summary["table"]:
        for i, metric in enumerate(compare._METRICS):
            values = [of_seed[i] for of_seed in numbers[row["row"]]]
            assert row[f"final_{metric}"] == pytest.approx(statistics.mean(values))
            assert row[f"final_{metric}_std"] == pytest.approx(statistics.stdev(values))
    title, _, *lines, _, reason = (folder.folder / "table.md").read_text().splitlines()
    assert title == "OCR letters, last epoch:" and reason == summary["choice"]["reason"]
    assert len({line.count("|") for line in lines}) == 1
    assert "0.9800 ± 0.0141 | 0.9012" in lines[2] and "0.9701" in lines[3] and "0.8533" in lines[3]
    header, *rows = (folder.folder / "table.csv").read_text().splitlines()
    assert len(rows) == 2 and all(line.count(",") == header.count(",") for line in rows)
    assert lines[2] in capsys.readouterr().out
