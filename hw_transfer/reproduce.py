"""`python -m hw_transfer.reproduce`: makes every figure and number of eecs545-w20-hw4 Q5.

It uses the built-in sample by default; `--profile full` uses the sheet's ants and bees and ImageNet's weights.
"""

import time
from collections.abc import Sequence

from hw_common.commands import cli
from hw_common.commands.cli import add_flag
from hw_common.runs.roles import Role
from hw_common.runs.run_folder import BEST
from hw_transfer import compare, train

_DESCRIPTION = """\
Trains both scenarios of eecs545-w20-hw4 Q5 and two more: the last layer on cached features, and the whole network from
random weights. Finished trainings are kept, interrupted ones are resumed.

  python -m hw_transfer.reproduce                              on the built-in sample, less than a minute
  python -m hw_transfer.reproduce --profile full --data_dir …  on hymenoptera with three seeds, about two hours

On the sample, the pretrained weights come from a network that is first trained to classify ten shapes.
"""
_BF16 = ["--precision", "bf16"]
_SAMPLE_SOURCE = ["--dataset", "sample-source", "--epochs", "7", "--batch_size", "32", "--lr", "0.01", *_BF16]
_SAMPLE = ["--dataset", "sample", "--epochs", "6", "--step_size", "4", *_BF16]
_FULL = ["--dataset", "hymenoptera", "--seeds", "42", "43", "44"]


def parser() -> cli.Parser:
    """Declares the flags."""
    flags = cli.Parser("python -m hw_transfer.reproduce", _DESCRIPTION)
    add_flag(flags, "profile", choices=("sample", "full"), default="sample", help="default: sample")
    add_flag(
        flags, "data_dir", role=Role.PLACE, help="folder of the data set of --profile full, which is downloaded to it"
    )
    add_flag(
        flags,
        "weights",
        role=Role.INPUT,
        type=train.weights_source,
        help="weights of --profile full: imagenet (default), or a path",
    )
    cli.add_results_dir_flag(flags)
    add_flag(flags, "jobs", type=cli.positive_int, default=2, help="trainings at a time (default: 2)")
    return flags


def main(argv: Sequence[str] | None = None) -> None:
    """Trains what is missing, then lists the files."""
    arguments = parser().parse_args(argv)
    started = time.monotonic()
    where = ["--results_dir", str(arguments.results_dir), "--jobs", str(arguments.jobs), "--name", arguments.profile]
    flags = ["--scenarios", *compare.SCENARIOS]
    if arguments.profile == "sample":
        print("== weights for the sample: ten shapes", flush=True)
        source = train.COMMAND.train_once(_SAMPLE_SOURCE, arguments.results_dir, "sample-source")
        flags += [*_SAMPLE, "--weights", str(source.folder / BEST)]
    else:
        flags += [*_FULL, *(["--data_dir", arguments.data_dir] if arguments.data_dir else [])]
        flags += ["--weights", arguments.weights] if arguments.weights else []
    comparison = compare.parse([*flags, *where])
    comparison.run()
    print(f"\nfinished in {time.monotonic() - started:.0f} s; table and figures:")
    for name in ("table.md", "*.png"):
        print(f"  {comparison.folder}/{name}")
    for scenario in comparison.rows:
        print(f"  {comparison.folder}-{scenario}-seed{comparison.seeds[0]}/*.png")


if __name__ == "__main__":
    cli.run_command(main)
