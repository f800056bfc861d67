"""`python -m hw_attention_theory.compare`: compares softmax with linear attention over several seeds."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from hw_attention_theory import train
from hw_attention_theory.presets import TITLES
from hw_common.commands import cli, comparison
from hw_common.commands.comparison import Comparison
from hw_common.commands.over_seeds import cell, in_words, markdown, over_seeds
from hw_common.runs import files
from hw_common.runs.run_folder import METRICS, Run

_DESCRIPTION = """\
Trains the classifier of pixel sequences with softmax and with linear attention, each with every seed, and tabulates
their accuracies and the standard error of the difference (ist-2023-24-hw2 Q1.4). All other flags are those of
`python -m hw_attention_theory.train`.

  python -m hw_attention_theory.compare --seeds 42 43 44 --jobs 2
  python -m hw_attention_theory.compare --dataset sample --seeds 42 43

Each training run has an ordinary run folder. The same command continues an interrupted comparison.
"""
_VARIED = ("attention", "terms")


def parser() -> cli.Parser:
    """The comparison's own flags; all others are passed on to `hw_attention_theory.train`."""
    flags = cli.Parser("python -m hw_attention_theory.compare", _DESCRIPTION)
    comparison.add_flags(flags, "name of the comparison's folder (default: compare-<data><side>)")
    return flags


def parse(argv: Sequence[str] | None = None) -> Comparison:
    """Checks all flags, including those for hw_attention_theory.train.

    Raises:
        UserError: a flag is wrong, or is one that the comparison sets itself.
    """
    own, flags, _ = comparison.parse(parser(), train.COMMAND, argv, _VARIED)
    arguments = train.COMMAND.parse(flags)
    name = own.name or f"compare-{arguments.dataset}{arguments.side}"
    rows = {attention: ["--attention", attention] for attention in TITLES}
    return Comparison.of(train.COMMAND, own, flags, arguments, _VARIED, name=name, rows=rows, report=_report)


def main(argv: Sequence[str] | None = None) -> None:
    """Trains what is missing, then writes table and figure."""
    parse(argv).run()


def _report(run: Run, trained: Mapping[str, Sequence[Run]], seeds: Sequence[int]) -> dict[str, Any]:
    """Writes table, figure and summary.json, prints the table and returns the summary."""
    from hw_common.runs import figures  # slow to import

    summaries = {attention: [one.summary() for one in runs] for attention, runs in trained.items()}
    first = summaries["softmax"][0]
    table = [_row(attention, of_attention) for attention, of_attention in summaries.items()]
    summary = comparison.summarize(run, trained, seeds, table, "length", "images")
    summary["difference"] = _difference(*table)
    text = f"{first['data']}, {first['length']} pixels, {in_words(len(seeds))}:\n\n{_markdown(summary)}"
    rows = {TITLES[key]: [files.read_csv(one.folder / METRICS) for one in runs] for key, runs in trained.items()}
    panels = {name.replace("_", " "): name for name in ("training_loss", "validation_accuracy")}
    title = f"{first['data']}, {first['length']} pixels: {in_words(len(seeds))}"
    figures.save(figures.curves_over_seeds(rows, panels, title), run.folder, "curves")
    comparison.write_results(run, text, summary)
    return summary


def _row(attention: str, summaries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "attention": attention,
        "network": summaries[0]["network"],
        "parameters": summaries[0]["parameters"],
        **over_seeds(summaries, ("validation_accuracy", "test_accuracy")),
    }


def _difference(softmax: Mapping[str, Any], linear: Mapping[str, Any]) -> dict[str, float | None]:
    """Test accuracy of softmax minus that of linear attention, with the standard error of this difference of means.

    The standard error comes from the deviations over the seeds; it is None for a single seed.
    """
    name, seeds = "final_test_accuracy", softmax["seeds"]
    error = math.hypot(softmax[f"{name}_std"], linear[f"{name}_std"]) / math.sqrt(seeds) if seeds > 1 else None
    return {"test_accuracy": softmax[name] - linear[name], "standard_error": error}


def _markdown(summary: Mapping[str, Any]) -> str:
    rows = [
        (row["network"], str(row["parameters"]), cell(row, "final_validation_accuracy"),
         cell(row, "final_test_accuracy"), f"{row['training_seconds']:.0f}")
        for row in summary["table"]
    ]  # fmt: skip
    table = markdown(("network", "parameters", "validation accuracy", "test accuracy", "seconds per run"), rows)
    difference = summary["difference"]
    error = difference["standard_error"]
    words = "" if error is None else f" ± {error:.4f} (standard error of the difference)"
    return f"{table}\nsoftmax minus linear attention, test accuracy: {difference['test_accuracy']:+.4f}{words}\n"


if __name__ == "__main__":
    cli.run_command(main)
