"""`python -m hw_caption.reproduce`: computes every figure and number of ist-2021-22-hw2 Question 3.

It uses the built-in sample by default; `--profile full` uses Sydney and the course's settings.
"""

import time
from collections.abc import Sequence

from hw_caption import compare, train
from hw_caption.presets import HOMEWORK, TITLES
from hw_common.commands import cli
from hw_common.commands.cli import add_flag
from hw_common.runs.roles import Role

_DESCRIPTION = """\
Trains both decoders of ist-2021-22-hw2 Question 3 and our recommendation, and draws all figures.
Finished trainings are kept, and interrupted ones are resumed.

  python -m hw_caption.reproduce                              on the built-in sample, about a minute
  python -m hw_caption.reproduce --profile full --data_dir …  on Sydney, about half an hour
"""
# The sample has a sixth of Sydney's captions, too few for the course's number of epochs.
_DATA = {
    "sample": ["--dataset", "sample", "--epochs", "15", "--lr", "0.001"],
    "full": ["--dataset", "sydney"],
}
_SEEDS = {"sample": ["42"], "full": ["42", "43", "44"]}


def parser() -> cli.Parser:
    """All flags."""
    flags = cli.Parser("python -m hw_caption.reproduce", _DESCRIPTION)
    add_flag(flags, "profile", choices=tuple(_DATA), default="sample", help="default: sample")
    add_flag(
        flags, "weights", role=Role.INPUT, help="the encoder's weights (default: ImageNet's; random for the sample)"
    )
    add_flag(flags, "data_dir", role=Role.PLACE, help="folder of the data set of --profile full")
    cli.add_results_dir_flag(flags)
    add_flag(flags, "jobs", type=cli.positive_int, default=2, help="trainings side by side (default: 2)")
    return flags


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the trainings that are not finished, then prints where all results are."""
    arguments = parser().parse_args(argv)
    started = time.monotonic()
    given = {"--data_dir": arguments.data_dir, "--weights": arguments.weights}
    flags = [*_DATA[arguments.profile], *(part for name, value in given.items() if value for part in (name, value))]
    where = ["--results_dir", str(arguments.results_dir), "--jobs", str(arguments.jobs), "--name", arguments.profile]
    comparison = compare.parse([*flags, *where, "--seeds", *_SEEDS[arguments.profile]])
    comparison.run()
    best = f"{arguments.profile}-best"
    print(f"\n== {best}", flush=True)
    train.COMMAND.train_once([*flags, "--recipe", "best"], arguments.results_dir, best)
    folder = arguments.results_dir / HOMEWORK
    trained = [comparison.run_name(decoder, seed) for seed in comparison.seeds for decoder in TITLES]
    print(f"\nfinished in {time.monotonic() - started:.0f} s; tables, figures and captions:")
    for path in (folder / arguments.profile / name for name in ("table.md", "table.csv", "curves.png")):
        print(f"  {path}")
    for name in (*trained, best):
        print(f"  {folder / name}/*.png")
        print(f"  {folder / name}/caps_generated_*.json")


if __name__ == "__main__":
    cli.run_command(main)
