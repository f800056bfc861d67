"""The number formats of `--precision`."""

import contextlib

import torch


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[None]:
    """Automatic mixed precision for `precision` "bf16"; no change for "fp32"."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else contextlib.nullcontext()
