"""Every command of hw_ocr through its real entry point: tiny runs, the files they write, resume, twice the same."""

import csv
import json
from pathlib import Path

import numpy as np
import ocr_files
import pytest
from finished_runs import times_of_writing
from PIL import Image

from hw_common.runs import figures
from hw_common.runs.errors import UserError
from hw_ocr import compare, invariance, read, reproduce, train

RUN_FILES = {".lock", "config.json", "metrics.csv", "summary.json", "best.safetensors", "last.pt", "confusion.csv"}
FIGURES = {f"{stem}.{suffix}" for stem in ("curves", "confusion", "misread") for suffix in ("png", "pdf")}
KERNELS = {
    layer: {f"kernels-{layer}-{kind}.{suffix}" for kind in ("grey", "heat") for suffix in ("png", "pdf")}
    for layer in ("layer1", "layer2")
}
MODELS = {
    "cnn": ["--model", "cnn"],
    "pairwise": ["--model", "pairwise"],
    "bilstm": ["--model", "bilstm", "--hidden", "4"],
    "conv-bilstm-crf": ["--model", "conv_bilstm", "--hidden", "4", "--crf"],
}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """Twelve words of the letters a to d, in the real file's format."""
    folder = tmp_path_factory.mktemp("data")
    ocr_files.write(folder)
    return folder


def train_tiny(data_dir, results, *flags):
    train.main(["--data_dir", str(data_dir), "--results_dir", str(results), "--epochs", "2", "--threads", "1",
                "--batch_size", "3", *flags])  # fmt: skip
    return results / "hw_ocr"


@pytest.fixture(scope="module")
def runs(data_dir, tmp_path_factory):
    """A finished tiny run of each kind of network, with its figures."""
    results = tmp_path_factory.mktemp("results with spaces")
    for name, flags in MODELS.items():
        train_tiny(data_dir, results, *flags, "--name", name)
    return {name: results / "hw_ocr" / name for name in MODELS}


# ── train ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("cnn", KERNELS["layer1"] | KERNELS["layer2"]),
        ("pairwise", set()),
        ("bilstm", set()),
        ("conv-bilstm-crf", KERNELS["layer1"] | {"transitions.png", "transitions.pdf"}),
    ],
)
def test_a_run_folder_holds_what_was_promised(runs, name, more):
    folder = runs[name]
    written = {path.name for path in folder.iterdir() if not path.stem.startswith("invariance")}
    assert written == RUN_FILES | FIGURES | more
    for path in folder.glob("*.png"):
        assert Image.open(path).size[0] > 500
    for path in folder.glob("*.pdf"):
        assert path.read_bytes().startswith(b"%PDF")


