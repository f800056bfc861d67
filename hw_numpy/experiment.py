"""What `hw_numpy.train` does: trains every candidate, chooses on validation, tests the chosen one."""

import argparse
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hw_common.data.digits import CLASSES, Digits
from hw_common.runs.errors import UserError
from hw_common.runs.run_folder import BEST, Run, available_cores
from hw_numpy import arrays, data, plots
from hw_numpy.cnn import ConvNet
from hw_numpy.command import limit_threads, open_run
from hw_numpy.presets import HOMEWORK
from hw_numpy.softmax import SoftmaxClassifier
from hw_numpy.solver import Solver

_SOURCES = {"softmax": "eecs545-w20-hw4 Q2c", "cnn": "eecs545-w20-hw4 Q3c"}


@dataclass
class Candidate:
    """One network to choose from, and how far it is.

    Attributes:
        sizes: what tells it from the others, by name: hidden_dim and, for the CNN, filter_size.
        solver: with its model.
        seconds: of each epoch, measuring the accuracies included.
    """

    sizes: dict[str, int]
    solver: Solver
    seconds: list[float] = field(default_factory=list)

    @property
    def title(self) -> str:
        """What figures and lines call it."""
        return ", ".join(f"{name} {size}" for name, size in self.sizes.items())

    @property
    def rows(self) -> list[dict[str, float]]:
        """A row per epoch, as in metrics.csv."""
        solver = self.solver
        columns = zip(
            solver.epoch_losses(), solver.train_acc_history, solver.val_acc_history, self.seconds, strict=True
        )
        names = ("training_loss", "training_accuracy", "validation_accuracy", "seconds")
        return [
            {**self.sizes, "epoch": number, **dict(zip(names, values, strict=True))}
            for number, values in enumerate(columns, start=1)
        ]


def run(command: str, arguments: argparse.Namespace) -> None:
    """Does all that `arguments` ask for.

    Args:
        command: the module that `python -m` runs to resume the run.
        arguments: checked arguments of that command.

    Raises:
        UserError: the data or the run folder cannot be used, or training diverges.
        Stopped: on SIGINT or SIGTERM, with all finished epochs saved.
    """
    # A step of the two-layer network takes less than a millisecond; to hand half of it to another thread takes longer.
    host = {"threads": 1 if arguments.model == "softmax" else arguments.threads or available_cores()}
    limit_threads(1)  # of NumPy's matrix products: the solvers share out whole batches
    digits = data.load(arguments.dataset, arguments.data_dir)
    candidates = make_candidates(arguments, digits, host["threads"])
    print(
        f"{digits.name}: {len(digits.train[1])} training, {len(digits.val[1])} validation, "
        f"{len(digits.test[1])} test images in {CLASSES} classes\n"
        f"network {arguments.model}, {len(candidates)} to choose from; {arguments.epochs} epochs of "
        f"{arguments.update_rule}, learning rate {arguments.lr:g}, batch {arguments.batch_size}, seed {arguments.seed}"
    )
    if arguments.dry_run:
        _dry_run(candidates)
        return
    with open_run(HOMEWORK, command, arguments, digits.hashes, host) as run_folder:
        for candidate in candidates:
            _train(arguments, run_folder, candidate, candidates)
        _conclude(arguments, digits, run_folder, candidates)


def make_candidates(arguments: argparse.Namespace, digits: Digits, threads: int) -> list[Candidate]:
    """Every network that `arguments` offer, untrained, with its solver, which uses `threads` threads."""
    (X_train, y_train), (X_val, y_val) = digits.train, digits.val
    images = {"X_train": X_train, "y_train": y_train, "X_val": X_val, "y_val": y_val}
    grid = {"hidden_dim": arguments.hidden_dims, "filter_size": arguments.filter_sizes or ()}
    grid = {name: list(dict.fromkeys(sizes)) for name, sizes in grid.items() if sizes}
    candidates = []
    for sizes in itertools.product(*grid.values()):
        named = dict(zip(grid, sizes, strict=True))
        network = SoftmaxClassifier if arguments.model == "softmax" else ConvNet
        model = network(weight_scale=arguments.weight_scale, dtype=np.float32, seed=arguments.seed, **named)
        solver = Solver(
            model,
            images,
            update_rule=arguments.update_rule,
            optim_config={"learning_rate": arguments.lr},
            lr_decay=arguments.lr_decay,
            batch_size=arguments.batch_size,
            num_epochs=arguments.epochs,
            verbose=False,
            seed=arguments.seed,
            threads=threads,
        )
        candidates.append(Candidate(named, solver))
    return candidates


