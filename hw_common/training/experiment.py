"""A training run, from the checked arguments to the summary.

Each homework prepares an `Experiment`; `run_experiment` trains it and writes the run folder.
"""

import argparse
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from hw_common.runs import checkpoints, launch
from hw_common.runs.config import check_same_data, check_same_host, describe
from hw_common.runs.errors import Stopped, signal_of
from hw_common.runs.roles import Role
from hw_common.runs.run_folder import LAST, Run
from hw_common.training import determinism, distributed
from hw_common.training.loop import Fitted, Row, Training, fit
from hw_common.training.memory import keep_freed_memory
from hw_common.training.precision import autocast, warn_if_replaced
from hw_common.training.startup import skip_compiler
from hw_common.training.threads import threads_for

Optimizer = torch.optim.Optimizer
Result = TypeVar("Result")
Scheduler = torch.optim.lr_scheduler.LRScheduler


@dataclass(kw_only=True)
class Experiment(Training):
    """All that one training run needs: `Training`, and the functions that turn its result into numbers and figures."""

    hashes: Mapping[str, str]  # SHA-256 of each data file, by its name
    summarize: Callable[
        [Fitted], dict[str, Any]
    ]  # computes the final metrics in all processes; does not change the weights
    draw: Callable[[Path, Fitted, dict[str, Any]], None]  # draws the figures into a folder, in the main process
    report: Callable[[dict[str, Any]], list[str]]  # returns lines that describe the summary to the user


@dataclass(frozen=True)
class RunSettings:
    """The settings that the training commands of all homeworks share."""

    epochs: int  # number of passes over the training data
    precision: str  # "fp32", or "bf16" for automatic mixed precision
    seed: int  # fixes every random choice
    device: str  # "auto", "cpu" or "cuda"
    threads: int | None  # CPU threads of each process; None for a number chosen from the work in a step
    results_dir: Path  # run folders are made in <results_dir>/<homework>
    name: str  # name of the run folder
    resume: Path | None  # run folder to resume; None for a new run
    save_minutes: float  # longest time between two checkpoints within an epoch, in minutes
    overwrite: bool  # whether a new run replaces the run folder of that name
    tensorboard: bool  # whether TensorBoard events are written into the run folder
    dry_run: bool  # whether to take one step only, without a run folder
    arguments: Mapping[str, Any]  # all arguments of the command, for config.json
    roles: Mapping[str, Role]  # the role of each of `arguments`

    @classmethod
    def from_arguments(cls, arguments: argparse.Namespace, roles: Mapping[str, Role]) -> "RunSettings":
        """Picks these settings out of the checked arguments of a training command."""
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
        settings: settings of the run.
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
        if distributed.is_main():
            warn_if_replaced(device, settings.precision)
        experiment = prepare(device)
        if settings.threads is None:
            torch.set_num_threads(threads_for(experiment, device))
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
            experiment,
            settings.epochs,
            settings.precision,
            run=run,
            resume=state,
            save_minutes=settings.save_minutes,
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
    """Returns the run folder, open for writing (in the main process only), and the state to resume from, if any."""
    kind = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    host = {"device": kind, "threads": torch.get_num_threads(), "processes": distributed.world_size()}
    resume, config = settings.resume, {}
    if resume is None:
        if distributed.is_main():
            config = describe(homework, command, settings.arguments, settings.roles, hashes, host)
            config["job"] = launch.job()
        resume = _folder_before_restart(settings, config, device)
    if resume is None:
        if not distributed.is_main():
            return None, None
        return Run.create(settings.results_dir, config, settings.name, overwrite=settings.overwrite), None
    open_run = Run.reopen if distributed.is_main() else Run.open
    run = open_run(resume, homework)
    check_same_data(run, hashes)
    check_same_host(run, host)
    last = run.folder / LAST
    return run if distributed.is_main() else None, checkpoints.load_state(last) if last.is_file() else None


