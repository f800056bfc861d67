"""Time of training steps on one thread, on several and on the default number of threads, by the work in a step.

    python benchmarks/threads.py [--threads 2] [--rounds 7] [--homework hw_cnn hw_ocr]

Each workload is a training command on its sample data; the data and the network are prepared as for that command. The
steps on one thread and on --threads threads alternate. `hw_common.training.threads.WORK_PER_THREAD` is chosen from this
table, so that the default number of threads is at most 5 % slower than the better one.
"""

import importlib
import itertools
import tempfile
from collections.abc import Callable
from functools import partial

import harness
import torch

from hw_common.training import threads
from hw_common.training.experiment import Experiment
from hw_common.training.memory import keep_freed_memory
from hw_common.training.timing import ratio, time_interleaved

SAMPLE = ["--dataset", "sample"]
WORKLOADS: dict[str, list[str]] = {
    "hw_cnn": [*(f"--network fashion --batch_size {2**i}" for i in range(3, 9)), "--network oct", "--network cifar"],
    "hw_ocr": ["--model bilstm", "--model conv_bilstm", "--model cnn", "--model bilstm --batch_size 64"],
    "hw_attention_theory": ["--attention softmax", "--attention taylor"],
    "hw_caption": ["--batch_size 8", "--use_attention --batch_size 8", "--use_attention --batch_size 64"],
    "hw_transfer": ["--batch_size 4"],
    "hw_asr": ["--batch_size 8", "--batch_size 64"],
}
SECONDS = 0.3  # each timed call takes about this long
CPU = torch.device("cpu")


def prepare(homework: str, flags: str, results_dir: str) -> Experiment:
    command = importlib.import_module(f"{homework}.train").COMMAND
    with harness.quiet():
        return command.prepare(command.parse([*SAMPLE, *flags.split(), "--results_dir", results_dir]), CPU)


def steps_on(experiment: Experiment, count: int, number: int) -> None:
    """Takes `number` training steps on `count` threads."""
    torch.set_num_threads(count)
    experiment.model.train()
    for batch in itertools.islice(experiment.batches.epoch(0), number):
        harness.plain_step(experiment.optimizer, experiment.loss_function(experiment.model, batch)[0])


def steps_for(seconds: float, experiment: Experiment) -> int:
    """The number of steps that take about `seconds`, at most an epoch."""
    calls: dict[str, Callable[[], None]] = {"step": partial(steps_on, experiment, 1, 1)}
    [measured] = time_interleaved(calls, 1, warm_up=1)["step"]
    return max(1, min(len(experiment.batches), int(seconds / measured)))


def compare(homework: str, flags: str, most: int, rounds: int, results_dir: str) -> None:
    experiment = prepare(homework, flags, results_dir)
    batch = next(iter(experiment.batches.epoch(0)))
    work = threads.count_multiply_adds(experiment.model, experiment.loss_function, batch)
    chosen = threads.worth(work, most)
    number = steps_for(SECONDS, experiment)
    calls = {str(count): partial(steps_on, experiment, count, number) for count in (1, most)}
    seconds = time_interleaved(calls, rounds, warm_up=1)
    title = f"{homework} {flags}, {work / 1e6:.1f} million multiply-adds"
    torch.set_num_threads(chosen)  # the row says for how many threads it is
    one, several = seconds["1"], seconds[str(most)]
    print(f"{title}: 1 thread ÷ {most} threads = {ratio(seconds, '1', str(most)):.2f}")
    better = [a / min(b, c) for a, b, c in zip(seconds[str(chosen)], one, several, strict=True)]
    harness.print_values(f"{title}: default number of threads ÷ the better one", better, at_most=1.05)


def main() -> None:
    flags = harness.parser(__doc__, rounds=7)
    flags.add_argument("--homework", nargs="+", choices=tuple(WORKLOADS), default=tuple(WORKLOADS))
    arguments = harness.parse(flags)
    keep_freed_memory()  # every training command calls this, too
    with tempfile.TemporaryDirectory() as results_dir:
        for homework in arguments.homework:
            for workload in WORKLOADS[homework]:
                compare(homework, workload, arguments.threads, arguments.rounds, results_dir)


if __name__ == "__main__":
    main()
