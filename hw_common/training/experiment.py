"""One training run from checked arguments to its summary: what all homeworks have in common.

A homework prepares an `Experiment`; `run_experiment` does the rest.
"""

import argparse
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from hw_common.runs import checkpoints
from hw_common.runs.config import check_same_data, check_same_host, describe
from hw_common.runs.errors import Stopped, signal_of
from hw_common.runs.roles import Role
from hw_common.runs.run_folder import LAST, Run
from hw_common.training import determinism, distributed
from hw_common.training.batches import EpochBatches
from hw_common.training.loop import Fitted, LossFunction, Row, fit
from hw_common.training.memory import keep_freed_memory
from hw_common.training.precision import autocast

Optimizer = torch.optim.Optimizer
Result = TypeVar("Result")
Scheduler = torch.optim.lr_scheduler.LRScheduler


@dataclass
class Experiment:
    """What a homework gives to be trained.

    Attributes:
        model: on its device.
        batches: the training data.
        optimizer: over the model's parameters.
        loss_function: see `hw_common.training.loop.fit`.
        evaluate: the validation numbers of an epoch; see `fit`.
        monitor: which of them picks the best epoch; higher is better.
        hashes: of the data files, by name.
        metadata: whose weights these are: what a weights file says about itself.
        summarize: the final numbers, computed by all processes; leaves the model as it finds it.
        draw: writes the figures into a folder, in the main process.
        report: lines about the summary for the user.
        scheduler: stepped after every optimizer step.
        clip_value: largest absolute value of any element of the gradient.
        clip_norm: largest norm of the whole gradient.
    """

    model: nn.Module
    batches: EpochBatches
    optimizer: Optimizer
    loss_function: LossFunction
    evaluate: Callable[[nn.Module], Row]
    monitor: str
    hashes: Mapping[str, str]
    metadata: Mapping[str, str]
    summarize: Callable[[Fitted], dict[str, Any]]
    draw: Callable[[Path, Fitted, dict[str, Any]], None]
    report: Callable[[dict[str, Any]], list[str]]
    scheduler: Scheduler | None = None
    clip_value: float | None = None
    clip_norm: float | None = None


@dataclass(frozen=True)
class RunSettings:
    """The settings that every training has, whatever its homework.

    Attributes:
        epochs: number of passes over the training data.
        precision: "fp32", or "bf16" for automatic mixed precision.
        seed: fixes every random choice.
        device: "auto", "cpu" or "cuda".
        threads: CPU threads of each process; None for an equal share of the cores.
        results_dir: run folders are made in <results_dir>/<homework>.
        name: name of the run folder.
        resume: the run folder to resume; None for a new run.
        overwrite: whether a new run replaces the run folder of that name.
        tensorboard: whether TensorBoard events are written into the run folder.
        dry_run: whether to take one step only, without a run folder.
        arguments: all arguments of the command, for config.json.
        roles: role of each argument.
    """

    epochs: int
    precision: str
    seed: int
    device: str
    threads: int | None
    results_dir: Path
    name: str
    resume: Path | None
    overwrite: bool
    tensorboard: bool
    dry_run: bool
    arguments: Mapping[str, Any]
    roles: Mapping[str, Role]

    @classmethod
    def from_arguments(cls, arguments: argparse.Namespace, roles: Mapping[str, Role]) -> "RunSettings":
        """The settings among the checked arguments of a training command."""
        values = vars(arguments)
        names = (setting.name for setting in fields(cls) if setting.name not in ("arguments", "roles"))
        return cls(**{name: values[name] for name in names}, arguments=values, roles=roles)


def run_experiment(
    homework: str, command: str, settings: RunSettings, prepare: Callable[[torch.device], Experiment]
) -> dict[str, Any]:
    """Trains, evaluates and draws.

    Args:
        homework: name of the package, for example "hw_cnn".
        command: the module that `python -m` runs to resume the run, for example "hw_cnn.train".
        settings: of the run.
        prepare: makes the experiment on the given device.

    Returns:
        The content of summary.json; after a dry run, the validation metrics.

    Raises:
        UserError: the data or the run folder cannot be used, or training diverges.
        Stopped: on SIGINT or SIGTERM, after saving.
    """
    device = determinism.set_up(settings.seed, settings.device, settings.threads)
    keep_freed_memory()
    distributed.start(device)
    try:
        experiment = prepare(device)
        if settings.dry_run:
            return _dry_run(settings.precision, experiment, device)
        return _train(homework, command, settings, experiment, device)
    finally:
        distributed.stop()


def _train(
    homework: str, command: str, settings: RunSettings, experiment: Experiment, device: torch.device
) -> dict[str, Any]:
    run, state = _open_run(homework, command, settings, experiment.hashes, device)
    try:
        fitted = fit(
            experiment.model,
            experiment.optimizer,
            experiment.batches,
            experiment.loss_function,
            experiment.evaluate,
            epochs=settings.epochs,
            monitor=experiment.monitor,
            run=run,
            resume=state,
            metadata=experiment.metadata,
            scheduler=experiment.scheduler,
            clip_value=experiment.clip_value,
            clip_norm=experiment.clip_norm,
            precision=settings.precision,
            tensorboard=settings.tensorboard,
        )
        return _conclude(experiment, run, fitted)
    except BaseException:
        if run is not None and settings.resume is None:
            run.discard_if_empty()
        raise
    finally:
        if run is not None:
            run.close()


