"""Training time beside two busy processes of the same priority, compared with the time on a quiet machine.

    python benchmarks/busy.py [--threads 2] [--rounds 5] [--batch_size 8 64]

FashionCNN trains on 2 048 images, as in `cnn.py`, with the default number of threads and with --threads threads. Rounds
with and without the busy processes alternate. With a fair share of two cores beside two busy
processes, training takes 1.5 times as long on one thread and twice as long on two. Goal for the default: at most 2.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial

import harness
import torch
from cnn import our_trainer, repeated_sample

from hw_cnn import experiment, train
from hw_cnn.presets import Settings
from hw_common.training import threads
from hw_common.training.timing import Worker, time_interleaved

IMAGES, BUSY = 2048, 2


@contextlib.contextmanager
def busy_processes() -> Iterator[None]:
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(BUSY)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def beside_busy_processes(call: Callable[[], None]) -> None:
    with busy_processes():
        call()


def default_threads(batch_size: int, most: int) -> int:
    settings = Settings.from_arguments(train.COMMAND.parse(["--dataset", "sample", "--batch_size", str(batch_size)]))
    batches = experiment.training_batches(settings, repeated_sample(IMAGES).train, torch.device("cpu"))
    model = experiment.build_model(settings, 10)
    work = threads.count_multiply_adds(model, experiment.loss_function, next(iter(batches.epoch(0))))
    return threads.worth(work, most)


def measure(batch_size: int, count: int, title: str, rounds: int, **goal: float) -> None:
    torch.set_num_threads(count)
    with Worker(our_trainer, batch_size, IMAGES) as worker:
        train_once = partial(worker, "fp32")
        calls = {"busy": partial(beside_busy_processes, train_once), "quiet": train_once}
        seconds = time_interleaved(calls, rounds, warm_up=1)
    title = f"training FashionCNN, batch {batch_size}, {title}"
    harness.print_ratio(title, seconds, "busy", "quiet", **goal)


def compare_spinning(count: int, rounds: int) -> None:
    """Shows that training on a quiet machine is not slower when waiting threads soon sleep."""
    torch.set_num_threads(count)
    limit = os.environ["GOMP_SPINCOUNT"]
    with contextlib.ExitStack() as stack:
        workers = {"limited": stack.enter_context(Worker(our_trainer, 64, IMAGES))}
        workers["limited"]("fp32")  # starts the process
        del os.environ["GOMP_SPINCOUNT"]
        workers["unlimited"] = stack.enter_context(Worker(our_trainer, 64, IMAGES))
        workers["unlimited"]("fp32")
        os.environ["GOMP_SPINCOUNT"] = limit
        calls = {name: partial(worker, "fp32") for name, worker in workers.items()}
        seconds = time_interleaved(calls, rounds, warm_up=1)
    title = "training FashionCNN, batch 64, quiet, spinning of waiting threads"
    harness.print_ratio(title, seconds, "limited", "unlimited", at_most=1.05)


def main() -> None:
    flags = harness.parser(__doc__, rounds=5)
    flags.add_argument("--batch_size", nargs="+", type=int, default=[8, 64])
    arguments = harness.parse(flags)
    compare_spinning(arguments.threads, arguments.rounds)
    for batch_size in arguments.batch_size:
        chosen = default_threads(batch_size, arguments.threads)
        measure(batch_size, chosen, "default number of threads", arguments.rounds, at_most=2)
        if chosen != arguments.threads:
            measure(batch_size, arguments.threads, f"--threads {arguments.threads}", arguments.rounds)


if __name__ == "__main__":
    main()
