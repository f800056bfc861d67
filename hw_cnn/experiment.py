"""One training run from checked arguments to its summary."""

import argparse
from typing import Any

import torch
from torch import Tensor, nn

from hw_cnn import data, plots
from hw_cnn.data import ImageData, Split
from hw_cnn.models import CifarCNN, FashionCNN, OctCNN, get_number_trainable_params
from hw_cnn.presets import NETWORKS
from hw_cnn.train import COMMAND, HOMEWORK
from hw_common import checkpoints, determinism, distributed, runs
from hw_common.errors import Stopped, UserError, signal_of
from hw_common.runs import LAST, Run
from hw_common.training import Fitted, Row, autocast, fit

_EVALUATION_BATCH = 1000


def build_model(arguments: argparse.Namespace, classes: int) -> nn.Module:
    """The network that `arguments` describe, with `classes` outputs."""
    if arguments.network == "fashion":
        model: nn.Module = FashionCNN(arguments.dropout, classes)
    elif arguments.network == "oct":
        model = OctCNN(arguments.dropout, arguments.no_maxpool, classes)
    else:
        model = CifarCNN(arguments.padding, classes)
    return model.to(memory_format=torch.channels_last)


def run_experiment(arguments: argparse.Namespace) -> dict[str, Any]:
    """Trains, evaluates and draws; returns what summary.json holds.

    Raises:
        UserError: the data or the run folder cannot be used, or training diverges.
        Stopped: on SIGINT or SIGTERM, after saving.
    """
    device = determinism.set_up(arguments.seed, arguments.device, arguments.threads)
    distributed.start(device)
    try:
        images = data.load(arguments.dataset, arguments.data_dir, NETWORKS[arguments.network], arguments.seed)
        model = build_model(arguments, len(images.classes)).to(device)
        _announce(arguments, images, model)
        if arguments.dry_run:
            return _dry_run(arguments, images, model)
        return _train(arguments, images, model)
    finally:
        distributed.stop()


def _train(arguments: argparse.Namespace, images: ImageData, model: nn.Module) -> dict[str, Any]:
    batches = training_batches(arguments, images, model)
    optimizer, scheduler = make_optimizer(arguments, model, arguments.epochs * len(batches))
    run, state = _open_run(arguments, images, _device(model))
    try:
        fitted = fit(
            model,
            optimizer,
            batches,
            loss_function,
            lambda model: evaluate(model, images.val, arguments, prefix="validation_"),
            epochs=arguments.epochs,
            monitor="validation_accuracy",
            run=run,
            resume=state,
            metadata=weights_metadata(arguments),
            scheduler=scheduler,
            precision=arguments.precision,
            tensorboard=arguments.tensorboard,
        )
        return _conclude(arguments, images, model, run, fitted)
    except BaseException:
        if run is not None and arguments.resume is None:
            run.discard_if_empty()
        raise
    finally:
        if run is not None:
            run.close()


def _open_run(
    arguments: argparse.Namespace, images: ImageData, device: torch.device
) -> tuple[Run | None, dict[str, Any] | None]:
    """The run folder (main process only) and, where there is something to go on from, the state to go on from."""
    host = {"device": device.type, "threads": torch.get_num_threads(), "processes": distributed.world_size()}
    if arguments.resume is None:
        if not distributed.is_main():
            return None, None
        config = runs.describe(HOMEWORK, COMMAND, vars(arguments), images.hashes, host)
        return Run.create(arguments.results_dir, config, arguments.name, overwrite=arguments.overwrite), None
    open_run = Run.reopen if distributed.is_main() else Run.open
    run = open_run(arguments.resume, HOMEWORK)
    runs.check_same_data(run, images.hashes)
    runs.check_same_host(run, host)
    last = run.folder / LAST
    return run if distributed.is_main() else None, checkpoints.load_state(last) if last.is_file() else None


def _conclude(
    arguments: argparse.Namespace, images: ImageData, model: nn.Module, run: Run | None, fitted: Fitted
) -> dict[str, Any]:
    """What comes after training: all of it is done again, from last.pt, if a signal interrupts it."""
    try:
        summary = _summarize(arguments, images, model, fitted)
        if run is not None:
            _finish(arguments, images, model, run, fitted, summary)
        return summary
    except KeyboardInterrupt as interrupt:
        how = f"; go on with: {run.resume_command}" if run is not None else ""
        message = f"stopped after training, before the final evaluation was done{how}"
        raise Stopped(signal_of(interrupt), message) from None


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


