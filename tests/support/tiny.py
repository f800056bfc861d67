"""A training run so small that a test can repeat it, and its results as values that compare with `==`.

It uses every random generator (order and noise, dropout, the loss, even the validation), so that two runs end
alike only if all generators went through the same states.
"""

import csv
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from hw_common.runs import checkpoints
from hw_common.runs.run_folder import BEST, LAST, METRICS, SCHEMA, Run
from hw_common.training import determinism, distributed, startup
from hw_common.training.batches import Batches
from hw_common.training.dropout import Dropout
from hw_common.training.loop import Fitted, Training, fit

startup.skip_compiler()  # as training commands do

HOMEWORK = "hw_tiny"
CONFIG = {"schema": SCHEMA, "homework": HOMEWORK, "command": f"{HOMEWORK}.train", "arguments": {"epochs": 3}}
METADATA = {"network": "tiny"}  # one entry: safetensors writes several in an order that differs from run to run
EPOCHS, STEPS, ROWS, BATCH = 3, 4, 18, 5  # batches of 5, 5, 5 and 3 rows


def new_run(results: Path, name: str = "run") -> Run:
    """A new run folder in `results`."""
    return Run.create(results, CONFIG, name)


def rows(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """`count` points and on which side of a plane they lie."""
    inputs = torch.randn(count, 3, generator=torch.Generator().manual_seed(seed))
    return inputs, (inputs.sum(dim=1) > 0).long()


def add_noise(batch: tuple[Tensor, ...], generator: torch.Generator) -> tuple[Tensor, ...]:
    """Stands for augmentation: draws from the generator of the batches."""
    inputs, labels = batch
    return inputs + 0.1 * torch.randn(inputs.shape, generator=generator), labels


def loss(model: nn.Module, batch: tuple[Tensor, ...]) -> tuple[Tensor, int, dict[str, Tensor]]:
    """Cross entropy and correct answers; draws from the generators of Python and NumPy."""
    inputs, labels = batch
    outputs = model(inputs * (1 + 0.1 * random.random() + 0.1 * np.random.rand()))
    return cross_entropy(outputs, labels), len(labels), {"accuracy": (outputs.detach().argmax(1) == labels).sum()}


def evaluate(model: nn.Module) -> dict[str, float]:
    """Mean loss on seven other points (the last batch has one), blurred by a draw from torch's generator."""
    blur = 1 + 0.1 * torch.rand(1)
    sums = torch.zeros(2, dtype=torch.float64)
    for inputs, labels in Batches(rows(7, seed=2), batch_size=3, shuffle=False).epoch(0):
        loss = cross_entropy(model(inputs * blur), labels).double()
        sums += torch.stack([loss, torch.ones_like(loss)]) * len(labels) * distributed.weight()
    total, count = distributed.sum_over_processes(sums).tolist()
    return {"validation_loss": total / count, "validation_score": -total / count}


def train(
    run: Run | None = None,
    resume: dict[str, Any] | None = None,
    *,
    optimizer: str = "sgd",
    scheduled: bool = False,
    lr: float = 0.1,
    count: int = ROWS,
    **settings: Any,
) -> tuple[nn.Module, Fitted]:
    """Trains a new model from seed 7; `settings` replace those of `Training` and `fit`."""
    determinism.set_up(7, "cpu", threads=1)
    model = nn.Sequential(nn.Linear(3, 4), Dropout(0.5), nn.Linear(4, 2))
    if optimizer == "adam":
        chosen: torch.optim.Optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    elif optimizer == "plain sgd":
        chosen = torch.optim.SGD(model.parameters(), lr=lr)
    else:
        chosen = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(chosen, EPOCHS * STEPS) if scheduled else None
    batches = Batches(rows(count, seed=1), BATCH, seed=7, prepare=add_noise)
    loop = {
        name: settings.pop(name) for name in ("epochs", "precision", "save_minutes", "tensorboard") if name in settings
    }
    defaults = {"loss_function": loss, "evaluate": evaluate, "monitor": "validation_score", "metadata": METADATA}
    training = Training(model=model, batches=batches, optimizer=chosen, scheduler=scheduler, **{**defaults, **settings})
    fitted = fit(training, **{"epochs": EPOCHS, "run": run, "resume": resume, **loop})
    return model, fitted


def resume(folder: Path, **settings: Any) -> Fitted:
    """Resumes the run in `folder` as a command would after a crash."""
    run = Run.reopen(folder, HOMEWORK)
    try:
        state = checkpoints.load_state(folder / LAST) if (folder / LAST).is_file() else None
        return train(run, state, **settings)[1]
    finally:
        run.close()


def outcome(folder: Path) -> dict[str, Any]:
    """All results of a run in `folder`, bit for bit, without the durations."""
    state = checkpoints.load_state(folder / LAST)
    progress = state["progress"]
    del progress["seconds"], progress["epoch_seconds"]
    with open(folder / METRICS, newline="") as file:
        metrics = list(csv.DictReader(file))
    for row in progress["rows"] + metrics:
        del row["seconds"]
    return {"state": plain(state), "metrics": metrics, "best": (folder / BEST).read_bytes()}


def plain(value: Any) -> Any:
    """`value` with every tensor in it as its type, shape and bytes."""
    if isinstance(value, Tensor):
        return str(value.dtype), tuple(value.shape), value.numpy().tobytes()
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def without_seconds(fitted: Fitted) -> list[dict[str, float]]:
    """The rows of `fitted` without the durations, which differ from run to run."""
    return [{name: value for name, value in row.items() if name != "seconds"} for row in fitted.rows]
