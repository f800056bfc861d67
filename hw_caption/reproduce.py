"""Trains both decoders of ist-2021-22-hw2 Question 3, then the one without attention with our recommended settings.

Draws all figures. Finished training runs are kept, and interrupted ones are resumed.

  python -m hw_caption.reproduce                              on the built-in sample, about a minute
  python -m hw_caption.reproduce --profile full --data_dir …  on the Sydney captions, about half an hour
"""

from collections.abc import Sequence

from hw_caption import compare, train
from hw_caption.presets import HOMEWORK
from hw_common.commands import cli, reproduce

# The sample has a sixth of Sydney's training captions, so the course's number of epochs would give too few steps.
_DATA = {
    "sample": ["--dataset", "sample", "--epochs", "15", "--lr", "0.001"],
    "full": ["--dataset", "sydney"],
}
_SEEDS = {"sample": ["42"], "full": ["42", "43", "44"]}
_FILES = ("*.png", "caps_generated_*.json")


def main(argv: Sequence[str] | None = None) -> None:
    """Trains what is missing, then lists tables, figures and captions."""
    flags = reproduce.parser(HOMEWORK, __doc__)
    weights = "the encoder's weights (default: ImageNet's; random for the sample)"
    cli.add_input(flags, "weights", type=str, help=weights)
    cli.add_kernels_flag(flags)
    with reproduce.start(HOMEWORK, flags.parse_args(argv), "weights", "kernels") as made:
        training = [*_DATA[made.profile], *made.given]
        comparison = compare.parse([*training, *made.where, "--seeds", *_SEEDS[made.profile], "--name", made.profile])
        made.compare(comparison, ("table.md", "table.csv", "curves.png"), _FILES)
        best = made.train("our recommended settings", train.COMMAND, [*training, "--recipe", "best"], "best")
        made.results.extend(best.folder / name for name in _FILES)


if __name__ == "__main__":
    cli.run_command(main)