def test_a_summary_has_the_final_numbers(runs):
    summary = json.loads((runs["cnn"] / "summary.json").read_text())
    assert summary["parameters"] == 32_218
    assert (summary["data"], summary["network"]) == ("OCR letters", "CNN with 2 convolutions")
    words = {"training": ocr_files.WORDS[:8] + ocr_files.WORDS[10:], "validation": ["dad"], "test": ["abc"]}
    assert summary["words"] == {part: len(of_part) for part, of_part in words.items()}
    assert summary["letters"] == {part: sum(map(len, of_part)) for part, of_part in words.items()}
    assert summary["final"]["epoch"] == 2
    with open(runs["cnn"] / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    chosen = max(rows, key=lambda row: float(row["validation_accuracy"]))
    assert summary["best"]["epoch"] == int(chosen["epoch"])
    for epoch in ("final", "best"):
        for unit in ("loss", "accuracy", "word_accuracy"):
            assert 0 <= summary[epoch][f"test_{unit}"] and 0 <= summary[epoch][f"validation_{unit}"]


def test_the_confusion_table_counts_every_test_letter_once(runs):
    with open(runs["bilstm"] / "confusion.csv", newline="") as file:
        table = {row.pop("true"): {name: int(cell) for name, cell in row.items()} for row in csv.DictReader(file)}
    assert {letter: sum(row.values()) for letter, row in table.items() if sum(row.values())} == {"a": 1, "b": 1, "c": 1}


def test_the_reports_defaults():
    cnn = train.COMMAND.parse([])
    assert (cnn.model, cnn.conv_layers, cnn.crf, cnn.optimizer, cnn.lr, cnn.epochs, cnn.batch_size) == (
        "cnn", 2, False, "adam", 0.001, 20, 64
    )  # fmt: skip
    bilstm = train.COMMAND.parse(["--model", "bilstm"])
    assert (bilstm.hidden, bilstm.layers, bilstm.dropout, bilstm.epochs, bilstm.augment) == (128, 1, 0.0, 20, False)


# ── compare ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def compare_tiny(data_dir, results, *flags):
    where = ["--data_dir", str(data_dir), "--results_dir", str(results)]
    comparisons = compare.parse([*where, "--epochs", "1", "--threads", "1", *flags])
    return {what: comparison.run() for what, comparison in comparisons.items()}


def test_a_comparison_of_layers(data_dir, tmp_path, undrawn):
    summary = compare_tiny(data_dir, tmp_path, "--only", "layers", "--seeds", "1")["layers"]
    folder = tmp_path / "hw_ocr"
    trained = {f"compare-ocr-cnn{layers}-seed{seed}" for layers in (2, 3, 4, 5) for seed in (1,)}
    assert {path.name for path in folder.iterdir()} == {"compare-ocr-layers", *trained}
    files = {".lock", "config.json", "summary.json", "table.csv", "table.md", "comparison.png", "comparison.pdf"}
    assert {path.name for path in (folder / "compare-ocr-layers").iterdir()} == files
    assert [row["parameters"] for row in summary["table"]] == [32_218, 38_634, 45_050, 51_466]
    assert [row["published_test_accuracy"] for row in summary["table"]] == [0.9012, 0.9053, 0.9135, 0.9088]


# ── invariance ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("name", "layers"), [("cnn", ["layer1", "layer2"]), ("conv-bilstm-crf", ["layer1"])])
def test_invariance(runs, name, layers, capsys):
    invariance.main([str(runs[name]), "--letters", "2", "--pairwise", str(runs["pairwise"])])
    result = json.loads((runs[name] / "invariance.json").read_text())
    assert result["letters"] == 2
    assert [row["layer"] for row in result["maps"]] == [layer for layer in layers for _ in range(3)]
    for row in result["maps"]:
        assert len(row["changes"]) == 4
        assert all(0 <= change["values_changed"] <= 1 for change in row["changes"].values())
    summaries = [json.loads((runs[run] / "summary.json").read_text()) for run in (name, "pairwise")]
    unchanged = {network: found["as it is"] for network, found in result["accuracies"].items()}
    assert unchanged == {summary["network"]: summary["best"]["test_accuracy"] for summary in summaries}
    assert list(result["products"]) == list(row["changes"]) and all(0 < value for value in result["products"].values())
    for figure in ("invariance.png", "invariance-accuracy.png"):
        assert Image.open(runs[name] / figure).size[0] > 500
    printed = capsys.readouterr().out
    assert "invariance.json" in printed and "test accuracy, linear classifier of pixel pairs: as it is " in printed


def test_a_second_invariance_replaces_nothing(runs, monkeypatch):
    monkeypatch.setattr(figures, "save", lambda figure, folder, stem: [])
    (runs["cnn"] / "invariance.json").touch()
    before = (runs["cnn"] / "invariance.json").read_bytes()
    invariance.main([str(runs["cnn"]), "--letters", "1"])
    assert (runs["cnn"] / "invariance.json").read_bytes() == before
    assert json.loads((runs["cnn"] / "invariance-2.json").read_text())["letters"] == 1
    (runs["cnn"] / "invariance-2.json").unlink()


def test_invariance_refuses_another_network_in_place_of_the_pairwise_classifier(runs):
    with pytest.raises(UserError, match="--pairwise .*bilstm: it is a BiLSTM for OCR letters, expected a run of"):
        invariance.main([str(runs["cnn"]), "--pairwise", str(runs["bilstm"])])


def test_invariance_wants_convolutions(runs):
    with pytest.raises(UserError, match="has no convolutions; name a run of the network cnn or conv-bilstm"):
        invariance.main([str(runs["bilstm"])])


# ── read ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", MODELS)
def test_reading_letters_and_words(runs, tmp_path, capsys, name):
    letters = []
    for number, letter in enumerate("bad"):
        letters.append(tmp_path / f"letter {number}.png")
        Image.fromarray(255 - 255 * ocr_files.image(letter)).save(letters[-1])
    read.main([str(runs[name]), *map(str, letters)])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[0] for line in lines] == list(map(str, letters))
    read.main([str(runs[name]), *map(str, letters), "--json"])
    single = json.loads(capsys.readouterr().out)
    assert [f"{word['text']} (least sure letter {word['probabilities'][0]:.4f})" for word in single] == [
        line.split(": ")[1] for line in lines
    ]
    read.main([str(runs[name]), *map(str, letters), "--word", "--json"])
    [word] = json.loads(capsys.readouterr().out)
    assert word["files"] == list(map(str, letters)) and len(word["text"]) == len(word["probabilities"]) == 3
    if name == "cnn":  # which reads each letter for itself
        assert word["text"] == "".join(one["text"] for one in single)
    assert all(0 < probability <= 1 for probability in word["probabilities"])


