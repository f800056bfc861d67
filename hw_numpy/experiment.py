"""Trains every candidate of the digit classification (Q2c, Q3c), chooses one on the validation images, and tests it."""

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hw_common.data.digits import CLASSES, Arrays, Digits
from hw_common.runs.launch import most_threads
from hw_common.runs.run_folder import BEST, Run
from hw_numpy import arrays, data, plots
from hw_numpy.cnn import ConvNet
from hw_numpy.command import OpenRun, limit_threads
from hw_numpy.presets import HOMEWORK, LARGEST_FILTER, TITLES, DigitSettings
from hw_numpy.softmax import SoftmaxClassifier
from hw_numpy.solver import Solver

_SOURCES = {"softmax": "eecs545-w20-hw4 Q2c", "cnn": "eecs545-w20-hw4 Q3c"}


@dataclass
class Candidate:
    """A network to choose from, with the state of its training."""

    sizes: dict[str, int]  # sizes in which the candidates differ, by name: hidden_dim and, for the CNN, filter_size
    solver: Solver  # holds the network
    seconds: list[float] = field(default_factory=list)  # duration of each epoch with its evaluation

    @property
    def title(self) -> str:
        """The candidate's name in figures and messages."""
        return ", ".join(f"{name} {size}" for name, size in self.sizes.items())

    @property
    def rows(self) -> list[dict[str, float]]:
        """The rows of metrics.csv, one for each epoch."""
        solver = self.solver
        columns = zip(
            solver.epoch_losses(), solver.train_acc_history, solver.val_acc_history, self.seconds, strict=True
        )
        names = ("training_loss", "training_accuracy", "validation_accuracy", "seconds")
        return [
            {**self.sizes, "epoch": number, **dict(zip(names, values, strict=True))}
            for number, values in enumerate(columns, start=1)
        ]

    @property
    def best_epoch(self) -> dict[str, float]:
        """The row of the epoch whose parameters the solver kept, with the number of parameters."""
        row = self.rows[self.solver.val_acc_history.index(self.solver.best_val_acc)]
        del row["seconds"]
        return {**row, "parameters": sum(value.size for value in self.solver.model.params.values())}


def run(settings: DigitSettings, open_run: OpenRun) -> None:
    """Trains a network of every size (`_grow` adds sizes); tests only the one with the best validation accuracy.

    Raises:
        UserError: the data or the run folder cannot be used, or training diverges.
        Stopped: on SIGINT or SIGTERM, after all finished epochs are saved.
    """
    threads = _threads(settings)
    digits, candidates = _prepare(settings, threads)
    with open_run(digits.hashes, {"threads": threads}) as run_folder:
        for candidate in candidates:
            _train(run_folder, candidate, candidates, settings.model)
        _grow(settings, digits, run_folder, candidates, threads)
        # An interrupted call of this command may have saved a state and not yet written its metrics.
        run_folder.write_metrics([row for candidate in candidates for row in candidate.rows])
        _conclude(settings, digits, run_folder, candidates)


def _grow(settings: DigitSettings, digits: Digits[Arrays], run: Run, candidates: list[Candidate], threads: int) -> None:
    """Trains and appends up to `settings.grow` candidates while the best one lies at an edge of the grid."""
    for _ in range(settings.grow):
        if (sizes := next(beyond_the_edge(candidates), None)) is None:
            break
        candidates.append(_make_candidate(settings, sizes, digits, threads))
        _train(run, candidates[-1], candidates, settings.model)


def dry_run(settings: DigitSettings) -> None:
    """Computes loss and gradients of one batch for every candidate, to check data and settings; writes nothing."""
    _, candidates = _prepare(settings, _threads(settings))
    for candidate in candidates:
        X, y = next(candidate.solver.batches())
        loss, _ = candidate.solver.model.loss(X, y)
        print(f"dry run, {candidate.title}: loss {loss:.4f} on a batch of {len(y)} images")
    print("everything fits; no run folder was made")


