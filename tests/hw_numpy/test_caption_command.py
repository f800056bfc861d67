"""`hw_numpy.caption` through its real entry point: tiny runs, the files they write, resume, bad input."""

import json
import os
import shutil
from pathlib import Path

import commands
import numpy as np
import pytest
from finished_runs import numbers_of
from numpy_files import WORDS, write_course_files
from PIL import Image

from hw_common.runs import files
from hw_common.runs.errors import Stopped, UserError
from hw_numpy import arrays, caption, caption_experiment
from hw_numpy.rnn import CaptioningRNN

FIGURES = {f"{stem}.{suffix}" for stem in ("curves", "captions") for suffix in ("png", "pdf")}
RUN_FILES = {".lock", "config.json", "metrics.csv", "summary.json", "last.safetensors"} | FIGURES


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """Small caption files whose pictures lie in the folder instead of on the web; one picture is missing."""
    folder = write_course_files(tmp_path_factory.mktemp("data with spaces"), urls=lambda part, i: f"{part}{i}.png")
    for name in ("train0", "train1", "val0", "val1"):
        Image.new("RGB", (30, 20), "red").save(folder / f"{name}.png")
    return folder


def train_tiny(course, results, *flags):
    caption.main([
        "--data_dir", str(course), "--results_dir", str(results), "--threads", "1", "--epochs", "40",
        "--max_train", "3", "--batch_size", "2", "--hidden_dim", "24", "--wordvec_dim", "8", *flags,
    ])  # fmt: skip


def only_run(results):
    [folder] = [folder for folder in (results / "hw_numpy").iterdir() if folder.is_dir()]
    return folder


@pytest.fixture(scope="module")
def finished(course, tmp_path_factory):
    """A finished run with each cell type, the second one without figures."""
    folders = {}
    for cell in ("rnn", "lstm"):
        results = tmp_path_factory.mktemp(f"results of {cell}")
        with pytest.MonkeyPatch.context() as patch:
            if cell == "lstm":
                commands.draw_nothing(patch)
            train_tiny(course, results, "--cell_type", cell)
        folders[cell] = only_run(results)
    return folders


