"""What `hw_cnn.train` trains: network, batches, loss, and the numbers and figures of its summary."""

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hw_cnn import data
from hw_cnn.data import ImageData, Split
from hw_cnn.models import CifarCNN, FashionCNN, OctCNN, convolutions, get_number_trainable_params
from hw_cnn.presets import HOMEWORK, NETWORKS
from hw_common.runs import figures
from hw_common.runs.errors import UserError
from hw_common.training import distributed
from hw_common.training.experiment import Experiment, last_and_best, make_optimizer, make_schedule
from hw_common.training.loop import Fitted, Row

_EVALUATION_BATCH = 1000
_SUBSET = "test_accuracy_course_subset"


def build_model(arguments: argparse.Namespace, classes: int) -> nn.Module:
    """The network that `arguments` describe, with `classes` outputs."""
    if arguments.network == "fashion":
        model: nn.Module = FashionCNN(arguments.dropout, classes)
    elif arguments.network == "oct":
        model = OctCNN(arguments.dropout, arguments.no_maxpool, classes)
    else:
        model = CifarCNN(arguments.padding, classes)
    return model.to(memory_format=torch.channels_last)


def prepare(arguments: argparse.Namespace, device: torch.device) -> Experiment:
    """Everything that `arguments` describe.

    Raises:
        UserError: the data cannot be used, or the batch is smaller than the number of processes.
    """
    images = data.load(arguments.dataset, arguments.data_dir, NETWORKS[arguments.network], arguments.seed)
    model = build_model(arguments, len(images.classes)).to(device)
    _announce(arguments, images, model)
    batches = training_batches(arguments, images, model)
    optimizer = make_optimizer(
        arguments.optimizer, model.parameters(), arguments.lr, arguments.l2_decay, arguments.momentum
    )
    return Experiment(
        model=model,
        batches=batches,
        optimizer=optimizer,
        scheduler=make_schedule(arguments.schedule, optimizer, arguments.epochs * len(batches)),
        loss_function=loss_function,
        evaluate=lambda model: evaluate(model, images.val, arguments, prefix="validation_"),
        monitor="validation_accuracy",
        hashes=images.hashes,
        metadata=weights_metadata(arguments),
        summarize=lambda fitted: _summarize(arguments, images, model, fitted),
        draw=lambda folder, fitted, summary: _draw(arguments, images, model, folder, fitted),
        report=_report,
    )


def weights_metadata(arguments: argparse.Namespace) -> dict[str, str]:
    """Whose weights these are: what a weights file says about itself."""
    variant = f"{'-no_maxpool' if arguments.no_maxpool else ''}{'-padding2' if arguments.padding else ''}"
    return {"homework": HOMEWORK, "network": arguments.network + variant}


def training_batches(arguments: argparse.Namespace, images: ImageData, model: nn.Module) -> data.Batches:
    """The shuffled, possibly augmented mini-batches that `arguments` describe, on the model's device."""
    if arguments.batch_size < distributed.world_size():
        raise UserError(f"--batch_size {arguments.batch_size} is less than one image for each process")
    return data.batches(
        images.train,
        NETWORKS[arguments.network],
        arguments.batch_size,
        device=_device(model),
        seed=arguments.seed,
        shuffle=True,
        augment=arguments.augment,
    )


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def loss_function(model: nn.Module, batch: tuple[Tensor, ...]) -> tuple[Tensor, int, dict[str, Tensor]]:
    """What `fit` minimizes: the network's own criterion, with the number of right answers beside it."""
    images, labels = batch
    outputs = model(images)
    criterion = getattr(model, "module", model).criterion
    return criterion(outputs, labels), len(labels), {"accuracy": torch.count_nonzero(outputs.argmax(1) == labels)}


def evaluate(model: nn.Module, split: Split, arguments: argparse.Namespace, prefix: str = "") -> Row:
    """Mean loss and accuracy of `model`, in eval mode, on `split`; each process computes its share."""
    sums = torch.zeros(3, dtype=torch.float64, device=_device(model))
    batches = data.batches(split, NETWORKS[arguments.network], _EVALUATION_BATCH, device=_device(model))
    for images, labels in batches.epoch(0):
        outputs = model(images)
        loss = model.criterion(outputs, labels).double() * len(labels)
        correct = (outputs.argmax(1) == labels).sum().double()
        sums += torch.stack([loss, correct, torch.full_like(loss, len(labels))]) * distributed.weight()
    loss, correct, count = distributed.sum_over_processes(sums).tolist()
    return {f"{prefix}loss": loss / count, f"{prefix}accuracy": correct / count}


def _test_numbers(model: nn.Module, images: ImageData, arguments: argparse.Namespace) -> Row:
    numbers = evaluate(model, images.test, arguments, "test_")
    if images.course_subset is not None:
        subset = Split(images.test.images[images.course_subset], images.test.labels[images.course_subset])
        numbers[_SUBSET] = evaluate(model, subset, arguments)["accuracy"]
    return numbers


def _summarize(arguments: argparse.Namespace, images: ImageData, model: nn.Module, fitted: Fitted) -> dict[str, Any]:
    final, best = last_and_best(model, fitted, arguments.precision, lambda: _test_numbers(model, images, arguments))
    return {
        "homework": HOMEWORK,
        "dataset": arguments.dataset,
        "data": images.name,
        "network": arguments.network,
        "classes": list(images.classes),
        "images": {"training": len(images.train), "validation": len(images.val), "test": len(images.test)},
        "parameters": get_number_trainable_params(model),
        "final": final,
        "best": best,
        "speed": {
            "training_seconds": round(fitted.seconds, 2),
            "images_per_second": round(arguments.epochs * len(images.train) / fitted.seconds, 1),
        },
    }


def _draw(arguments: argparse.Namespace, images: ImageData, model: nn.Module, folder: Path, fitted: Fitted) -> None:
    what = f"{images.name}, {NETWORKS[arguments.network].source}"
    # ist-2021-22-hw2 Q2.2, ist-2023-24-hw2 Q2.1, convnets-2024-a2 Task 1.2
    figures.save(figures.training_curves(fitted.rows, what), folder, "curves")
    for name in filter(None, (arguments.conv_1_name, arguments.conv_2_name)):  # ist-2021-22-hw2 Q2.3
        weights = convolutions(model)[name].weight.detach().float().cpu().numpy()
        figures.kernels(folder, name.replace("[", ".").replace("]", ""), weights, what)


def _report(summary: dict[str, Any]) -> list[str]:
    lines = [
        f"{title} ({numbers['epoch']}): validation accuracy {numbers['validation_accuracy']:.4f}, "
        f"test accuracy {numbers['test_accuracy']:.4f}"
        + (f", on the course's 529 images {numbers[_SUBSET]:.4f}" if _SUBSET in numbers else "")
        for title, numbers in (("last epoch", summary["final"]), ("best epoch", summary["best"]))
    ]
    speed = summary["speed"]
    return [*lines, f"{speed['training_seconds']:.1f} s of training, {speed['images_per_second']:.0f} images a second"]


def _announce(arguments: argparse.Namespace, images: ImageData, model: nn.Module) -> None:
    if not distributed.is_main():
        return
    print(
        f"{images.name}: {len(images.train)} training, {len(images.val)} validation, {len(images.test)} test images "
        f"in {len(images.classes)} classes\n"
        f"network {arguments.network} with {get_number_trainable_params(model)} parameters; {arguments.epochs} epochs "
        f"of {arguments.optimizer}, learning rate {arguments.lr:g}, batch {arguments.batch_size}, seed {arguments.seed}"
    )
