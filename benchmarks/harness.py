"""The parts that the benchmarks share: flags, alternating timing, training without output, and printed verdicts."""

import argparse
import contextlib
import functools
import io
import resource
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hw_common.training.batches import EpochBatches
from hw_common.training.loop import LossFunction, Training, fit
from hw_common.training.timing import Worker, time_interleaved

Seconds = Mapping[str, list[float]]  # for each name: the seconds of each round


def parser(description: str | None, rounds: int | None = None) -> argparse.ArgumentParser:
    """A parser whose help is the benchmark's docstring, with --rounds and --threads if there are `rounds`."""
    flags = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    if rounds is not None:
        flags.add_argument("--rounds", type=int, default=rounds)
        flags.add_argument("--threads", type=int, default=torch.get_num_threads())
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


def time_trainings(
    baseline: Callable[[], Callable[[], Any]],
    ours: Callable[[], Callable[[str], Any]],
    precisions: Sequence[str],
    rounds: int,
) -> dict[str, list[float]]:
    """Times the baseline and our training alternately; returns each round's seconds by "baseline" or precision.

    Each runs in its own process. `baseline` and `ours` return the function to time there; ours takes a precision.
    """
    with Worker(baseline) as slow, Worker(ours) as fast:
        calls = {"baseline": slow, **{precision: functools.partial(fast, precision) for precision in precisions}}
        return time_interleaved(calls, rounds, warm_up=1)


def print_ratio(
    title: str, seconds: Seconds, of: str, to: str, per_call: tuple[float, float] = (1, 1), **goal: float | None
) -> None:
    """Prints the time of `of` divided by the time of `to`; see `verdict` for the goal.

    per_call: numbers of examples in a call of `of` and of `to`; times and ratio are per example.
    """
    times = [[1000 * t / n for t in seconds[name]] for name, n in zip((of, to), per_call, strict=True)]
    ratios = [a / b for a, b in zip(*times, strict=True)]
    ratio, spread = statistics.median(ratios), f"{min(ratios):.2f}–{max(ratios):.2f}"
    a, b = map(statistics.median, times)
    print(f"{title}: {of} / {to} = {ratio:.2f} ({spread}; {a:.4g} and {b:.4g} ms){verdict(ratio, **goal)}", flush=True)


def print_value(title: str, value: float, unit: str = "", **goal: float | None) -> None:
    """Prints a measured value; see `verdict` for the goal."""
    print(f"{title}: {value:.3g}{unit and ' '}{unit}{verdict(value, **goal)}", flush=True)


def verdict(value: float, at_least: float | None = None, at_most: float | None = None) -> str:
    """The end of a line that says whether `value` reaches the goal; an empty string if there is no goal."""
    if at_least is None and at_most is None:
        return ""
    reached = value >= at_least if at_least is not None else value <= at_most
    goal = f"at least {at_least:g}" if at_least is not None else f"at most {at_most:g}"
    return f"  goal {goal}: {'reached' if reached else 'MISSED'}"


def children_gigabytes() -> float:
    """The largest peak memory among the ended child processes."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
