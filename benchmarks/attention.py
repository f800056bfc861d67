"""Speed and memory of linear attention, compared with softmax attention and with goals for long sequences.

    python benchmarks/attention.py [--threads 1] [--rounds 9]

For each length L, new processes measure time and memory of linear attention (D = 16, three terms, --kernels fast). The
exponent p in time ∝ Lᵖ is fitted. Both attentions are also timed alternately: alone, and in classifier training.
`python -m hw_attention_theory.scaling` finds the length from which linear attention is faster.
"""

from collections.abc import Callable
from functools import partial

import harness
import torch

from hw_attention_theory import experiment, train
from hw_attention_theory.fast_linear_attention import FastTaylorLinearAttention
from hw_attention_theory.measure import Case, Meter
from hw_attention_theory.models import SoftmaxSelfAttention
from hw_attention_theory.presets import Settings
from hw_attention_theory.scaling_report import FIT_FROM, exponent
from hw_common.commands import cli
from hw_common.training.memory import keep_freed_memory

D, K = 16, 3
LONGEST = 65536
BATCH = 16
KINDS = {"softmax": "softmax", "linear": "taylor"}  # names of hw_attention_theory.train


def measure_scaling(threads: int, rounds: int) -> None:
    meter, points = Meter(threads, rounds), []
    try:
        for L in (2**i for i in range(FIT_FROM.bit_length() - 1, LONGEST.bit_length())):
            points += meter.measure([Case("taylor", L, D, K)], max_bytes=0)
        longest = [meter.measure([Case("taylor", LONGEST, D, K)], max_bytes=0)[0] for _ in range(harness.LEAST_ROUNDS)]
    finally:
        meter.close()
    title = f"linear attention, L = {LONGEST}, D = {D}, {K} terms"
    harness.print_values(title, [point["seconds"] for point in longest], "s", at_most=2)
    harness.print_values(
        f"{title}: peak memory of the process", [point["process_bytes"] / 1e9 for point in longest], "GB", at_most=2
    )
    power, error = exponent([(point["L"], point["seconds"]) for point in points])
    title = f"linear attention, exponent p in time ∝ Lᵖ from L = {FIT_FROM} on, standard error {error:.3f}"
    harness.print_value(title, power, at_most=1.1)


def compare_attention(rounds: int) -> None:
    attentions = {"softmax": SoftmaxSelfAttention(), "linear": FastTaylorLinearAttention(D, K)}
    for L in (256, 1024, 4096, 8192):
        Q, K_, V = (torch.randn(L, D) for _ in range(3))
        with torch.inference_mode():
            calls = {name: partial(attention, Q, K_, V) for name, attention in attentions.items()}
            seconds = harness.time_interleaved(calls, rounds)
        harness.print_ratio(f"attention without training, D = {D}, L = {L}", seconds, "softmax", "linear")


def training_step(attention: str, side: int) -> Callable[[], None]:
    settings = Settings.from_arguments(train.COMMAND.parse(["--attention", attention, "--side", str(side)]))
    model, batch = experiment.build_model(settings), (torch.rand(BATCH, side**2), torch.arange(BATCH) % 10)

    def step() -> None:
        model.zero_grad()
        experiment.loss_function(model, batch)[0].backward()

    return step


def compare_training(rounds: int) -> None:
    for side in (14, 28):
        calls = {name: training_step(attention, side) for name, attention in KINDS.items()}
        seconds = harness.time_interleaved(calls, rounds, warm_up=1)
        harness.print_ratio(f"training step of the pixel classifier, L = {side**2}", seconds, "softmax", "linear")


def main() -> None:
    arguments = harness.parse(harness.parser(__doc__, rounds=9))
    torch.manual_seed(0)
    keep_freed_memory()  # every training command calls this, too
    measure_scaling(arguments.threads, arguments.rounds)
    compare_attention(arguments.rounds)
    compare_training(arguments.rounds)


if __name__ == "__main__":
    cli.run_command(main)
