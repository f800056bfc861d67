"""The second half of a training step: gradients are checked and clipped, and the optimizer changes the weights."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn


class NotFiniteError(ArithmeticError):
    """A gradient is not finite."""


class Updater:
    """Updates the weights of a model.

    Args:
        optimizer: the optimizer.
        scheduler: learning rate schedule, stepped after every step; None for a constant rate.
        parameters: the trainable parameters.
        clip_value: maximum absolute value of each element of the gradient, if any.
        clip_norm: maximum norm of the gradient of all parameters together, if any.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        scheduler: torch.optim.lr_scheduler.LRScheduler | None,
        parameters: Sequence[nn.Parameter],
        clip_value: float | None,
        clip_norm: float | None,
    ) -> None:
        self.optimizer, self.scheduler, self.parameters = optimizer, scheduler, parameters
        self.clip_value, self.clip_norm = clip_value, clip_norm
        # torch's schedulers warn if `optimizer.step` is not called.
        self._is_plain_sgd = scheduler is None and is_plain_sgd(optimizer)

    def clear_gradients(self) -> None:
        """Removes the gradients of the last step."""
        for parameter in self.parameters:  # faster than zero_grad(), which also calls the profiler
            parameter.grad = None

    def update(self) -> None:
        """Takes one step with the current gradients.

        Raises:
            NotFiniteError: a gradient is not finite; the weights are unchanged.
        """
        with torch.no_grad():
            self._check_and_clip()
            if self._is_plain_sgd:
                self._subtract_gradients()
            else:
                self.optimizer.step()
        if self.scheduler is not None:
            self.scheduler.step()

    def _check_and_clip(self) -> None:
        if self.clip_norm is not None:
            size = nn.utils.clip_grad_norm_(self.parameters, self.clip_norm)
        else:  # a sum is finite only if all its terms are, and takes half the time of a norm
            size = torch.stack([p.grad.sum() for p in self.parameters if p.grad is not None]).sum()
        if not math.isfinite(size.item()):
            raise NotFiniteError
        if self.clip_value is not None:
            nn.utils.clip_grad_value_(self.parameters, self.clip_value)

    def _subtract_gradients(self) -> None:
        """Does what `optimizer.step()` does for plain SGD, with the same bits, but without its bookkeeping."""
        [group] = self.optimizer.param_groups
        used: list[Any] = [parameter for parameter in group["params"] if parameter.grad is not None]
        torch._foreach_add_(used, [parameter.grad for parameter in used], alpha=-group["lr"])

    def learning_rate(self) -> float:
        """The learning rate before the schedule changed it."""
        group = self.optimizer.param_groups[0]
        return group.get("initial_lr", group["lr"])


def is_plain_sgd(optimizer: torch.optim.Optimizer) -> bool:
    """Whether the optimizer only subtracts the gradient times the learning rate."""
    changes = ("momentum", "dampening", "weight_decay", "nesterov", "maximize", "differentiable")
    groups = optimizer.param_groups
    return type(optimizer) is torch.optim.SGD and len(groups) == 1 and not any(groups[0][name] for name in changes)