def _train(arguments: argparse.Namespace, run: Run, candidate: Candidate, candidates: Sequence[Candidate]) -> None:
    """Trains `candidate` from its last saved epoch on; a finished one is only read."""
    solver = candidate.solver
    stem = "-".join(f"{name}{size}" for name, size in candidate.sizes.items())
    path = run.folder / f"last-{stem}.safetensors"
    metadata = {**_metadata(arguments), "candidate": stem}
    if path.is_file():
        state = arrays.load(path, metadata)
        try:
            solver.load_state(state)
            candidate.seconds = state["seconds"].tolist()
            if len(candidate.seconds) != solver.epoch:
                raise ValueError(f"it has seconds of {len(candidate.seconds)} epochs, expected {solver.epoch}")
        except (KeyError, ValueError, TypeError) as error:
            raise UserError(f"{path} does not belong to this run: {error}") from error
    started = time.perf_counter()

    def after_epoch() -> None:
        nonlocal started
        candidate.seconds.append(time.perf_counter() - started)
        arrays.save(path, {**solver.state(), "seconds": np.array(candidate.seconds)}, metadata)
        run.write_metrics([row for one in candidates for row in one.rows])
        _report_epoch(candidate, arguments.epochs)
        started = time.perf_counter()

    solver.train(after_epoch)


def _metadata(arguments: argparse.Namespace) -> dict[str, str]:
    """Whose weights these are: what a weights file says about itself."""
    return {"homework": HOMEWORK, "network": arguments.model}


def _report_epoch(candidate: Candidate, epochs: int) -> None:
    row = candidate.rows[-1]
    print(
        f"{candidate.title}  epoch {row['epoch']:{len(str(epochs))}}/{epochs}  "
        f"training loss {row['training_loss']:.4f}  training accuracy {row['training_accuracy']:.4f}  "
        f"validation accuracy {row['validation_accuracy']:.4f}  {row['seconds']:.1f} s",
        flush=True,
    )


def _conclude(arguments: argparse.Namespace, digits: Digits, run: Run, candidates: Sequence[Candidate]) -> None:
    """Chooses on validation (the first of equals), tests the chosen one, draws, and writes what is final."""
    chosen = max(candidates, key=lambda candidate: candidate.solver.best_val_acc)
    arrays.save(run.folder / BEST, chosen.solver.model.params, _metadata(arguments))
    what = f"{digits.name}, {_SOURCES[arguments.model]}"
    plots.learning_curves(run.folder, chosen.solver.loss_history, chosen.rows, f"{what}, {chosen.title}")
    summary = _summarize(arguments, digits, candidates, chosen)
    plots.selection(run.folder, summary["candidates"], what)
    run.write_summary({"name": run.folder.name, **summary})  # last: it marks the run as finished
    for row in summary["candidates"]:
        sizes = ", ".join(f"{name} {row[name]}" for name in chosen.sizes)
        print(f"{sizes}: best validation accuracy {row['validation_accuracy']:.4f} in epoch {row['epoch']}")
    speed = summary["speed"]
    print(
        f"chosen: {chosen.title}; test accuracy {summary['best']['test_accuracy']:.4f}\n"
        f"{speed['training_seconds']:.1f} s of training, {speed['images_per_second']:.0f} images a second\n"
        f"all of it is in {run.folder}"
    )


def _summarize(
    arguments: argparse.Namespace, digits: Digits, candidates: Sequence[Candidate], chosen: Candidate
) -> dict[str, Any]:
    parts = {"training": digits.train, "validation": digits.val, "test": digits.test}
    seconds = sum(sum(candidate.seconds) for candidate in candidates)
    images = len(digits.train[1]) * arguments.epochs * len(candidates)
    return {
        "homework": HOMEWORK,
        "dataset": arguments.dataset,
        "data": digits.name,
        "network": arguments.model,
        "images": {name: len(labels) for name, (_, labels) in parts.items()},
        "candidates": [_best_of(candidate) for candidate in candidates],
        "best": {**_best_of(chosen), "test_accuracy": chosen.solver.check_accuracy(*digits.test)},
        "speed": {"training_seconds": round(seconds, 2), "images_per_second": round(images / seconds, 1)},
    }


def _best_of(candidate: Candidate) -> dict[str, Any]:
    """Sizes, parameters and the numbers of the epoch whose parameters the solver kept."""
    best = candidate.rows[candidate.solver.val_acc_history.index(candidate.solver.best_val_acc)]
    parameters = sum(value.size for value in candidate.solver.model.params.values())
    return {**{name: value for name, value in best.items() if name != "seconds"}, "parameters": parameters}


def _dry_run(candidates: Sequence[Candidate]) -> None:
    """Loss and gradients of one batch for every candidate, to see that everything fits together; writes nothing."""
    for candidate in candidates:
        X, y = next(candidate.solver.batches())
        loss, _ = candidate.solver.model.loss(X, y)
        print(f"dry run, {candidate.title}: loss {loss:.4f} on a batch of {len(y)} images")
    print("everything fits, no run was made")
