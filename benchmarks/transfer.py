"""Time of a training epoch of the last layer (freeze) with and without cached features, as a ratio within one run.

    python benchmarks/transfer.py [--rounds 5] [--threads 2] [--precision bf16]

The pictures are noise, because the time does not depend on their content. They have the size of the sheet's pictures;
there are half as many of them. Each epoch trains on all of them and validates. Goal: at least 20 times as fast with
cached features. The time for computing the features once is printed too.
"""

import time
from dataclasses import replace

import harness
import numpy as np
import torch

from hw_common.training.batches import Batches
from hw_transfer.data import Split, evaluation_batches, training_batches
from hw_transfer.models import FrozenResNet18
from hw_transfer.presets import Recipe
from hw_transfer.transfer_learning import cache_features, train_model

TRAINING, VALIDATION, SIZE = 122, 76, 224


def main() -> None:
    flags = harness.parser(__doc__, rounds=5)
    flags.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    arguments = harness.parse(flags)
    random = np.random.default_rng(0)
    train, val = (
        Split(list(random.integers(0, 256, (count, 320, 427, 3), dtype=np.uint8)), torch.arange(count) % 2)
        for count in (TRAINING, VALIDATION)
    )
    recipe = replace(Recipe(), epochs=1, precision=arguments.precision)
    frozen = FrozenResNet18(2).to(memory_format=torch.channels_last)
    pictures = training_batches(train, SIZE, recipe.batch_size, seed=0), evaluation_batches(val, SIZE)
    once = []
    for _ in range(arguments.rounds):
        started = time.perf_counter()
        features = [cache_features(frozen, part) for part in (evaluation_batches(train, SIZE), pictures[1])]
        once.append(time.perf_counter() - started)
    cached = (
        Batches((features[0], train.labels), recipe.batch_size),
        Batches((features[1], val.labels), pictures[1].batch_size, shuffle=False),
    )

    def epoch(model: torch.nn.Module, batches: tuple[Batches, Batches]) -> None:
        with harness.quiet():
            train_model(model, *batches, recipe)

    calls = {"freeze": lambda: epoch(frozen, pictures), "cached": lambda: epoch(frozen.fc, cached)}
    seconds = harness.time_interleaved(calls, arguments.rounds, warm_up=1)
    harness.print_values(f"hw_transfer: time to compute the features of {TRAINING + VALIDATION} images", once, "s")
    harness.print_ratio("an epoch of transfer learning", seconds, "freeze", "cached", at_least=20)


if __name__ == "__main__":
    main()
