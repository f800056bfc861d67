"""`python -m hw_caption.train`: the command line that trains one of the sheet's decoders."""

import argparse
from typing import TYPE_CHECKING

from hw_caption import features
from hw_caption.presets import HOMEWORK, MAX_BEAM, RECIPES, Settings, decoder_kind
from hw_common.commands import cli
from hw_common.commands.cli import add_flag
from hw_common.commands.training_command import TrainingCommand, fill_in
from hw_common.data.dataset_files import label_of
from hw_common.runs.errors import UserError

if TYPE_CHECKING:
    import torch

    from hw_common.training.experiment import Experiment

_DESCRIPTION = """\
Trains an image captioner of ist-2021-22-hw2 Question 3: a frozen ResNet-18 as encoder and an LSTM, with or without
attention, as decoder.

  python -m hw_caption.train --dataset sample        takes half a minute, needs no download
  python -m hw_caption.train                         Q3.1(a) on the Sydney captions, downloaded first (463 MB)
  python -m hw_caption.train -use_attention          Q3.1(b) and (c) on the Sydney captions
  python -m hw_caption.train --recipe best           our recommended settings
  python -m hw_caption.train --dataset flickr
  python -m hw_caption.train --dataset_dir RSICD     images and dataset.json, or captions.txt

Writes a run folder with the configuration, metrics of each epoch, curves, weights, final metrics, the generated
captions of the test images, and figures of some of these images. Missing image features are computed first.
Ctrl-C finishes the current step and saves the run; --resume continues it.
"""


def parser() -> cli.Parser:
    """All flags. A default of None depends on the recipe or the data set; `_resolve` replaces it."""
    flags = cli.Parser("python -m hw_caption.train", _DESCRIPTION)
    group = flags.add_argument_group("what to train")
    add_flag(group, "use_attention", action="store_true", help="train the decoder of Q3.1(b) instead of Q3.1(a)")
    features.add_data_flags(group)
    add_flag(
        group,
        "min_count",
        type=cli.positive_int,
        default=1,
        help="words that occur less often become <unk> (default: 1)",
    )
    recipe = "plain (default) uses the course's settings, best uses our recommended settings"
    add_flag(group, "recipe", choices=tuple(RECIPES), default="plain", help=recipe)
    training = cli.add_training_flags(flags, optimizers=("adam", "adamw", "sgd"))
    add_flag(training, "dropout", type=cli.fraction, help="dropout before the last layer (default: 0.5)")
    cli.add_schedule_flag(training)
    add_flag(training, "augment", action=argparse.BooleanOptionalAction, help="flip and rotate the images at random")
    add_flag(
        training,
        "members",
        type=cli.int_up_to(100),
        help="number of decoders to train; their word probabilities are averaged",
    )
    add_flag(training, "finetune_encoder", action="store_true", help="train the encoder too, from pixels (slow)")
    add_flag(training, "encoder_lr", type=cli.positive_float, help="learning rate of the encoder (default: --lr / 10)")
    cli.add_kernels_flag(training)
    captioning = flags.add_argument_group("captioning")
    add_flag(
        captioning,
        "decoding",
        choices=("greedy", "beam", "consensus"),
        help="how test captions are generated; consensus picks the one closest to captions of similar training images",
    )
    beam = "width of the beam search (default: 5; with --recipe best: 20)"
    add_flag(captioning, "beam", type=cli.int_up_to(MAX_BEAM), help=beam)
    add_flag(captioning, "show", nargs="+", metavar="IMAGE", help="names of images to draw (default: those of Q3.1c)")
    cli.add_run_flags(flags)
    return flags


def _resolve(arguments: argparse.Namespace) -> argparse.Namespace:
    """Fills in the defaults of recipe and data set; raises UserError if flags contradict each other."""
    features.resolve(arguments)
    fill_in(arguments, RECIPES[arguments.recipe])
    if arguments.finetune_encoder and arguments.decoding == "consensus":
        raise UserError(
            "--finetune_encoder and --decoding consensus exclude each other, because consensus decoding needs the "
            "frozen encoder's features; choose greedy or beam"
        )
    if arguments.encoder_lr is not None and not arguments.finetune_encoder:
        raise UserError("--encoder_lr is used only with --finetune_encoder")
    if arguments.finetune_encoder and arguments.encoder_lr is None:
        arguments.encoder_lr = arguments.lr / 10
    if arguments.name is None:
        data = arguments.dataset if arguments.dataset_dir is None else label_of(arguments.dataset_dir)
        data += "" if arguments.backbone == "resnet18" else f"-{arguments.backbone}"
        arguments.name = f"{data}-{decoder_kind(arguments.use_attention)}-{arguments.recipe}"
    return arguments


def _prepare(arguments: argparse.Namespace, device: "torch.device") -> "Experiment":
    from hw_caption import experiment  # imports torch

    dataset = arguments.dataset, arguments.data_dir, arguments.dataset_dir, arguments.min_count
    found = experiment.load_data(*dataset, resume=arguments.resume)
    return experiment.prepare(Settings.from_arguments(arguments), found, device, arguments.show)


COMMAND = TrainingCommand(HOMEWORK, parser, _resolve, _prepare)
main = COMMAND.main


if __name__ == "__main__":
    cli.run_command(main, under_torchrun=True)
