"""Trains the captioning network (Q4d), measures how many training captions it reproduces, and draws captions."""

import contextlib
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray

from hw_common.runs.run_folder import Run
from hw_numpy import arrays, coco_files, coco_utils, plots
from hw_numpy.captioning_solver import CaptioningSolver
from hw_numpy.coco_sample import write_sample
from hw_numpy.command import OpenRun, limit_threads
from hw_numpy.image_utils import image_from_url
from hw_numpy.presets import HOMEWORK, CaptionSettings
from hw_numpy.rnn import CaptioningRNN

LAST = "last.safetensors"
_SAVE_EVERY = 10  # seconds between two saves; with 50 captions, a save takes as long as an epoch
_MEASURED = 1000  # largest number of training captions, and of validation captions, that are evaluated
_SHOWN = 4  # training images, and validation images, in the figure
_PART_NAMES = {"train": "training", "val": "validation"}
_SOURCE = "eecs545-w20-hw4 Q4d"


@dataclass(frozen=True)
class Evaluation:
    """Generated captions and reference captions for the training images or the validation images."""

    loss: float  # mean loss of the reference captions
    generated: list[str]  # for each reference caption, the generated caption of the same image
    references: list[str]  # the reference captions
    rows: ndarray  # rows of the reference captions in the data

    def share_reproduced(self) -> float:
        """Share of the reference captions that are generated word for word."""
        pairs = zip(self.generated, self.references, strict=True)
        return float(np.mean([generated == reference for generated, reference in pairs]))


def run(settings: CaptionSettings, open_run: OpenRun) -> None:
    """Trains, evaluates and draws, in the run folder that `open_run` opens.

    Raises:
        UserError: the data or the run folder cannot be used, or training diverges.
        Stopped: on SIGINT or SIGTERM, after all finished epochs are saved.
    """
    with _data_folder(settings) as folder:
        solver, name = _prepare(settings, folder)
        hashes = coco_utils.hash_files(folder, settings.pca_features)
        with open_run(hashes, {"threads": _threads(settings)}) as run_folder:
            seconds = _train(run_folder, solver)
            _conclude(settings, run_folder, solver, folder, name, seconds)


def dry_run(settings: CaptionSettings) -> None:
    """Computes loss and gradients of one batch and generates two words, to check data and settings; writes nothing."""
    with _data_folder(settings) as folder:
        solver, _ = _prepare(settings, folder)
    features, captions = next(solver.batches())
    loss, _ = solver.model.loss(features, captions)
    solver.model.sample(features, max_length=2)
    print(f"dry run: one step on {len(captions)} captions, loss {loss:.4f}; everything fits; no run folder was made")


@contextlib.contextmanager
def _data_folder(settings: CaptionSettings) -> Iterator[Path]:
    """The folder with the caption files; for --dataset sample, they are written to a temporary folder."""
    if settings.dataset == "coco":
        yield settings.data_dir
        return
    with tempfile.TemporaryDirectory(prefix="captions-") as folder:
        write_sample(Path(folder))
        yield Path(folder)


def _threads(settings: CaptionSettings) -> int:
    """Number of threads; 1 by default, because a step takes milliseconds, too short to be split over threads."""
    return settings.threads or 1


def _prepare(settings: CaptionSettings, folder: Path) -> tuple[CaptioningSolver, str]:
    """Reads the caption files and makes the untrained network; returns its solver and the name of the data."""
    limit_threads(_threads(settings))
    data = coco_utils.load_coco_data(folder, settings.max_train, settings.pca_features, settings.seed)
    model = CaptioningRNN(
        data["word_to_idx"],
        input_dim=data["train_features"].shape[1],
        wordvec_dim=settings.wordvec_dim,
        hidden_dim=settings.hidden_dim,
        cell_type=settings.cell_type,
        seed=settings.seed,
    )
    name = coco_files.read_source(folder)
    images = len(np.unique(data["train_image_idxs"]))
    print(
        f"{name}: {len(data['train_captions'])} training captions of {images} images, {len(data['val_captions'])} "
        f"validation captions, {len(data['idx_to_word'])} words, {data['train_features'].shape[1]} features\n"
        f"{settings.cell_type} with {settings.hidden_dim} hidden units; {settings}"
    )
    return CaptioningSolver(model, data, **settings.solver), name


def _network(solver: CaptioningSolver) -> str:
    return f"captioning-{solver.model.cell_type}"


