"""The line that --precision bf16 prints on a CPU without instructions for bf16."""

import pytest
import torch

from hw_common.training.precision import warn_if_slow


@pytest.mark.parametrize(
    ("precision", "supported", "warns"), [("bf16", False, True), ("bf16", True, False), ("fp32", False, False)]
)
def test_bf16_without_instructions_prints_a_line(precision, supported, warns, monkeypatch, capsys):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: supported)
    warn_if_slow(torch.device("cpu"), precision)
    line = capsys.readouterr().err
    assert ("--precision fp32" in line and line.count("\n") == 1) if warns else not line


def test_a_gpu_prints_nothing(monkeypatch, capsys):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    warn_if_slow(torch.device("cuda"), "bf16")
    assert not capsys.readouterr().err
