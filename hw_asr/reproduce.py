"""Trains both decoders of ist-2023-24-hw2 Question 3 with the sheet's settings, compares them and draws all figures.

Finished training runs are kept, and interrupted ones are resumed.

  python -m hw_asr.reproduce                              on the built-in sample, two minutes
  python -m hw_asr.reproduce --profile full --data_dir …  on LJSpeech, hours (less on a GPU)
  python -m hw_asr.reproduce --profile full --dataset digits --data_dir …
"""

from collections.abc import Sequence

from hw_asr import compare, compare_similarities
from hw_asr.presets import HOMEWORK
from hw_common.commands import cli, reproduce
from hw_common.runs.run_folder import SUMMARY

_FLAGS = {  # smaller batches for small datasets, since 64 clips per step would give too few steps
    "sample": ["--dataset", "sample", "--batch_size", "8", "--epochs", "20", "--seeds", "42"],
    "ljspeech": ["--dataset", "ljspeech", "--seeds", "42"],
    "digits": ["--dataset", "digits", "--batch_size", "16", "--seeds", "42", "43", "44"],
}


def main(argv: Sequence[str] | None = None) -> None:
    """Trains what is missing, then lists tables and figures."""
    flags = reproduce.parser(HOMEWORK, __doc__)
    datasets = ("ljspeech", "digits")
    cli.add_flag(flags, "dataset", choices=datasets, default="ljspeech", help="for --profile full (default: ljspeech)")
    cli.add_kernels_flag(flags)
    arguments = flags.parse_args(argv)
    with reproduce.start(HOMEWORK, arguments, "kernels") as made:
        chosen = _FLAGS["sample" if made.profile == "sample" else arguments.dataset]
        comparison = compare.parse([*chosen, *made.given, *made.where, "--name", made.profile])
        made.compare(comparison, ("table.md", "table.csv", "curves.png", "similarities.png"), ["*.png"])
        if not (made.folder / compare_similarities.NAME / SUMMARY).is_file():
            compare_similarities.main(["--results_dir", str(made.results_dir)])


if __name__ == "__main__":
    cli.run_command(main)
