"""Speed of hw_ocr on the OCR letters, compared with straightforward code in the same process.

    python benchmarks/ocr.py [--data_dir data] [--threads 2] [--rounds 5] [--seeds 42 43 44]

The CRF (--kernels fast) is compared with pytorch-crf on 64 words. The BiLSTM, trained as in `hw_ocr.train`, is compared
with the training loop of the published report (dsl-2019-hw3): one word per step, Adam with learning rate 1e-3. Our
version of this loop takes the words in random order instead of the file's order. Evaluation is not timed.
"""

import math
import os
import time
from collections.abc import Callable
from pathlib import Path

import harness
import torch
import torch.nn.functional as F
import torchcrf
from torch import Tensor, nn

from hw_common.commands import cli
from hw_common.training.experiment import make_optimizer
from hw_ocr import data, experiment, train
from hw_ocr.data import Letters, OcrData
from hw_ocr.fast_crf import FastLinearChainCRF
from hw_ocr.presets import Settings

CPU = torch.device("cpu")
ACCURACY = 0.970
# Words in a round of the report's code and of ours. Ours has fixed costs in each epoch. A training run spreads them
# over 5 470 words; if a round had only 512 words, they would take a fifth of its time at batch 128.
WORDS, OUR_WORDS = 256, 2048
QUICKEST = ["--batch_size", "32", "--lr", "0.006"]  # the settings that reach ACCURACY soonest


class ReportBiLSTM(nn.Module):
    """The published report's network, which reads one word at a time, (L, 128) to (L, 26)."""

    def __init__(self) -> None:
        super().__init__()
        self.layer1 = nn.Sequential(nn.Linear(128, 128), nn.Tanh())
        self.layer2 = nn.LSTM(128, 128, bidirectional=True)
        self.output_layer = nn.Linear(256, 26)
        self.hidden = (torch.zeros(2, 1, 128), torch.zeros(2, 1, 128))

    def forward(self, x: Tensor) -> Tensor:
        """x: (L, 128)."""
        out = self.layer1(x)
        out, _ = self.layer2(out.view(len(out), 1, -1), self.hidden)
        return self.output_layer(out).view(len(out), -1)


def split(letters: Letters) -> list[tuple[Tensor, Tensor]]:
    """The pixels (L, 128) and labels (L,) of each word."""
    lengths = letters.lengths.tolist()
    images = letters.images.flatten(1).float().split(lengths)
    return list(zip(images, letters.labels.split(lengths), strict=True))


def some_words(letters: Letters, count: int) -> Letters:
    """`count` random words of `letters`."""
    words = split(letters)
    drawn = [words[i] for i in torch.randperm(len(words), generator=torch.Generator().manual_seed(0))[:count]]
    images, labels = (torch.cat(part) for part in zip(*drawn, strict=True))
    return Letters(images.byte().view(-1, 16, 8), labels, torch.tensor([len(labels) for _, labels in drawn]))


def report_epoch(model: nn.Module, optimizer: torch.optim.Optimizer, words: list[tuple[Tensor, Tensor]]) -> None:
    """The published report's loop over one epoch."""
    for i in torch.randperm(len(words)):
        images, labels = words[i]
        harness.plain_step(optimizer, F.cross_entropy(model(images), labels))


def report_accuracy(model: nn.Module, words: list[tuple[Tensor, Tensor]]) -> float:
    with torch.inference_mode():
        right = [(model(images).argmax(1) == labels) for images, labels in words]
    return torch.cat(right).double().mean().item()


class ReachedError(Exception):
    """The training has reached ACCURACY."""


def train_ours(letters: Letters, flags: list[str], evaluate: Callable[[nn.Module], float] = lambda model: 0.0) -> None:
    """Trains as `hw_ocr.train` does with `flags`; calls `evaluate` after each epoch."""
    settings = Settings.from_arguments(train.COMMAND.parse(["--model", "bilstm", *flags]))
    torch.manual_seed(settings.seed)
    model = experiment.build_model(settings)
    batches = experiment.training_batches(settings, letters, CPU)
    optimizer = make_optimizer(settings.optimizer, model.parameters(), settings.lr, settings.l2_decay)
    loss, epochs = experiment.word_loss, settings.epochs
    harness.train(model, optimizer, batches, loss, evaluate, epochs, precision=settings.precision)


def time_ours(ocr: OcrData, seed: int) -> tuple[float, int]:
    """Seconds and number of epochs until ACCURACY is reached on the dev letters; infinite seconds if it is not."""
    seconds, epochs, started = 0.0, 0, time.perf_counter()

    def evaluate(model: nn.Module) -> float:
        nonlocal seconds, epochs, started
        seconds, epochs = seconds + time.perf_counter() - started, epochs + 1
        accuracy = experiment.evaluate(model, ocr.dev, "dev")["dev_accuracy"]
        if accuracy >= ACCURACY:
            raise ReachedError
        started = time.perf_counter()
        return accuracy

    try:
        train_ours(ocr.train, ["--seed", str(seed), *QUICKEST], evaluate)
    except ReachedError:
        return seconds, epochs
    return math.inf, epochs


