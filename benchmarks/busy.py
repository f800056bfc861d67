"""Training time beside two busy processes of the same priority, compared with the time on a quiet machine.

    python benchmarks/busy.py [--threads 2] [--rounds 5] [--batch_size 8 64]

FashionCNN trains for a fixed number of steps, as in `cnn.py`, with the default number of threads and with --threads
threads. The rounds with and without the busy processes alternate. With a fair share of two cores beside two busy
processes, training takes 1.5 times as long on one thread and twice as long on two. Goal for the default: at most 2.
"""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial

import harness
import torch
from cnn import our_trainer, repeated_sample

from hw_cnn import experiment, train
from hw_cnn.presets import Settings
from hw_common.training import threads
from hw_common.training.timing import Worker

STEPS = {8: 256, 64: 48}  # steps in a round, by batch size: they take about a second
BUSY = 2
# A busy process prints a line when it has begun, and ends by itself if the benchmark has ended.
PROGRAM = """
import os, sys
parent = os.getppid()
print(flush=True)
while os.getppid() == parent:
    for _ in range(10**6):
        pass
"""


@contextlib.contextmanager
def busy_processes() -> Iterator[None]:
    """Runs BUSY processes that compute without a pause; the block begins when all of them do."""
    command = [sys.executable, "-S", "-c", PROGRAM]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(BUSY)]
    try:
        for process in processes:
            process.stdout.readline()
        yield
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def measure_by_turns(train: Callable[[], None], rounds: int) -> dict[str, list[float]]:
    """The seconds of `train` in each round, quiet and beside busy processes; starting and ending these is not timed."""
    seconds: dict[str, list[float]] = {"quiet": [], "busy": []}
    train()
    for _ in range(rounds):
        for name, around in (("quiet", contextlib.nullcontext), ("busy", busy_processes)):
            with around():
                started = time.perf_counter()
                train()
                seconds[name].append(time.perf_counter() - started)
    return seconds


def default_threads(batch_size: int, most: int) -> int:
    settings = Settings.from_arguments(train.COMMAND.parse(["--dataset", "sample", "--batch_size", str(batch_size)]))
    batches = experiment.training_batches(settings, repeated_sample(batch_size).train, torch.device("cpu"))
    model = experiment.build_model(settings, 10)
    work = threads.count_multiply_adds(model, experiment.loss_function, next(iter(batches.epoch(0))))
    return threads.worth(work, most, threads.WORK_PER_THREAD)


def measure(batch_size: int, count: int, title: str, rounds: int, **goal: float) -> None:
    torch.set_num_threads(count)
    with Worker(our_trainer, batch_size, batch_size * STEPS[batch_size]) as worker:
        seconds = measure_by_turns(partial(worker, "fp32"), rounds)
    title = f"training FashionCNN, batch {batch_size}, {title}"
    harness.print_ratio(title, seconds, "busy", "quiet", **goal)


def compare_spinning(count: int, rounds: int) -> None:
    """Compares training on a quiet machine with and without a limit on how long waiting threads spin."""
    torch.set_num_threads(count)
    limit = os.environ["GOMP_SPINCOUNT"]
    with contextlib.ExitStack() as stack:
        workers = {"for a limited time": stack.enter_context(Worker(our_trainer, 64, 64 * STEPS[64]))}
        workers["for a limited time"]("fp32")  # starts the process
        del os.environ["GOMP_SPINCOUNT"]
        workers["for torch's default time"] = stack.enter_context(Worker(our_trainer, 64, 64 * STEPS[64]))
        workers["for torch's default time"]("fp32")
        os.environ["GOMP_SPINCOUNT"] = limit
        calls = {name: partial(worker, "fp32") for name, worker in workers.items()}
        seconds = harness.time_interleaved(calls, rounds, warm_up=1)
    title = "training FashionCNN, batch 64, on a quiet machine, with waiting threads that spin"
    harness.print_ratio(title, seconds, "for a limited time", "for torch's default time", at_most=1.05)


def main() -> None:
    flags = harness.parser(__doc__, rounds=5)
    flags.add_argument("--batch_size", nargs="+", type=int, choices=tuple(STEPS), default=tuple(STEPS))
    arguments = harness.parse(flags)
    compare_spinning(arguments.threads, arguments.rounds)
    for batch_size in arguments.batch_size:
        chosen = default_threads(batch_size, arguments.threads)
        measure(batch_size, chosen, "default number of threads", arguments.rounds, at_most=2)
        if chosen != arguments.threads:
            measure(batch_size, arguments.threads, f"--threads {arguments.threads}", arguments.rounds)


if __name__ == "__main__":
    main()
