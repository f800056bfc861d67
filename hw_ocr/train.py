"""`python -m hw_ocr.train`: trains one of the networks of dsl-2019-hw3; this file is its command line."""

import argparse
from typing import TYPE_CHECKING

from hw_common.commands import cli
from hw_common.commands.cli import add_flag
from hw_common.commands.training_command import TrainingCommand, fill_in
from hw_common.runs.errors import UserError
from hw_ocr.presets import CONV_LAYERS, DATASETS, HOMEWORK, RECOMMENDED, TITLES, Settings, defaults

if TYPE_CHECKING:
    import torch

    from hw_common.training.experiment import Experiment

_DESCRIPTION = """\
Trains a CNN, BiLSTM or conv-BiLSTM with the settings of the published report (dsl-2019-hw3); --crf adds a CRF
(Question 2.2).

  python -m hw_ocr.train --dataset sample --model bilstm   a few seconds, needs no download
  python -m hw_ocr.train --model cnn --conv_layers 4       OCR letters as in Questions 1.2 and 1.4
  python -m hw_ocr.train --model bilstm                    words, as in Question 2.1
  python -m hw_ocr.train --model conv-bilstm --crf         Questions 2.2 and 2.3 together
  python -m hw_ocr.train --recipe best                     our recommendation: a larger conv-BiLSTM-CRF, augmentation

Writes a run folder: configuration, metrics of each epoch, figures, weights, final metrics. Folds 0 to 7 are the
training data, fold 8 the validation data (the published report's dev set), fold 9 the test data.
Ctrl-C finishes the step and saves; --resume continues the run.
"""


def parser() -> cli.Parser:
    """All flags; None means a default that depends on the network and the recipe."""
    flags = cli.Parser("python -m hw_ocr.train", _DESCRIPTION)
    group = flags.add_argument_group("what to train")
    add_flag(group, "dataset", choices=DATASETS, default="ocr", help="default: ocr; sample needs no files")
    add_flag(group, "model", type=lambda text: text.replace("_", "-"), choices=tuple(TITLES),
             help=f"default: cnn; with --recipe best: {RECOMMENDED} --crf")  # fmt: skip
    add_flag(group, "conv_layers", type=int, choices=CONV_LAYERS, help="cnn: how many convolutions (default: 2)")
    add_flag(group, "crf", action="store_true", help="put a linear-chain CRF on the network's scores (Question 2.2)")
    add_flag(
        group,
        "recipe",
        choices=("plain", "best"),
        default="plain",
        help="plain: the published report's settings; best: recommended",
    )
    add_flag(group, "hidden", type=cli.int_up_to(1024), help="LSTM: units in each direction (default: 128)")
    add_flag(group, "layers", type=cli.int_up_to(8), help="LSTM: layers (default: 1)")
    add_flag(group, "dropout", type=cli.fraction, help="LSTM: dropout around and between layers (default: 0)")
    training = cli.add_training_flags(flags, optimizers=("adam", "adamw", "sgd"))
    cli.add_schedule_flag(training)
    add_flag(training, "augment", action=argparse.BooleanOptionalAction, help="shift images by up to one pixel")
    cli.add_kernels_flag(training)
    cli.add_run_flags(flags)
    return flags


def _resolve(arguments: argparse.Namespace) -> argparse.Namespace:
    """Fills in the defaults of the network and the recipe; refuses flags that contradict each other."""
    if arguments.model is None:
        best = arguments.recipe == "best"
        arguments.model = RECOMMENDED if best else "cnn"
        arguments.crf = arguments.crf or best
    settings = defaults(arguments.model, arguments.crf, arguments.recipe)
    for name, value in settings.items():
        if value is None and getattr(arguments, name) is not None:  # the network has no such setting
            owner = "the network cnn" if name == "conv_layers" else "the LSTMs"
            raise UserError(f"--{name} is a setting of {owner}, not of the network {arguments.model}")
    fill_in(arguments, settings)
    if arguments.name is None:
        layers = arguments.conv_layers or ""
        crf = "-crf" if arguments.crf else ""
        arguments.name = f"{arguments.dataset}-{arguments.model}{layers}{crf}-{arguments.recipe}"
    return arguments


def _prepare(arguments: argparse.Namespace, device: "torch.device") -> "Experiment":
    from hw_ocr import data, experiment  # imports torch

    settings = Settings.from_arguments(arguments)
    ocr = data.load(settings.dataset, arguments.data_dir, settings.seed)
    return experiment.prepare(settings, ocr, device)


COMMAND = TrainingCommand(HOMEWORK, parser, _resolve, _prepare)
main = COMMAND.main


if __name__ == "__main__":
    cli.run_command(main, under_torchrun=True)
