"""What `hw_attention_theory.train` trains: network, batches, loss, and the numbers and figures of its summary."""

import argparse
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hw_attention_theory import data, plots
from hw_attention_theory.data import Sequences
from hw_attention_theory.fast_linear_attention import FastTaylorLinearAttention
from hw_attention_theory.measure import peak_bytes
from hw_attention_theory.models import PixelClassifier, SoftmaxSelfAttention, TaylorLinearAttention
from hw_attention_theory.presets import HOMEWORK, SOURCES, TITLES
from hw_common.data.digits import CLASSES, Digits
from hw_common.runs.errors import UserError
from hw_common.training import distributed
from hw_common.training.experiment import Experiment, last_and_best, make_optimizer, make_schedule
from hw_common.training.loop import Fitted, Row
from hw_common.training.parameters import count_parameters


def build_model(arguments: argparse.Namespace) -> PixelClassifier:
    """The network that `arguments` describe."""
    if arguments.attention == "softmax":
        attention: nn.Module = SoftmaxSelfAttention()
    else:
        linear = FastTaylorLinearAttention if arguments.kernels == "fast" else TaylorLinearAttention
        attention = linear(arguments.d, arguments.terms)
    sizes = {name: getattr(arguments, name) for name in ("n", "d", "heads", "blocks")}
    return PixelClassifier(arguments.side**2, CLASSES, attention=attention, **sizes)


def prepare(arguments: argparse.Namespace, device: torch.device) -> Experiment:
    """Everything that `arguments` describe.

    Raises:
        UserError: the data cannot be used, or the batch is smaller than the number of processes.
    """
    if arguments.batch_size < distributed.world_size():
        raise UserError(f"--batch_size {arguments.batch_size} is less than one example for each process")
    digits = data.load(arguments.dataset, arguments.data_dir, arguments.side)
    model = build_model(arguments).to(device)
    _announce(arguments, digits, model)
    batches = data.batches(digits.train, arguments.batch_size, device, arguments.seed, shuffle=True)
    optimizer = make_optimizer(arguments.optimizer, model.parameters(), arguments.lr, arguments.l2_decay)
    memory_before = _peak_memory(device)
    return Experiment(
        model=model,
        batches=batches,
        optimizer=optimizer,
        scheduler=make_schedule(arguments.schedule, optimizer, arguments.epochs * len(batches)),
        loss_function=loss_function,
        evaluate=lambda model: evaluate(model, digits.val, arguments.batch_size, "validation"),
        monitor="validation_accuracy",
        hashes=digits.hashes,
        metadata={"homework": HOMEWORK, "network": title(arguments)},
        summarize=lambda fitted: _summarize(arguments, digits, model, fitted, memory_before),
        draw=lambda folder, fitted, summary: plots.training_curves(
            folder, fitted.rows, f"{title(arguments)}, {digits.name}, {SOURCES['2023-24']}"
        ),
        report=_report,
        clip_norm=1.0,
    )


def title(arguments: argparse.Namespace) -> str:
    """What people call the network that `arguments` describe."""
    terms = f" ({arguments.terms} terms)" if arguments.attention == "taylor" else ""
    return f"{TITLES[arguments.attention]}{terms}, {arguments.side**2} pixels"


def loss_function(model: nn.Module, batch: tuple[Tensor, ...]) -> tuple[Tensor, int, dict[str, Tensor]]:
    """What `fit` minimizes: mean cross-entropy of the images."""
    pixels, labels = batch
    return F.cross_entropy(model(pixels), labels), len(labels), {}


def evaluate(model: nn.Module, sequences: Sequences, batch_size: int, part: str) -> Row:
    """Mean loss and accuracy of `model`, in eval mode, called <part>_loss and <part>_accuracy."""
    device = next(model.parameters()).device
    sums = torch.zeros(3, dtype=torch.float64, device=device)
    for pixels, labels in data.batches(sequences, batch_size, device).epoch(0):
        scores = model(pixels).float()
        loss = F.cross_entropy(scores, labels, reduction="sum")
        right = (scores.argmax(1) == labels).sum()
        sums += torch.stack([loss, right, torch.ones_like(loss) * len(labels)]) * distributed.weight()
    loss, right, count = distributed.sum_over_processes(sums).tolist()
    return {f"{part}_loss": loss / count, f"{part}_accuracy": right / count}


def _summarize(
    arguments: argparse.Namespace, digits: Digits, model: nn.Module, fitted: Fitted, memory_before: float
) -> dict[str, Any]:
    final, best = last_and_best(
        model, fitted, arguments.precision, lambda: evaluate(model, digits.test, arguments.batch_size, "test")
    )
    peak = _peak_memory(next(model.parameters()).device)
    parts = {"training": digits.train, "validation": digits.val, "test": digits.test}
    return {
        "homework": HOMEWORK,
        "dataset": arguments.dataset,
        "data": digits.name,
        "attention": arguments.attention,
        "network": title(arguments),
        "length": arguments.side**2,
        "d": arguments.d,
        "terms": arguments.terms,
        "images": {part: len(sequences) for part, sequences in parts.items()},
        "parameters": count_parameters(model),
        "final": final,
        "best": best,
        "speed": {
            "training_seconds": round(fitted.seconds, 2),
            "images_per_second": round(arguments.epochs * len(digits.train) / fitted.seconds, 1),
            "threads": torch.get_num_threads(),
            "peak_memory_mb": round(peak / 1e6, 1),
            "training_memory_mb": round((peak - memory_before) / 1e6, 1),
        },
    }


def _peak_memory(device: torch.device) -> int:
    """The most bytes that the GPU has held, or without one, this process."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else peak_bytes()


def _report(summary: dict[str, Any]) -> list[str]:
    lines = [
        f"{name} ({numbers['epoch']}): accuracy validation {numbers['validation_accuracy']:.4f}, "
        f"test {numbers['test_accuracy']:.4f}"
        for name, numbers in (("last epoch", summary["final"]), ("best epoch", summary["best"]))
    ]
    speed = summary["speed"]
    return [
        *lines,
        f"{speed['training_seconds']:.1f} s of training, {speed['images_per_second']:.0f} images a second, "
        f"{speed['training_memory_mb']:.0f} MB of memory for it, {speed['peak_memory_mb']:.0f} MB in all",
    ]


def _announce(arguments: argparse.Namespace, digits: Digits, model: nn.Module) -> None:
    if not distributed.is_main():
        return
    print(
        f"{digits.name}: {len(digits.train)} training, {len(digits.val)} validation, {len(digits.test)} test images, "
        f"read as {arguments.side**2} pixels\n"
        f"{title(arguments)}, with {count_parameters(model)} parameters; {arguments.epochs} epochs of "
        f"{arguments.optimizer}, learning rate {arguments.lr:g}, batch {arguments.batch_size}, seed {arguments.seed}"
    )
