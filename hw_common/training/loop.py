"""The training loop of all homeworks.

A run that is interrupted anywhere and resumed ends with the same bits as a run without interruption.
"""

import contextlib
import math
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from tqdm import tqdm

from hw_common.runs import checkpoints
from hw_common.runs.errors import Stopped, UserError
from hw_common.runs.run_folder import BEST, LAST, Run
from hw_common.training import distributed
from hw_common.training.batches import EpochBatches
from hw_common.training.determinism import generator_states, restore_generators
from hw_common.training.precision import autocast
from hw_common.training.progress import Progress, progress_bar, tensorboard_writer
from hw_common.training.progress import Row as Row
from hw_common.training.saving import StateWriter
from hw_common.training.signals import StopNow, StopSignals
from hw_common.training.updates import Updater, read_together

# Takes the model and a batch; returns the mean loss over the examples, the number of examples, and the sums over the
# examples of further metrics. `training_<name>` reports the epoch's sum divided by its number of examples. The values
# come from the forward passes of training: dropout is on, and the weights change from batch to batch. Validation uses
# the weights at the end of the epoch.
LossFunction = Callable[[nn.Module, tuple[Tensor, ...]], tuple[Tensor, int, Mapping[str, Tensor]]]

Amounts = dict[str, Tensor | float]  # the number of examples of a batch, and sums over them


@dataclass(kw_only=True)
class Training:
    """A model with everything that its training needs."""

    model: nn.Module  # the model, on its device
    batches: EpochBatches  # training data
    optimizer: torch.optim.Optimizer  # optimizer of the trainable parameters
    scheduler: torch.optim.lr_scheduler.LRScheduler | None = None  # learning rate schedule, stepped after every step
    loss_function: LossFunction
    # Computes the validation metrics of the model, which is in eval mode under inference_mode. With several processes,
    # the function itself sums over them.
    evaluate: Callable[[nn.Module], Row]
    monitor: str  # validation metric that decides which epoch is best; higher is better
    metadata: Mapping[str, str] = field(default_factory=dict)  # stored in best.safetensors, checked on loading
    clip_value: float | None = None  # maximum absolute value of each element of the gradient
    clip_norm: float | None = None  # maximum norm of the gradient of all parameters together


@dataclass
class Fitted:
    """The result of `fit`. The model itself holds the weights of the last epoch."""

    rows: list[Row]  # metrics of each epoch, as in metrics.csv
    best_epoch: int  # number of the epoch with the best monitored metric, counted from 1; the first one if several tie
    best_weights: dict[str, Tensor]  # state dict of the best epoch
    seconds: float  # training time without validation, including the time before interruptions


def fit(
    training: Training,
    epochs: int,
    precision: str = "fp32",
    *,
    run: Run | None = None,
    resume: Mapping[str, Any] | None = None,
    save_minutes: float = 10,
    tensorboard: bool = False,
) -> Fitted:
    """Trains the model of `training`.

    Args:
        training: model, data and optimization.
        epochs: number of epochs, including those before an interruption.
        precision: "fp32", or "bf16" for automatic mixed precision.
        run: run folder for checkpoints and metrics; None in processes that write nothing.
        resume: content of last.pt of an interrupted run.
        save_minutes: longest time in minutes between two checkpoints within an epoch; each epoch ends with one too.
        tensorboard: whether TensorBoard events are written into the run folder.

    Raises:
        Stopped: on SIGINT or SIGTERM, after saving. The current step is finished first; a validation is broken off, and
            a resumed run repeats it.
        UserError: the loss or a gradient is not finite (the optimizer has not stepped), a validation metric is not
            finite, `resume` does not fit the model and the data, or the disk is full.
    """
    writer = StateWriter(run.folder / LAST if run is not None else None, save_minutes)
    trainer = _Trainer(training, epochs, precision, run, writer)
    if resume is not None:
        trainer.restore(resume)
    with contextlib.ExitStack() as stack:
        stack.enter_context(writer)
        trainer.signals = stack.enter_context(StopSignals())
        if tensorboard and run is not None:
            trainer.log = stack.enter_context(tensorboard_writer(run)).add_scalar
        return trainer.train()


