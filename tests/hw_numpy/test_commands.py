"""`hw_numpy.train` through its real entry point: tiny runs, the files they write, resume, bad input."""

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
from finished_runs import numbers_of
from numpy_files import write_mnist
from PIL import Image

from hw_common.runs import checkpoints, files
from hw_common.runs.errors import Stopped, UserError
from hw_common.runs.run_folder import Run
from hw_numpy import arrays, compare, experiment, reproduce, train
from hw_numpy.experiment import Candidate
from hw_numpy.presets import DigitSettings
from hw_numpy.solver import Solver

FIGURES = {f"{stem}.{suffix}" for stem in ("curves", "selection") for suffix in ("png", "pdf")}
RUN_FILES = {".lock", "config.json", "metrics.csv", "summary.json", "best.safetensors"} | FIGURES


@pytest.fixture(scope="module")
def mnist(tmp_path_factory):
    """MNIST with 22 training, 2 validation and 5 test images."""
    folder = tmp_path_factory.mktemp("data with spaces")
    write_mnist(folder)
    return folder


def train_tiny(mnist, results, *flags, model="cnn"):
    filters = ["--filter_sizes", "25", "27"] if model == "cnn" else []
    train.main([
        "--model", model, "--data_dir", str(mnist), "--results_dir", str(results), "--epochs", "2", "--batch_size", "8",
        "--threads", "1", "--hidden_dims", "2", "3", *filters, *flags,
    ])  # fmt: skip


def only_run(results):
    [folder] = [folder for folder in (results / "hw_numpy").iterdir() if folder.is_dir()]
    return folder


@pytest.fixture(scope="module")
def finished(mnist, tmp_path_factory):
    """A finished run of each network."""
    folders = {}
    for model in ("softmax", "cnn"):
        results = tmp_path_factory.mktemp(f"results of {model}")
        train_tiny(mnist, results, model=model)
        folders[model] = only_run(results)
    return folders


