"""--kernels plain trains with the sheet's linear attention, and ends with the numbers of --kernels fast."""

import csv

import pytest

from hw_attention_theory import plots, train
from hw_attention_theory.fast_linear_attention import FastTaylorLinearAttention
from hw_attention_theory.models import TaylorLinearAttention


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """Trains with a kind of kernels; returns the rows of metrics.csv."""
    monkeypatch.setattr(plots, "training_curves", lambda *arguments: None)

    def train_with(kernels):
        train.main(["--dataset", "sample", "--side", "4", "--n", "8", "--d", "4", "--attention", "taylor",
                    "--epochs", "2", "--threads", "1", "--results_dir", str(tmp_path), "--name", kernels,
                    "--kernels", kernels])  # fmt: skip
        with open(tmp_path / "hw_attention_theory" / kernels / "metrics.csv") as file:
            return list(csv.DictReader(file))

    return train_with


def test_plain_trainings_run_the_sheets_attention_and_end_with_the_same_numbers(trained, monkeypatch):
    calls = []
    for attention in (TaylorLinearAttention, FastTaylorLinearAttention):
        attend = attention.attend
        monkeypatch.setattr(
            attention, "attend", lambda self, *QKV, attend=attend: calls.append(self) or attend(self, *QKV)
        )
    plain = trained("plain")
    assert {type(self) for self in calls} == {TaylorLinearAttention}
    calls.clear()
    fast = trained("fast")
    assert {type(self) for self in calls} == {FastTaylorLinearAttention}
    for rows in zip(plain, fast, strict=True):
        for name in rows[0].keys() - {"seconds"}:
            assert float(rows[0][name]) == pytest.approx(float(rows[1][name]), abs=1e-4), name