def _folder_before_restart(settings: RunSettings, config: Mapping[str, Any], device: torch.device) -> Path | None:
    """Returns the folder in which this training ran before torchrun restarted its processes; None without a restart.

    torchrun counts only the restarts after a failure on the same machine, so the counts of all machines are summed.
    """
    restarts = torch.tensor([float(launch.restarts())], device=device)
    if not distributed.sum_over_processes(restarts).item():
        return None
    found = None
    if distributed.is_main():
        found = Run.find_of_job(settings.results_dir, config, settings.name)
        if found is not None:
            print(f"torchrun has restarted this training; it resumes in {found}", flush=True)
    return distributed.from_main(found)


def _conclude(experiment: Experiment, run: Run | None, fitted: Fitted) -> dict[str, Any]:
    """Evaluates and draws after training. After an interruption, a resumed run repeats these steps from last.pt."""
    try:
        summary = experiment.summarize(fitted)
        if run is None:
            return summary
        experiment.draw(run.folder, fitted, summary)
        run.write_summary({"name": run.folder.name, **summary})  # last: it marks the run as finished
        print("\n".join([*experiment.report(summary), f"all results are in {run.folder}"]))
        return summary
    except KeyboardInterrupt as interrupt:
        how = f"; resume with: {run.resume_command}" if run is not None else ""
        message = f"stopped after training, before the final evaluation was done{how}"
        raise Stopped(signal_of(interrupt), message) from None


def _dry_run(precision: str, experiment: Experiment, device: torch.device) -> Row:
    """Takes one training step and validates once, to check that the parts fit together; writes nothing."""
    model = experiment.model
    batch = next(iter(experiment.batches.epoch(0)))
    with autocast(device, precision):
        loss, count, _ = experiment.loss_function(model, batch)
    loss.backward()
    experiment.optimizer.step()
    numbers = evaluate_once(model, precision, lambda: experiment.evaluate(model))
    if distributed.is_main():
        print(f"dry run: one step on {count} examples, loss {loss.item():.4f}; everything fits; no run folder was made")
    return numbers


def evaluate_once(model: nn.Module, precision: str, evaluate: Callable[[], Result]) -> Result:
    """Calls `evaluate` with `model` in eval mode, under inference_mode and with the given precision."""
    model.eval()
    with torch.inference_mode(), autocast(next(model.parameters()).device, precision):
        return evaluate()


def last_and_best(
    model: nn.Module, fitted: Fitted, precision: str, evaluate: Callable[[], Row]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the metrics of the last and of the best epoch, each with the metrics of `evaluate` on the test data.

    At the end, `model` has the weights of the last epoch again.
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
    name: str,
    parameters: Iterable[Tensor] | list[dict[str, Any]],
    lr: float,
    l2_decay: float,
    momentum: float = 0,
    nesterov: bool = True,
) -> Optimizer:
    """Makes the optimizer of `--optimizer sgd|adam|adamw`; sgd has Nesterov's or classical momentum.

    Fused optimizers update all parameters with one kernel.
    """
    skip_compiler()
    if name == "sgd":
        has_momentum = momentum > 0
        fused = has_momentum or l2_decay > 0  # plain SGD takes less time than the preparation of the fused kernel
        return torch.optim.SGD(
            parameters, lr, momentum, weight_decay=l2_decay, nesterov=nesterov and has_momentum, fused=fused
        )
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[name]
    return kind(parameters, lr, weight_decay=l2_decay, fused=True)


def make_schedule(name: str, optimizer: Optimizer, steps: int) -> Scheduler | None:
    """Makes a learning rate schedule; None for a constant rate.

    Args:
        name: "constant", "cosine" or "linear". "cosine" warms up during a twentieth of the steps and ends at 0.
            "linear" warms up from a hundredth of the rate during 15 % of the steps, and then decreases linearly to a
            hundredth.
        optimizer: the optimizer whose learning rate changes.
        steps: number of steps of the whole training.
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
