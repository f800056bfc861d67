"""`python -m hw_asr.train`: the command line for training one of the sheet's two speech recognizers."""

import argparse
from typing import TYPE_CHECKING

from hw_asr import readers
from hw_asr.presets import HOMEWORK, PRESETS, TITLES, Settings, defaults
from hw_common.commands import cli
from hw_common.commands.cli import add_flag
from hw_common.commands.training_command import TrainingCommand, fill_in
from hw_common.data.dataset_files import label_of
from hw_common.runs.errors import UserError

if TYPE_CHECKING:
    import torch

    from hw_common.training.experiment import Experiment

beam_width = cli.int_up_to(50)  # a wider beam search could fill the memory
_DESCRIPTION = """\
Trains a network that transcribes speech (ist-2023-24-hw2 Q3), with the sheet's settings.

  python -m hw_asr.train --dataset sample --batch_size 8    about a minute, needs no download
  python -m hw_asr.train --decoder lstm                     LJSpeech, Question 3.1
  python -m hw_asr.train --decoder transformer              LJSpeech, Question 3.2
  python -m hw_asr.train --preset notebook                  the network, filters and padding of the course's notebook
  python -m hw_asr.train --dataset digits --recipe best     our recipe: more epochs, augmentation, CTC

Writes a run folder with the configuration, the metrics of each epoch, figures, weights and final metrics. The first
75 % of the clips are for training, the next 5 % for validation, and the last 20 % for testing, unless train.txt,
val.txt and test.txt beside metadata.csv list the ids of the splits. Without val.txt, whole speakers of train.txt are
used for validation. Spectrograms are stored in RESULTS_DIR and computed once.
Ctrl-C finishes the current step and saves; --resume continues the run.
"""


def parser() -> cli.Parser:
    """All flags. Flags with the default None get their value from `presets.defaults`."""
    flags = cli.Parser("python -m hw_asr.train", _DESCRIPTION)
    group = flags.add_argument_group("what to train")
    readers.add_data_flags(group)
    for name, values, meaning in (
        ("decoder", TITLES, "decoder of Question 3.1 (lstm, the default) or of Question 3.2"),
        ("preset", PRESETS, "network, filters and padding of the sheet (the default) or of the course's notebook"),
        ("recipe", ("plain", "best"), "the sheet's recipe (plain, the default) or ours"),
    ):
        add_flag(group, name, choices=tuple(values), default=next(iter(values)), help=meaning)
    add_flag(group, "dropout", type=cli.fraction, help="dropout after the module of each sub-block (default: 0)")
    add_flag(group, "first_stride", type=int, choices=(1, 2), help="stride of the first convolution (default: 1)")
    add_flag(group, "beam", type=beam_width, help="width of a beam search on the test clips (default: greedy search)")
    training = cli.add_training_flags(flags, optimizers=("adamw", "adam", "sgd"))
    for name, meaning in {
        "count_padding": "include the padding after a text in the training loss (default: only for --preset notebook)",
        "spec_augment": "mask training clips (SpecAugment)",
        "join": "join each training clip with a second one with probability 1/2",
        "tempo": "make each batch of training clips a little faster or slower",
    }.items():
        add_flag(training, name, action=argparse.BooleanOptionalAction, help=meaning)
    add_flag(training, "ctc", type=cli.fraction, help="weight of a CTC loss on the encoder's output (default: 0)")
    joint = "weight of the CTC scores in the beam search; needs --beam and --ctc (default: 0)"
    add_flag(training, "ctc_weight", type=cli.fraction, default=0.0, help=joint)
    cli.add_kernels_flag(training)
    cli.add_run_flags(flags)
    return flags


def _resolve(arguments: argparse.Namespace) -> argparse.Namespace:
    """Fills in the defaults that depend on preset and recipe, and checks the combination of flags."""
    readers.check(arguments.dataset, arguments.dataset_dir)
    fill_in(arguments, defaults(arguments.preset, arguments.recipe))
    if arguments.ctc_weight and not (arguments.beam and arguments.ctc):
        raise UserError("--ctc_weight needs --beam and --ctc (or --recipe best)")
    if arguments.name is None:
        dataset = arguments.dataset if arguments.dataset_dir is None else label_of(arguments.dataset_dir)
        arguments.name = f"{dataset}-{arguments.decoder}-{arguments.preset}-{arguments.recipe}"
    return arguments


def _prepare(arguments: argparse.Namespace, device: "torch.device") -> "Experiment":
    from hw_asr import audio, data, experiment  # imports torch

    settings = Settings.from_arguments(arguments)
    speech = data.load(
        arguments.dataset,
        arguments.data_dir,
        arguments.dataset_dir,
        results_dir=arguments.results_dir,
        settings=audio.SPECTROGRAMS[settings.preset],
        max_text=settings.max_text,
        keep=not arguments.dry_run,
    )
    return experiment.prepare(settings, speech, device)


COMMAND = TrainingCommand(HOMEWORK, parser, _resolve, _prepare)
main = COMMAND.main


if __name__ == "__main__":
    cli.run_command(main, under_torchrun=True)
