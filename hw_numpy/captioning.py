"""What `hw_numpy.caption` does: trains the captioning network, measures what it knows by heart, draws."""

import argparse
import contextlib
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray

from hw_common.runs.errors import UserError
from hw_common.runs.run_folder import Run
from hw_numpy import arrays, caption_plots, coco_files, coco_utils
from hw_numpy.captioning_solver import CaptioningSolver
from hw_numpy.command import limit_threads, open_run
from hw_numpy.image_utils import image_from_url
from hw_numpy.presets import HOMEWORK
from hw_numpy.rnn import CaptioningRNN

LAST = "last.safetensors"
_SAVE_EVERY = 10  # seconds: with 50 captions, saving takes as long as an epoch
_MEASURED = 1000  # captions of a part, at most
_SHOWN = 4  # images of a part
_PART_NAMES = {"train": "training", "val": "validation"}
_SOURCE = "eecs545-w20-hw4 Q4d"


@dataclass(frozen=True)
class Written:
    """What the network writes for captions of one part, beside what people wrote.

    Attributes:
        loss: of the true captions, their mean.
        generated: a caption for the image of each.
        true: the captions themselves.
        rows: their indices in the part.
    """

    loss: float
    generated: list[str]
    true: list[str]
    rows: ndarray

    def word_for_word(self) -> float:
        """Share of the captions that come back word for word."""
        return float(np.mean([ours == theirs for ours, theirs in zip(self.generated, self.true, strict=True)]))


def run(command: str, arguments: argparse.Namespace) -> None:
    """Does all that `arguments` ask for.

    Args:
        command: the module that `python -m` runs to resume the run.
        arguments: checked arguments of that command.

    Raises:
        UserError: the data or the run folder cannot be used, or training diverges.
        Stopped: on SIGINT or SIGTERM, with all finished epochs saved.
    """
    # A step takes milliseconds: the threads of a matrix product would wait for one another longer than they work.
    host = {"threads": limit_threads(arguments.threads or 1)}
    with _data_folder(arguments) as folder:
        data = coco_utils.load_coco_data(folder, arguments.max_train, arguments.pca_features, arguments.seed)
        solver = make_solver(arguments, data)
        name = coco_files.read_source(folder)
        _announce(arguments, data, name)
        if arguments.dry_run:
            _dry_run(solver)
            return
        hashes = coco_utils.hash_files(folder, arguments.pca_features)
        with open_run(HOMEWORK, command, arguments, hashes, host) as run_folder:
            seconds = _train(arguments, run_folder, solver)
            _conclude(arguments, run_folder, solver, folder, name, seconds)


@contextlib.contextmanager
def _data_folder(arguments: argparse.Namespace) -> Iterator[Path]:
    """The folder with the caption files; the sample's is made for the occasion."""
    if arguments.dataset == "coco":
        yield arguments.data_dir
        return
    from hw_numpy.coco_sample import write_sample

    with tempfile.TemporaryDirectory(prefix="captions-") as folder:
        write_sample(Path(folder))
        yield Path(folder)


def make_solver(arguments: argparse.Namespace, data: dict[str, Any]) -> CaptioningSolver:
    """The network that `arguments` describe, untrained, with its solver."""
    model = CaptioningRNN(
        data["word_to_idx"],
        input_dim=data["train_features"].shape[1],
        wordvec_dim=arguments.wordvec_dim,
        hidden_dim=arguments.hidden_dim,
        cell_type=arguments.cell_type,
        seed=arguments.seed,
    )
    return CaptioningSolver(
        model,
        data,
        update_rule=arguments.update_rule,
        optim_config={"learning_rate": arguments.lr},
        lr_decay=arguments.lr_decay,
        batch_size=arguments.batch_size,
        num_epochs=arguments.epochs,
        verbose=False,
        seed=arguments.seed,
    )


def _announce(arguments: argparse.Namespace, data: dict[str, Any], name: str) -> None:
    images = len(np.unique(data["train_image_idxs"]))
    print(
        f"{name}: {len(data['train_captions'])} training captions of {images} images, {len(data['val_captions'])} "
        f"validation captions, {len(data['idx_to_word'])} words, {data['train_features'].shape[1]} features\n"
        f"{arguments.cell_type} with {arguments.hidden_dim} hidden numbers; {arguments.epochs} epochs of "
        f"{arguments.update_rule}, learning rate {arguments.lr:g}, batch {arguments.batch_size}, seed {arguments.seed}"
    )


