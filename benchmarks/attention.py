"""Speed and memory of linear attention, compared with softmax attention and with goals for long sequences.

    python benchmarks/attention.py [--threads 2] [--rounds 5]

Time, memory and exponent of linear attention (D = 16, three terms, --kernels fast) are measured in a new process for
each length. Then both attentions are timed alternately: alone, and in training steps of the classifier.
"""

import argparse
from collections.abc import Callable
from functools import partial

import torch

from hw_attention_theory import experiment, train
from hw_attention_theory.fast_linear_attention import FastTaylorLinearAttention
from hw_attention_theory.measure import Case, Meter
from hw_attention_theory.models import SoftmaxSelfAttention
from hw_attention_theory.presets import Settings
from hw_attention_theory.scaling_report import FIT_FROM, exponent
from hw_common.commands import cli
from hw_common.training.timing import ratio, time_interleaved

D, K = 16, 3
LONGEST = 65536
BATCH = 16
GOALS = {"seconds": 2.0, "GB": 2.0, "exponent": 1.1}


def verdict(what: str, value: float, goal: float) -> None:
    print(f"{what}: {value:.3g}  goal {goal:g}: {'reached' if value <= goal else 'MISSED'}")


def measure_scaling(threads: int, rounds: int) -> None:
    meter, points = Meter(threads, rounds), []
    try:
        for L in (2**i for i in range(FIT_FROM.bit_length() - 1, LONGEST.bit_length())):
            points.append(meter.measure(Case("taylor", L, D, K)))
    finally:
        meter.close()
    last = points[-1]
    verdict(f"seconds for L = {last['L']}, D = {D}, {K} terms", last["seconds"], GOALS["seconds"])
    verdict("GB of the whole process", last["process_bytes"] / 1e9, GOALS["GB"])
    for name in ("seconds", "cpu_seconds"):
        pairs = [(point["L"], point[name]) for point in points]
        verdict(f"exponent of {name} from L = {FIT_FROM}", exponent(pairs), GOALS["exponent"])


def compare_attention(rounds: int) -> None:
    attentions = {"softmax": SoftmaxSelfAttention(), "linear": FastTaylorLinearAttention(D, K)}
    for L in (256, 1024, 4096, 8192):
        Q, K_, V = (torch.randn(L, D) for _ in range(3))
        with torch.inference_mode():
            calls = {name: partial(attention, Q, K_, V) for name, attention in attentions.items()}
            seconds = time_interleaved(calls, rounds)
        print(f"attention, L = {L}: linear is {ratio(seconds, of='softmax', to='linear'):.2f} times as fast as softmax")


def training_step(attention: str, side: int) -> Callable[[], None]:
    settings = Settings.from_arguments(train.COMMAND.parse(["--attention", attention, "--side", str(side)]))
    model, batch = experiment.build_model(settings), (torch.rand(BATCH, side**2), torch.arange(BATCH) % 10)

    def step() -> None:
        model.zero_grad()
        experiment.loss_function(model, batch)[0].backward()

    return step


def compare_training(rounds: int) -> None:
    for side in (14, 28):
        seconds = time_interleaved(
            {name: training_step(name, side) for name in ("softmax", "taylor")}, rounds, warm_up=1
        )
        faster = ratio(seconds, of="softmax", to="taylor")
        print(f"training step, L = {side**2}: linear is {faster:.2f} times as fast as softmax")


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--threads", type=int, default=torch.get_num_threads())
    flags.add_argument("--rounds", type=int, default=5)
    arguments = flags.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    print(f"{arguments.threads} threads, {arguments.rounds} rounds")
    measure_scaling(arguments.threads, arguments.rounds)
    compare_attention(arguments.rounds)
    compare_training(arguments.rounds)


if __name__ == "__main__":
    cli.run_command(main)
