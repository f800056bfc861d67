"""--kernels plain trains with the CRF of `crf.py`, and ends with the numbers of --kernels fast."""

import csv

import ocr_files
import pytest
import torch

from hw_common.runs import image_grids
from hw_common.runs.errors import UserError
from hw_ocr import plots, read, train
from hw_ocr.crf import LinearChainCRF
from hw_ocr.fast_crf import FastLinearChainCRF


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """Trains with a kind of kernels; returns the rows of metrics.csv."""
    for name in ("training_curves", "confusion_matrix", "misread_words", "transitions"):
        monkeypatch.setattr(plots, name, lambda *arguments: None)
    monkeypatch.setattr(image_grids, "kernels", lambda *arguments: None)
    ocr_files.write(tmp_path)

    def train_with(kernels, *flags):
        train.main(["--data_dir", str(tmp_path), "--results_dir", str(tmp_path), "--name", kernels, "--threads", "1",
                    "--model", "bilstm", "--crf", "--dropout", "0.3", "--epochs", "4", "--kernels", kernels,
                    *flags])  # fmt: skip
        with open(tmp_path / "hw_ocr" / kernels / "metrics.csv") as file:
            return list(csv.DictReader(file))

    return train_with


def count_calls(monkeypatch, owner, name):
    calls, function = [], getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda *rest: calls.append(name) or function(*rest))
    return calls


def test_plain_trainings_run_the_textbooks_recursions(trained, monkeypatch):
    textbook = [count_calls(monkeypatch, LinearChainCRF, name) for name in ("log_partition", "decode")]
    fast = [count_calls(monkeypatch, FastLinearChainCRF, name) for name in ("log_partition", "decode")]
    trained("plain")
    assert all(textbook) and not any(fast)
    for calls in textbook:
        calls.clear()
    trained("fast")
    assert all(fast) and not any(textbook)


def test_plain_and_fast_trainings_end_with_the_same_numbers(trained):
    for plain, fast in zip(trained("plain"), trained("fast"), strict=True):
        assert plain.keys() == fast.keys()
        for name in plain.keys() - {"seconds"}:
            assert float(plain[name]) == pytest.approx(float(fast[name]), abs=1e-4), name


def test_kernels_are_fixed_on_resume(trained, tmp_path):
    trained("plain")
    (tmp_path / "hw_ocr" / "plain" / "summary.json").unlink()
    with pytest.raises(UserError, match="--kernels fast: it was started with --kernels plain"):
        train.main(["--resume", str(tmp_path / "hw_ocr" / "plain"), "--kernels", "fast"])


def test_reading_with_either_gives_the_same_letters(trained, tmp_path, monkeypatch):
    trained("fast")
    paths = [tmp_path / f"{letter}.npy" for letter in "ab"]
    monkeypatch.setattr("hw_ocr.images.read_letters", lambda path: ocr_files.image(path.stem)[None])
    textbook = count_calls(monkeypatch, LinearChainCRF, "decode")
    found = [read.read(tmp_path / "hw_ocr" / "fast", paths, one_word=True, kernels=k) for k in ("plain", "fast")]
    assert len(textbook) == 1
    assert found[0][0]["text"] == found[1][0]["text"]
    torch.testing.assert_close(found[0][0]["probabilities"], found[1][0]["probabilities"], atol=1e-5, rtol=1e-5)