def _train(arguments: argparse.Namespace, run: Run, solver: CaptioningSolver) -> list[float]:
    """Trains from the last saved epoch on; returns the seconds of every epoch."""
    path, metadata = run.folder / LAST, {"homework": HOMEWORK, "network": f"captioning-{arguments.cell_type}"}
    seconds = _restore(path, metadata, solver) if path.is_file() else []
    started = saved = time.monotonic()
    snapshot: dict[str, ndarray] = {}
    rows: list[dict[str, float]] = []

    def save() -> None:
        if snapshot:
            arrays.save(path, snapshot, metadata)
            run.write_metrics(rows)

    def after_epoch() -> None:
        nonlocal started, saved, snapshot, rows
        seconds.append(time.monotonic() - started)
        # Costs nothing, and stays as it is: a step replaces arrays and changes none.
        rows, snapshot = _rows(solver, seconds), {**solver.state(), "seconds": np.array(seconds)}
        if solver.epoch % max(1, arguments.epochs // 10) == 0:
            print(f"epoch {solver.epoch}/{arguments.epochs}  training loss {solver.epoch_losses()[-1]:.4f}", flush=True)
        if time.monotonic() - saved > _SAVE_EVERY:
            save()
            saved = time.monotonic()
        started = time.monotonic()

    try:
        with np.errstate(over="ignore", invalid="ignore"):  # the solver stops where the loss is not finite
            solver.train(after_epoch)
    except KeyboardInterrupt:
        save()
        raise
    save()
    return seconds


def _rows(solver: CaptioningSolver, seconds: list[float]) -> list[dict[str, float]]:
    """A row per epoch that has its seconds, as in metrics.csv."""
    columns = zip(solver.epoch_losses(), seconds, strict=True)
    return [{"epoch": n, "training_loss": loss, "seconds": time} for n, (loss, time) in enumerate(columns, start=1)]


def _restore(path: Path, metadata: dict[str, str], solver: CaptioningSolver) -> list[float]:
    """Puts `solver` back to the saved epoch; returns the seconds of every epoch."""
    state = arrays.load(path, metadata)
    try:
        solver.load_state(state)
        seconds = state["seconds"].tolist()
        if len(seconds) != solver.epoch:
            raise ValueError(f"it has seconds of {len(seconds)} epochs, expected {solver.epoch}")
    except (KeyError, ValueError, TypeError) as error:
        raise UserError(f"{path} does not belong to this run: {error}") from error
    return seconds


def _conclude(
    arguments: argparse.Namespace, run: Run, solver: CaptioningSolver, folder: Path, name: str, seconds: list[float]
) -> None:
    """Measures, draws, and writes what is final."""
    written = {part: write_captions(solver, part, arguments.seed) for part in coco_files.PARTS}
    what = f"{name}, {_SOURCE}, {arguments.cell_type}"
    caption_plots.learning_curve(run.folder, solver.loss_history, solver.epoch_losses(), what)
    panels = []
    for part, captions in written.items():
        images = solver.data[f"{part}_image_idxs"][captions.rows[:_SHOWN]]
        for i, image in enumerate(images):
            picture = image_from_url(solver.data[f"{part}_urls"][image], folder, folder / "url_cache")
            panels.append((_PART_NAMES[part], picture, captions.generated[i], captions.true[i]))
    caption_plots.captions(run.folder, panels, what)
    summary = _summarize(arguments, solver, name, written, seconds)
    run.write_summary({"name": run.folder.name, **summary})  # last: it marks the run as finished
    for part, captions in written.items():
        print(
            f"{_PART_NAMES[part]}: loss {captions.loss:.4f}; {100 * captions.word_for_word():.0f} % of "
            f"{len(captions.true)} captions come back word for word"
        )
    print(f"{sum(seconds):.1f} s of training\nall of it is in {run.folder}")


def write_captions(solver: CaptioningSolver, part: str, seed: int) -> Written:
    """What the network writes for the captions of `part`, or for 1 000 of them where there are more.

    Args:
        solver: with model and data.
        part: "train" or "val".
        seed: which ones, and their order.
    """
    data, model = solver.data, solver.model
    captions, images = data[f"{part}_captions"], data[f"{part}_image_idxs"]
    rows = np.random.default_rng((seed, len(captions))).permutation(len(captions))[:_MEASURED]
    losses, generated = [], []
    for begin in range(0, len(rows), 100):
        chosen = rows[begin : begin + 100]
        features = data[f"{part}_features"][images[chosen]]
        losses.append(model.loss(features, captions[chosen])[0] * len(chosen))
        words = model.sample(features, max_length=captions.shape[1] - 1)
        generated += coco_utils.decode_captions(words, data["idx_to_word"])
    true = coco_utils.decode_captions(captions[rows, 1:], data["idx_to_word"])  # without <START>
    return Written(sum(losses) / len(rows), generated, true, rows)


def _summarize(
    arguments: argparse.Namespace,
    solver: CaptioningSolver,
    name: str,
    written: dict[str, Written],
    seconds: list[float],
) -> dict[str, Any]:
    """The final numbers."""
    data = solver.data
    return {
        "homework": HOMEWORK,
        "dataset": arguments.dataset,
        "data": name,
        "network": f"captioning-{arguments.cell_type}",
        "parameters": sum(value.size for value in solver.model.params.values()),
        "words": len(data["idx_to_word"]),
        "training_captions": len(data["train_captions"]),
        "training_images": len(np.unique(data["train_image_idxs"])),
        "first_loss": solver.loss_history[0],
        "last_epoch_loss": solver.epoch_losses()[-1],
        **{
            _PART_NAMES[part]: {
                "loss": captions.loss,
                "word_for_word": captions.word_for_word(),
                "captions_measured": len(captions.true),
                "examples": [
                    {"generated": ours, "true": theirs}
                    for ours, theirs in list(zip(captions.generated, captions.true, strict=True))[:_SHOWN]
                ],
            }
            for part, captions in written.items()
        },
        "speed": {
            "training_seconds": round(sum(seconds), 2),
            "captions_per_second": round(len(data["train_captions"]) * solver.epoch / sum(seconds), 1),
        },
    }


def _dry_run(solver: CaptioningSolver) -> None:
    """Loss and gradients of one batch and a few words, to see that everything fits together; writes nothing."""
    features, captions = next(solver.batches())
    loss, _ = solver.model.loss(features, captions)
    solver.model.sample(features, max_length=2)
    print(f"dry run: one step on {len(captions)} captions, loss {loss:.4f}; everything fits, no run was made")
