"""The parts that the benchmarks share: flags, alternating timing, training without output, and printed verdicts."""

import argparse
import contextlib
import functools
import io
import json
import os
import resource
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from hw_common.commands import environment

environment.set_up()  # every command calls this before torch is imported

import torch  # noqa: E402
from rows import Row  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from hw_common.runs import launch  # noqa: E402
from hw_common.training import timing  # noqa: E402
from hw_common.training.batches import EpochBatches  # noqa: E402
from hw_common.training.loop import LossFunction, Training, fit  # noqa: E402

LABELS = {"baseline": "straightforward code", "fp32": "ours in fp32", "bf16": "ours in bf16"}
MAX_SECONDS = 12.0  # seconds after which no further round is timed, once LEAST_ROUNDS rounds are timed
LEAST_ROUNDS = 5
Seconds = Mapping[str, list[float]]  # for each name: the seconds of each round


def parser(description: str | None, rounds: int | None = None) -> argparse.ArgumentParser:
    """A parser whose help is the benchmark's docstring, with --rounds and --threads if there are `rounds`."""
    flags = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    if rounds is not None:
        flags.add_argument("--rounds", type=int, default=rounds)
        flags.add_argument("--threads", type=int, default=launch.most_threads())
    return flags


def parse(flags: argparse.ArgumentParser) -> argparse.Namespace:
    """Parses the command line, sets the number of threads and prints it."""
    arguments = flags.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"{arguments.threads} threads, median (least–greatest) of {arguments.rounds} rounds")
    return arguments


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hides what the block prints."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: EpochBatches,
    loss_function: LossFunction,
    evaluate: Callable[[nn.Module], float] = lambda model: 0.0,
    epochs: int = 1,
    precision: str = "fp32",
    clip_value: float | None = None,
) -> None:
    """Trains with `hw_common.training.loop.fit`, as every homework does, without a run folder and without output."""

    def row(model: nn.Module) -> dict[str, float]:
        return {"value": evaluate(model)}

    training = Training(
        model=model, batches=batches, optimizer=optimizer, loss_function=loss_function,
        evaluate=row, monitor="value", clip_value=clip_value,
    )  # fmt: skip
    with quiet():
        fit(training, epochs, precision)


def plain_step(optimizer: torch.optim.Optimizer, loss: Tensor) -> float:
    """Computes the gradients and updates the parameters, as in a first solution; returns the loss."""
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def time_interleaved(calls: Mapping[str, Callable[[], Any]], rounds: int, warm_up: int = 1) -> dict[str, list[float]]:
    """Like `timing.time_interleaved`, but stops after MAX_SECONDS once LEAST_ROUNDS rounds are timed."""
    return timing.time_interleaved(calls, rounds, warm_up, LEAST_ROUNDS, MAX_SECONDS)


def time_trainings(
    baseline: Callable[[], Callable[[], Any]],
    ours: Callable[[], Callable[[str], Any]],
    precisions: Sequence[str],
    rounds: int,
) -> dict[str, list[float]]:
    """Times the baseline and our training alternately; returns each round's seconds by "baseline" or precision.

    Each runs in its own process. `baseline` and `ours` return the function to time there; ours takes a precision.
    """
    with timing.Worker(baseline) as slow, timing.Worker(ours) as fast:
        calls = {"baseline": slow, **{precision: functools.partial(fast, precision) for precision in precisions}}
        return time_interleaved(calls, rounds, warm_up=1)


def print_ratio(
    title: str, seconds: Seconds, of: str, to: str, per_call: tuple[float, float] = (1, 1), **goal: float | None
) -> None:
    """Prints the time of `of` divided by the time of `to`; see `print_values` for the goal.

    per_call: numbers of examples in a call of `of` and of `to`; times and ratio are per example.
    """
    times = [[t / n for t in seconds[name]] for name, n in zip((of, to), per_call, strict=True)]
    ratios = [a / b for a, b in zip(*times, strict=True)]
    print_values(f"{title}: {LABELS.get(of, of)} ÷ {LABELS.get(to, to)}", ratios, **goal)


def print_value(title: str, value: float, unit: str = "", **goal: float | None) -> None:
    """Prints a value that was measured once; see `print_values` for the goal."""
    print_values(title, [value], unit, **goal)


def print_values(
    what: str, values: Sequence[float], unit: str = "", at_least: float | None = None, at_most: float | None = None
) -> None:
    """Prints the median of `values` and whether it reaches the goal.

    A goal is `at_least` or `at_most` a number. `python -m benchmarks` sets HW_BENCHMARK_ROWS to a file, to which the
    row is appended.
    """
    row = Row.of(what, values, unit, at_least, at_most, torch.get_num_threads())
    print(row, flush=True)
    if "HW_BENCHMARK_ROWS" in os.environ:
        with open(os.environ["HW_BENCHMARK_ROWS"], "a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(row)) + "\n")


def children_gigabytes() -> float:
    """The largest peak memory among the ended child processes."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
