"""Bad input to the commands of hw_ocr: each ends in one line, runs no code and leaves no files behind."""

import json
import shutil
from pathlib import Path

import cnn_files
import numpy as np
import ocr_files
import pytest
from PIL import Image

from hw_common.runs import image_grids
from hw_common.runs.errors import UserError
from hw_ocr import compare, data, invariance, plots, read, train


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A finished tiny run of each kind of network, without figures."""
    results = tmp_path_factory.mktemp("results")
    ocr_files.write(results / "data")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("training_curves", "confusion_matrix", "misread_words", "transitions"):
            patch.setattr(plots, name, lambda *arguments: None)
        patch.setattr(image_grids, "kernels", lambda *arguments: None)
        for name, flags in {
            "cnn2": ["--model", "cnn"],
            "cnn3": ["--model", "cnn", "--conv_layers", "3"],
            "bilstm": ["--model", "bilstm", "--hidden", "3"],
            "bilstm-crf": ["--model", "bilstm", "--hidden", "3", "--crf"],
        }.items():
            train.main(["--data_dir", str(results / "data"), "--results_dir", str(results), "--epochs", "1",
                        "--threads", "1", "--name", name, *flags])  # fmt: skip
    return {path.name: path for path in (results / "hw_ocr").iterdir()}


@pytest.fixture
def copy(runs, tmp_path):
    """A finished run that a test may damage."""
    return Path(shutil.copytree(runs["cnn2"], tmp_path / "copy"))


@pytest.fixture
def letter(tmp_path):
    """An image file with a letter."""
    path = tmp_path / "letter.png"
    Image.fromarray(255 - 255 * ocr_files.image("a")).save(path)
    return str(path)


def refusal(command, *flags):
    """The one line that the user sees."""
    with pytest.raises(UserError) as caught:
        command([*map(str, flags)])
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Flags


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (
            ["--model", "bilstm", "--conv_layers", "2"],
            "--conv_layers is a setting of the network cnn, not of .* bilstm",
        ),
        (["--hidden", "4"], "--hidden is a setting of the LSTMs, not of the network cnn"),
        (["--crf", "--dropout", "0.1"], "--dropout is a setting of the LSTMs"),
        (["--model", "bilstm", "--hidden", "1025"], "--hidden: expected a whole number from 1 to 1024, got '1025'"),
        (["--model", "bilstm", "--layers", "9"], "--layers: expected a whole number from 1 to 8, got '9'"),
        (["--crf", "yes"], "unrecognized arguments: yes"),
    ],
)
def test_wrong_flags(tmp_path, flags, says):
    with pytest.raises(UserError, match=says):
        train.main([*flags, "--results_dir", str(tmp_path)])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--model", "cnn"], "--model is a flag of single training runs; a comparison does not accept it"),
        (["--crf"], "--crf is a flag of single training runs"),
    ],
)
def test_wrong_comparisons(tmp_path, flags, says):
    with pytest.raises(UserError, match=says):
        compare.main([*flags, "--results_dir", str(tmp_path)])
    assert list(tmp_path.iterdir()) == []


# Data files


def changed(row, field, value):
    rows = ocr_files.rows()
    rows[row][field] = value
    return ocr_files.content(rows)


def test_a_wrong_row_ends_the_training_before_it_begins(tmp_path):
    ocr_files.write(tmp_path, changed(4, 1, "ä"))
    message = refusal(train.main, "--data_dir", tmp_path, "--results_dir", tmp_path / "results")
    assert "row 5" in message and "letter.data.gz" in message
    assert not (tmp_path / "results").exists()


def test_resuming_on_other_data_is_refused(copy, tmp_path):
    (copy / "summary.json").unlink()
    ocr_files.write(tmp_path, changed(4, 1, "z"))
    message = refusal(train.main, "--resume", copy, "--data_dir", tmp_path)
    assert "the data file ocr/letter.data.gz is not the one it was started with" in message


# Run folders


def test_a_crf_is_not_read_without_it(runs, tmp_path, letter):
    mixed = Path(shutil.copytree(runs["bilstm"], tmp_path / "mixed"))
    shutil.copy(runs["bilstm-crf"] / "best.safetensors", mixed)
    assert "holds weights for network 'BiLSTM-CRF', expected 'BiLSTM'" in refusal(read.main, mixed, letter)


def change_arguments(run, **changes):
    config = json.loads((run / "config.json").read_text())
    config["arguments"].update(changes)
    (run / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("command", [read.main, invariance.main])
@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda run: (run / "summary.json").write_text('{"schema": 1}'), "is damaged: its summary names no data set"),
        (lambda run: change_arguments(run, conv_layers=10**9), "config.json is damaged: --conv_layers: invalid choice"),
        (lambda run: change_arguments(run, model="bilstm"), "config.json is damaged: --conv_layers is a setting of"),
        (lambda run: change_arguments(run, conv_layers=4), "holds weights for network"),
    ],
    ids=["no data", "huge", "mixed", "another"],
)
def test_a_damaged_run_is_refused(copy, letter, command, damage, says):
    damage(copy)
    assert says in refusal(command, copy, *([letter] if command is read.main else []))


def test_huge_layers_in_a_run_folder_are_refused(runs, tmp_path, letter):
    run = Path(shutil.copytree(runs["bilstm"], tmp_path / "huge"))
    change_arguments(run, hidden=2**31 - 1)
    assert "--hidden: expected a whole number from 1 to 1024" in refusal(read.main, run, letter)


def test_weights_of_another_size_are_refused(runs, tmp_path, letter):
    run = Path(shutil.copytree(runs["bilstm"], tmp_path / "other"))
    change_arguments(run, hidden=5)
    assert "do not fit this network" in refusal(read.main, run, letter)


def test_invariance_on_data_that_is_gone(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(data, "load", lambda *arguments: (_ for _ in ()).throw(UserError(f"{arguments[1]} is gone")))
    assert f"{tmp_path} is gone" in refusal(invariance.main, runs["cnn2"], "--data_dir", tmp_path)
    assert not (runs["cnn2"] / "invariance.json").exists()


# Images


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot read .*No such file or directory"),
        (b"", "is not an image that Pillow can read"),
        (b"a text that calls itself an image", "is not an image that Pillow can read"),
        (cnn_files.png_claiming(20, 30), "is damaged"),
        (cnn_files.png_claiming(60_000, 60_000), "pixels"),
        (cnn_files.png_claiming(9_000, 9_000), "9000×9000 pixels, more than the limit of 50 million"),
    ],
    ids=["missing", "empty", "text", "cut short", "bomb", "small bomb"],
)
@pytest.mark.filterwarnings("error")
def test_bad_image_files(runs, tmp_path, letter, content, says):
    path = tmp_path / "bad.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=says) as caught:
        read.main([str(runs["cnn2"]), letter, str(path)])
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("level", [0, 128, 240])
@pytest.mark.parametrize("shape", [(16, 8), (1, 1), (40, 100)])
def test_an_image_without_ink_is_refused(runs, tmp_path, level, shape):
    path = tmp_path / "blank.png"
    pixels = np.full(shape, level, dtype=np.uint8)
    pixels[0, 0] += 10  # hardly another grey
    Image.fromarray(pixels).save(path)
    assert f"{path} shows no letter" in refusal(read.main, runs["cnn2"], path)


def test_a_picture_of_anything_else_is_refused(runs, tmp_path):
    path = tmp_path / "fence.png"
    Image.fromarray(np.tile(np.uint8([[255, 255, 0]]), (20, 300))).save(path)
    message = refusal(read.main, runs["cnn2"], path)
    assert "shows 300 letters, expected one word of at most 200" in message


def test_a_folder_is_no_image(runs, tmp_path):
    assert "cannot read" in refusal(read.main, runs["cnn2"], tmp_path)
