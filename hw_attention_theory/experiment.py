"""A run of `hw_attention_theory.train`: network, batches, loss, metrics, figures and summary."""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hw_attention_theory import data
from hw_attention_theory.data import Sequences
from hw_attention_theory.fast_linear_attention import FastTaylorLinearAttention
from hw_attention_theory.measure import peak_bytes
from hw_attention_theory.models import PixelClassifier, SoftmaxSelfAttention, TaylorLinearAttention
from hw_attention_theory.presets import CITATIONS, HOMEWORK, Settings
from hw_common.data.digits import CLASSES, Digits
from hw_common.training import distributed
from hw_common.training.experiment import Experiment, last_and_best, make_optimizer, make_schedule
from hw_common.training.loop import Fitted, Row
from hw_common.training.parameters import count_parameters


def build_model(settings: Settings) -> PixelClassifier:
    """The network of `settings`."""
    if settings.terms is None:
        attention: nn.Module = SoftmaxSelfAttention()
    else:
        linear = FastTaylorLinearAttention if settings.kernels == "fast" else TaylorLinearAttention
        attention = linear(settings.d, settings.terms)
    return PixelClassifier(
        settings.side**2, CLASSES, settings.n, settings.d, settings.heads, settings.blocks, attention
    )


def prepare(settings: Settings, digits: Digits[Sequences], device: torch.device) -> Experiment:
    """Prepares a training run on `device`."""
    model = build_model(settings).to(device)
    _announce(settings, digits, model)
    batches = data.batches(digits.train, settings.batch_size, device, settings.seed, shuffle=True)
    optimizer = make_optimizer(settings.optimizer, model.parameters(), settings.lr, settings.l2_decay)
    memory_before = _peak_memory(device)
    return Experiment(
        model=model,
        batches=batches,
        optimizer=optimizer,
        scheduler=make_schedule(settings.schedule, optimizer, settings.epochs * len(batches)),
        loss_function=loss_function,
        evaluate=lambda model: evaluate(model, digits.val, settings.batch_size, "validation"),
        monitor="validation_accuracy",
        hashes=digits.hashes,
        metadata={"homework": HOMEWORK, "network": settings.title},
        summarize=lambda fitted: _summarize(settings, digits, model, fitted, memory_before),
        draw=lambda folder, fitted, summary: _draw(folder, fitted, f"{settings.title}, {digits.name}"),
        report=_report,
        clip_norm=1.0,
    )


def loss_function(model: nn.Module, batch: tuple[Tensor, ...]) -> tuple[Tensor, int, dict[str, Tensor]]:
    """The mean cross-entropy of a batch of images, and the number of images."""
    pixels, labels = batch
    return F.cross_entropy(model(pixels), labels), len(labels), {}


def evaluate(model: nn.Module, sequences: Sequences, batch_size: int, part: str) -> Row:
    """The metrics <part>_loss and <part>_accuracy of `model`, in eval mode."""
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
    settings: Settings, digits: Digits[Sequences], model: nn.Module, fitted: Fitted, memory_before: float
) -> dict[str, Any]:
    final, best = last_and_best(
        model, fitted, settings.precision, lambda: evaluate(model, digits.test, settings.batch_size, "test")
    )
    peak = _peak_memory(next(model.parameters()).device)
    parts = {"training": digits.train, "validation": digits.val, "test": digits.test}
    return {
        "homework": HOMEWORK,
        "dataset": settings.dataset,
        "data": digits.name,
        "attention": settings.attention,
        "network": settings.title,
        "length": settings.side**2,
        "d": settings.d,
        "terms": settings.terms,
        "images": {part: len(sequences) for part, sequences in parts.items()},
        "parameters": count_parameters(model),
        "final": final,
        "best": best,
        "speed": {
            "training_seconds": round(fitted.seconds, 2),
            "images_per_second": round(settings.epochs * len(digits.train) / fitted.seconds, 1),
            "threads": torch.get_num_threads(),
            "peak_memory_mb": round(peak / 1e6, 1),
            "training_memory_mb": round((peak - memory_before) / 1e6, 1),
        },
    }


def _peak_memory(device: torch.device) -> int:
    """The largest number of bytes allocated on the GPU or, without a GPU, held by this process."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else peak_bytes()


def _draw(folder: Path, fitted: Fitted, title: str) -> None:
    from hw_attention_theory import plots  # imports matplotlib

    plots.training_curves(folder, fitted.rows, f"{title}, {CITATIONS['2023-24']}")


def _report(summary: dict[str, Any]) -> list[str]:
    lines = [
        f"{name} ({numbers['epoch']}): accuracy validation {numbers['validation_accuracy']:.4f}, "
        f"test {numbers['test_accuracy']:.4f}"
        for name, numbers in (("last epoch", summary["final"]), ("best epoch", summary["best"]))
    ]
    speed = summary["speed"]
    return [
        *lines,
        f"{speed['training_seconds']:.1f} s of training, {speed['images_per_second']:.0f} images per second, "
        f"{speed['training_memory_mb']:.0f} MB of memory for training, {speed['peak_memory_mb']:.0f} MB in all",
    ]


def _announce(settings: Settings, digits: Digits[Sequences], model: nn.Module) -> None:
    if not distributed.is_main():
        return
    print(
        f"{digits.name}: {len(digits.train)} training, {len(digits.val)} validation, {len(digits.test)} test images, "
        f"read as {settings.side**2} pixels\n"
        f"{settings.title}, with {count_parameters(model)} parameters; {settings.epochs} epochs of "
        f"{settings.optimizer}, learning rate {settings.lr:g}, batch {settings.batch_size}, seed {settings.seed}"
    )
