"""Every command of hw_transfer through its real entry point: tiny runs, the files they write, resume, comparison."""

import json
import shutil
from pathlib import Path

import commands
import pytest
import safetensors.torch
import torch
import transfer_files
from PIL import Image

from hw_common.runs import checkpoints
from hw_common.runs.errors import UserError
from hw_common.training import distributed
from hw_transfer import compare, data, finished, plots, reproduce, train
from hw_transfer.models import ResNet18

REPOSITORY = Path(__file__).resolve().parents[2]
RUN_FILES = {".lock", "config.json", "metrics.csv", "summary.json", "best.safetensors", "last.pt"}
FIGURES = {f"{stem}.{suffix}" for stem in ("curves", "confusion", "predictions") for suffix in ("png", "pdf")}
FC = {"fc.weight", "fc.bias"}


@pytest.fixture(autouse=True, scope="module")
def tiny():
    """Three training and two validation pictures of each kind, and a sixteenth of the network's channels."""
    with pytest.MonkeyPatch.context() as patch:
        commands.thin_resnet(patch)
        yield


@pytest.fixture(scope="module")
def weights(tiny, tmp_path_factory):
    """A weights file in a folder with a space in its name."""
    path = tmp_path_factory.mktemp("the weights") / "source.safetensors"
    return transfer_files.write_weights(path, transfer_files.uneven(ResNet18(10)))


def train_tiny(results, *flags, name="run"):
    train.COMMAND.main(["--dataset", "sample", "--epochs", "2", "--threads", "1", "--name", name, "--results_dir",
                        str(results), *map(str, flags)])  # fmt: skip
    return results / "hw_transfer" / name


def summary_of(folder):
    return json.loads((folder / "summary.json").read_text())


def best_of(folder):
    weights = safetensors.torch.load_file(folder / "best.safetensors")
    return {name: tensor.numpy().tobytes() for name, tensor in weights.items()}


# ── train ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_run_folder_holds_what_was_promised(tmp_path, capsys):
    folder = train_tiny(tmp_path)
    assert {path.name for path in folder.iterdir()} == RUN_FILES | FIGURES
    summary = summary_of(folder)
    assert summary["data"] == "sample insects"
    assert summary["mode"] == "finetune" and summary["weights"] == "random weights"
    assert summary["images"] == {"training": 6, "validation": 4}
    assert summary["classes"] == ["ants", "bees"]
    assert summary["parameters"] == summary["learning_parameters"] > 50_000
    confusion = summary["confusion_best"]
    assert [sum(row) for row in confusion] == [2, 2]
    assert (confusion[0][0] + confusion[1][1]) / 4 == summary["best"]["validation_accuracy"]
    assert summary["final"]["epoch"] == 2 and summary["best"]["epoch"] in (1, 2)
    assert summary["best"]["validation_accuracy"] >= summary["final"]["validation_accuracy"]
    config = json.loads((folder / "config.json").read_text())
    assert config["data"].keys() == {"sample/train", "sample/val"}
    for stem in ("curves", "confusion", "predictions"):
        assert Image.open(folder / f"{stem}.png").size[0] > 500
    said = capsys.readouterr().out
    assert "sample insects, finetune: 6 training and 4 validation pictures of ants, bees" in said
    assert "last epoch (2): validation accuracy" in said and "best epoch (" in said


@pytest.mark.parametrize("cached", [False, True])
def test_freeze_keeps_every_bit_but_the_last_layers(tmp_path, weights, cached, undrawn):
    flags = ["--mode", "freeze", "--weights", weights, "--lr", "0.1", "--l2_decay", "0.1"]
    folder = train_tiny(tmp_path, *flags, *(["--cache_features"] if cached else []))
    source = safetensors.torch.load_file(weights)
    best = safetensors.torch.load_file(folder / "best.safetensors")
    assert best.keys() == source.keys()
    assert {name for name, tensor in source.items() if not torch.equal(tensor, best[name])} == FC
    last = checkpoints.load_state(folder / "last.pt")["model"]
    assert (last.keys() == {"weight", "bias"}) if cached else (last.keys() == source.keys())
    assert all(torch.equal(last[name], source[name]) for name in last.keys() - FC - {"weight", "bias"})
    summary = summary_of(folder)
    assert summary["learning_parameters"] == 1026 and summary["weights"] == "source.safetensors"
    assert summary["cache_features"] is cached
    assert len(json.loads((folder / "config.json").read_text())["data"]["weights"]) == 64


def test_a_runs_weights_are_weights_to_start_from(tmp_path, undrawn):
    first = train_tiny(tmp_path, "--dataset", "sample-source", "--epochs", "1", name="source")
    assert len(summary_of(first)["classes"]) == 10
    second = train_tiny(tmp_path, "--mode", "freeze", "--weights", first / "best.safetensors", "--epochs", "1")
    ours, theirs = best_of(second), best_of(first)
    assert {name for name in ours if ours[name] != theirs[name]} == FC