def make_optimizer(
    arguments: argparse.Namespace, model: nn.Module, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler | None]:
    """The optimizer that `arguments` describe and, for `--schedule cosine`, a warm-up and decay over `steps`."""
    common = {"lr": arguments.lr, "weight_decay": arguments.l2_decay, "fused": True}
    if arguments.optimizer == "adam":
        optimizer: torch.optim.Optimizer = torch.optim.Adam(model.parameters(), **common)
    else:
        nesterov = arguments.momentum > 0
        optimizer = torch.optim.SGD(model.parameters(), momentum=arguments.momentum, nesterov=nesterov, **common)
    if arguments.schedule == "constant":
        return optimizer, None
    warm_up = max(1, steps // 20)
    ramp = torch.optim.lr_scheduler.LinearLR(optimizer, 0.05, total_iters=warm_up)
    fall = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps - warm_up))
    return optimizer, torch.optim.lr_scheduler.SequentialLR(optimizer, [ramp, fall], [warm_up])


def loss_function(model: nn.Module, batch: tuple[Tensor, ...]) -> tuple[Tensor, int, dict[str, Tensor]]:
    """What `fit` minimizes: the network's own criterion, with the number of right answers beside it."""
    images, labels = batch
    outputs = model(images)
    criterion = getattr(model, "module", model).criterion
    return criterion(outputs, labels), len(labels), {"accuracy": (outputs.detach().argmax(1) == labels).sum()}


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
    model.eval()
    with torch.inference_mode(), autocast(_device(model), arguments.precision):
        numbers = evaluate(model, images.test, arguments, "test_")
        if images.course_subset is not None:
            subset = Split(images.test.images[images.course_subset], images.test.labels[images.course_subset])
            numbers["test_accuracy_course_subset"] = evaluate(model, subset, arguments)["accuracy"]
    return numbers


def _summarize(arguments: argparse.Namespace, images: ImageData, model: nn.Module, fitted: Fitted) -> dict[str, Any]:
    """The final numbers; afterwards `model` holds the last epoch's weights again."""

    def numbers_of(row: Row) -> Row:
        kept = {name: value for name, value in row.items() if name != "seconds"}
        return {**kept, **_test_numbers(model, images, arguments)}

    final = numbers_of(fitted.rows[-1])
    last_weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.load_state_dict(fitted.best_weights)
    best = numbers_of(fitted.rows[fitted.best_epoch - 1])
    model.load_state_dict(last_weights)
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


def _finish(
    arguments: argparse.Namespace,
    images: ImageData,
    model: nn.Module,
    run: Run,
    fitted: Fitted,
    summary: dict[str, Any],
) -> None:
    """Draws the figures, then writes the summary, which marks the run as finished."""
    what = f"{images.name}, {NETWORKS[arguments.network].source}"
    plots.training_curves(run.folder, fitted.rows, what)
    for name in filter(None, (arguments.conv_1_name, arguments.conv_2_name)):
        plots.kernels(run.folder, model, name, what)
    run.write_summary({"name": run.folder.name, **summary})
    subset = "test_accuracy_course_subset"
    for title, numbers in (("last epoch", summary["final"]), ("best epoch", summary["best"])):
        print(
            f"{title} ({numbers['epoch']}): validation accuracy {numbers['validation_accuracy']:.4f}, "
            f"test accuracy {numbers['test_accuracy']:.4f}"
            + (f", on the course's 529 images {numbers[subset]:.4f}" if subset in numbers else "")
        )
    speed = summary["speed"]
    print(f"{speed['training_seconds']:.1f} s of training, {speed['images_per_second']:.0f} images a second")
    print(f"all of it is in {run.folder}")


def _announce(arguments: argparse.Namespace, images: ImageData, model: nn.Module) -> None:
    if not distributed.is_main():
        return
    print(
        f"{images.name}: {len(images.train)} training, {len(images.val)} validation, {len(images.test)} test images "
        f"in {len(images.classes)} classes\n"
        f"network {arguments.network} with {get_number_trainable_params(model)} parameters; {arguments.epochs} epochs "
        f"of {arguments.optimizer}, learning rate {arguments.lr:g}, batch {arguments.batch_size}, seed {arguments.seed}"
    )


def _dry_run(arguments: argparse.Namespace, images: ImageData, model: nn.Module) -> dict[str, Any]:
    """One training step and one evaluation, to see that everything fits together; writes nothing."""
    batch = next(iter(training_batches(arguments, images, model).epoch(0)))
    optimizer, _ = make_optimizer(arguments, model, steps=1)
    with autocast(_device(model), arguments.precision):
        loss, count, _ = loss_function(model, batch)
    loss.backward()
    optimizer.step()
    numbers = _test_numbers(model, images, arguments)
    if distributed.is_main():
        print(f"dry run: one step on {count} images, loss {loss.item():.4f}; everything fits, nothing was written")
    return numbers
