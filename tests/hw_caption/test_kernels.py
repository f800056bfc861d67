"""--kernels plain and fast through the real commands: the same metrics, and plain runs the functions of `models.py`."""

import json
from unittest import mock

import caption_files
import pytest

from hw_caption import caption, compare, experiment, train
from hw_caption.models import Attention
from hw_common.runs import files


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return caption_files.write_json(tmp_path_factory.mktemp("scenes"))


def flags_of(scenes, results_dir, *flags):
    where = ["--dataset_dir", str(scenes), "--results_dir", str(results_dir), "--threads", "1", "--device", "cpu"]
    return [
        *where,
        "--weights",
        "none",
        "--backbone",
        "squeezenet1_1",
        "--image_size",
        "32",
        "--epochs",
        "2",
        "--lr",
        "0.01",
        *flags,
    ]


@pytest.mark.parametrize("decoder", [[], ["-use_attention"]], ids=["vanilla", "attention"])
def test_trainings_with_either_kernels_end_with_the_same_metrics(scenes, tmp_path, capsys, undrawn, decoder):
    metrics, captions = [], []
    for kernels in ("plain", "fast"):
        train.main(flags_of(scenes, tmp_path, *decoder, "--kernels", kernels, "--name", kernels))
        folder = tmp_path / "hw_caption" / kernels
        metrics.append([{**row, "seconds": 0.0} for row in files.read_csv(folder / "metrics.csv")])
        capsys.readouterr()
        caption.main([str(folder), str(scenes / "images" / "4.tif"), "--json", "--kernels", kernels])
        captions.append(json.loads(capsys.readouterr().out))
    for one, other in zip(*metrics, strict=True):
        assert one == pytest.approx(other, abs=1e-4)
    assert captions[0] == captions[1]


def test_plain_kernels_run_the_textbooks_function_at_every_word(scenes, tmp_path, monkeypatch):
    forward = mock.create_autospec(Attention.forward, side_effect=Attention.forward)
    loss_function, calls = experiment.loss_function, []

    def counting(model, batch):
        forward.reset_mock()
        result = loss_function(model, batch)
        calls.append((forward.call_count, batch[1].shape[1] - 1))
        return result

    monkeypatch.setattr(Attention, "forward", lambda *arguments: forward(*arguments))
    monkeypatch.setattr(experiment, "loss_function", counting)
    train.main(flags_of(scenes, tmp_path, "-use_attention", "--dry_run", "--kernels", "plain"))
    train.main(flags_of(scenes, tmp_path, "-use_attention", "--dry_run"))
    assert calls == [(6, 6), (0, 6)]  # the longest caption has 5 words, START and END


def test_kernels_go_with_a_comparison(scenes, tmp_path):
    comparison = compare.parse(flags_of(scenes, tmp_path, "--kernels", "plain"))
    assert comparison.common["kernels"] == "plain" and "plain" in comparison.flags