def test_a_word_image_reads_as_its_letters(runs, tmp_path, capsys):
    corner = np.zeros((16, 8), dtype=int)
    corner[:, 0] = corner[-1] = 1
    shapes = [corner, np.eye(16, 8, dtype=int) + np.eye(16, 8, -8, dtype=int)]
    for number, shape in enumerate(shapes):
        Image.fromarray((255 - 255 * shape).astype(np.uint8)).save(tmp_path / f"{number}.png")
    large = np.kron(np.pad(np.concatenate([np.pad(s, ((0, 0), (0, 2))) for s in shapes], axis=1), 3), np.ones((5, 5)))
    Image.fromarray(np.where(large[..., None] > 0, [250, 240, 90], [60, 20, 90]).astype(np.uint8)).save(
        tmp_path / "word.png"
    )
    read.main([str(runs["conv-bilstm-crf"]), str(tmp_path / "0.png"), str(tmp_path / "1.png"), "--word", "--json"])
    [expected] = json.loads(capsys.readouterr().out)
    read.main([str(runs["conv-bilstm-crf"]), str(tmp_path / "word.png"), "--json"])
    [found] = json.loads(capsys.readouterr().out)
    assert found["text"] == expected["text"]
    assert found["probabilities"] == pytest.approx(expected["probabilities"])


# ── reproduce ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_reproduce_does_everything_and_the_second_time_nothing(data_dir, tmp_path, monkeypatch, undrawn, capsys):
    quick = ["--dataset", "ocr", "--epochs", "1", "--batch_size", "4", "--seeds", "1", "--threads", "1"]
    monkeypatch.setattr(reproduce, "_FLAGS", {"sample": quick})
    monkeypatch.setattr(figures, "save", lambda figure, folder, stem: [])
    flags = ["--results_dir", str(tmp_path), "--data_dir", str(data_dir), "--jobs", "1"]
    reproduce.main(flags)
    printed = [Path(line.strip()) for line in capsys.readouterr().out.splitlines() if line.startswith(f"  {tmp_path}")]
    written = [path for path in printed if path.suffix != ".png"]  # no figures here
    assert len(written) == 6 and all(path.is_file() for path in written)
    before = times_of_writing(tmp_path)
    assert len(before) == 11  # pixel pairs, CNNs with 2 to 5 layers, CNN-CRF, 2 LSTMs with and without CRF, the best
    reproduce.main(flags)
    assert times_of_writing(tmp_path) == before


# ── all of them ──────────────────────────────────────────────────────────────────────────────────────────────────────
