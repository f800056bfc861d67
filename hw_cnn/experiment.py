"""A run of `hw_cnn.train`: its network, batches, loss, test numbers, summary and figures."""

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hw_cnn import data
from hw_cnn.data import ImageData, Split
from hw_cnn.fast_models import FastCifarCNN, FastFashionCNN, FastOctCNN
from hw_cnn.models import CifarCNN, FashionCNN, OctCNN, SheetCNN, convolutions, get_number_trainable_params
from hw_cnn.presets import HOMEWORK, NETWORKS, Network, Settings
from hw_common.training import distributed
from hw_common.training.batches import Batches
from hw_common.training.experiment import Experiment, last_and_best, make_optimizer, make_schedule
from hw_common.training.loop import Fitted, Row

_EVALUATION_BATCH = 1000
_SUBSET = "test_accuracy_course_subset"
_MEDMNIST_ACCURACY, _AUC = "test_medmnist_accuracy", "test_auc"


def build_model(settings: Settings, classes: int) -> SheetCNN:
    """Builds the network of `settings`, with `classes` outputs."""
    fast = settings.kernels == "fast"
    model: SheetCNN
    if settings.network == "fashion":
        model = (FastFashionCNN if fast else FashionCNN)(settings.dropout, classes)
    elif settings.network == "oct":
        model = (FastOctCNN if fast else OctCNN)(settings.dropout, settings.no_maxpool, classes)
    else:
        model = (FastCifarCNN if fast else CifarCNN)(settings.padding or 0, classes)
    return nn.utils.convert_conv2d_weight_memory_format(model, torch.channels_last)


def prepare(settings: Settings, images: ImageData, device: torch.device, drawn_layers: Sequence[str]) -> Experiment:
    """Prepares a training run on `device`; the kernels of the convolutions `drawn_layers` are drawn at its end."""
    network = NETWORKS[settings.network]
    model = build_model(settings, len(images.classes)).to(device)
    if distributed.is_main():
        print(_describe(settings, images, model))
    batches = training_batches(settings, images.train, device)
    weights = class_weights(images.train, len(images.classes)).to(device) if settings.balanced else None
    optimizer = make_optimizer(
        settings.optimizer, model.parameters(), settings.lr, settings.l2_decay, settings.momentum
    )
    return Experiment(
        model=model,
        batches=batches,
        optimizer=optimizer,
        scheduler=make_schedule(settings.schedule, optimizer, settings.epochs * len(batches)),
        loss_function=partial(loss_function, weights=weights),
        evaluate=lambda _: evaluate(model, images.val, network, "validation_"),
        monitor="validation_accuracy",
        hashes=images.hashes,
        metadata=weights_metadata(settings),
        summarize=lambda fitted: _summarize(settings, images, model, fitted),
        draw=lambda folder, fitted, _: _draw(f"{images.name}, {network.citation}", model, folder, fitted, drawn_layers),
        report=_report,
    )


def weights_metadata(settings: Settings) -> dict[str, str]:
    """Returns the metadata of the weights file, which is checked when the file is loaded."""
    variant = f"{'-no_maxpool' if settings.no_maxpool else ''}{'-padding2' if settings.padding else ''}"
    return {"homework": HOMEWORK, "network": settings.network + variant}


def training_batches(settings: Settings, train: Split, device: torch.device) -> Batches:
    """Returns shuffled mini-batches of `train`, augmented if settings.augment is true."""
    return data.batches(
        train,
        NETWORKS[settings.network],
        settings.batch_size,
        device=device,
        seed=settings.seed,
        shuffle=True,
        augment=settings.augment,
    )


def class_weights(train: Split, classes: int) -> Tensor:
    """Returns weights (classes,) that give each class of `train` the same total weight, with mean 1 over the images.

    A class without images gets the weight of a class with one image; the mean is then less than 1.
    """
    counts = train.labels.bincount(minlength=classes).clamp(min=1)
    return len(train) / (classes * counts)


def loss_function(
    model: nn.Module, batch: tuple[Tensor, ...], weights: Tensor | None = None
) -> tuple[Tensor, int, dict[str, Tensor]]:
    """Returns the loss on a batch, the number of images, and under "accuracy" the number of correct predictions.

    The loss is the cross entropy, the mean over the images of -log softmax(scores)[label]. `criterion` computes it:
    CrossEntropyLoss from the scores of CifarCNN, NLLLoss from the log-probabilities of the other networks.

    With `weights` (classes,), the loss of each image is multiplied by the weight of its class. The sum is divided by
    the number of images; torch would divide it by the sum of the weights, which differs between the shares of a batch
    that several processes compute.
    """
    images, labels = batch
    outputs = model(images)
    criterion: Any = getattr(model, "module", model).criterion  # under torchrun, `model` is a wrapper of the network
    if weights is None:
        loss = criterion(outputs, labels)
    else:
        losses = type(criterion)(reduction="none")(outputs, labels)  # the loss of each image, (B,)
        loss = (weights[labels] * losses).mean()
    return loss, len(labels), {"accuracy": torch.count_nonzero(outputs.argmax(1) == labels)}


