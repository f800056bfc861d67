"""Trains the networks of dsl-2019-hw3, compares them and draws all figures.

Finished training runs are kept, and interrupted ones are resumed.

  python -m hw_ocr.reproduce                              on the built-in sample, two minutes
  python -m hw_ocr.reproduce --profile full --data_dir …  on the OCR letters, about an hour and a half
"""

from collections.abc import Sequence

from hw_common.commands import cli, reproduce
from hw_ocr import compare, invariance
from hw_ocr.presets import HOMEWORK

_FLAGS = {
    "sample": ["--dataset", "sample", "--epochs", "15", "--seeds", "42"],
    "full": ["--dataset", "ocr", "--seeds", "42", "43", "44"],
}


def main(argv: Sequence[str] | None = None) -> None:
    """Trains and draws what is missing, then lists tables and figures."""
    flags = reproduce.parser(HOMEWORK, __doc__)
    cli.add_kernels_flag(flags)
    with reproduce.start(HOMEWORK, flags.parse_args(argv), "kernels") as made:
        comparisons = compare.parse([*_FLAGS[made.profile], *made.given, *made.where, "--name", made.profile])
        for comparison in comparisons.values():
            made.compare(comparison, ("table.md", "table.csv", "comparison.png"), ["*.png"])
        pairs = comparisons["pairs"]
        network, pairwise = (made.folder / pairs.run_name(row, pairs.seeds[0]) for row in ("cnn2", "pairwise"))
        if not (network / "invariance.json").is_file():
            invariance.main([str(network), "--pairwise", str(pairwise), *made.data])


if __name__ == "__main__":
    cli.run_command(main)
