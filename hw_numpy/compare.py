"""`python -m hw_numpy.compare`: trains the digit classifiers of eecs545-w20-hw4 Q2c and Q3c with several seeds."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import mean
from typing import Any

from hw_common.commands import cli, comparison
from hw_common.commands.cli import add_flag
from hw_common.commands.comparison import Comparison
from hw_common.commands.over_seeds import cell, deviation, in_words, markdown, over_seeds
from hw_common.runs import files
from hw_common.runs.run_folder import METRICS, Run
from hw_numpy import train
from hw_numpy.presets import TITLES

_DESCRIPTION = """\
Trains the two-layer network and the convolutional network with every seed, and tabulates the mean and standard
deviation of their accuracies. With each seed, the sizes are chosen on the validation images, so they may differ. All
other flags are those of `python -m hw_numpy.train`.

  python -m hw_numpy.compare --seeds 42 43 44 --grow 6 --jobs 2
  python -m hw_numpy.compare --models softmax --dataset sample --seeds 42 43

Each training run has an ordinary run folder. The same command continues an interrupted comparison.
"""
_VARIED = ("model",)
_SIZES = ("hidden_dim", "filter_size")


def parser() -> cli.Parser:
    """The comparison's own flags; all others are passed on to `hw_numpy.train`."""
    flags = cli.Parser("python -m hw_numpy.compare", _DESCRIPTION)
    add_flag(flags, "models", nargs="+", choices=tuple(TITLES), default=[*TITLES], help="networks (default: both)")
    comparison.add_flags(flags, "name of the comparison's folder (default: compare-<dataset>)")
    return flags


def parse(argv: Sequence[str] | None = None) -> Comparison:
    """Checks all flags, including those for hw_numpy.train.

    Raises:
        UserError: a flag is wrong, or is one that the comparison sets itself.
    """
    own, flags, arguments = comparison.parse(parser(), train.COMMAND, argv, _VARIED)
    rows = {model: ["--model", model] for model in dict.fromkeys(own.models)}
    for of_row in rows.values():
        train.COMMAND.parse([*flags, *of_row])  # refuses a flag that one of the networks does not have
    name = own.name or f"compare-{arguments.dataset}"
    return Comparison.of(train.COMMAND, own, flags, arguments, _VARIED, name=name, rows=rows, report=_report,
                         may_change={"models": list(rows)})  # fmt: skip


def main(argv: Sequence[str] | None = None) -> None:
    """Trains what is missing, then writes table and figures."""
    parse(argv).run()


def _report(run: Run, trained: Mapping[str, Sequence[Run]], seeds: Sequence[int]) -> dict[str, Any]:
    """Writes table, figures and summary.json, prints the table and returns the summary."""
    from hw_numpy import plots  # slow: imports matplotlib

    summaries = {model: [one.summary() for one in runs] for model, runs in trained.items()}
    first = next(iter(summaries.values()))[0]
    table = [_row(model, of_model) for model, of_model in summaries.items()]
    summary = comparison.summarize(run, trained, seeds, table, "images")
    summary["candidates"] = {model: _candidates(of_model) for model, of_model in summaries.items()}
    title = f"{first['data']}: {in_words(len(seeds))}"
    text = f"{title}, best epoch on the validation images:\n\n{_markdown(table)}"
    metrics = {TITLES[model]: [_metrics_of_chosen(one) for one in runs] for model, runs in trained.items()}
    plots.curves_over_seeds(run.folder, metrics, title)
    plots.selection(run.folder, {TITLES[model]: rows for model, rows in summary["candidates"].items()}, title)
    comparison.write_results(run, text, summary)
    return summary


def _row(model: str, summaries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A network's row of the table; `chosen_each` and `tried_each` list the chosen sizes and numbers of candidates."""
    return {
        "model": model,
        "network": TITLES[model],
        **over_seeds(summaries, ("validation_accuracy", "test_accuracy"), epochs=("best",)),
        "chosen_each": [_sizes(summary["best"]) for summary in summaries],
        "tried_each": [len(summary["candidates"]) for summary in summaries],
    }


def _sizes(row: Mapping[str, float]) -> dict[str, int]:
    """The sizes among the numbers of a candidate."""
    return {name: int(row[name]) for name in _SIZES if name in row}


def _candidates(summaries: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Mean validation accuracy of every candidate; `seeds` is the number of seeds with which it was trained."""
    rows: dict[tuple[int, ...], list[Mapping[str, Any]]] = {}
    for row in (row for summary in summaries for row in summary["candidates"]):
        rows.setdefault(tuple(_sizes(row).values()), []).append(row)
    accuracies = {sizes: [row["validation_accuracy"] for row in rows[sizes]] for sizes in sorted(rows)}
    return [
        {
            **_sizes(rows[sizes][0]),
            "parameters": rows[sizes][0]["parameters"],
            "seeds": len(each),
            "validation_accuracy": mean(each),
            "validation_accuracy_std": deviation(each),
            "validation_accuracy_each": each,
        }
        for sizes, each in accuracies.items()
    ]


def _metrics_of_chosen(run: Run) -> list[dict[str, float]]:
    """The rows of metrics.csv of the chosen candidate."""
    chosen = _sizes(run.summary()["best"])
    return [row for row in files.read_csv(run.folder / METRICS) if _sizes(row) == chosen]


def _markdown(table: Iterable[Mapping[str, Any]]) -> str:
    head = ("network", "chosen with each seed (hidden units, filter size)", "sizes tried", "validation accuracy",
            "test accuracy", "seconds per run")  # fmt: skip
    rows = [
        (row["network"], "; ".join(", ".join(map(str, sizes.values())) for sizes in row["chosen_each"]),
         ", ".join(map(str, row["tried_each"])), cell(row, "best_validation_accuracy"), cell(row, "best_test_accuracy"),
         f"{row['training_seconds']:.0f}")
        for row in table
    ]  # fmt: skip
    return markdown(head, rows)


if __name__ == "__main__":
    cli.run_command(main)
