"""`python -m hw_ocr.compare`: trains the networks of dsl-2019-hw3 with several seeds and compares their accuracies."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from hw_common.commands import cli, comparison
from hw_common.commands.cli import add_flag
from hw_common.commands.comparison import Comparison
from hw_common.commands.over_seeds import cell, in_words, markdown, over_seeds
from hw_common.runs.run_folder import Run
from hw_ocr import train
from hw_ocr.presets import CONV_LAYERS, PUBLISHED

_DESCRIPTION = """\
Trains the networks of dsl-2019-hw3 with every seed, and tabulates the mean and standard deviation of their accuracies.
There are three comparisons. `pairs` is the linear classifier of pixel pairs beside the CNN (Question 1.1). `layers` is
Table 1 of the published report: CNNs with 2 to 5 convolutions. `sequences` has the CNN of single letters, all networks
of words with and without CRF (Question 2), and the recommended network (left out with --dataset sample, which is too
small for it). The best network is chosen on the validation fold; the published report chose it on the test fold. All
other flags are those of `python -m hw_ocr.train`.

  python -m hw_ocr.compare --seeds 42 43 44 --jobs 2
  python -m hw_ocr.compare --dataset sample --only layers

Each training run has an ordinary run folder. The same command resumes an interrupted comparison.
"""
# For each comparison, the flags of each row's training runs. The row's key becomes part of the names of its runs.
_CNN = {f"cnn{layers}": ["--model", "cnn", "--conv_layers", str(layers)] for layers in CONV_LAYERS}
ROWS: Mapping[str, Mapping[str, list[str]]] = MappingProxyType({
    "pairs": {"cnn2": _CNN["cnn2"], "pairwise": ["--model", "pairwise"]},
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
_ROW_FLAGS = ("model", "conv_layers", "crf", "recipe", "hidden", "layers", "dropout")  # set by the comparison
_METRICS = tuple(f"{part}_{unit}" for part in ("validation", "test") for unit in ("accuracy", "word_accuracy"))


def parser() -> cli.Parser:
    """The comparison's own flags; all other flags are passed on to `hw_ocr.train`."""
    flags = cli.Parser("python -m hw_ocr.compare", _DESCRIPTION)
    add_flag(flags, "only", choices=tuple(ROWS), help="make only this comparison (default: all)")
    comparison.add_flags(flags, "beginning of the names of all run folders (default: compare-<dataset>)")
    return flags


def parse(argv: Sequence[str] | None = None) -> dict[str, Comparison]:
    """Checks all flags, including those of hw_ocr.train; returns the comparisons by the keys of ROWS.

    Raises:
        UserError: a flag is wrong, or is one that the comparison sets itself.
    """
    own, flags, arguments = comparison.parse(parser(), train.COMMAND, argv, _ROW_FLAGS)
    name = own.name or f"compare-{arguments.dataset}"
    return {
        what: Comparison.of(
            train.COMMAND, own, flags, arguments, _ROW_FLAGS, name=f"{name}-{what}", trainings=name,
            rows=_rows(what, arguments.dataset), report=report, common={"only": what},
        )
        for what in ([own.only] if own.only else ROWS)
    }  # fmt: skip


def _rows(what: str, dataset: str) -> dict[str, list[str]]:
    return {row: flags for row, flags in ROWS[what].items() if row != "best" or dataset != "sample"}


def main(argv: Sequence[str] | None = None) -> None:
    """Trains the missing runs, then writes tables and figures and chooses the best network."""
    for chosen in parse(argv).values():
        chosen.run()


def report(run: Run, trained: Mapping[str, Sequence[Run]], seeds: Sequence[int]) -> dict[str, Any]:
    """Writes table, figure and summary.json into the comparison's folder and prints the table.

    Args:
        run: the comparison's folder.
        trained: the finished runs of each row, one for each seed.
        seeds: the seeds of the runs.

    Returns:
        The content of summary.json.
    """
    summaries = {row: [run.summary() for run in runs] for row, runs in trained.items()}
    first = next(iter(summaries.values()))[0]
    table = [_row(name, of_seeds, published=first["dataset"] == "ocr") for name, of_seeds in summaries.items()]
    choice = _choose(table)
    summary = comparison.summarize(run, trained, seeds, table) | {"choice": choice}
    text = f"{first['data']}, last epoch:\n\n{_markdown(table)}\n{choice['reason']}\n"
    from hw_ocr import plots  # imports torch and matplotlib

    plots.comparison(run.folder, table, f"{first['data']}, last epoch: {in_words(len(seeds))}")
    comparison.write_results(run, text, summary)
    return summary


def _row(name: str, summaries: Sequence[Mapping[str, Any]], published: bool) -> dict[str, Any]:
    """One row of the table: means and standard deviations over the seeds, for the last and for the best epoch."""
    row: dict[str, Any] = {
        "row": name,
        "data": summaries[0]["data"],
        "network": summaries[0]["network"] + (" (recommended)" if name == "best" else ""),
        "parameters": summaries[0]["parameters"],
        **over_seeds(summaries, _METRICS),
    }
    for metric in ("test_accuracy", "test_word_accuracy"):
        row[f"published_{metric}"] = PUBLISHED.get(name, {}).get(metric) if published else None
    return row


def _choose(table: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The row with the best mean validation accuracy by letter after the last epoch, and the reason in words."""
    metric = "final_validation_accuracy"
    best, second, *_ = sorted(table, key=lambda row: -row[metric])
    lead, spread = best[metric] - second[metric], best[f"{metric}_std"] + second[f"{metric}_std"]
    mean = "mean " if best["seeds"] > 1 else ""
    reason = f"{best['network']}: {mean}validation accuracy by letter {best[metric]:.4f}, {lead:.4f} ahead of "
    reason += second["network"]
    if best["seeds"] > 1:
        reason += f" ({'more than' if lead > spread else 'within'} the spread of {spread:.4f} over seeds)"
    return {"row": best["row"], "reason": reason}


def _markdown(table: Sequence[Mapping[str, Any]]) -> str:
    """The table of the accuracies after the last epoch, in Markdown."""
    columns = {
        "validation, by letter": "final_validation_accuracy",
        "test, by letter": "final_test_accuracy",
        "published, by letter": "published_test_accuracy",
        "validation, by word": "final_validation_word_accuracy",
        "test, by word": "final_test_word_accuracy",
        "published, by word": "published_test_word_accuracy",
    }
    columns = {title: name for title, name in columns.items() if any(row[name] is not None for row in table)}
    own = ("network", "parameters", "seeds")
    rows = [
        [*(str(row[key]) for key in own), *(cell(row, name) for name in columns.values()),
         f"{row['training_seconds']:.0f}"]
        for row in table
    ]  # fmt: skip
    return markdown([*own, *columns, "seconds per run"], rows)


if __name__ == "__main__":
    cli.run_command(main)