def test_a_run_folder_holds_what_was_promised(finished):
    folder = finished["rnn"]
    assert {path.name for path in folder.iterdir()} == RUN_FILES
    config = json.loads((folder / "config.json").read_text())
    assert config["command"] == "hw_numpy.caption" and config["arguments"]["cell_type"] == "rnn"
    assert len(config["data"]) == 6 and config["host"]["threads"] == 1
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["data"] == "COCO 2014" and summary["words"] == 8
    assert summary["training_captions"] == summary["training_images"] == 3
    assert summary["first_loss"] > 3 > 0.5 > summary["last_epoch_loss"] > 0
    assert summary["training"]["word_for_word"] == 1 and summary["training"]["captions_measured"] == 3
    rows = files.read_csv(folder / "metrics.csv")
    assert [row["epoch"] for row in rows] == list(range(1, 41))
    assert rows[-1]["training_loss"] == summary["last_epoch_loss"]
    for stem in ("curves", "captions"):
        assert Image.open(folder / f"{stem}.png").size[0] > 500
        assert (folder / f"{stem}.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize("cell", ["rnn", "lstm"])
def test_the_numbers_are_those_of_the_saved_parameters(finished, course, cell):
    """Measures the captions of a new model with a search of its own."""
    summary = json.loads((finished[cell] / "summary.json").read_text())
    state = arrays.load(finished[cell] / "last.safetensors", {"homework": "hw_numpy", "network": f"captioning-{cell}"})
    data = caption_experiment.coco_utils.load_coco_data(course, max_train=3, seed=42)
    model = CaptioningRNN(data["word_to_idx"], 4, 8, 24, cell)
    model.params = {name: state[f"params/{name}"] for name in model.params}
    for part, name in (("train", "training"), ("val", "validation")):
        features = data[f"{part}_features"][data[f"{part}_image_idxs"]]
        true = data[f"{part}_captions"]
        assert summary[name]["loss"] == pytest.approx(model.loss(features, true)[0], rel=1e-5)
        same = (model.sample(features, max_length=4) == true[:, 1:]).all(axis=1)
        assert summary[name]["word_for_word"] == same.mean()
        assert all(example["true"].split()[-1] == "<END>" for example in summary[name]["examples"])


def test_the_share_counts_only_what_comes_back_word_for_word():
    true = ["a dog <END>", "a cat <END>", "a dog sits <END>"]
    generated = ["a dog <END>", "a cat", "a dog <END>"]
    assert caption_experiment.Evaluation(0.0, generated, true, np.arange(3)).share_reproduced() == pytest.approx(1 / 3)


def test_captions_of_one_image_do_not_all_come_back(course, tmp_path, undrawn):
    """Of five captions of three images, at most three can be reproduced; the summary gives the number of images."""
    train_tiny(course, tmp_path, "--max_train", "50")
    summary = json.loads((only_run(tmp_path) / "summary.json").read_text())
    assert summary["training_captions"] == 5 and summary["training_images"] == 3
    assert summary["training"]["word_for_word"] <= 3 / 5


def test_the_sample_is_learned_by_heart(tmp_path, capsys, undrawn):
    caption.main(["--dataset", "sample", "--results_dir", str(tmp_path), "--threads", "1", "--hidden_dim", "128",
                  "--wordvec_dim", "32", "--max_train", "20", "--batch_size", "10", "--epochs", "80"])  # fmt: skip
    folder = tmp_path / "hw_numpy" / "caption-sample-rnn"
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["data"] == "sample shapes" and summary["training_images"] == 20
    assert summary["training"]["word_for_word"] == 1 and summary["training"]["loss"] < 0.15
    output = capsys.readouterr().out
    assert "sample shapes: 20 training captions of 20 images, 80 validation captions, 24 words" in output
    assert "100 % of 20 captions are reproduced word for word" in output and f"all results are in {folder}" in output


def interrupt_in(monkeypatch, epoch, step, interrupt=KeyboardInterrupt):
    """Interrupts, as Ctrl-C does, after `step` steps of an epoch."""
    take_step, taken = caption_experiment.CaptioningSolver.step, []

    def step_then_interrupt(solver, batch):
        take_step(solver, batch)
        taken.append(batch)
        if len(taken) == epoch * 2 + step:  # an epoch has two
            raise interrupt

    monkeypatch.setattr(caption_experiment.CaptioningSolver, "step", step_then_interrupt)


def test_an_interruption_between_an_epoch_and_its_bookkeeping(course, finished, tmp_path, monkeypatch, undrawn):
    plain = caption_experiment.CaptioningSolver.state

    def state_then_interrupt(self):
        if self.epoch == 3:
            raise KeyboardInterrupt
        return plain(self)

    with monkeypatch.context() as patch:
        patch.setattr(caption_experiment.CaptioningSolver, "state", state_then_interrupt)
        with pytest.raises(Stopped):
            train_tiny(course, tmp_path, "--cell_type", "rnn")
    folder = only_run(tmp_path)
    assert len(files.read_csv(folder / "metrics.csv")) == 2
    caption.main(["--resume", str(folder)])
    assert numbers_of(folder) == numbers_of(finished["rnn"])


def test_a_killed_run_goes_on_from_what_was_saved_last(course, finished, tmp_path, monkeypatch, undrawn):
    """A killed process saves nothing more, so the run resumes from the state that it saved some seconds before."""
    with monkeypatch.context() as patch:
        patch.setattr(caption_experiment, "_SAVE_EVERY", 0)
        interrupt_in(patch, epoch=5, step=1, interrupt=SystemExit)
        with pytest.raises(SystemExit):
            train_tiny(course, tmp_path)
    folder = only_run(tmp_path)
    assert len(files.read_csv(folder / "metrics.csv")) == 5
    caption.main(["--resume", str(folder)])
    assert numbers_of(folder) == numbers_of(finished["rnn"])


def test_an_interruption_before_anything_is_saved_leaves_no_folder(course, tmp_path, monkeypatch):
    interrupt_in(monkeypatch, epoch=0, step=1)
    with pytest.raises(Stopped, match="^stopped before anything was saved$"):
        train_tiny(course, tmp_path)
    assert list((tmp_path / "hw_numpy").iterdir()) == []


@pytest.fixture
def unfinished(finished, tmp_path):
    """A run that is complete except for its summary, for a test to damage."""
    folder = Path(shutil.copytree(finished["rnn"], tmp_path / "hw_numpy" / "copy"))
    (folder / "summary.json").unlink()
    return folder


def test_a_damaged_run_is_one_clear_line(unfinished, finished):
    state = unfinished / "last.safetensors"
    metadata = {"homework": "hw_numpy", "network": "captioning-rnn"}
    good = arrays.load(state, metadata)
    for change in ({"params/Wh": np.zeros(3)}, {"epoch": np.array(3)}, {"seconds": None}):
        arrays.save(state, {name: v for name, v in {**good, **change}.items() if v is not None}, metadata)
        with pytest.raises(UserError, match="last.safetensors does not belong to this run"):
            caption.main(["--resume", str(unfinished)])
    shutil.copy(finished["lstm"] / "last.safetensors", state)
    with pytest.raises(UserError, match="was written for .*captioning-lstm"):
        caption.main(["--resume", str(unfinished)])
    os.truncate(state, 1000)
    with pytest.raises(UserError, match="is damaged or not a safetensors file"):
        caption.main(["--resume", str(unfinished)])


def test_figures_stand_missing_pictures_and_captions_with_formulas(course, tmp_path, capsys):
    """Words with dollar signs are drawn as they are, not as formulas."""
    folder = Path(shutil.copytree(course, tmp_path / "data"))
    words = [*WORDS[:4], "$\\frac{", "x^{$", "größe", "sits"]
    vocabulary = {"idx_to_word": words, "word_to_idx": {word: number for number, word in enumerate(words)}}
    (folder / "coco2014_vocab.json").write_text(json.dumps(vocabulary))
    train_tiny(folder, tmp_path, "--epochs", "1")
    assert RUN_FILES == {path.name for path in only_run(tmp_path).iterdir()}
    assert "a grey panel replaces a picture: there is no file" in capsys.readouterr().err


def test_runs_are_named_after_their_data(tmp_path):
    folder = tmp_path / ".my data ü"
    assert caption.COMMAND.parse(["--data_dir", str(folder)]).name == "caption-my_data_ü-rnn"
    assert caption.COMMAND.parse(["--dataset", "sample", "--cell_type", "lstm"]).name == "caption-sample-lstm"


def test_a_gpu_is_refused():
    with pytest.raises(UserError, match="--device cuda: the NumPy networks run on the CPU only"):
        caption.main(["--device", "cuda"])