def evaluate(model: SheetCNN, split: Split, network: Network, prefix: str = "") -> Row:
    """Computes the mean loss and the accuracy of `model` on `split`; each process computes a share of every batch.

    The loss has no class weights. `model` must be in eval mode; `network` says how its pixels are scaled. The keys are
    `<prefix>loss` and `<prefix>accuracy`.
    """
    device = next(model.parameters()).device
    sums = torch.zeros(3, dtype=torch.float64, device=device)
    for images, labels in data.batches(split, network, _EVALUATION_BATCH, device=device).epoch(0):
        outputs = model(images)
        loss = model.criterion(outputs, labels).double() * len(labels)
        correct = (outputs.argmax(1) == labels).sum().double()
        # The weight is 1, except where every process has computed the whole batch because it is too small to share.
        sums += torch.stack([loss, correct, torch.full_like(loss, len(labels))]) * distributed.weight()
    loss_sum, correct_sum, count = distributed.sum_over_processes(sums).tolist()
    return {f"{prefix}loss": loss_sum / count, f"{prefix}accuracy": correct_sum / count}


def probabilities(model: SheetCNN, images: Tensor, network: Network) -> Tensor:
    """Returns the probabilities (N, classes) of the classes for images (N, C, H, W) uint8."""
    with torch.inference_mode():
        chunks = [model.scores(data.to_input(chunk, network)) for chunk in images.split(_EVALUATION_BATCH)]
        return torch.cat(chunks).softmax(dim=1)


def _medmnist_numbers(model: SheetCNN, images: ImageData, network: Network) -> Row:
    """Computes accuracy and AUC by medmnist's own functions; there is no AUC if a class has no test image."""
    from medmnist.evaluator import getACC, getAUC  # slow to import

    pixels, labels = images.test.images.to(next(model.parameters()).device), images.test.labels.numpy()
    scores = probabilities(model, pixels, network).float().cpu().numpy()
    if len(set(labels.tolist())) < len(images.classes):
        return {}
    task = images.facts["task"]
    return {_MEDMNIST_ACCURACY: float(getACC(labels, scores, task)), _AUC: float(getAUC(labels, scores, task))}


def _test_numbers(model: SheetCNN, images: ImageData, network: Network) -> Row:
    numbers = evaluate(model, images.test, network, "test_")
    if images.course_subset is not None:
        subset = Split(images.test.images[images.course_subset], images.test.labels[images.course_subset])
        numbers[_SUBSET] = evaluate(model, subset, network)["accuracy"]
    return {**numbers, **_medmnist_numbers(model, images, network)} if images.facts else numbers


def _summarize(settings: Settings, images: ImageData, model: SheetCNN, fitted: Fitted) -> dict[str, Any]:
    network = NETWORKS[settings.network]
    final, best = last_and_best(model, fitted, settings.precision, lambda: _test_numbers(model, images, network))
    return {
        "homework": HOMEWORK,
        "dataset": settings.dataset,
        "data": images.name,
        **images.facts,
        "network": settings.network,
        "classes": list(images.classes),
        "images": {"training": len(images.train), "validation": len(images.val), "test": len(images.test)},
        "parameters": get_number_trainable_params(model),
        "final": final,
        "best": best,
        "speed": {
            "training_seconds": round(fitted.seconds, 2),
            "images_per_second": round(settings.epochs * len(images.train) / fitted.seconds, 1),
        },
    }


def _draw(title: str, model: SheetCNN, folder: Path, fitted: Fitted, drawn_layers: Sequence[str]) -> None:
    from hw_common.runs import figures  # imports matplotlib

    # ist-2021-22-hw2 Q2.2, ist-2023-24-hw2 Q2.1, convnets-2024-a2 Task 1.2
    figures.save(figures.training_curves(fitted.rows, title), folder, "curves")
    model.load_state_dict(fitted.best_weights)
    draw_kernels(title, model, folder, drawn_layers)


def draw_kernels(title: str, model: SheetCNN, folder: Path, layers: Iterable[str]) -> None:
    """Draws the kernels of convolutions, given by their names (ist-2021-22-hw2 Q2.3), into a run folder.

    `model` must have the weights of the best epoch. `hw_cnn.explain kernels` draws the same files.
    """
    from hw_common.runs import image_grids  # imports matplotlib

    for name in layers:
        weights = convolutions(model)[name].weight.detach().float().cpu().numpy()
        image_grids.kernels(folder, name.replace("[", ".").replace("]", ""), weights, f"best epoch, {title}")


def _report(summary: dict[str, Any]) -> list[str]:
    lines = [
        f"{title} ({numbers['epoch']}): validation accuracy {numbers['validation_accuracy']:.4f}, "
        f"test accuracy {numbers['test_accuracy']:.4f}"
        + (f", on the course's 529 images {numbers[_SUBSET]:.4f}" if _SUBSET in numbers else "")
        + (f", AUC {numbers[_AUC]:.4f}" if _AUC in numbers else "")
        for title, numbers in (("last epoch", summary["final"]), ("best epoch", summary["best"]))
    ]
    speed = summary["speed"]
    return [*lines, f"{speed['training_seconds']:.1f} s of training, {speed['images_per_second']:.0f} images a second"]


def _describe(settings: Settings, images: ImageData, model: SheetCNN) -> str:
    return (
        f"{images.name}: {len(images.train)} training, {len(images.val)} validation, {len(images.test)} test images "
        f"in {len(images.classes)} classes\n"
        f"network {settings.network} with {get_number_trainable_params(model)} parameters; {settings.epochs} epochs "
        f"of {settings.optimizer}, learning rate {settings.lr:g}, batch {settings.batch_size}, seed {settings.seed}"
    )
