"""`python -m hw_attention_theory.train`: trains a classifier of pixel sequences; this file is its command line."""

import argparse
from typing import TYPE_CHECKING

from hw_attention_theory.presets import (
    DATASETS,
    DEFAULTS,
    HOMEWORK,
    SAMPLE,
    SIDES,
    TERMS,
    TITLES,
    Settings,
    count_features,
)
from hw_common.commands import cli
from hw_common.commands.cli import add_flag
from hw_common.commands.training_command import TrainingCommand, fill_in
from hw_common.runs.errors import UserError

if TYPE_CHECKING:
    import torch

    from hw_common.training.experiment import Experiment

_MAX_FEATURES = 10**5
_DESCRIPTION = """\
Trains a small classifier of images of digits, read as sequences of pixels, with softmax attention or with its linear
approximation (ist-2023-24-hw2 Q1), to compare accuracy, time and memory.

  python -m hw_attention_theory.train --dataset sample --attention taylor   half a minute, needs no download
  python -m hw_attention_theory.train --attention softmax                   MNIST at 14×14: sequences of 196 pixels
  python -m hw_attention_theory.train --attention taylor --side 28          whole images: 784 pixels

Writes a run folder: configuration, metrics of each epoch, curves, weights, final metrics.
Ctrl-C finishes the step and saves; --resume continues the run.
"""


def parser() -> cli.Parser:
    """All flags; None means a default that depends on the data set."""
    flags = cli.Parser("python -m hw_attention_theory.train", _DESCRIPTION)
    group = flags.add_argument_group("what to train")
    add_flag(group, "dataset", choices=DATASETS, default="mnist", help="default: mnist; sample needs no files")
    add_flag(group, "attention", choices=tuple(TITLES), default="softmax", help="default: softmax; taylor is linear")
    add_flag(group, "terms", type=cli.int_up_to(7), help="taylor: terms of the exponential series (default: 3)")
    add_flag(group, "side", type=cli.positive_int, help="average images to SIDE×SIDE (default: mnist 14, sample 8)")
    for name, largest, meaning in (
        ("n", 1024, "features of each position"),
        ("d", 64, "features per query, key and value"),
        ("heads", 16, "attention heads"),
        ("blocks", 24, "number of blocks, each with attention and two linear layers"),
    ):
        default = DEFAULTS[name]
        add_flag(group, name, type=cli.int_up_to(largest), default=default, help=f"{meaning} (default: {default})")
    training = cli.add_training_flags(flags, optimizers=("adam", "adamw", "sgd"))
    cli.add_schedule_flag(training)
    cli.add_kernels_flag(training)
    cli.add_run_flags(flags)
    return flags


def _resolve(arguments: argparse.Namespace) -> argparse.Namespace:
    """Fills in the defaults of the data set; refuses flags that contradict each other."""
    fill_in(arguments, {**DEFAULTS, **(SAMPLE if arguments.dataset == "sample" else {})})
    if arguments.attention == "taylor" and arguments.terms is None:
        arguments.terms = TERMS
    if arguments.side is None:
        arguments.side = {"mnist": 14, "sample": 8}[arguments.dataset]
    _check(arguments)
    if arguments.name is None:
        terms = "" if arguments.terms in (None, TERMS) else arguments.terms
        arguments.name = f"{arguments.dataset}{arguments.side}-{arguments.attention}{terms}"
    return arguments


def _check(arguments: argparse.Namespace) -> None:
    if arguments.side not in SIDES[arguments.dataset]:
        allowed = ", ".join(map(str, SIDES[arguments.dataset]))
        raise UserError(f"--side: expected one of {allowed} for {arguments.dataset}, got {arguments.side}")
    if arguments.attention == "softmax":
        if arguments.terms is not None:
            raise UserError("--terms is a setting of --attention taylor, not of softmax")
        return
    if arguments.terms % 2 == 0:
        raise UserError(
            f"--terms: expected an odd number, got {arguments.terms}; with an even number of terms, attention weights "
            "can be negative"
        )
    features = count_features(arguments.d, arguments.terms)
    if features > _MAX_FEATURES:
        raise UserError(
            f"--terms {arguments.terms} with --d {arguments.d} makes {features} features, more than the limit of "
            f"{_MAX_FEATURES}; choose fewer terms or a smaller --d"
        )


def _prepare(arguments: argparse.Namespace, device: "torch.device") -> "Experiment":
    from hw_attention_theory import data, experiment  # imports torch

    settings = Settings.from_arguments(arguments)
    digits = data.load(settings.dataset, arguments.data_dir, settings.side)
    return experiment.prepare(settings, digits, device)


COMMAND = TrainingCommand(HOMEWORK, parser, _resolve, _prepare)
main = COMMAND.main


if __name__ == "__main__":
    cli.run_command(main, under_torchrun=True)