def test_a_run_folder_holds_what_was_promised(finished):
    folder = finished["cnn"]
    sizes = [(hidden, size) for hidden in (2, 3) for size in (25, 27)]
    states = {f"last-hidden_dim{hidden}-filter_size{size}.safetensors" for hidden, size in sizes}
    assert {path.name for path in folder.iterdir()} == RUN_FILES | states
    config = json.loads((folder / "config.json").read_text())
    assert config["command"] == "hw_numpy.train" and config["arguments"]["filter_sizes"] == [25, 27]
    assert len(config["data"]) == 4 and config["host"]["threads"] == 1
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["data"] == "MNIST" and summary["images"] == {"training": 22, "validation": 2, "test": 5}
    assert [(row["hidden_dim"], row["filter_size"]) for row in summary["candidates"]] == sizes
    assert summary["candidates"][0]["parameters"] == 32 * 25 * 25 + 32 * 2 * 2 * 2 + 2 + 2 * 10 + 10
    rows = files.read_csv(folder / "metrics.csv")
    assert [(row["hidden_dim"], row["filter_size"], row["epoch"]) for row in rows] == [
        (*pair, epoch) for pair in sizes for epoch in (1, 2)
    ]
    for stem in ("curves", "selection"):
        assert Image.open(folder / f"{stem}.png").size[0] > 500
        assert (folder / f"{stem}.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize("model", ["softmax", "cnn"])
def test_the_best_candidate_on_validation_is_the_one_that_is_tested(finished, mnist, model):
    summary = json.loads((finished[model] / "summary.json").read_text())
    rows = files.read_csv(finished[model] / "metrics.csv")
    best = max(rows, key=lambda row: row["validation_accuracy"])  # the first of equals, as `max` has it
    for name in ("hidden_dim", "epoch", "validation_accuracy", *(["filter_size"] if model == "cnn" else [])):
        assert summary["best"][name] == best[name]
    # Its weights, in another reader and another model, give the same test accuracy.
    weights = checkpoints.load_weights(finished[model] / "best.safetensors", {"homework": "hw_numpy", "network": model})
    settings = DigitSettings.from_arguments(train.COMMAND.parse(["--resume", str(finished[model])]))
    digits = experiment.data.load("mnist", mnist)
    [chosen] = [
        candidate for candidate in experiment.make_candidates(settings, digits, threads=1)
        if all(summary["best"][name] == size for name, size in candidate.sizes.items())
    ]  # fmt: skip
    chosen.solver.model.params = {name: tensor.numpy() for name, tensor in weights.items()}
    assert summary["best"]["test_accuracy"] == chosen.solver.check_accuracy(*digits.test)
    assert summary["best"]["parameters"] == sum(tensor.numel() for tensor in weights.values())


def candidate(accuracy, hidden_dim, filter_size=None):
    sizes = {"hidden_dim": hidden_dim} | ({"filter_size": filter_size} if filter_size else {})
    return Candidate(sizes, SimpleNamespace(best_val_acc=accuracy))


@pytest.mark.parametrize(
    ("candidates", "tried_next"),
    [
        ([candidate(0.8, 50), candidate(0.9, 100), candidate(0.7, 150)], []),
        ([candidate(0.8, 50), candidate(0.9, 100), candidate(0.9, 150)], []),  # the first of equals is chosen
        ([candidate(0.8, 50), candidate(0.9, 150)], [{"hidden_dim": 300}]),
        ([candidate(0.9, 51), candidate(0.8, 150)], [{"hidden_dim": 25}]),
        ([candidate(0.9, 1), candidate(0.8, 2)], []),
        (
            [candidate(0.7, 50, 5), candidate(0.9, 50, 7), candidate(0.8, 100, 5)],
            [{"hidden_dim": 25, "filter_size": 7}, {"hidden_dim": 50, "filter_size": 9}],
        ),
        ([candidate(0.7, 9, 1), candidate(0.9, 10, 2), candidate(0.7, 11, 3)], []),
        ([candidate(0.7, 9, 1), candidate(0.9, 10, 26), candidate(0.7, 11, 3)], []),
        ([candidate(0.7, 9, 25), candidate(0.9, 10, 1), candidate(0.7, 11, 3)], []),
    ],
)
def test_the_grid_grows_where_the_best_candidate_lies_at_its_edge(candidates, tried_next):
    assert list(experiment.beyond_the_edge(candidates)) == tried_next


def test_a_grown_grid_ends_around_its_winner_or_says_that_it_does_not(mnist, tmp_path, monkeypatch, capsys, undrawn):
    """The validation accuracy is set to a function of the hidden units that is largest at 12."""
    monkeypatch.setattr(Solver, "check_accuracy", lambda solver, *_: 1 / (1 + abs(12 - len(solver.model.params["b1"]))))
    expected = {0: [2, 3], 1: [2, 3, 6], 9: [2, 3, 6, 12, 24]}
    for grow, tried in expected.items():
        train_tiny(mnist, tmp_path, "--grow", str(grow), "--name", f"grow{grow}", model="softmax")
        folder = tmp_path / "hw_numpy" / f"grow{grow}"
        summary = json.loads((folder / "summary.json").read_text())
        assert [row["hidden_dim"] for row in summary["candidates"]] == tried
        assert [row["hidden_dim"] for row in files.read_csv(folder / "metrics.csv")[::2]] == tried
        at_edge = f"the chosen hidden_dim {tried[-1]} is at the edge of the grid; --grow {grow + 1} also tries "
        printed = capsys.readouterr().out
        assert (f"{at_edge}hidden_dim {2 * tried[-1]}\n" in printed) == (grow < 9)
        assert ("edge" in printed) == (grow < 9)


@pytest.mark.usefixtures("undrawn")
def test_the_sample_is_learned(tmp_path, capsys):
    train.main(["--dataset", "sample", "--hidden_dims", "60", "20", "20", "--epochs", "8",
                "--results_dir", str(tmp_path), "--threads", "1"])  # fmt: skip
    folder = tmp_path / "hw_numpy" / "sample-softmax"
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["data"] == "sample digits" and len(summary["candidates"]) == 2
    accuracies = {row["hidden_dim"]: row["validation_accuracy"] for row in summary["candidates"]}
    assert accuracies[60] != accuracies[20] and accuracies[summary["best"]["hidden_dim"]] == max(accuracies.values())
    assert summary["best"]["test_accuracy"] > 0.6
    output = capsys.readouterr().out
    assert "sample digits: 1200 training, 300 validation, 297 test images" in output
    assert output.count("epoch 8/8") == 2 and f"all results are in {folder}" in output


def interrupt_after(monkeypatch, epochs, interrupt=KeyboardInterrupt):
    """Interrupts, as Ctrl-C does, after `epochs` epochs of all candidates together have been saved."""
    done, report = [], experiment._report_epoch

    def report_then_interrupt(*arguments):
        report(*arguments)
        done.append(arguments)
        if len(done) == epochs:
            raise interrupt

    monkeypatch.setattr(experiment, "_report_epoch", report_then_interrupt)


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("epochs", [1, 4])
def test_an_interrupted_selection_goes_on_to_the_same_bits(mnist, finished, tmp_path, monkeypatch, epochs):
    with monkeypatch.context() as patch:
        interrupt_after(patch, epochs)
        with pytest.raises(
            Stopped, match=r"stopped; .* saved\. Resume with: python -m hw_numpy\.train --resume"
        ) as caught:
            train_tiny(mnist, tmp_path)
    assert caught.value.signal_number == 2
    folder = only_run(tmp_path)
    assert not (folder / "summary.json").exists()
    saved = {path: path.stat().st_mtime_ns for path in folder.glob("last-*")}
    assert len(saved) == (epochs + 1) // 2
    train.main(["--resume", str(folder)])
    unfinished = epochs % 2  # a candidate has two epochs
    touched = [path for path, time in saved.items() if path.stat().st_mtime_ns != time]
    assert len(touched) == unfinished  # what was finished is not trained again
    assert numbers_of(folder) == numbers_of(finished["cnn"])


def test_an_interruption_before_anything_is_saved_leaves_no_folder(mnist, tmp_path, monkeypatch):
    monkeypatch.setattr(experiment, "_train", lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(Stopped, match="^stopped before anything was saved$"):
        train_tiny(mnist, tmp_path)
    assert list((tmp_path / "hw_numpy").iterdir()) == []


@pytest.fixture
def unfinished(finished, tmp_path):
    """A run that is complete except for its summary, for a test to damage."""
    folder = Path(shutil.copytree(finished["cnn"], tmp_path / "hw_numpy" / "copy"))
    (folder / "summary.json").unlink()
    return folder


STATE = "last-hidden_dim2-filter_size25.safetensors"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run: os.truncate(run / STATE, 1000), "is damaged or not a safetensors file"),
        (lambda run: shutil.copy(run / STATE.replace("25", "27"), run / STATE), "was written for .*filter_size27"),
    ],
)
def test_a_damaged_run_is_one_clear_line(unfinished, damage, message):
    damage(unfinished)
    with pytest.raises(UserError, match=message) as caught:
        train.main(["--resume", str(unfinished)])
    assert "\n" not in str(caught.value)