def _open_run(
    homework: str, command: str, settings: RunSettings, hashes: Mapping[str, str], device: torch.device
) -> tuple[Run | None, dict[str, Any] | None]:
    """The run folder (main process only) and, where there is something to go on from, the state to go on from."""
    kind = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    host = {"device": kind, "threads": torch.get_num_threads(), "processes": distributed.world_size()}
    if settings.resume is None:
        if not distributed.is_main():
            return None, None
        config = describe(homework, command, settings.arguments, settings.roles, hashes, host)
        return Run.create(settings.results_dir, config, settings.name, overwrite=settings.overwrite), None
    open_run = Run.reopen if distributed.is_main() else Run.open
    run = open_run(settings.resume, homework)
    check_same_data(run, hashes)
    check_same_host(run, host)
    last = run.folder / LAST
    return run if distributed.is_main() else None, checkpoints.load_state(last) if last.is_file() else None


def _conclude(experiment: Experiment, run: Run | None, fitted: Fitted) -> dict[str, Any]:
    """What comes after training: all of it is done again, from last.pt, if a signal interrupts it."""
    try:
        summary = experiment.summarize(fitted)
        if run is None:
            return summary
        experiment.draw(run.folder, fitted, summary)
        run.write_summary({"name": run.folder.name, **summary})  # last: it marks the run as finished
        print("\n".join([*experiment.report(summary), f"all of it is in {run.folder}"]))
        return summary
    except KeyboardInterrupt as interrupt:
        how = f"; go on with: {run.resume_command}" if run is not None else ""
        message = f"stopped after training, before the final evaluation was done{how}"
        raise Stopped(signal_of(interrupt), message) from None


def _dry_run(precision: str, experiment: Experiment, device: torch.device) -> Row:
    """One training step and one validation, to see that everything fits together; writes nothing."""
    model = experiment.model
    batch = next(iter(experiment.batches.epoch(0)))
    with autocast(device, precision):
        loss, count, _ = experiment.loss_function(model, batch)
    loss.backward()
    experiment.optimizer.step()
    numbers = evaluate_once(model, precision, lambda: experiment.evaluate(model))
    if distributed.is_main():
        print(f"dry run: one step on {count} examples, loss {loss.item():.4f}; everything fits, no run was made")
    return numbers


def evaluate_once(model: nn.Module, precision: str, evaluate: Callable[[], Result]) -> Result:
    """What `evaluate` returns with `model` in eval mode, under inference_mode, at the given precision."""
    model.eval()
    with torch.inference_mode(), autocast(next(model.parameters()).device, precision):
        return evaluate()


def last_and_best(
    model: nn.Module, fitted: Fitted, precision: str, evaluate: Callable[[], Row]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The metrics of the last and of the best epoch, each with what `evaluate` adds (numbers on the test data).

    Afterwards `model` holds the last epoch's weights again.
    """

    def numbers_of(row: Row) -> Row:
        kept = {name: value for name, value in row.items() if name != "seconds"}
        return {**kept, **evaluate_once(model, precision, evaluate)}

    last = numbers_of(fitted.rows[-1])
    if fitted.best_epoch == len(fitted.rows):
        return last, dict(last)
    last_weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.load_state_dict(fitted.best_weights)
    best = numbers_of(fitted.rows[fitted.best_epoch - 1])
    model.load_state_dict(last_weights)
    return last, best


def make_optimizer(
    name: str, parameters: Iterable[Tensor] | list[dict[str, Any]], lr: float, l2_decay: float, momentum: float = 0
) -> Optimizer:
    """The optimizer of `--optimizer sgd|adam|adamw` (fused: one kernel for all parameters); momentum is Nesterov's."""
    common = {"lr": lr, "weight_decay": l2_decay, "fused": True}
    if name == "sgd":
        # One operation for each parameter is all that plain SGD does; to prepare the fused kernel takes longer.
        common["fused"] = momentum > 0 or l2_decay > 0
        return torch.optim.SGD(parameters, momentum=momentum, nesterov=momentum > 0, **common)
    return {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[name](parameters, **common)


def make_schedule(name: str, optimizer: Optimizer, steps: int) -> Scheduler | None:
    """The schedule of `--schedule constant|cosine`, or "linear", over `steps`.

    "cosine" warms up for a twentieth of them and ends at 0; "linear" warms up for 15 % of them from a hundredth of the
    rate, and falls in a straight line to a hundredth.
    """
    if name == "constant":
        return None
    schedules = torch.optim.lr_scheduler
    if name == "linear":
        warm_up = max(1, steps * 15 // 100)
        ramp = schedules.LinearLR(optimizer, 0.01, total_iters=warm_up)
        fall: Scheduler = schedules.LinearLR(optimizer, 1, 0.01, max(1, steps - warm_up))
    else:
        warm_up = max(1, steps // 20)
        ramp = schedules.LinearLR(optimizer, 0.05, total_iters=warm_up)
        fall = schedules.CosineAnnealingLR(optimizer, max(1, steps - warm_up))
    return schedules.SequentialLR(optimizer, [ramp, fall], [warm_up])
