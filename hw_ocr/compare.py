"""`python -m hw_ocr.compare`: the report's networks against one another, over several seeds."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from hw_common.commands import cli, comparison
from hw_common.commands.cli import add_flag
from hw_common.commands.comparison import Comparison
from hw_ocr import train
from hw_ocr.compare_report import report
from hw_ocr.presets import CONV_LAYERS

_DESCRIPTION = """\
Trains the networks of dsl-2019-hw3 with every seed and tabulates mean and standard deviation of their accuracies:
`layers` is the report's Table 1, CNNs with 2 to 5 convolutions; `sequences` compares the networks of words with and
without CRF (Question 2), with the CNN of single letters beside them, and our recommendation, for which the sample is
too small. The choice is made on the validation fold, not on the test fold as in the report. All other flags are those
of `python -m hw_ocr.train`.

  python -m hw_ocr.compare --seeds 42 43 44 --jobs 2
  python -m hw_ocr.compare --dataset sample --only layers

Each training is an ordinary run folder. The same command again goes on where an interrupted comparison was.
"""
# What is compared: the end of a run's name, and the flags that train it.
_CNN = {f"cnn{layers}": ["--model", "cnn", "--conv_layers", str(layers)] for layers in CONV_LAYERS}
ROWS: Mapping[str, Mapping[str, list[str]]] = MappingProxyType({
    "layers": _CNN,
    "sequences": {
        "cnn2": _CNN["cnn2"],
        "cnn2-crf": [*_CNN["cnn2"], "--crf"],
        "bilstm": ["--model", "bilstm"],
        "bilstm-crf": ["--model", "bilstm", "--crf"],
        "conv-bilstm": ["--model", "conv-bilstm"],
        "conv-bilstm-crf": ["--model", "conv-bilstm", "--crf"],
        "best": ["--recipe", "best"],
    },
})  # fmt: skip
_OF_A_ROW = ("model", "conv_layers", "crf", "recipe", "hidden", "layers", "dropout")


def parser() -> cli.Parser:
    """The comparison's own flags; what it does not know is passed on to `hw_ocr.train`."""
    flags = cli.Parser("python -m hw_ocr.compare", _DESCRIPTION)
    add_flag(flags, "only", choices=tuple(ROWS), help="one of the two comparisons (default: both)")
    comparison.add_flags(flags, "how names of its folders begin (default: compare-<dataset>)")
    return flags


def parse(argv: Sequence[str] | None = None) -> dict[str, Comparison]:
    """Checks all flags, those for hw_ocr.train too; returns what to compare, by the keys of ROWS.

    Raises:
        UserError: a flag is wrong, or is one that the comparison sets itself.
    """
    own, flags, arguments = comparison.parse(parser(), train.COMMAND, argv, _OF_A_ROW)
    name = own.name or f"compare-{arguments.dataset}"
    return {
        what: Comparison(
            command=train.COMMAND,
            rows=_rows(what, arguments.dataset),
            report=report,
            seeds=own.seeds,
            jobs=own.jobs,
            name=f"{name}-{what}",
            trainings=name,
            flags=flags,
            common={**comparison.common_arguments(arguments, _OF_A_ROW), "only": what},
            results_dir=arguments.results_dir,
        )
        for what in ([own.only] if own.only else ROWS)
    }


def _rows(what: str, dataset: str) -> dict[str, list[str]]:
    return {row: flags for row, flags in ROWS[what].items() if row != "best" or dataset != "sample"}


def main(argv: Sequence[str] | None = None) -> None:
    """Trains what is missing, then writes tables, figures and choices."""
    for wanted in parse(argv).values():
        wanted.run()


if __name__ == "__main__":
    cli.run_command(main)