def test_resuming_with_other_weights_is_refused(tmp_path, weights, monkeypatch, undrawn):
    own = Path(shutil.copy(weights, tmp_path / "own.safetensors"))
    folder = train_tiny(tmp_path, "--mode", "freeze", "--weights", own, "--epochs", "1")
    (folder / "summary.json").unlink()
    transfer_files.write_weights(own, {**safetensors.torch.load_file(weights), "bn1.bias": torch.ones(64)})
    with pytest.raises(UserError, match="the data file weights is not the one it was started with"):
        train.COMMAND.main(["--resume", str(folder)])
    with pytest.raises(UserError, match="the data file weights is not the one it was started with"):
        train.COMMAND.main(["--resume", str(folder), "--weights", "none"])
    own.unlink()
    train.COMMAND.main(["--resume", str(folder), "--weights", str(weights)])  # the same content elsewhere
    assert (folder / "summary.json").exists()


def test_a_picture_folder_through_the_command(tmp_path, undrawn, monkeypatch):
    folder = transfer_files.write_folder(tmp_path / "my pictures", classes=("a", "b", "c"))
    monkeypatch.setattr(data, "DATASETS", {"folder": data.DATASETS["sample"]})  # at 64 pixels
    run = train_tiny(tmp_path, "--dataset", "folder", "--data_dir", folder, "--weights", "none", "--epochs", "1")
    assert summary_of(run)["classes"] == ["a", "b", "c"]
    assert len(summary_of(run)["confusion_best"]) == 3


def test_a_finished_run_without_classes_is_damaged(trained, copy_of):
    folder = copy_of(trained("hw_transfer.train"))
    summary = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps({**summary, "classes": ["ants"]}))
    with pytest.raises(UserError, match="is damaged: its summary.json has no list of classes"):
        finished.open_finished(folder)


def test_finetune_is_refused_in_several_processes(monkeypatch):
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    with pytest.raises(UserError, match="--mode finetune runs in one process, because batch normalization"):
        train.COMMAND.prepare(train.COMMAND.parse(["--dataset", "sample"]), torch.device("cpu"))


def test_bad_data_leaves_no_run_folder(tmp_path):
    folder = transfer_files.write_folder(tmp_path / "data")
    (folder / "train" / "ants" / "1.png").write_bytes(b"damaged")
    with pytest.raises(UserError, match="1.png is not an image"):
        train_tiny(tmp_path, "--dataset", "folder", "--data_dir", folder, "--weights", "none")
    with pytest.raises(UserError, match="there is no such file"):
        train_tiny(tmp_path, "--weights", tmp_path / "none.pt")
    assert not (tmp_path / "hw_transfer").exists()


# ── compare and reproduce ────────────────────────────────────────────────────────────────────────────────────────────


def compare_tiny(results, *flags):
    flags = ["--dataset", "sample", "--epochs", "2", "--threads", "1", "--results_dir", str(results), *map(str, flags)]
    return compare.parse(flags).run()


def test_a_comparison_trains_what_is_missing_and_puts_it_side_by_side(tmp_path, weights, undrawn, capsys):
    flags = ["--weights", weights, "--seeds", "1", "2", "--scenarios", "cached", "freeze"]
    summary = compare_tiny(tmp_path, *flags)
    folder = tmp_path / "hw_transfer"
    runs = {f"sample-{scenario}-seed{seed}" for scenario in ("cached", "freeze") for seed in (1, 2)}
    assert {path.name for path in folder.iterdir()} == runs | {"sample"}
    assert {path.name for path in (folder / "sample").iterdir()} == {
        ".lock", "config.json", "summary.json", "table.md", "table.csv", "curves.png", "curves.pdf"
    }  # fmt: skip
    assert [row["scenario"] for row in summary["table"]] == ["cached", "freeze"]
    accuracies = [summary_of(folder / f"sample-freeze-seed{seed}")["best"]["validation_accuracy"] for seed in (1, 2)]
    assert summary["table"][1]["best_validation_accuracy"] == sum(accuracies) / 2
    assert summary["table"][1]["best_validation_accuracy_std"] == pytest.approx(
        abs(accuracies[0] - accuracies[1]) / 2**0.5
    )
    table = (folder / "sample" / "table.md").read_text()
    assert (
        "sample insects (4 pictures)" in table
        and "| freeze, cached features | resnet18 | source.safetensors | " in table
    )
    assert " ± " in table and table in capsys.readouterr().out


def test_reproduce_draws_everything_and_the_second_time_trains_nothing(tmp_path, monkeypatch, capsys):
    quick = ["--epochs", "1", "--threads", "1"]
    for flags in ("_SAMPLE_SOURCE", "_SAMPLE"):
        monkeypatch.setattr(reproduce, flags, [*getattr(reproduce, flags), *quick])
    monkeypatch.setattr(plots.figures, "save", lambda figure, folder, stem: (folder / f"{stem}.png").touch())
    reproduce.main(["--results_dir", str(tmp_path), "--jobs", "1"])
    printed = [Path(line.strip()) for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    assert len(printed) == 6
    for path in printed:
        assert list(path.parent.glob(path.name)), path
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    assert len(before) == 5
    reproduce.main(["--results_dir", str(tmp_path), "--jobs", "1"])
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")} == before
    assert "sample insects" in (tmp_path / "hw_transfer" / "sample" / "table.md").read_text()


# ── the command line ─────────────────────────────────────────────────────────────────────────────────────────────────
