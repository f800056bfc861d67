"""--precision bf16 on a CPU without instructions for bf16: fp32, and a line that says so."""

import pytest
import torch

from hw_common.training.precision import autocast, warn_if_replaced


@pytest.mark.parametrize(
    ("precision", "supported", "warns"), [("bf16", False, True), ("bf16", True, False), ("fp32", False, False)]
)
def test_bf16_without_instructions_prints_a_line(precision, supported, warns, monkeypatch, capsys):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: supported)
    warn_if_replaced(torch.device("cpu"), precision)
    with autocast(torch.device("cpu"), precision):
        assert torch.is_autocast_enabled("cpu") == (precision == "bf16" and supported)
    line = capsys.readouterr().err
    assert ("computed in fp32" in line and line.count("\n") == 1) if warns else not line


def test_a_gpu_prints_nothing(monkeypatch, capsys):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    warn_if_replaced(torch.device("cuda"), "bf16")
    assert not capsys.readouterr().err