def _train(run: Run, solver: CaptioningSolver) -> list[float]:
    """Trains, from the last saved epoch if there is one; returns the duration of every epoch in seconds."""
    path, metadata = run.folder / LAST, {"homework": HOMEWORK, "network": _network(solver)}
    seconds = arrays.restore_solver(path, metadata, solver) if path.is_file() else []
    started = saved = time.monotonic()
    state: dict[str, ndarray] = {}
    rows: list[dict[str, float]] = []

    def save() -> None:
        if state:
            arrays.save(path, state, metadata)
            run.write_metrics(rows)

    def after_epoch() -> None:
        nonlocal started, saved, state, rows
        seconds.append(time.monotonic() - started)
        # The arrays need not be copied: a step replaces them and changes none in place.
        rows, state = _rows(solver, seconds), arrays.solver_state(solver, seconds)
        if solver.epoch % max(1, solver.num_epochs // 10) == 0:
            loss = solver.epoch_losses()[-1]
            print(f"epoch {solver.epoch}/{solver.num_epochs}  training loss {loss:.4f}", flush=True)
        if time.monotonic() - saved > _SAVE_EVERY:
            save()
            saved = time.monotonic()
        started = time.monotonic()

    try:
        with np.errstate(over="ignore", invalid="ignore"):  # the solver stops if the loss is not finite
            solver.train(after_epoch)
    except KeyboardInterrupt:
        save()
        raise
    save()
    run.write_metrics(_rows(solver, seconds))  # an earlier process may have stopped before it wrote them
    return seconds


def _rows(solver: CaptioningSolver, seconds: list[float]) -> list[dict[str, float]]:
    """The rows of metrics.csv, one for each epoch."""
    columns = zip(solver.epoch_losses(), seconds, strict=True)
    return [{"epoch": n, "training_loss": loss, "seconds": time} for n, (loss, time) in enumerate(columns, start=1)]


def _conclude(
    settings: CaptionSettings, run: Run, solver: CaptioningSolver, folder: Path, name: str, seconds: list[float]
) -> None:
    """Generates captions for training and validation images, draws the figures, and writes the results."""
    evaluations = {part: evaluate(solver, part, settings.seed) for part in coco_files.PARTS}
    title = f"{name}, {_SOURCE}, {settings.cell_type}"
    plots.learning_curve(run.folder, solver.loss_history, solver.epoch_losses(), title)
    panels = []
    for part, found in evaluations.items():
        images = solver.data[f"{part}_image_idxs"][found.rows[:_SHOWN]]
        for image, generated, reference in zip(images, found.generated, found.references, strict=False):
            picture = image_from_url(solver.data[f"{part}_urls"][image], folder, folder / "url_cache")
            panels.append((_PART_NAMES[part], picture, generated, reference))
    plots.captions(run.folder, panels, title)
    summary = _summarize(settings, solver, name, evaluations, seconds)
    run.write_summary({"name": run.folder.name, **summary})  # last, because it marks the run as finished
    for part, found in evaluations.items():
        print(
            f"{_PART_NAMES[part]}: loss {found.loss:.4f}; {100 * found.share_reproduced():.0f} % of "
            f"{len(found.references)} captions are reproduced word for word"
        )
    print(f"{sum(seconds):.1f} s of training\nall results are in {run.folder}")


def evaluate(solver: CaptioningSolver, part: str, seed: int) -> Evaluation:
    """Generates captions for the images of `part`, and measures the loss of the reference captions.

    Args:
        solver: solver with the network and the data.
        part: "train" or "val".
        seed: seed that draws 1 000 captions if the part has more.
    """
    data, model = solver.data, solver.model
    captions, images = data[f"{part}_captions"], data[f"{part}_image_idxs"]
    rows = np.random.default_rng((seed, len(captions))).permutation(len(captions))[:_MEASURED]
    losses: list[float] = []
    generated: list[str] = []
    for begin in range(0, len(rows), 100):
        chosen = rows[begin : begin + 100]
        features = data[f"{part}_features"][images[chosen]]
        losses.append(model.loss(features, captions[chosen])[0] * len(chosen))
        words = model.sample(features, max_length=captions.shape[1] - 1)
        generated += [coco_utils.decode_caption(caption, data["idx_to_word"]) for caption in words]
    without_start = captions[rows, 1:]
    references = [coco_utils.decode_caption(caption, data["idx_to_word"]) for caption in without_start]
    return Evaluation(sum(losses) / len(rows), generated, references, rows)


def _summarize(
    settings: CaptionSettings,
    solver: CaptioningSolver,
    name: str,
    evaluations: dict[str, Evaluation],
    seconds: list[float],
) -> dict[str, Any]:
    """The content of summary.json."""
    data = solver.data
    parts = {}
    for part, found in evaluations.items():
        examples = list(zip(found.generated, found.references, strict=True))[:_SHOWN]
        parts[_PART_NAMES[part]] = {
            "loss": found.loss,
            "word_for_word": found.share_reproduced(),
            "captions_measured": len(found.references),
            "examples": [{"generated": generated, "true": reference} for generated, reference in examples],
        }
    return {
        "homework": HOMEWORK,
        "dataset": settings.dataset,
        "data": name,
        "network": _network(solver),
        "parameters": sum(value.size for value in solver.model.params.values()),
        "words": len(data["idx_to_word"]),
        "training_captions": len(data["train_captions"]),
        "training_images": len(np.unique(data["train_image_idxs"])),
        "first_loss": solver.loss_history[0],
        "last_epoch_loss": solver.epoch_losses()[-1],
        **parts,
        "speed": {
            "training_seconds": round(sum(seconds), 2),
            "captions_per_second": round(len(data["train_captions"]) * solver.epoch / sum(seconds), 1),
        },
    }