def _threads(settings: DigitSettings) -> int:
    """Number of slices of a batch that are computed in parallel."""
    # A step of the two-layer network takes less than a millisecond, too short to be split over threads.
    return 1 if settings.model == "softmax" else settings.threads or most_threads()


def _prepare(settings: DigitSettings, threads: int) -> tuple[Digits[Arrays], list[Candidate]]:
    """Reads the data, makes the candidates, and prints both."""
    limit_threads(1)  # a matrix product uses one thread, because the solver gives each thread a slice of the batch
    digits = data.load(settings.dataset, settings.data_dir)
    candidates = make_candidates(settings, digits, threads)
    print(
        f"{digits.name}: {len(digits.train[1])} training, {len(digits.val[1])} validation, "
        f"{len(digits.test[1])} test images in {CLASSES} classes\n"
        f"network {settings.model}, {len(candidates)} to choose from; {settings}"
    )
    return digits, candidates


def make_candidates(settings: DigitSettings, digits: Digits[Arrays], threads: int) -> list[Candidate]:
    """The untrained networks of all sizes on the grid, each with a solver that uses `threads` threads."""
    grid = {"hidden_dim": settings.hidden_dims, "filter_size": settings.filter_sizes or ()}
    grid = {name: list(dict.fromkeys(sizes)) for name, sizes in grid.items() if sizes}
    combinations = (dict(zip(grid, sizes, strict=True)) for sizes in itertools.product(*grid.values()))
    return [_make_candidate(settings, sizes, digits, threads) for sizes in combinations]


def _make_candidate(settings: DigitSettings, sizes: dict[str, int], digits: Digits[Arrays], threads: int) -> Candidate:
    (X_train, y_train), (X_val, y_val) = digits.train, digits.val
    images = {"X_train": X_train, "y_train": y_train, "X_val": X_val, "y_val": y_val}
    return Candidate(sizes, Solver(make_network(settings, sizes), images, threads=threads, **settings.solver))


def best_of(candidates: Sequence[Candidate]) -> Candidate:
    """The candidate with the best validation accuracy; the first, if several are best."""
    return max(candidates, key=lambda candidate: candidate.solver.best_val_acc)