def test_a_state_with_wrong_arrays_is_refused(unfinished):
    metadata = {"homework": "hw_numpy", "network": "cnn", "candidate": STATE[5:-12]}
    state = arrays.load(unfinished / STATE, metadata)
    for change in ({"params/W2": np.zeros(3)}, {"epoch": np.zeros(2)}, {"seconds": np.zeros(1)}, {"best/W1": None}):
        changed = {name: value for name, value in {**state, **change}.items() if value is not None}
        arrays.save(unfinished / STATE, changed, metadata)
        with pytest.raises(UserError, match=f"{STATE} does not belong to this run"):
            train.main(["--resume", str(unfinished)])


def test_resuming_with_other_arguments_data_or_threads_is_refused(unfinished, tmp_path):
    with pytest.raises(UserError, match=r"cannot resume .* with --lr 0.5: it was started with --lr 0.001"):
        train.main(["--resume", str(unfinished), "--lr", "0.5"])
    write_mnist(tmp_path / "other", packed=False)
    with pytest.raises(UserError, match="the data file MNIST/t10k-images-idx3-ubyte is not the one"):
        train.main(["--resume", str(unfinished), "--data_dir", str(tmp_path / "other")])


def test_a_dry_run_writes_nothing(mnist, tmp_path, capsys):
    train_tiny(mnist, tmp_path, "--dry_run")
    assert list(tmp_path.iterdir()) == []
    output = capsys.readouterr().out
    assert output.count("on a batch of 8 images") == 4 and "everything fits; no run folder was made" in output


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model", "softmax", "--filter_sizes", "5"], "--filter_sizes needs --model cnn"),
        (["--model", "softmax", "--threads", "2"], "--threads 2 needs --model cnn"),
        (
            ["--model", "cnn", "--filter_sizes", "5", "28"],
            "--filter_sizes 28: filters of more than 27×27 leave nothing to pool in 28×28 images",
        ),
        (["--hidden_dims"], "--hidden_dims: expected at least one argument"),
        (["--device", "cuda"], "--device cuda: the NumPy networks run on the CPU only"),
        (["--tensorboard"], "--tensorboard: the NumPy networks write no TensorBoard logs"),
    ],
)
def test_wrong_flags_are_one_clear_line(flags, message):
    with pytest.raises(UserError) as caught:
        train.main(flags)
    assert message in str(caught.value) and "\n" not in str(caught.value)


