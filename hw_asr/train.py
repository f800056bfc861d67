"""`python -m hw_asr.train`: trains one of the sheet's two speech recognizers; this file is its command line."""

import argparse
from typing import TYPE_CHECKING

from hw_asr import sources
from hw_asr.presets import HOMEWORK, PRESETS, TITLES, defaults
from hw_common.commands import cli
from hw_common.commands.cli import add_flag
from hw_common.commands.training_command import TrainingCommand
from hw_common.data.dataset_files import label_of

if TYPE_CHECKING:
    import torch

    from hw_common.training.experiment import Experiment

_WIDEST_BEAM = 50  # a run folder from elsewhere must not fill the memory
_DESCRIPTION = """\
Trains a network that writes down what is said (ist-2023-24-hw2 Q3), with the sheet's settings.

  python -m hw_asr.train --dataset sample --batch_size 8    about a minute, needs no download
  python -m hw_asr.train --decoder lstm                     LJSpeech, Question 1
  python -m hw_asr.train --decoder transformer              LJSpeech, Question 2
  python -m hw_asr.train --preset notebook                  the network, filters and padding of the course's notebook
  python -m hw_asr.train --dataset digits --recipe best     what we recommend: longer and augmented

Writes a run folder: configuration, metrics of each epoch, figures, weights, final numbers. The first 75 % of the clips
are for training, 5 % for validation, 20 % for testing. Spectrograms are computed once, into RESULTS_DIR.
Ctrl-C finishes the step and saves; --resume goes on from there.
"""


def beam_width(text: str) -> int:
    """An argument type for the width of a beam search."""
    width = cli.positive_int(text)
    if width > _WIDEST_BEAM:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 to {_WIDEST_BEAM}, got {text!r}")
    return width


def parser() -> cli.Parser:
    """All flags; None stands for a default that depends on the preset and the recipe."""
    flags = cli.Parser("python -m hw_asr.train", _DESCRIPTION)
    group = flags.add_argument_group("what to train")
    sources.add_data_flags(group)
    add_flag(group, "decoder", choices=tuple(TITLES), default="lstm", help="Question 1 (default: lstm) or 2")
    add_flag(group, "preset", choices=tuple(PRESETS), default="sheet", help="as the sheet prints it, or the notebook's")
    add_flag(group, "recipe", choices=("plain", "best"), default="plain", help="plain: the course's; best: ours")
    add_flag(group, "dropout", type=cli.fraction, help="behind every module of a sub-block (default: 0)")
    add_flag(group, "first_stride", type=int, choices=(1, 2), help="of the first convolution; 2 is faster (default: 1)")
    add_flag(group, "beam", type=beam_width, help="width of a beam search on the test clips (default: greedy search)")
    training = cli.add_training_flags(flags, optimizers=("adamw", "adam", "sgd"))
    add_flag(
        training,
        "count_padding",
        action=argparse.BooleanOptionalAction,
        help="count the padding behind a text in the training loss (default: for the notebook's preset)",
    )
    add_flag(training, "spec_augment", action=argparse.BooleanOptionalAction, help="SpecAugment")
    add_flag(training, "join", action=argparse.BooleanOptionalAction, help="join every other clip with a second one")
    add_flag(training, "tempo", action=argparse.BooleanOptionalAction, help="make clips faster or slower")
    add_flag(training, "ctc", type=cli.fraction, help="weight of a CTC loss on the encoder's output (default: 0)")
    cli.add_kernels_flag(training)
    cli.add_run_flags(flags)
    return flags


def _resolve(arguments: argparse.Namespace) -> argparse.Namespace:
    """Fills in what the preset and the recipe decide and refuses what does not go together."""
    sources.resolve(arguments)
    for name, value in defaults(arguments.preset, arguments.recipe).items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)
    if arguments.name is None:
        dataset = arguments.dataset if arguments.dataset_dir is None else label_of(arguments.dataset_dir)
        arguments.name = f"{dataset}-{arguments.decoder}-{arguments.preset}-{arguments.recipe}"
    return arguments


def _prepare(arguments: argparse.Namespace, device: "torch.device") -> "Experiment":
    from hw_asr.experiment import prepare  # imports torch

    return prepare(arguments, device)


COMMAND = TrainingCommand(HOMEWORK, parser, _resolve, _prepare)
main = COMMAND.main


if __name__ == "__main__":
    cli.run_command(main)