def beyond_the_edge(candidates: Sequence[Candidate]) -> Iterator[dict[str, int]]:
    """Yields the sizes to try next if the best candidate lies at an edge of the grid.

    The number of hidden units is doubled or halved; height and width of the filters change by 2.
    """
    best = best_of(candidates)
    for name, size in best.sizes.items():
        smaller, larger = (size // 2, 2 * size) if name == "hidden_dim" else (size - 2, size + 2)
        largest = LARGEST_FILTER if name == "filter_size" else larger
        tried = [candidate.sizes[name] for candidate in candidates]
        if size == max(tried) and larger <= largest:
            yield {**best.sizes, name: larger}
        if size == min(tried) and smaller >= 1:
            yield {**best.sizes, name: smaller}


def make_network(settings: DigitSettings, sizes: Mapping[str, int]) -> SoftmaxClassifier | ConvNet:
    """The untrained network with the number of hidden units and, for a CNN, the filter size in `sizes`."""
    hidden_dim, scale, seed = sizes["hidden_dim"], settings.weight_scale, settings.seed
    if settings.model == "softmax":
        return SoftmaxClassifier(hidden_dim=hidden_dim, weight_scale=scale, dtype=np.float32, seed=seed)
    filter_size = sizes["filter_size"]
    return ConvNet(filter_size=filter_size, hidden_dim=hidden_dim, weight_scale=scale, dtype=np.float32, seed=seed)


def _train(run: Run, candidate: Candidate, candidates: Sequence[Candidate], model: str) -> None:
    """Trains `candidate`, from its last saved epoch if there is one; a finished candidate is only loaded."""
    solver = candidate.solver
    stem = "-".join(f"{name}{size}" for name, size in candidate.sizes.items())
    path = run.folder / f"last-{stem}.safetensors"
    metadata = {**weights_metadata(model), "candidate": stem}
    if path.is_file():
        candidate.seconds = arrays.restore_solver(path, metadata, solver)
    started = time.perf_counter()

    def after_epoch() -> None:
        nonlocal started
        candidate.seconds.append(time.perf_counter() - started)
        arrays.save(path, arrays.solver_state(solver, candidate.seconds), metadata)
        run.write_metrics([row for one in candidates for row in one.rows])
        _report_epoch(candidate)
        started = time.perf_counter()

    solver.train(after_epoch)


def weights_metadata(model: str) -> dict[str, str]:
    """Metadata stored in a weights file, checked when the file is loaded."""
    return {"homework": HOMEWORK, "network": model}


def _report_epoch(candidate: Candidate) -> None:
    row, epochs = candidate.rows[-1], candidate.solver.num_epochs
    print(
        f"{candidate.title}  epoch {row['epoch']:{len(str(epochs))}}/{epochs}  "
        f"training loss {row['training_loss']:.4f}  training accuracy {row['training_accuracy']:.4f}  "
        f"validation accuracy {row['validation_accuracy']:.4f}  {row['seconds']:.1f} s",
        flush=True,
    )


def _conclude(settings: DigitSettings, digits: Digits[Arrays], run: Run, candidates: Sequence[Candidate]) -> None:
    """Chooses a candidate and tests it, draws the figures, and writes the results."""
    chosen = best_of(candidates)
    arrays.save(run.folder / BEST, chosen.solver.model.params, weights_metadata(settings.model))
    title = f"{digits.name}, {_SOURCES[settings.model]}"
    plots.learning_curves(run.folder, chosen.solver.loss_history, chosen.rows, f"{title}, {chosen.title}")
    summary = _summarize(settings, digits, candidates, chosen)
    plots.selection(run.folder, {TITLES[settings.model]: summary["candidates"]}, title)
    run.write_summary({"name": run.folder.name, **summary})  # last, because it marks the run as finished
    for row in summary["candidates"]:
        sizes = ", ".join(f"{name} {row[name]}" for name in chosen.sizes)
        print(f"{sizes}: best validation accuracy {row['validation_accuracy']:.4f} in epoch {row['epoch']}")
    speed = summary["speed"]
    print(
        f"chosen: {chosen.title}; test accuracy {summary['best']['test_accuracy']:.4f}{_edge(settings, candidates)}\n"
        f"{speed['training_seconds']:.1f} s of training, {speed['images_per_second']:.0f} images a second\n"
        f"all results are in {run.folder}"
    )


def _edge(settings: DigitSettings, candidates: Sequence[Candidate]) -> str:
    """A line of text if the chosen candidate is at the edge of the grid; otherwise empty."""
    next_sizes = next(beyond_the_edge(candidates), None)
    if next_sizes is None:
        return ""
    chosen = best_of(candidates)
    name = next(name for name, size in next_sizes.items() if size != chosen.sizes[name])
    return (
        f"\nthe chosen {name} {chosen.sizes[name]} is at the edge of the grid; "
        f"--grow {settings.grow + 1} also tries {name} {next_sizes[name]}"
    )


def _summarize(
    settings: DigitSettings, digits: Digits[Arrays], candidates: Sequence[Candidate], chosen: Candidate
) -> dict[str, Any]:
    """The content of summary.json."""
    parts = {"training": digits.train, "validation": digits.val, "test": digits.test}
    seconds = sum(sum(candidate.seconds) for candidate in candidates)
    images = len(digits.train[1]) * settings.epochs * len(candidates)
    return {
        "homework": HOMEWORK,
        "dataset": settings.dataset,
        "data": digits.name,
        "network": settings.model,
        "images": {name: len(labels) for name, (_, labels) in parts.items()},
        "candidates": [candidate.best_epoch for candidate in candidates],
        "best": {**chosen.best_epoch, "test_accuracy": chosen.solver.check_accuracy(*digits.test)},
        "speed": {"training_seconds": round(seconds, 2), "images_per_second": round(images / seconds, 1)},
    }