# ── compare ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_comparison_tabulates_what_the_seeds_chose(mnist, tmp_path, capsys, undrawn):
    flags = ["--data_dir", str(mnist), "--results_dir", str(tmp_path), "--seeds", "5", "7", "--epochs", "1"]
    flags += ["--batch_size", "8", "--hidden_dims", "2", "3", "--jobs", "1", "--threads", "1"]
    compare.main(flags)
    folder = tmp_path / "hw_numpy" / "compare-mnist"
    assert {path.name for path in folder.iterdir()} == RUN_FILES - {"metrics.csv", "best.safetensors"} | {
        "table.csv", "table.md",
    }  # fmt: skip
    summary = json.loads((folder / "summary.json").read_text())
    assert [row["model"] for row in summary["table"]] == ["softmax", "cnn"] and summary["seeds"] == [5, 7]
    runs = {
        model: [json.loads((folder.with_name(f"compare-mnist-{model}-seed{seed}") / "summary.json").read_text())
                for seed in (5, 7)]
        for model in ("softmax", "cnn")
    }  # fmt: skip
    for row in summary["table"]:
        best = [run["best"] for run in runs[row["model"]]]
        assert row["best_test_accuracy_each"] == [one["test_accuracy"] for one in best]
        assert row["best_test_accuracy"] == pytest.approx(np.mean(row["best_test_accuracy_each"]))
        assert row["best_test_accuracy_std"] == pytest.approx(np.std(row["best_test_accuracy_each"], ddof=1))
        assert [sizes["hidden_dim"] for sizes in row["chosen_each"]] == [one["hidden_dim"] for one in best]
        assert row["tried_each"] == [4, 4] if row["model"] == "cnn" else [2, 2]
    for model, rows in summary["candidates"].items():
        for i, row in enumerate(rows):
            each = [run["candidates"][i]["validation_accuracy"] for run in runs[model]]
            assert (row["seeds"], row["validation_accuracy_each"]) == (2, each)
            assert row["validation_accuracy"] == pytest.approx(np.mean(each))
    table = (folder / "table.md").read_text()
    assert table in capsys.readouterr().out and "| convolutional network | " in table


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model", "cnn"], "--model is a flag of single training runs"),
        (["--filter_sizes", "5"], "--filter_sizes needs --model cnn"),
        (["--models", "rnn"], "--models: .*choose from"),
    ],
)
def test_a_comparison_refuses_flags_before_it_writes(flags, message, tmp_path):
    with pytest.raises(UserError, match=message) as caught:
        compare.main([*flags, "--results_dir", str(tmp_path)])
    assert "\n" not in str(caught.value) and list(tmp_path.iterdir()) == []


# ── reproduce ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.usefixtures("undrawn")
def test_reproduce_does_everything_and_the_second_time_nothing(mnist, tmp_path, monkeypatch, capsys):
    tiny = ["--data_dir", str(mnist), "--epochs", "1", "--hidden_dims", "2", "3", "--threads", "1"]
    monkeypatch.setattr(reproduce, "_DIGITS", {"sample": tiny})
    asked = []

    def captions(flags, results_dir, name):  # the caption command has tests of its own
        asked.append((flags, name))
        run = Run(results_dir / "hw_numpy" / name, {})
        run.folder.mkdir(exist_ok=True)
        losses = {"first_loss": 40.0, "last_epoch_loss": 0.01}
        run.write_summary({"data": "shapes", "training_captions": 5, **losses, "training": {"word_for_word": 0.8}})
        return run

    monkeypatch.setattr(reproduce, "caption", mock.Mock(**{"COMMAND.train_once": captions}))
    reproduce.main(["--results_dir", str(tmp_path), "--jobs", "1"])
    assert asked == [(["--dataset", "sample"], "sample-captions")]
    folder = tmp_path / "hw_numpy"
    table = (folder / "sample-numbers.md").read_text()
    assert table.endswith("| Q4d, captioning network | shapes | 5 | 40.00 | 0.0100 | 80 % |\n")
    printed = capsys.readouterr().out
    assert (
        table in printed
        and str(folder / "sample-softmax-seed42") in printed
        and str(folder / "sample/table.md") in printed
    )
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")}
    assert len(before) == 2 + 4 + 2
    reproduce.main(["--results_dir", str(tmp_path), "--jobs", "1"])
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")} == before


def test_reproduce_wants_caption_files_before_it_begins(tmp_path):
    with pytest.raises(UserError, match="--captions_dir None: --profile full needs a folder of caption files"):
        reproduce.main(["--profile", "full", "--results_dir", str(tmp_path)])
    assert list(tmp_path.iterdir()) == []
