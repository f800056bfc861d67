"""`python -m hw_ocr.reproduce`: every figure and table of dsl-2019-hw3.

On the built-in sample by default; `--profile full` takes the OCR letters instead.
"""

import time
from collections.abc import Sequence

from hw_common.commands import cli
from hw_common.commands.cli import add_flag
from hw_common.runs.roles import Role
from hw_common.runs.run_folder import Run
from hw_ocr import compare, invariance
from hw_ocr.presets import HOMEWORK

_DESCRIPTION = """\
Trains the networks of dsl-2019-hw3, compares them and draws all figures.
Finished trainings are kept, and interrupted ones are resumed.

  python -m hw_ocr.reproduce                              on the built-in sample, two minutes
  python -m hw_ocr.reproduce --profile full --data_dir …  on the OCR letters, about an hour and a half
"""
_FLAGS = {
    "sample": ["--dataset", "sample", "--epochs", "15", "--seeds", "42"],
    "full": ["--dataset", "ocr", "--seeds", "42", "43", "44"],
}
_WITH_INVARIANCE = ("cnn2", "conv-bilstm")  # rows whose feature maps `invariance` measures


def parser() -> cli.Parser:
    """All flags."""
    flags = cli.Parser("python -m hw_ocr.reproduce", _DESCRIPTION)
    add_flag(flags, "profile", choices=tuple(_FLAGS), default="sample", help="default: sample")
    add_flag(
        flags, "data_dir", role=Role.PLACE, help="folder with the data set of --profile full, or to download it to"
    )
    cli.add_results_dir_flag(flags)
    add_flag(flags, "jobs", type=cli.positive_int, default=2, help="trainings at the same time (default: 2)")
    return flags


def main(argv: Sequence[str] | None = None) -> None:
    """Trains and draws what is missing, then prints the paths of tables and figures."""
    arguments = parser().parse_args(argv)
    started = time.monotonic()
    data = ["--data_dir", arguments.data_dir] if arguments.data_dir else []
    where = ["--results_dir", str(arguments.results_dir), "--jobs", str(arguments.jobs), "--name", arguments.profile]
    comparisons = compare.parse([*_FLAGS[arguments.profile], *where, *data])
    for comparison in comparisons.values():
        comparison.run()
    folder = arguments.results_dir / HOMEWORK
    words = comparisons["sequences"]
    measured = [folder / words.run_name(row, words.seeds[0]) for row in _WITH_INVARIANCE]
    for run in measured:
        if not (run / "invariance.json").is_file():
            invariance.main([str(run), *data])
    print(f"\nfinished in {time.monotonic() - started:.0f} s; tables and figures:")
    for comparison in comparisons.values():
        for name in ("table.md", "table.csv", "comparison.png"):
            print(f"  {comparison.folder / name}")
    for run in measured:
        print(f"  {run / 'invariance.png'}")
    for run in sorted(folder.glob(f"{words.trainings}-*-seed*")):
        if Run.open(run, HOMEWORK).is_finished:
            print(f"  {run}/*.png")


if __name__ == "__main__":
    cli.run_command(main)
