"""Time of an epoch of freeze with and without cached features, as a ratio within one run.

    python benchmarks/transfer.py [--rounds 3] [--threads 2] [--precision bf16]

The pictures are noise, of the sheet's number and size, since the time does not depend on their content; each epoch
trains on all of them and validates. Goal: at least 20 times as fast with cached features. The time for computing the
features once is printed too.
"""

import argparse
import contextlib
import io
import time
from dataclasses import replace

import numpy as np
import torch

from hw_common.training.batches import Batches
from hw_common.training.timing import ratio, time_interleaved
from hw_transfer.data import Split, evaluation_batches, training_batches
from hw_transfer.models import FrozenResNet18
from hw_transfer.presets import Recipe
from hw_transfer.transfer_learning import cache_features, train_model

TRAINING, VALIDATION, SIZE = 244, 153, 224
GOAL = 20


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--rounds", type=int, default=3)
    flags.add_argument("--threads", type=int, default=torch.get_num_threads())
    flags.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    arguments = flags.parse_args()
    torch.set_num_threads(arguments.threads)
    random = np.random.default_rng(0)
    train, val = (
        Split(list(random.integers(0, 256, (count, 320, 427, 3), dtype=np.uint8)), torch.arange(count) % 2)
        for count in (TRAINING, VALIDATION)
    )
    recipe = replace(Recipe(), epochs=1, precision=arguments.precision)
    frozen = FrozenResNet18(2).to(memory_format=torch.channels_last)
    pictures = training_batches(train, SIZE, recipe.batch_size, seed=0), evaluation_batches(val, SIZE)
    started = time.perf_counter()
    features = [cache_features(frozen, part) for part in (evaluation_batches(train, SIZE), pictures[1])]
    once = time.perf_counter() - started
    cached = (
        Batches((features[0], train.labels), recipe.batch_size),
        Batches((features[1], val.labels), pictures[1].batch_size, shuffle=False),
    )

    def epoch(model: torch.nn.Module, batches: tuple[Batches, Batches]) -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            train_model(model, *batches, recipe)

    calls = {"freeze": lambda: epoch(frozen, pictures), "cached": lambda: epoch(frozen.fc, cached)}
    seconds = time_interleaved(calls, arguments.rounds, warm_up=1)
    for name, times in seconds.items():
        print(f"{name}: {sorted(times)[len(times) // 2]:.3f} s an epoch")
    print(f"features: {once:.1f} s, once")
    faster = ratio(seconds, of="freeze", to="cached")
    print(f"freeze / cached {faster:.0f}  goal {GOAL}: {'reached' if faster >= GOAL else 'MISSED'}")


if __name__ == "__main__":
    main()
