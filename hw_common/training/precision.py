"""The number formats of `--precision`."""

import contextlib
import sys

import torch


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[None]:
    """Automatic mixed precision for `precision` "bf16"; no change for "fp32" or on a CPU without bf16."""
    enabled = precision == "bf16" and is_supported(device)
    return torch.autocast(device.type, torch.bfloat16) if enabled else contextlib.nullcontext()


def is_supported(device: torch.device) -> bool:
    """Whether the device has instructions for bf16. Without them, LSTMs fail and other layers are much slower."""
    return device.type != "cpu" or torch.ops.mkldnn._is_mkldnn_bf16_supported()


def warn_if_replaced(device: torch.device, precision: str) -> None:
    """Prints a line if the device computes in fp32 although `precision` is "bf16"."""
    if precision == "bf16" and not is_supported(device):
        print("this CPU has no instructions for bf16, so everything is computed in fp32", file=sys.stderr)
