"""`python -m hw_transfer.train`: trains a pretrained network in one scenario of transfer learning."""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from hw_common.commands import cli
from hw_common.commands.cli import add_flag
from hw_common.commands.training_command import TrainingCommand, fill_in
from hw_common.runs.errors import UserError
from hw_common.training.backbones import BACKBONES
from hw_transfer.presets import DATASETS, HOMEWORK, Recipe, Settings

if TYPE_CHECKING:
    import torch

    from hw_common.training.experiment import Experiment

_DESCRIPTION = """\
Trains a ResNet-18 from pretrained weights with the settings of the sheet (eecs545-w20-hw4 Q5).

  python -m hw_transfer.train --dataset sample                  a few seconds, needs no download
  python -m hw_transfer.train                                   ants and bees, the whole network is trained
  python -m hw_transfer.train --mode freeze                     only the new last layer is trained
  python -m hw_transfer.train --mode freeze --cache_features    the same without augmentation, in seconds
  python -m hw_transfer.train --backbone mobilenet_v2           another pretrained network
  python -m hw_transfer.train --dataset folder --data_dir DIR   your own DIR/{train,val}/<class>/*

Writes a run folder: configuration, metrics of each epoch, curves, confusion matrix, predictions, weights, numbers.
`python -m hw_transfer.compare` trains both scenarios and compares them.
Ctrl-C finishes the step and saves; --resume continues from there.
"""


def parser() -> cli.Parser:
    """Declares all flags; a default of None means the sheet's value, or one that depends on the data set."""
    flags = cli.Parser("python -m hw_transfer.train", _DESCRIPTION)
    group = flags.add_argument_group("what to train")
    add_flag(
        group,
        "dataset",
        choices=tuple(DATASETS),
        default="hymenoptera",
        help="default: hymenoptera (ants and bees); folder reads DATA_DIR/{train,val}/<class>/*; sample needs no "
        "files; sample-source: shapes on which weights for the sample are pretrained",
    )
    mode = "finetune (default): trains the whole network; freeze: only the new last layer"
    add_flag(group, "mode", choices=("finetune", "freeze"), default="finetune", help=mode)
    backbone = "network of torchvision whose last layer is replaced (default: resnet18, the sheet's)"
    add_flag(group, "backbone", choices=tuple(BACKBONES), default="resnet18", help=backbone)
    cli.add_input(
        group,
        "weights",
        type=weights_source,
        metavar="imagenet|none|PATH",
        help="weights to start from: ImageNet's (default), a safetensors file or state dict of the backbone, "
        "or random ones (default for the sample)",
    )
    cache = "with --mode freeze: compute the input of the last layer only once, without augmentation"
    add_flag(group, "cache_features", action="store_true", help=cache)
    training = cli.add_training_flags(flags, optimizers=("sgd", "adam"))
    add_flag(training, "momentum", type=cli.fraction, help="momentum of sgd (default: 0.9)")
    step_size = "multiply the learning rate by --gamma whenever this many epochs are finished (default: 7)"
    add_flag(training, "step_size", type=cli.positive_int, help=step_size)
    add_flag(training, "gamma", type=cli.positive_float, help="see --step_size (default: 0.1)")
    cli.add_run_flags(flags)
    return flags


def weights_source(text: str) -> str:
    """Argument type: imagenet, none, or a path. Paths become absolute, so that a run can be resumed from any folder."""
    if not text:
        raise argparse.ArgumentTypeError("expected imagenet, none, or the path of a file, got ''")
    return text if text in ("imagenet", "none") else str(Path(text).expanduser().absolute())


def _resolve(arguments: argparse.Namespace) -> argparse.Namespace:
    """Fills in the sheet's values and rejects conflicting flags."""
    if arguments.cache_features and arguments.mode != "freeze":
        raise UserError("--cache_features needs --mode freeze: in finetune, the features change with every step")
    if arguments.momentum and arguments.optimizer == "adam":
        raise UserError("--momentum needs --optimizer sgd")
    arguments.weights = arguments.weights or DATASETS[arguments.dataset].weights
    fill_in(arguments, asdict(Recipe()))
    if arguments.optimizer == "adam":
        arguments.momentum = 0.0
    if arguments.name is None:
        backbone = "" if arguments.backbone == "resnet18" else f"-{arguments.backbone}"
        cached = "-cached" if arguments.cache_features else ""
        arguments.name = f"{arguments.dataset}{backbone}-{arguments.mode}{cached}"
    return arguments


def _prepare(arguments: argparse.Namespace, device: "torch.device") -> "Experiment":
    from hw_common.training.startup import import_torchvision  # imports torch

    import_torchvision()
    from hw_common.training.pretrained import load_pretrained
    from hw_transfer import data, experiment

    settings = Settings.from_arguments(arguments)
    experiment.check_processes(settings.mode)
    pictures = data.load(settings.dataset, arguments.data_dir)
    pretrained = load_pretrained(settings.weights, arguments.data_dir, settings.backbone)
    return experiment.prepare(settings, pictures, pretrained, device)


COMMAND = TrainingCommand(HOMEWORK, parser, _resolve, _prepare)
main = COMMAND.main


if __name__ == "__main__":
    cli.run_command(main, under_torchrun=True)
