"""Trains both scenarios of eecs545-w20-hw4 Q5 and two more, and draws all figures.

Of the other two, one trains the last layer on cached features, and one trains the whole network from random weights.
Finished training runs are kept, and interrupted ones are resumed.

  python -m hw_transfer.reproduce                              on the built-in sample, less than a minute
  python -m hw_transfer.reproduce --profile full --data_dir …  on hymenoptera with three seeds, about two hours

On the sample, the pretrained weights come from a network that is first trained to classify ten shapes.
"""

from collections.abc import Sequence

from hw_common.commands import cli, reproduce
from hw_common.runs.run_folder import BEST
from hw_transfer import compare, train
from hw_transfer.presets import HOMEWORK

_BF16 = ["--precision", "bf16"]
_SAMPLE_SOURCE = ["--dataset", "sample-source", "--epochs", "7", "--batch_size", "32", "--lr", "0.01", *_BF16]
_SAMPLE = ["--dataset", "sample", "--epochs", "6", "--step_size", "4", *_BF16]
_FULL = ["--dataset", "hymenoptera", "--seeds", "42", "43", "44"]


def main(argv: Sequence[str] | None = None) -> None:
    """Trains what is missing, then lists tables and figures."""
    flags = reproduce.parser(HOMEWORK, __doc__)
    weights = "weights of --profile full: imagenet (default), or a path"
    cli.add_input(flags, "weights", type=train.weights_source, help=weights)
    with reproduce.start(HOMEWORK, flags.parse_args(argv), "weights") as made:
        if made.profile == "sample":
            source = made.train("weights for the sample: ten shapes", train.COMMAND, _SAMPLE_SOURCE, "source")
            chosen = [*_SAMPLE, "--weights", str(source.folder / BEST)]
        else:
            chosen = [*_FULL, *made.given]
        scenarios = ["--scenarios", *compare.SCENARIOS]
        comparison = compare.parse([*scenarios, *chosen, *made.where, "--name", made.profile])
        made.compare(comparison, ("table.md", "*.png"), ["*.png"])


if __name__ == "__main__":
    cli.run_command(main)
