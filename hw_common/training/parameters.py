"""The number of parameters of a model."""

from torch import nn


def count_parameters(model: nn.Module, *, trainable_only: bool = True) -> int:
    """Returns the number of elements of all parameters; by default, of those that are trained."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad or not trainable_only)
