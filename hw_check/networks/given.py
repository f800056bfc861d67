"""Checks of functions that several courses give to their students, or ask for in the same form."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.random import Generator
from torch import Tensor

from hw_check.networks.checks import Finding, Probe

_RATE = 0.1  # as in inside.py


def train_batch(rng: Generator) -> list[Probe]:
    """Two steps of stochastic gradient descent on a linear network."""
    weights = {"0.weight": rng.normal(size=(3, 4)).astype(np.float32), "0.bias": rng.normal(size=3).astype(np.float32)}
    batches = [[rng.normal(size=(6, 4)).astype(np.float32), rng.integers(0, 3, 6)] for _ in range(2)]
    right, losses = _trained(weights, batches)
    guesses = {
        "the gradients of the previous batch are not set to zero": _trained(weights, batches, keeps=True)[0],
        "the parameters do not change: there is no step of the optimizer": weights,
    }

    def judge(answer: Mapping[str, Any]) -> Finding:
        found = answer["weights"]
        if _close(found, right):
            return Finding()
        return Finding(next((text for text, guess in guesses.items() if _close(found, guess)), "a wrong step"))

    def judge_loss(answer: Mapping[str, Any]) -> Finding:
        found = answer["losses"]
        is_right = all(
            isinstance(loss, float) and abs(loss - ours) < 1e-4 for loss, ours in zip(found, losses, strict=True)
        )
        return Finding("" if is_right else "does not return the loss of the batch")

    def judge_mode(answer: Mapping[str, Any]) -> Finding:
        text = "puts the network into eval mode, in which dropout has no effect"
        return Finding(text if answer["in eval mode"] else "")

    request = {"probe": "train_batch", "weights": weights, "batches": batches}
    return [
        Probe("two training steps", request, judge, 0.75),
        Probe("the loss", request, judge_loss, 0.25),
        Probe("training mode", request, judge_mode, 0.25),
    ]


def _trained(
    weights: Mapping[str, np.ndarray], batches: Any, keeps: bool = False
) -> tuple[dict[str, np.ndarray], list[float]]:
    """The weights after a step for each batch, and the losses; with `keeps`, gradients are never set to zero."""
    parameters = [torch.from_numpy(value.copy()).requires_grad_() for value in weights.values()]
    losses, before = [], [torch.zeros_like(parameter) for parameter in parameters]
    for X, y in batches:
        scores: Tensor = F.linear(torch.from_numpy(X), *parameters)
        loss = F.cross_entropy(scores, torch.from_numpy(y))
        gradients = torch.autograd.grad(loss, parameters)
        before = [old * keeps + new for old, new in zip(before, gradients, strict=True)]
        with torch.no_grad():
            for parameter, gradient in zip(parameters, before, strict=True):
                parameter -= _RATE * gradient
        losses.append(float(loss.detach()))
    return {name: p.detach().numpy() for name, p in zip(weights, parameters, strict=True)}, losses


def _close(found: Mapping[str, Any], right: Mapping[str, np.ndarray]) -> bool:
    return all(np.allclose(found[name], value, atol=1e-5) for name, value in right.items())


def evaluate(rng: Generator) -> list[Probe]:
    """The accuracy of a network whose outputs are mostly dropped in training mode."""
    weights = {"0.weight": rng.normal(size=(3, 4)).astype(np.float32), "0.bias": rng.normal(size=3).astype(np.float32)}
    X = rng.normal(size=(60, 4)).astype(np.float32)
    y = (X @ weights["0.weight"].T + weights["0.bias"]).argmax(axis=1)
    y[:6] = (y[:6] + 1) % 3

    def judge(answer: Mapping[str, Any]) -> Finding:
        accuracy = float(answer["accuracy"])
        if abs(accuracy - 0.9) < 1e-6:
            return Finding()
        if abs(accuracy - 90) < 1e-4:
            return Finding(remark="returns the accuracy in percent")
        return Finding(f"returns {accuracy:.3g} where the accuracy is 0.9: is the network in eval mode?")

    return [Probe("eval mode", {"probe": "evaluate", "weights": weights, "X": X, "y": y}, judge)]


def count(rng: Generator) -> list[Probe]:
    """The number of trainable parameters of the network in inside.py: 50, besides 15 that are frozen."""
    guesses = {
        4: "counts tensors, expected numbers",
        6: "counts tensors, frozen ones too; expected numbers",
        15: "counts the parameters that are not trainable",
        35: "counts trainable matrices and kernels alone: biases and vectors are missing",
        65: "counts frozen parameters, too (requires_grad is False)",
        74: "counts frozen parameters and buffers, too",
    }

    def judge(answer: Mapping[str, Any]) -> Finding:
        number = int(answer["count"])
        return Finding("" if number == 50 else guesses.get(number, f"returns {number} for 50 trainable parameters"))

    def judge_total(answer: Mapping[str, Any]) -> Finding:
        return Finding() if int(answer["count"]) == 65 else judge(answer)

    request = {"probe": "count"}
    return [Probe("all parameters", request, judge_total, 0.5), Probe("frozen parameters", request, judge, 0.5)]
