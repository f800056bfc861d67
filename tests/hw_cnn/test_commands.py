"""Every command of hw_cnn through its real entry point: tiny runs, the files they write, resume, bad input."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import cnn_files
import numpy as np
import pytest
import torch
from PIL import Image

from hw_cnn import compare_layers, explain, predict, reproduce, sweep, train
from hw_cnn.finished import open_finished
from hw_common.runs.config import describe
from hw_common.runs.errors import UserError
from hw_common.runs.run_folder import Run

REPOSITORY = Path(__file__).resolve().parents[2]
RUN_FILES = {".lock", "config.json", "metrics.csv", "summary.json", "best.safetensors", "last.pt"}
CURVES = {"curves.png", "curves.pdf"}
TO_INTERRUPT = ["--dataset", "sample", "--network", "oct", "--epochs", "4", "--threads", "1", "--lr", "0.1",
                "--batch_size", "4"]  # fmt: skip
MORE_FLAGS = {
    "fashion": ["-conv_1_name", "convblock1[0]", "-convlayer2", "convblock2[0]", "--epochs=1"],
    "oct": [],
    "cifar": ["--lr", "0.002"],
}


def start(*argv, module="hw_cnn.train", **kwargs):
    """The real command in a process of its own."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", module, *map(str, argv)],
        cwd=REPOSITORY,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **kwargs,
    )


def finish(process):
    output, errors = process.communicate(timeout=120)
    return process.returncode, output, errors


def train_tiny(results, *flags, network="oct"):
    train.main(["--dataset", "sample", "--network", network, "--epochs", "2", "--threads", "1",
                        "--batch_size", "32", "--lr", "0.1", "--results_dir", str(results), *flags])  # fmt: skip


