"""`python -m hw_numpy.train`: trains the digit classifiers, in place of the course's digit_classification.py."""

import argparse
from functools import partial

from hw_common.commands import cli
from hw_common.commands.cli import add_flag
from hw_common.commands.training_command import fill_in
from hw_common.runs.errors import UserError
from hw_numpy.command import NumpyCommand, open_run, refuse_torch_flags
from hw_numpy.presets import DEFAULTS, HOMEWORK, LARGEST_FILTER, UPDATE_RULES, DigitSettings

_DESCRIPTION = """\
Trains the NumPy networks of eecs545-w20-hw4 Q2 and Q3 on handwritten digits, chooses the number of hidden units (and
the filter size) on the validation images, and measures the chosen network on the test images.

  python -m hw_numpy.train --model cnn --dataset sample   a minute, needs no download
  python -m hw_numpy.train --model softmax                MNIST, Q2c
  python -m hw_numpy.train --model cnn                    MNIST, Q3c

Writes a run folder: configuration, metrics of each epoch, curves, best weights, final numbers.
Every epoch is saved; --resume continues after the last one.
"""


def parser() -> cli.Parser:
    """All flags. The defaults of --epochs, --filter_sizes and --update_rule depend on the model."""
    flags = cli.Parser("python -m hw_numpy.train", _DESCRIPTION)
    group = flags.add_argument_group("what to train")
    add_flag(group, "model", choices=tuple(DEFAULTS), default="softmax", help="Q2's or Q3's network (default: softmax)")
    add_flag(
        group, "dataset", choices=("mnist", "sample"), default="mnist", help="default: mnist; sample needs no files"
    )
    add_flag(
        group,
        "hidden_dims",
        type=cli.positive_int,
        nargs="+",
        default=[50, 100, 150],
        help="numbers of hidden units to choose from (default: 50 100 150)",
    )
    add_flag(
        group,
        "filter_sizes",
        type=cli.positive_int,
        nargs="+",
        help="heights and widths of the CNN's filters to choose from (default: 5 7)",
    )
    add_flag(
        group,
        "grow",
        type=cli.non_negative_int,
        default=0,
        help="add up to this many sizes, one at a time, while the best one is at the edge of the grid (default: 0)",
    )
    training = flags.add_argument_group("training")
    add_flag(training, "epochs", type=cli.positive_int, help="passes over the images (default: softmax 40, cnn 10)")
    add_flag(training, "batch_size", type=cli.positive_int, default=100, help="images per step (default: 100)")
    add_flag(training, "lr", "learning_rate", type=cli.positive_float, default=1e-3, help="default: 0.001")
    add_flag(
        training,
        "lr_decay",
        type=cli.positive_float,
        default=0.95,
        help="the learning rate is multiplied by this after each epoch (default: 0.95)",
    )
    add_flag(training, "update_rule", "optimizer", choices=UPDATE_RULES, help="default: sgd; for cnn: sgd_momentum")
    add_flag(
        training,
        "weight_scale",
        type=cli.positive_float,
        default=1e-3,
        help="standard deviation of the initial weights (default: 0.001)",
    )
    cli.add_run_flags(flags, threads="all cores for cnn; 1 for softmax, whose steps are too short to be split")
    return flags


def _resolve(arguments: argparse.Namespace) -> argparse.Namespace:
    """Fills in the defaults that depend on the model, and refuses arguments that exclude one another."""
    refuse_torch_flags(arguments)
    if arguments.model == "softmax" and arguments.filter_sizes is not None:
        raise UserError("--filter_sizes needs --model cnn: softmax has no filters")
    if arguments.model == "softmax" and arguments.threads not in (None, 1):
        raise UserError(f"--threads {arguments.threads} needs --model cnn: a step of softmax is too short to be split")
    fill_in(arguments, DEFAULTS[arguments.model])
    for size in arguments.filter_sizes or ():
        if size > LARGEST_FILTER:
            raise UserError(f"--filter_sizes {size}: filters of more than 27×27 leave nothing to pool in 28×28 images")
    if arguments.name is None:
        arguments.name = f"{arguments.dataset}-{arguments.model}"
    return arguments


def _run(arguments: argparse.Namespace) -> None:
    from hw_numpy import experiment  # slow: imports NumPy

    settings = DigitSettings.from_arguments(arguments)
    if arguments.dry_run:
        experiment.dry_run(settings)
    else:
        experiment.run(settings, partial(open_run, COMMAND, arguments))


COMMAND = NumpyCommand(HOMEWORK, parser, _resolve, module="train", run=_run)
main = COMMAND.main


if __name__ == "__main__":
    cli.run_command(main)
