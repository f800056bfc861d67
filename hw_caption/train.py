"""`python -m hw_caption.train`: trains one of the sheet's decoders; this file is its command line."""

import argparse
from typing import TYPE_CHECKING

from hw_caption import features
from hw_caption.presets import HOMEWORK, RECIPES, decoder_kind
from hw_common.commands import cli
from hw_common.commands.cli import add_flag
from hw_common.commands.training_command import TrainingCommand
from hw_common.data.dataset_files import label_of
from hw_common.runs.errors import UserError

if TYPE_CHECKING:
    import torch

    from hw_common.training.experiment import Experiment

_LARGEST = {"beam": 1000, "members": 100}  # a run folder from elsewhere must not fill the memory
_DESCRIPTION = """\
Trains an image captioner of ist-2021-22-hw2 Question 3: a frozen ResNet-18, and an LSTM that writes, with or without
attention.

  python -m hw_caption.train --dataset sample        half a minute, needs no download
  python -m hw_caption.train                         Sydney, Q3.1(a)
  python -m hw_caption.train -use_attention          Sydney, Q3.1(b) and (c)
  python -m hw_caption.train --recipe best           what we recommend
  python -m hw_caption.train --dataset flickr
  python -m hw_caption.train --dataset_dir RSICD     images and dataset.json, or captions.txt

Writes a run folder: configuration, metrics of each epoch, curves, weights, final numbers, the generated captions of the
test images, and figures of some of them. Features of the images are computed first where they are missing.
Ctrl-C finishes the step and saves; --resume goes on from there.
"""


def parser() -> cli.Parser:
    """All flags; None stands for a default that depends on the recipe or the data set."""
    flags = cli.Parser("python -m hw_caption.train", _DESCRIPTION)
    group = flags.add_argument_group("what to train")
    add_flag(group, "use_attention", action="store_true", help="the decoder of Q3.1(b) instead of that of Q3.1(a)")
    features.add_data_flags(group)
    add_flag(group, "min_count", type=cli.positive_int, default=1, help="rarer words become <unk> (default: 1)")
    add_flag(group, "recipe", choices=tuple(RECIPES), default="plain", help="plain: the course's; best: ours")
    training = cli.add_training_flags(flags, optimizers=("adam", "adamw", "sgd"))
    add_flag(training, "dropout", type=cli.fraction, help="between the LSTM and the vocabulary (0.5)")
    add_flag(training, "schedule", choices=("constant", "cosine"), help="of the rate; cosine warms up and ends at 0")
    add_flag(training, "augment", action=argparse.BooleanOptionalAction, help="flip and rotate the images at random")
    add_flag(training, "members", type=cli.positive_int, help="decoders, trained side by side, that write together")
    add_flag(training, "finetune_encoder", action="store_true", help="train the encoder too, from pixels (slow)")
    add_flag(training, "encoder_lr", type=cli.positive_float, help="its learning rate (default: a tenth of --lr)")
    cli.add_kernels_flag(training)
    writing = flags.add_argument_group("writing")
    add_flag(
        writing,
        "decoding",
        choices=("greedy", "beam", "consensus"),
        help="of the captions that are kept; consensus takes, of all that the search finds and of captions of similar "
        "training images, what agrees most with those",
    )
    add_flag(writing, "beam", type=cli.positive_int, help="width of the beam search (default: 5; best: 20)")
    add_flag(writing, "show", nargs="+", metavar="IMAGE", help="names of images to draw (default: those of Q3.1c)")
    cli.add_run_flags(flags)
    return flags


def _resolve(arguments: argparse.Namespace) -> argparse.Namespace:
    """Fills in what the recipe and the data set decide and refuses what does not go together."""
    features.resolve(arguments)
    for name, value in RECIPES[arguments.recipe].items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)
    for name, largest in _LARGEST.items():
        if getattr(arguments, name) > largest:
            raise UserError(f"--{name}: expected a whole number from 1 to {largest}, got {getattr(arguments, name)}")
    if arguments.finetune_encoder and arguments.decoding == "consensus":
        raise UserError(
            "--finetune_encoder does not go with --decoding consensus, which compares images by what the frozen "
            "encoder sees; choose greedy or beam"
        )
    if arguments.encoder_lr is not None and not arguments.finetune_encoder:
        raise UserError("--encoder_lr belongs to --finetune_encoder")
    if arguments.finetune_encoder and arguments.encoder_lr is None:
        arguments.encoder_lr = arguments.lr / 10
    if arguments.name is None:
        data = arguments.dataset if arguments.dataset_dir is None else label_of(arguments.dataset_dir)
        arguments.name = f"{data}-{decoder_kind(arguments.use_attention)}-{arguments.recipe}"
    return arguments


def _prepare(arguments: argparse.Namespace, device: "torch.device") -> "Experiment":
    from hw_caption.experiment import prepare  # imports torch

    return prepare(arguments, device)


COMMAND = TrainingCommand(HOMEWORK, parser, _resolve, _prepare)
main = COMMAND.main


if __name__ == "__main__":
    cli.run_command(main)
