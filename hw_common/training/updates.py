"""The second half of a training step: gradients are checked and clipped, and the optimizer changes the weights."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


class Updater:
    """Updates the weights of a model.

    Args:
        optimizer: the optimizer.
        scheduler: learning rate schedule, stepped after every step; None for a constant rate.
        parameters: the trainable parameters.
        clip_value: maximum absolute value of each element of the gradient; None for no limit.
        clip_norm: maximum norm of the gradient of all parameters together; None for no limit.
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

    def measure_and_clip(self) -> Tensor:
        """Returns a number that is finite only if all gradients are; clips their norm if `clip_norm` is set."""
        if self.clip_norm is not None:
            return nn.utils.clip_grad_norm_(self.parameters, self.clip_norm)
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        if gradients[0].is_cuda:  # a few kernels compute the norms of all gradients together
            return torch.stack(torch._foreach_norm(gradients, math.inf)).sum()
        with torch.no_grad():  # a sum is finite only if all its terms are, and takes half the time of a norm
            return torch.stack([gradient.sum() for gradient in gradients]).sum()

    def update(self) -> None:
        """Takes one step with the current gradients."""
        with torch.no_grad():
            if self.clip_value is not None:
                nn.utils.clip_grad_value_(self.parameters, self.clip_value)
            if self._is_plain_sgd:
                self._subtract_gradients()
            else:
                self.optimizer.step()
        if self.scheduler is not None:
            self.scheduler.step()

    def _subtract_gradients(self) -> None:
        """Does what `optimizer.step()` does for plain SGD, with the same bits, but without its bookkeeping."""
        [group] = self.optimizer.param_groups
        used: list[Any] = [parameter for parameter in group["params"] if parameter.grad is not None]
        torch._foreach_add_(used, [parameter.grad for parameter in used], alpha=-group["lr"])

    def learning_rate(self) -> float:
        """The learning rate of the first parameter group before the schedule scales it; schedules never exceed it."""
        group = self.optimizer.param_groups[0]
        return group.get("initial_lr", group["lr"])


def is_plain_sgd(optimizer: torch.optim.Optimizer) -> bool:
    """Whether the optimizer only subtracts the gradient times the learning rate."""
    changes = ("momentum", "dampening", "weight_decay", "nesterov", "maximize", "differentiable")
    groups = optimizer.param_groups
    return type(optimizer) is torch.optim.SGD and len(groups) == 1 and not any(groups[0][name] for name in changes)


def read_together(values: Sequence[Tensor | float]) -> list[float]:
    """Returns `values` as floats, and waits at most once for the GPU."""
    on_gpu = [value.double() for value in values if isinstance(value, Tensor) and value.is_cuda]
    if not on_gpu:
        return [float(value) for value in values]
    numbers = iter(torch.stack(on_gpu).tolist())
    return [next(numbers) if isinstance(value, Tensor) and value.is_cuda else float(value) for value in values]
