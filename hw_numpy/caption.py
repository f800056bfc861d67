"""`python -m hw_numpy.caption`: trains the captioning network, in place of the course's image_captioning.py."""

import argparse
from functools import partial

from hw_common.commands import cli
from hw_common.commands.cli import add_flag
from hw_numpy.command import NumpyCommand, open_run, refuse_torch_flags
from hw_numpy.presets import HOMEWORK, UPDATE_RULES, CaptionSettings

_DESCRIPTION = """\
Trains the captioning network of eecs545-w20-hw4 Q4 on a few images until it reproduces their captions word for word,
and shows the captions that it generates for these images and for others.

  python -m hw_numpy.caption --dataset sample             seconds, needs no download
  python -m hw_numpy.caption --data_dir coco_captioning   Q4d, with the course's files
  python -m hw_numpy.caption --data_dir data/flickr1k     the same with files that hw_numpy.coco_build made

The network sees only the features of an image, so it can reproduce one caption of each image but never a second one.
The training captions are therefore drawn from as many different images as possible.

Writes a run folder: configuration, metrics of each epoch, learning curve, captions, final numbers.
--resume continues after the last saved epoch.
"""


def parser() -> cli.Parser:
    """All flags."""
    flags = cli.Parser("python -m hw_numpy.caption", _DESCRIPTION)
    group = flags.add_argument_group("what to train")
    add_flag(
        group,
        "dataset",
        choices=("coco", "sample"),
        default="coco",
        help="coco reads caption files in DATA_DIR, from the course or coco_build (default); sample needs no files",
    )
    add_flag(
        group,
        "max_train",
        type=cli.positive_int,
        default=50,
        help="number of training captions, of as many different images as possible (default: 50)",
    )
    add_flag(
        group,
        "pca_features",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="use the image features reduced by PCA (default) or, with --no-pca_features, the original ones",
    )
    add_flag(group, "cell_type", choices=("rnn", "lstm"), default="rnn", help="default: rnn")
    add_flag(group, "hidden_dim", type=cli.positive_int, default=512, help="hidden units (default: 512)")
    add_flag(
        group, "wordvec_dim", type=cli.positive_int, default=256, help="dimension of the word embeddings (default: 256)"
    )
    training = flags.add_argument_group("training")
    add_flag(training, "epochs", type=cli.positive_int, default=50, help="passes over the captions (default: 50)")
    add_flag(training, "batch_size", type=cli.positive_int, default=25, help="captions per step (default: 25)")
    add_flag(training, "lr", "learning_rate", type=cli.positive_float, default=5e-3, help="default: 0.005")
    add_flag(
        training,
        "lr_decay",
        type=cli.positive_float,
        default=1.0,
        help="the learning rate is multiplied by this after each epoch (default: 1; the course's script has 0.95)",
    )
    add_flag(training, "update_rule", "optimizer", choices=UPDATE_RULES, default="adam", help="default: adam")
    cli.add_run_flags(flags, threads="1, because a step is too short to be split over threads")
    return flags


def _resolve(arguments: argparse.Namespace) -> argparse.Namespace:
    """Refuses flags that have no meaning here, and names the run after its data."""
    refuse_torch_flags(arguments)
    if arguments.name is None:
        data = arguments.data_dir.resolve().name if arguments.dataset == "coco" else "sample"
        plain = "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in data).lstrip(".-")
        arguments.name = f"caption-{plain[:80]}-{arguments.cell_type}"
    return arguments


def _run(arguments: argparse.Namespace) -> None:
    from hw_numpy import caption_experiment  # slow: imports NumPy

    settings = CaptionSettings.from_arguments(arguments)
    if arguments.dry_run:
        caption_experiment.dry_run(settings)
    else:
        caption_experiment.run(settings, partial(open_run, COMMAND, arguments))


COMMAND = NumpyCommand(HOMEWORK, parser, _resolve, module="caption", run=_run)
main = COMMAND.main


if __name__ == "__main__":
    cli.run_command(main)