@dataclass
class _Trainer:
    training: Training
    epochs: int
    precision: str
    run: Run | None
    writer: StateWriter
    at: Progress = field(default_factory=Progress)
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    log: Callable[[str, float, int], None] = lambda name, value, epoch: None

    def __post_init__(self) -> None:
        self.signals = StopSignals()
        self.model, training = self.training.model, self.training
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.updater = Updater(
            training.optimizer, training.scheduler, parameters, training.clip_value, training.clip_norm
        )
        self.device = parameters[0].device
        self.parallel = distributed.parallelize(self.model, self.device)

    def train(self) -> Fitted:
        while self.at.epoch < self.epochs:
            self._train_epoch()
            self._finish_epoch(self._validate())
        return Fitted(self.at.rows, self.at.best_epoch, self.best_weights, self.at.seconds)

    def _train_epoch(self) -> None:
        at = self.at
        self.parallel.train()
        with progress_bar(f"epoch {at.epoch + 1}/{self.epochs}", len(self.training.batches), at.step) as bar:
            started = time.perf_counter()
            for batch in self.training.batches.epoch(at.epoch, at.step):
                stop, save = self._step(batch)
                at.step += 1
                bar.update()
                if stop or save:
                    started = self._count_time(started)
                    self._save()
                if stop:
                    self._stop()
            self._count_time(started)

    def _count_time(self, started: float) -> float:
        """Adds the time since `started` to the epoch's time; returns the time now."""
        now = time.perf_counter()
        self.at.epoch_seconds += now - started
        return now

    def _step(self, batch: tuple[Tensor, ...]) -> tuple[bool, bool]:
        """Forward pass, loss, backward pass and optimizer step on a batch.

        Returns whether to stop after this step, and whether to save; all processes return the same.
        """
        self.updater.clear_gradients()  # before the forward pass, which then finds larger free blocks of memory
        with autocast(self.device, self.precision):
            loss, count, sums = self.training.loss_function(self.parallel, batch)
        # On a GPU, reading a number waits until all kernels have ended, so numbers are read together and late. On a
        # CPU, reading costs nothing.
        summed_loss = loss.item() * count if self.device.type == "cpu" else loss.detach().double() * count
        scaled, amounts, stop, save = self._agree(loss, {"examples": count, "loss": summed_loss, **sums})
        scaled.backward()
        # `size` is finite only if all gradients are.
        size, *totals = read_together([self.updater.measure_and_clip(), *amounts.values()])
        for name, total in zip(amounts, totals, strict=True):
            if not math.isfinite(total):
                raise self._not_finite("loss")
            self.at.sums[name] = self.at.sums.get(name, 0.0) + total
        if not math.isfinite(size):
            raise self._not_finite("gradient")
        self.updater.update()  # does what optimizer.step() and scheduler.step() do
        return stop or (distributed.world_size() == 1 and self.signals.received is not None), save

    def _agree(self, loss: Tensor, amounts: Amounts) -> tuple[Tensor, Amounts, bool, bool]:
        """Sums the amounts over all processes, and scales the loss.

        Args:
            loss: the mean loss of this process's share.
            amounts: the number of examples in this share, and sums over them.

        Returns:
            The loss, scaled so that the mean of the processes' gradients is the gradient of the whole batch; the
            amounts of the whole batch; whether one of several processes has to stop (False for a single process);
            whether the main process is to save.
        """
        if distributed.world_size() == 1:
            return loss, amounts, False, self.writer.is_due()
        own = [amount * distributed.weight() for amount in read_together(list(amounts.values()))]
        *totals, stops, saves = self._sum_over_processes([*own, self._stop_vote(), float(self.writer.is_due())])
        scale = own[0] * distributed.world_size() / totals[0]
        return loss * scale, dict(zip(amounts, totals, strict=True)), stops > 0, saves > 0

    def _stop_vote(self) -> float:
        return float(self.signals.received is not None)

    def _sum_over_processes(self, values: list[float]) -> list[float]:
        return distributed.sum_over_processes(torch.tensor(values, dtype=torch.float64, device=self.device)).tolist()

    def _not_finite(self, what: str) -> UserError:
        smaller = self.updater.learning_rate() / 10
        return UserError(
            f"the {what} is not finite at epoch {self.at.epoch + 1}, step {self.at.step + 1}; this step did not "
            f"change the weights. Try a smaller learning rate, for example --lr {smaller:g}"
        )

    def _validate(self) -> Row:
        """Computes the validation metrics of the epoch.

        A signal ends the validation at once, because a resumed run repeats the validation.
        """
        generators = generator_states()
        self.model.eval()
        try:
            with torch.inference_mode(), autocast(self.device, self.precision), self.signals.immediate():
                return self.training.evaluate(self.model)
        except StopNow:
            restore_generators(generators)
            self._save()
            self._stop()

    def _finish_epoch(self, validation: Row) -> None:
        at = self.at
        bad = [name for name, value in validation.items() if not math.isfinite(value)]
        if bad:
            smaller = self.updater.learning_rate() / 10
            raise UserError(f"{bad[0]} is not finite after epoch {at.epoch + 1}. Try a smaller --lr, say {smaller:g}")
        examples = at.sums.pop("examples")
        training = {f"training_{name}": total / examples for name, total in at.sums.items()}
        row = {"epoch": at.epoch + 1, **training, **validation, "seconds": round(at.epoch_seconds, 3)}
        at.rows.append(row)
        at.seconds += at.epoch_seconds
        at.epoch, at.step, at.sums, at.epoch_seconds = at.epoch + 1, 0, {}, 0.0
        if validation[self.training.monitor] > at.best_value:
            at.best_value, at.best_epoch = validation[self.training.monitor], at.epoch
            self.best_weights = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
            if self.run is not None:
                checkpoints.save_weights(self.run.folder / BEST, self.best_weights, self.training.metadata)
        self._save()
        self.writer.wait()
        self._report(row)
        if self._sum_over_processes([self._stop_vote()])[0]:
            self._stop()

    def _report(self, row: Row) -> None:
        if not distributed.is_main():
            return
        numbers = "  ".join(
            f"{name.replace('_', ' ')} {value:.4f}" for name, value in row.items() if name not in ("epoch", "seconds")
        )
        tqdm.write(f"epoch {row['epoch']:{len(str(self.epochs))}}/{self.epochs}  {numbers}  {row['seconds']:.1f} s")
        for name, value in row.items():
            if name != "epoch":
                self.log(name, value, self.at.epoch)

    def _save(self) -> None:
        if self.run is not None:
            self.run.write_metrics(self.at.rows)
        self.writer.save(self._state)

    def _state(self) -> dict[str, Any]:
        return {
            "progress": vars(self.at),
            "metadata": dict(self.training.metadata),
            "model": self.model.state_dict(),
            "best": self.best_weights,
            "optimizer": self.training.optimizer.state_dict(),
            "scheduler": self.training.scheduler.state_dict() if self.training.scheduler is not None else None,
            "generators": generator_states(),
        }

    def _stop(self) -> NoReturn:
        self.writer.wait()
        at = self.at
        done = (
            f"epoch {at.epoch + 1}, step {at.step} of {len(self.training.batches)}" if at.step else f"epoch {at.epoch}"
        )
        how = f"; saved. Resume with: {self.run.resume_command}" if self.run is not None else ""
        raise Stopped(self.signals.received or signal.SIGTERM, f"stopped after {done}{how}")

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restores the training state `state`.

        Raises:
            UserError: the state belongs to another training run.
        """
        where = self.run.folder / LAST if self.run is not None else LAST
        try:
            if state["metadata"] != dict(self.training.metadata):
                raise ValueError(f"it was saved for {state['metadata']}, expected {dict(self.training.metadata)}")
            self.at = Progress.from_state(state["progress"])
            self.best_weights = state["best"]
            self.model.load_state_dict(state["model"])
            self.training.optimizer.load_state_dict(state["optimizer"])
            if self.training.scheduler is not None:
                self.training.scheduler.load_state_dict(state["scheduler"])
            restore_generators(state["generators"])
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise UserError(f"{where} does not belong to this run: {str(error).splitlines()[0]}") from error