def time_report(ocr: OcrData, seed: int) -> tuple[float, int]:
    """Trains with the published report's loop until ACCURACY is reached, for at most 20 epochs; see `time_ours`."""
    torch.manual_seed(seed)
    model, words, dev = ReportBiLSTM(), split(ocr.train), split(ocr.dev)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    seconds, epochs, accuracy = 0.0, 0, 0.0
    while accuracy < ACCURACY and epochs < 20:
        started = time.perf_counter()
        report_epoch(model, optimizer, words)
        seconds, epochs = seconds + time.perf_counter() - started, epochs + 1
        accuracy = report_accuracy(model, dev)
    return seconds, epochs


def compare_crfs(ocr: OcrData, rounds: int) -> None:
    torch.manual_seed(0)
    own, other = FastLinearChainCRF(26), torchcrf.CRF(26, batch_first=True)
    own.load_state_dict({
        "start": other.start_transitions, "transitions": other.transitions, "end": other.end_transitions
    })  # fmt: skip
    images, labels, mask = next(data.word_batches(some_words(ocr.train, 64), 64, CPU).epoch(0))
    shuffled = torch.randperm(64)
    images, labels, mask = images[shuffled], labels[shuffled], mask[shuffled]
    network = experiment.build_model(Settings.from_arguments(train.COMMAND.parse(["--model", "bilstm"])))
    emissions = network(images, mask).detach().requires_grad_()

    def with_gradient(model: nn.Module, log_likelihood: Callable[[], Tensor]) -> None:
        model.zero_grad()
        emissions.grad = None
        log_likelihood().sum().backward()

    calls = {
        "ours": lambda: with_gradient(own, lambda: own.log_likelihood(emissions, labels, mask)),
        "pytorch-crf": lambda: with_gradient(other, lambda: other(emissions, labels, mask, reduction="none")),
        "our Viterbi": lambda: own.decode(emissions, mask),
        "pytorch-crf's Viterbi": lambda: other.decode(emissions, mask),
    }
    repeated = {name: lambda call=call: [call() for _ in range(20)] for name, call in calls.items()}
    seconds = harness.time_interleaved(repeated, rounds)
    harness.print_ratio(
        "CRF log-likelihood with gradient, 64 words", seconds, "pytorch-crf", "ours", (20, 20), at_least=1.5
    )
    harness.print_ratio("Viterbi, 64 words", seconds, "pytorch-crf's Viterbi", "our Viterbi", (20, 20), at_least=3)


def compare_epochs(ocr: OcrData, rounds: int) -> None:
    few, letters, model = some_words(ocr.train, WORDS), some_words(ocr.train, OUR_WORDS), ReportBiLSTM()
    words, per_call = split(few), (len(few.labels), len(letters.labels))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    report = "the report's code"
    calls = {report: lambda: report_epoch(model, optimizer, words)}
    for size in (32, 64, 128):
        for precision in ("fp32", "bf16"):
            flags = ["--epochs", "1", "--batch_size", str(size), "--precision", precision]
            calls[f"ours, batch {size}, {precision}"] = lambda flags=flags: train_ours(letters, flags)
    seconds = harness.time_interleaved(calls, rounds, warm_up=1)
    for name in list(calls)[1:]:
        harness.print_ratio("training the BiLSTM, time per letter", seconds, report, name, per_call, at_least=20)


def compare_learning(ocr: OcrData, seeds: list[int]) -> None:
    faster = []
    for seed in seeds:
        own, report = time_ours(ocr, seed), time_report(ocr, seed)
        faster.append(report[0] / own[0])
        print(f"seed {seed}: report {report[1]} epochs, {report[0]:.1f} s; ours {own[1]} epochs, {own[0]:.1f} s")
    title = f"training the BiLSTM to {ACCURACY} of the validation letters: the report's code ÷ ours"
    harness.print_values(title, faster, at_least=8)


def main() -> None:
    flags = harness.parser(__doc__, rounds=5)
    flags.add_argument("--data_dir", type=Path, default=Path(os.environ.get("HW_DATA_DIR", "data")))
    flags.add_argument("--seeds", type=int, nargs="+", default=[42, 43, 44, 45, 46])
    arguments = harness.parse(flags)
    ocr = data.load("ocr", arguments.data_dir, seed=42)
    compare_crfs(ocr, arguments.rounds)
    compare_epochs(ocr, arguments.rounds)
    compare_learning(ocr, arguments.seeds)


if __name__ == "__main__":
    cli.run_command(main)
