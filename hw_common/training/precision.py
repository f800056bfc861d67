"""The number formats of `--precision`."""

import contextlib
import sys

import torch


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[None]:
    """Automatic mixed precision for `precision` "bf16"; no change for "fp32"."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else contextlib.nullcontext()


def warn_if_slow(device: torch.device, precision: str) -> None:
    """Prints a line if the CPU computes in `precision` much more slowly than in fp32, because it lacks instructions."""
    if precision == "bf16" and device.type == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        line = "bf16 is slower than fp32 on this CPU, which has no instructions for it; use --precision fp32"
        print(line, file=sys.stderr)
