"""Finished runs of `hw_numpy.train` are opened with the chosen network, and damaged ones are refused in one line."""

import pytest

from hw_common.runs import files
from hw_common.runs.errors import UserError
from hw_numpy.finished import open_finished


def test_a_finished_run_is_opened_with_the_chosen_sizes(trained):
    run = trained("hw_numpy.train", "cnn")
    best = files.read_json(run.folder / "summary.json")["best"]
    network = open_finished(run.folder).network
    assert network.params["W1"].shape[-1] == best["filter_size"] and network.params["W2"].shape[1] == best["hidden_dim"]


@pytest.mark.parametrize(
    ("best", "message"),
    [
        (None, r"summary\.json names no chosen network \(TypeError"),
        ({}, r"summary\.json names no chosen network \(KeyError"),
        ({"hidden_dim": 9}, r"best\.safetensors does not belong to this run: expected parameters of the shapes"),
    ],
)
def test_a_damaged_run_is_refused(trained, copy_of, best, message):
    folder = copy_of(trained("hw_numpy.train", "softmax"))
    summary = files.read_json(folder / "summary.json")
    files.write_json(folder / "summary.json", {**summary, "best": best})
    with pytest.raises(UserError, match=message):
        open_finished(folder)
