"""`python -m hw_ocr.invariance RUN`: what pooling does to shifts and rotations (dsl-2019-hw3 Q1.1, Figures 1 and 2)."""

from collections.abc import Mapping, Sequence
from typing import Any

from hw_common.commands import cli
from hw_common.commands.cli import add_flag

_DESCRIPTION = """\
Shifts letters by one and two pixels and rotates them by 10 and 20 degrees, and measures how much the feature maps of
a trained network change: after a convolution with its ReLU, after the 2×2 max-pooling behind it (the report's Figure
1), and after a maximum over the channels, which the report's Figure 2 shows and the network itself does not take.

  python -m hw_ocr.invariance results/hw_ocr/ocr-cnn2-plain

Writes invariance.json and a figure into the run folder. RUN is a finished run of a network with convolutions.
"""


def parser() -> cli.Parser:
    """All flags."""
    flags = cli.Parser("python -m hw_ocr.invariance", _DESCRIPTION, usage="%(prog)s RUN [flags]")
    cli.add_finished_run_flags(flags)
    add_flag(flags, "letters", type=cli.positive_int, default=500, help="test letters to measure on (default: 500)")
    return flags


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, prints a table, writes numbers and figure into the run folder."""
    arguments = parser().parse_args(argv)
    from hw_common.runs import files
    from hw_ocr import pooling  # imports torch, hence after the arguments are checked
    from hw_ocr.finished import open_finished

    finished = open_finished(arguments.run)
    letters = pooling.choose_letters(finished, arguments.data_dir, arguments.letters, arguments.seed)
    maps = pooling.collect_all(finished, letters)
    measured = pooling.measure(maps)
    folder, stem = finished.run.folder, finished.run.free_stem("invariance")
    paths = pooling.draw(
        letters[:1], maps, measured, folder, stem, f"means over {len(letters)} letters; {finished.title}"
    )
    result = {"data": finished.data, "letters": len(letters), "maps": measured}
    files.write_json(folder / f"{stem}.json", result)
    print(_table(measured))
    for path in [*paths, folder / f"{stem}.json"]:
        print(path)


def _table(measured: Sequence[Mapping[str, Any]]) -> str:
    """A line per kind of map, a column per change."""
    names = list(measured[0]["changes"])
    lines = [f"{'':36}" + "".join(f"{name:>22}" for name in names)]
    for row in measured:
        cells = (f"{c['values_changed']:.0%} by {c['relative_change']:.0%}" for c in row["changes"].values())
        lines.append(f"{row['layer']}, {row['stage']:28}" + "".join(f"{cell:>22}" for cell in cells))
    return "\n".join(
        ["how many of the values change, and by how much (norm of the difference by norm of the maps)", *lines]
    )


if __name__ == "__main__":
    cli.run_command(main)
