"""Time of training steps on one thread, on several and on the default number of threads, by the work in a step.

    python benchmarks/threads.py [--threads 2] [--rounds 5] [--homework hw_cnn hw_ocr]

Each workload is a training command on its sample data; the data and the network are prepared as for that command. The
steps on one thread and on --threads threads alternate. With the default number of threads, a step should take at most
5 % longer than with the better number. The last lines show, for several values of WORK_PER_THREAD in
`hw_common.training.threads`, how much longer a step would take than with the better of one and two threads: for the
worst workload and on average.
"""

import importlib
import itertools
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean

import harness
import torch

from hw_common.training import threads
from hw_common.training.experiment import Experiment
from hw_common.training.memory import keep_freed_memory
from hw_common.training.timing import ratio

SAMPLE = ["--dataset", "sample"]
WORKLOADS: dict[str, list[str]] = {
    "hw_cnn": [*(f"--network fashion --batch_size {2**i}" for i in range(3, 9)), "--network oct", "--network cifar"],
    "hw_ocr": [
        "--model bilstm",
        "--model conv_bilstm",
        "--model conv_bilstm --crf",
        "--model cnn",
        "--model pairwise",
        "--model bilstm --batch_size 64",
    ],
    "hw_attention_theory": ["--attention softmax", "--attention taylor"],
    "hw_caption": [*(f"{attention}--batch_size {size}" for attention in ("", "--use_attention ") for size in (8, 64))],
    "hw_transfer": ["--batch_size 4", "--mode freeze --batch_size 4", "--mode freeze --cache_features --batch_size 4"],
    "hw_asr": [f"--decoder {decoder} --batch_size {size}" for decoder in ("lstm", "transformer") for size in (8, 64)],
}
SECONDS = 0.25  # rough duration of a timed call
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
    [measured] = harness.time_interleaved(calls, 1, warm_up=1)["step"]
    return max(1, min(len(experiment.batches), int(seconds / measured)))


@dataclass
class Measured:
    """A workload, its multiply-adds per step, and the median of the time on one thread divided by that on several."""

    title: str
    work: float
    gain: float


def compare(homework: str, flags: str, most: int, rounds: int, results_dir: str) -> Measured:
    experiment = prepare(homework, flags, results_dir)
    batch = next(iter(experiment.batches.epoch(0)))
    work = threads.count_multiply_adds(experiment.model, experiment.loss_function, batch)
    chosen = threads.worth(work, most, threads.WORK_PER_THREAD)
    number = steps_for(SECONDS, experiment)
    calls = {str(count): partial(steps_on, experiment, count, number) for count in sorted({1, chosen, most})}
    seconds = harness.time_interleaved(calls, rounds, warm_up=1)
    title = f"{homework} {flags}, {work / 1e6:.1f} million multiply-adds"
    torch.set_num_threads(chosen)  # the row of the table records this number
    gain = ratio(seconds, "1", str(most))
    print(f"{title}: 1 thread ÷ {most} threads = {gain:.2f}")
    better = [own / min(timed) for own, *timed in zip(seconds[str(chosen)], *seconds.values(), strict=True)]
    harness.print_values(f"{title}: default number of threads ÷ the better of 1 and {most}", better, at_most=1.05)
    return Measured(f"{homework} {flags}", work, gain)


def print_choices(workloads: Sequence[Measured]) -> None:
    """Prints what values of WORK_PER_THREAD would cost with at most two threads, and the values that cost least."""
    costs = {}
    for value in (round(2 ** (i / 2), 1) * 1e6 for i in range(2, 17)):
        losses = [max(1, 1 / one.gain if threads.worth(one.work, 2, value) > 1 else one.gain) for one in workloads]
        worst = max(losses)
        costs[value] = worst
        who = workloads[losses.index(worst)].title if worst > 1 else "all are best"
        print(f"WORK_PER_THREAD {value / 1e6:5.1f}e6: at worst {worst:.2f} ({who}), mean {fmean(losses):.3f}")
    best = [value for value, cost in costs.items() if cost <= min(costs.values()) + 0.01]
    print(f"least at {min(best) / 1e6:.1f}e6 to {max(best) / 1e6:.1f}e6; it is {threads.WORK_PER_THREAD / 1e6:.1f}e6")


def main() -> None:
    flags = harness.parser(__doc__, rounds=5)
    flags.add_argument("--homework", nargs="+", choices=tuple(WORKLOADS), default=tuple(WORKLOADS))
    arguments = harness.parse(flags)
    keep_freed_memory()  # every training command calls this, too
    with tempfile.TemporaryDirectory() as results_dir:
        measured = [
            compare(homework, workload, arguments.threads, arguments.rounds, results_dir)
            for homework in arguments.homework
            for workload in WORKLOADS[homework]
        ]
    if arguments.threads == 2:
        print_choices(measured)


if __name__ == "__main__":
    main()
