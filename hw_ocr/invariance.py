"""`python -m hw_ocr.invariance RUN`: dsl-2019-hw3 Q1.1, Figures 1 and 2, measured on a trained network."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hw_common.commands import cli
from hw_common.commands.cli import add_flag, add_input

_DESCRIPTION = """\
Shifts letters by one and two pixels, rotates them by 10 and 20 degrees, and measures how much the feature maps of a
trained network change (dsl-2019-hw3 Q1.1). Maps are compared after a convolution with its ReLU, after the following
2×2 max-pooling (Figure 1 of the published report), and after a maximum over the channels (Figure 2 of the report; the
network itself does not compute it). The command also measures how much the products of all pixel pairs change, and the
accuracy of the network on the changed test letters. With --pairwise, it adds the accuracy of a linear classifier of
these products.

  python -m hw_ocr.train --model pairwise
  python -m hw_ocr.invariance results/hw_ocr/ocr-cnn2-plain --pairwise results/hw_ocr/ocr-pairwise-plain

Writes invariance.json and two figures into the run folder. RUN is a finished run of a network with convolutions.
"""


def parser() -> cli.Parser:
    """All flags."""
    flags = cli.Parser("python -m hw_ocr.invariance", _DESCRIPTION, usage="%(prog)s RUN [flags]")
    cli.add_finished_run_flags(flags)
    add_flag(flags, "letters", type=cli.positive_int, default=500, help="test letters to measure on (default: 500)")
    add_input(flags, "pairwise", help="finished run of `hw_ocr.train --model pairwise` with the same data")
    return flags


def main(argv: Sequence[str] | None = None) -> None:
    """Measures the changes, prints a table, and writes numbers and two figures into the run folder."""
    arguments = parser().parse_args(argv)
    from hw_common.runs import files
    from hw_common.runs.errors import UserError
    from hw_common.runs.run_folder import Run
    from hw_ocr import data, pooling  # imports torch, hence after the arguments are checked
    from hw_ocr.presets import CITATION, HOMEWORK
    from hw_ocr.trained_network import open_trained

    trained = open_trained(arguments.run)
    pooling.check_convolutional(trained.network)
    test = data.load(trained.settings.dataset, arguments.data_dir or trained.data_dir, trained.settings.seed).test
    letters = pooling.choose_letters(test.images, arguments.letters, arguments.seed)
    maps = pooling.collect_all(trained.network, letters)
    measured = pooling.measure(maps)
    title = f"means over {len(letters)} letters; {trained.title}"
    accuracies = {trained.settings.title: pooling.accuracies(trained.network, test)}
    if arguments.pairwise:
        pairwise = open_trained(arguments.pairwise)
        if (pairwise.settings.model, pairwise.data) != ("pairwise", trained.data):
            raise UserError(
                f"--pairwise {arguments.pairwise}: it is a {pairwise.settings.title} for {pairwise.data}, expected "
                f"a run of `hw_ocr.train --model pairwise` for {trained.data}"
            )
        accuracies[pairwise.settings.title] = pooling.accuracies(pairwise.network, test)
    with Run.open(trained.folder, HOMEWORK).free_stem("invariance") as stem:
        paths = pooling.draw(letters[:1], maps, measured, trained.folder, stem, title)
        paths += pooling.draw_accuracies(accuracies, trained.folder, f"{stem}-accuracy", f"{trained.data}, {CITATION}")
        numbers = trained.folder / f"{stem}.json"
        changes = {"maps": measured, "products": pooling.measure_products(letters), "accuracies": accuracies}
        files.write_json(numbers, {"data": trained.data, "letters": len(letters), **changes})
    print(_table(measured), *_accuracies(accuracies), *paths, numbers, sep="\n")


def _table(measured: Sequence[Mapping[str, Any]]) -> str:
    """One row per kind of map, one column per change of the letter."""
    names = list(measured[0]["changes"])
    lines = [f"{'':36}" + "".join(f"{name:>22}" for name in names)]
    for row in measured:
        cells = (f"{c['values_changed']:.0%} by {c['relative_change']:.0%}" for c in row["changes"].values())
        lines.append(f"{row['layer']}, {row['stage']:28}" + "".join(f"{cell:>22}" for cell in cells))
    title = "share of the values that change, and by how much (norm of the difference divided by the norm of the maps)"
    return "\n".join([title, *lines])


def _accuracies(accuracies: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    for network, found in accuracies.items():
        yield f"test accuracy, {network}: {', '.join(f'{name} {value:.4f}' for name, value in found.items())}"


if __name__ == "__main__":
    cli.run_command(main)
