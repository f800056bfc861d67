"""`python -m hw_asr.reproduce`: computes every figure and number of ist-2023-24-hw2 Question 3.

The data are the built-in sample, or LJSpeech or the spoken digits with `--profile full`.
"""

import time
from collections.abc import Sequence

from hw_asr import compare, compare_similarities
from hw_asr.presets import HOMEWORK, TITLES
from hw_common.commands import cli
from hw_common.commands.cli import add_flag
from hw_common.runs.roles import Role
from hw_common.runs.run_folder import SUMMARY

_DESCRIPTION = """\
Trains both decoders of ist-2023-24-hw2 Question 3 with the sheet's settings, compares them and draws all figures.
Finished trainings are kept, and interrupted ones continue.

  python -m hw_asr.reproduce                              on the built-in sample, two minutes
  python -m hw_asr.reproduce --profile full --data_dir …  on LJSpeech, hours (less on a GPU)
  python -m hw_asr.reproduce --profile full --dataset digits --data_dir …
"""
_FLAGS = {  # smaller batches for small datasets, since 64 clips per step would give too few steps
    "sample": ["--dataset", "sample", "--batch_size", "8", "--epochs", "20", "--seeds", "42"],
    "ljspeech": ["--dataset", "ljspeech", "--seeds", "42"],
    "digits": ["--dataset", "digits", "--batch_size", "16", "--seeds", "42", "43", "44"],
}


def parser() -> cli.Parser:
    """All flags."""
    flags = cli.Parser("python -m hw_asr.reproduce", _DESCRIPTION)
    add_flag(flags, "profile", choices=("sample", "full"), default="sample", help="dataset size (default: sample)")
    datasets = ("ljspeech", "digits")
    add_flag(flags, "dataset", choices=datasets, default="ljspeech", help="for --profile full (default: ljspeech)")
    add_flag(flags, "data_dir", role=Role.PLACE, help="folder of the datasets, for --profile full")
    cli.add_results_dir_flag(flags)
    add_flag(flags, "jobs", type=cli.positive_int, default=2, help="trainings side by side (default: 2)")
    return flags


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the trainings that are missing, then prints where tables and figures are."""
    arguments = parser().parse_args(argv)
    started = time.monotonic()
    data = ["--data_dir", arguments.data_dir] if arguments.data_dir else []
    where = ["--results_dir", str(arguments.results_dir), "--jobs", str(arguments.jobs), "--name", arguments.profile]
    flags = _FLAGS["sample" if arguments.profile == "sample" else arguments.dataset]
    comparison = compare.parse([*flags, *where, *data])
    comparison.run()
    folder = arguments.results_dir / HOMEWORK
    if not (folder / compare_similarities.NAME / SUMMARY).is_file():
        compare_similarities.main(["--results_dir", str(arguments.results_dir)])
    print(f"\nfinished in {time.monotonic() - started:.0f} s; tables and figures:")
    for name in ("table.md", "table.csv", "curves.png", "similarities.png"):
        print(f"  {folder / comparison.name / name}")
    for name in (comparison.run_name(decoder, seed) for seed in comparison.seeds for decoder in TITLES):
        print(f"  {folder / name}/*.png")


if __name__ == "__main__":
    cli.run_command(main)