def run_folder(results):
    [folder] = [f for f in (results / "hw_cnn").iterdir() if f.is_dir()]
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A finished tiny run of each network."""
    folders = {}
    for network in ("fashion", "oct", "cifar"):
        results = tmp_path_factory.mktemp(f"results of {network}")  # a path with spaces
        train_tiny(results, *MORE_FLAGS[network], network=network)
        folders[network] = run_folder(results)
    return folders


def test_a_set_of_medmnist_gets_accuracy_and_auc(tmp_path, capsys, undrawn):
    arrays = {f"{split}_images": cnn_files.pixels(8, 28, 28, seed=len(split)) for split in ("train", "val", "test")}
    labels = {name.replace("images", "labels"): cnn_files.cycle(8, 2)[:, None] for name in arrays}
    np.savez(tmp_path / "pneumoniamnist.npz", **arrays, **labels)
    train.main(["--dataset", "medmnist", "--medmnist_flag", "pneumoniamnist", "--epochs", "1", "--threads", "1",
                "--data_dir", str(tmp_path), "--results_dir", str(tmp_path)])  # fmt: skip
    folder = run_folder(tmp_path)
    assert folder.name == "pneumoniamnist-oct-plain-lr0.01" and ", AUC " in capsys.readouterr().out
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["data"], summary["licence"]) == ("PneumoniaMNIST", "CC BY 4.0")
    finished = open_finished(folder)
    scores = finished.probabilities(finished.load_images(None).test.images)[:, 1].numpy()
    ranks = [(a > b) + 0.5 * (a == b) for a in scores[1::2] for b in scores[::2]]
    assert summary["best"]["test_auc"] == pytest.approx(np.mean(ranks), abs=1e-6)
    assert summary["best"]["test_medmnist_accuracy"] == pytest.approx(summary["best"]["test_accuracy"])


# ── train ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_run_folder_holds_what_was_promised(runs):
    folder = runs["oct"]
    assert {path.name for path in folder.iterdir()} == RUN_FILES | CURVES
    config = json.loads((folder / "config.json").read_text())
    assert config["arguments"]["lr"] == 0.1 and config["arguments"]["network"] == "oct"
    assert torch.__version__.startswith(config["versions"]["torch"]) and config["data"].keys() == {"digits"}
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["parameters"] == 225_618  # ten classes of digits instead of four
    assert summary["data"] == "sample digits"
    assert summary["images"] == {"training": 1200, "validation": 300, "test": 297}
    for epoch in ("final", "best"):
        assert 0 <= summary[epoch]["test_accuracy"] <= 1 and summary[epoch]["validation_loss"] > 0
    assert summary["final"]["epoch"] == 2
    assert Image.open(folder / "curves.png").size[0] > 500
    assert (folder / "curves.pdf").read_bytes().startswith(b"%PDF")


def test_names_that_are_not_utf_8_or_in_other_scripts(tmp_path):
    classes, results = ("caf\udce9", "👩\u200d👧 猫"), tmp_path / "猫"
    pictures = cnn_files.write_folder(tmp_path / "\u202fdata", {"train": 2, "val": 1, "test": 1})
    for split in ("train", "val", "test"):
        for old, new in zip(("cat", "dog"), classes, strict=True):
            (pictures / split / old).rename(pictures / split / new)
    train.main(["--dataset", "folder", "--data_dir", str(pictures), "--epochs", "1", "--threads", "1", "--name", "एक",
                "--results_dir", str(results)])  # fmt: skip
    run = results / "hw_cnn" / "एक"
    explain.main(["grad_cam", str(run), "--each", "1"])
    assert set(predict.predict(run, [*pictures.glob("test/*/*.png")])[0]["probabilities"]) == {*classes}
    assert json.loads((run / "grad_cam.json").read_text())["images"][0]["true"] in classes


def test_kernel_figures_are_drawn_for_the_named_layers(runs):
    drawn = {path.name for path in runs["fashion"].glob("kernels-*.png")}
    assert drawn == {f"kernels-convblock{n}.0-{kind}.png" for n in (1, 2) for kind in ("grey", "heat")}


def test_tensorboard_events_are_written(tmp_path, undrawn):
    pytest.importorskip("tensorboard")
    train_tiny(tmp_path, "--tensorboard", "--epochs", "1")
    assert list((run_folder(tmp_path) / "tensorboard").glob("events.*"))
    with pytest.raises(UserError, match="^--tensorboard: TensorBoard cannot write to .*, whose path is not UTF-8$"):
        train_tiny(tmp_path / "caf\udce9", "--tensorboard", "--epochs", "1")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_real_process_which_saves(tmp_path, number):
    process = start(*TO_INTERRUPT, "--results_dir", tmp_path)
    for line in process.stdout:
        if line.startswith("epoch 1/4"):
            break
    process.send_signal(number)
    status, _, errors = finish(process)
    folder = run_folder(tmp_path)
    assert status == 128 + number
    assert f"python -m hw_cnn.train --resume {folder}" in errors
    assert not (folder / "summary.json").exists() and (folder / "last.pt").exists()


def test_resuming_on_other_data_is_refused(tmp_path, undrawn):
    for split in ("train", "val", "test"):
        for c, name in enumerate(("dark", "bright")):
            (tmp_path / "data" / split / name).mkdir(parents=True)
            for i in range(3):
                pixels = np.full((32, 32, 3), 60 + 120 * c + i, dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "data" / split / name / f"{i}.png")
    train.main(["--dataset", "folder", "--data_dir", str(tmp_path / "data"), "--epochs", "1", "--results_dir",
                str(tmp_path)])  # fmt: skip
    folder = run_folder(tmp_path)
    (folder / "summary.json").unlink()
    Image.new("RGB", (32, 32), "red").save(tmp_path / "data" / "train" / "dark" / "0.png")
    with pytest.raises(UserError, match="the data file folder/train is not the one it was started with"):
        train.main(["--resume", str(folder)])


# ── bad run folders ──────────────────────────────────────────────────────────────────────────────────────────────────


def image_file(folder):
    path = folder / "image.png"
    Image.new("L", (20, 30), 128).save(path)
    return str(path)


# ── sweep ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def tiny_sweep(results, *flags):
    return sweep.parse(["--dataset", "sample", "--network", "oct", "--epochs", "1", "--batch_size", "64", "--lrs",
                        "0.01", "0.1", "--name", "tiny", "--results_dir", str(results), *flags])  # fmt: skip


def test_a_sweep_chooses_the_best_learning_rate(tmp_path):
    summary = tiny_sweep(tmp_path, "--jobs", "2").run()
    folder = tmp_path / "hw_cnn"
    assert {path.name for path in folder.iterdir()} == {"tiny", "tiny-lr0.01-seed42", "tiny-lr0.1-seed42"}
    assert {"table.csv", "table.md", "summary.json", "curves.png", "curves.pdf"} <= set(os.listdir(folder / "tiny"))
    assert RUN_FILES | CURVES == set(os.listdir(folder / "tiny-lr0.1-seed42"))
    best = max(summary["table"], key=lambda row: row["final_validation_accuracy"])
    assert summary["choice"]["lr"] == best["lr"]


def test_a_diverging_trial_does_not_stop_the_sweep(tmp_path, undrawn):
    with pytest.raises(UserError, match=r"1 of 2 training runs failed: tiny-lr1e\+30-seed42: .* not finite"):
        tiny_sweep(tmp_path, "--lrs", "0.1", "1e30").run()
    summary = json.loads((tmp_path / "hw_cnn" / "tiny" / "summary.json").read_text())
    assert [row["lr"] for row in summary["table"]] == [0.1]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--lrs", "0.1", "0.10000001"], "--lrs: 0.1 and 0.10000001 agree to six digits"),
        (["--storage", "nonsense://x"], "--storage nonsense://x: expected postgresql://"),
    ],
)
def test_wrong_sweeps_are_refused(tmp_path, flags, message):
    with pytest.raises(UserError, match=message):
        tiny_sweep(tmp_path, *flags).run()


# ── finished runs ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_compare_layers(runs, capsys):
    compare_layers.main([str(runs["cifar"]), "--rounds", "5"])
    result = json.loads((runs["cifar"] / "compare_layers.json").read_text())
    for layer in ("linear", "convolution"):
        difference = result["mean_absolute_difference"][layer]
        assert difference["before_copying"] > 0.01 and difference["after_copying"] < 1e-5
    assert result["accuracy"]["own"] == result["accuracy"]["default"]
    assert result["mean_absolute_difference"]["network_with_loops"]["after_copying"] < 1e-5
    assert result["ratio_own_default"] > 0 and "ratio ours / torch's" in (said := capsys.readouterr().out)
    assert result["ratio_loops_own"] > 3 and "with loops over the pixels" in said


def test_compare_layers_wants_a_run_of_cifar(runs):
    with pytest.raises(UserError, match="a run of the network oct, expected the network cifar"):
        compare_layers.main([str(runs["oct"])])


def test_explanations_are_pictures(runs):
    for what in ("feature_maps", "grad_cam", "equivariance"):
        explain.main([what, str(runs["fashion"])])
        assert Image.open(runs["fashion"] / f"{what}.png").size[0] > 300


@pytest.mark.parametrize("network", ["fashion", "oct", "cifar"])
def test_explanations_of_every_network(runs, network, tmp_path, undrawn):
    folder = shutil.copytree(runs[network], tmp_path / "run")
    for what in ("feature_maps", "grad_cam", "equivariance", "kernels"):
        explain.main([what, str(folder)])
    names = ("convblock1.0", "convblock2.0") if network == "fashion" else ("conv1", "conv2")
    assert all((folder / f"kernels-{name}-{colours}.pdf").is_file() for name in names for colours in ("grey", "heat"))
    images = json.loads((folder / "grad_cam.json").read_text())["images"]
    assert [image["kind"] for image in images].count("right") == 10
    assert all((image["true"] == image["predicted"]) == (image["kind"] == "right") for image in images)
    layers = json.loads((folder / "equivariance.json").read_text())["layers"]
    assert layers[0]["change_when_shifted_along"] < 1e-5 < layers[0]["change"]
    assert len(layers) == 4


def test_explain_draws_the_kernels_that_the_training_drew(tmp_path, monkeypatch, undrawn):
    drawn = []
    monkeypatch.setattr("hw_common.runs.image_grids.kernels", lambda *arguments: drawn.append(arguments))
    train_tiny(tmp_path, "--lr", "1e-5", "-conv_2_name", "conv2")  # with tiny steps the first epoch is the best one
    folder = run_folder(tmp_path)
    assert json.loads((folder / "summary.json").read_text())["best"]["epoch"] == 1
    explain.main(["kernels", str(folder)])
    assert [name for _, name, *_ in drawn] == ["conv2", "conv1", "conv2"]
    assert np.array_equal(drawn[0][2], drawn[2][2]) and drawn[0][3] == drawn[2][3]


def test_a_second_explanation_replaces_nothing(runs):
    explain.main(["feature_maps", str(runs["cifar"])])
    before = (runs["cifar"] / "feature_maps.png").read_bytes()
    explain.main(["feature_maps", str(runs["cifar"]), "--seed", "5", "--images", "1"])
    assert (runs["cifar"] / "feature_maps-2.png").exists()
    assert (runs["cifar"] / "feature_maps.png").read_bytes() == before


def test_predictions(runs, tmp_path, capsys):
    predict.main([str(runs["oct"]), image_file(tmp_path), image_file(tmp_path)])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and re.fullmatch(r".*image\.png: \d [01]\.\d{4}", lines[0])
    predict.main([str(runs["oct"]), image_file(tmp_path), "--json"])
    [result] = json.loads(capsys.readouterr().out)
    assert sum(result["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert result["probability"] == max(result["probabilities"].values())


def test_reproduce_draws_everything_and_the_second_time_nothing(tmp_path, monkeypatch, capsys, undrawn):
    quick = {network: [*flags, "--epochs", "1", "--batch_size", "64"] for network, flags in reproduce._SAMPLE.items()}
    monkeypatch.setattr(reproduce, "_SAMPLE", quick)
    monkeypatch.setattr(reproduce, "_LEARNING_RATES", dict.fromkeys(reproduce._LEARNING_RATES, ["0.01"]))
    reproduce.main(["--results_dir", str(tmp_path), "--jobs", "1", "--only", "oct"])
    assert {path.name.split("-")[1] for path in (tmp_path / "hw_cnn").iterdir()} == {"oct"}
    capsys.readouterr()
    reproduce.main(["--results_dir", str(tmp_path), "--jobs", "1"])
    printed = [Path(line.strip()) for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    assert len(printed) > 8
    for path in printed:
        assert list(path.parent.glob(path.name)), path
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    assert len(before) == 4
    reproduce.main(["--results_dir", str(tmp_path), "--jobs", "1"])
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")} == before


@pytest.mark.parametrize(
    "words",
    [
        "--dataset sample",
        "--dataset cifar10 --recipe best --no-augment --seed 7",
        "--dataset octmnist -no_maxpool --dropout 0 --lr 0.1",
        "--dataset folder --network cifar --padding 2 --optimizer adam --schedule cosine -conv_1_name conv1",
    ],
)
def test_a_runs_flags_train_the_same(tmp_path, words):
    here = ["--threads", "1", "--results_dir", str(tmp_path), "--name", "mine", "--data_dir", str(tmp_path)]
    arguments = vars(train.COMMAND.parse([*words.split(), *here]))
    config = describe("hw_cnn", "hw_cnn.train", arguments, {}, {}, {})
    flags = train.COMMAND.flags_of(Run(tmp_path, config))
    again = vars(train.COMMAND.parse(flags))
    for place in ("threads", "results_dir", "name", "data_dir"):
        del again[place], arguments[place]
    assert again == arguments
    assert len(flags) <= len(words.split()) and not any("mine" in flag for flag in flags)
