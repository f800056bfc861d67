"""`python -m hw_transfer.compare`: trains both scenarios of the sheet and puts them side by side."""

import argparse
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from hw_common import cli, files, runs
from hw_common.cli import add_flag
from hw_common.errors import UserError
from hw_common.runs import CONFIG, METRICS, Run
from hw_transfer import train
from hw_transfer.presets import SOURCE
from hw_transfer.train import HOMEWORK

NAME = "hw_transfer.compare"
_DESCRIPTION = """\
Trains a network that starts from pretrained weights, once with everything learning (finetune) and once with the last
layer alone (freeze), and reports the validation accuracies of both (eecs545-w20-hw4 Q5e). All other flags are those of
`python -m hw_transfer.train`.

  python -m hw_transfer.compare                                             ants and bees
  python -m hw_transfer.compare --seeds 42 43 44                            mean and deviation over three seeds
  python -m hw_transfer.compare --scenarios finetune freeze cached scratch  and two more beside them

Each training is an ordinary run folder, <name>-<scenario>-seed<seed>; the table and the curves go to the folder <name>.
The same command again goes on where an interrupted one was, and trains nothing twice.
"""
SCENARIOS: Mapping[str, Sequence[str]] = MappingProxyType({
    "finetune": ["--mode", "finetune"],
    "freeze": ["--mode", "freeze"],
    "cached": ["--mode", "freeze", "--cache_features"],
    "scratch": ["--mode", "finetune", "--weights", "none"],
})  # fmt: skip
_EXPLAINED = {
    "finetune": "finetune",
    "freeze": "freeze",
    "cached": "freeze, cached features",
    "scratch": "from random weights",
}
_EPOCHS = {"best": "best epoch", "final": "last epoch"}


def parser() -> cli.Parser:
    """The comparison's own flags; what it does not know is passed on to `hw_transfer.train`."""
    flags = cli.Parser("python -m hw_transfer.compare", _DESCRIPTION)
    add_flag(
        flags,
        "scenarios",
        nargs="+",
        choices=tuple(SCENARIOS),
        default=["finetune", "freeze"],
        help="cached: freeze with --cache_features; scratch: finetune from random weights (default: finetune freeze)",
    )
    add_flag(flags, "seeds", type=cli.non_negative_int, nargs="+", default=[42], help="seeds (default: 42)")
    add_flag(flags, "name", type=cli.run_name, help="name of the folder (default: the data set's)")
    return flags


@dataclass(frozen=True)
class Comparison:
    """A checked comparison: what to train, and where.

    Attributes:
        scenarios: names in SCENARIOS.
        seeds: for each of them.
        name: of the folder.
        flags: further flags of hw_transfer.train, as given.
        expected: what hw_transfer.train makes of them.
    """

    scenarios: list[str]
    seeds: list[int]
    name: str
    flags: list[str]
    expected: argparse.Namespace

    @property
    def folder(self) -> Path:
        """Where the table and the curves go."""
        return self.expected.results_dir / HOMEWORK / self.name


def parse(argv: Sequence[str] | None = None) -> Comparison:
    """Checks all flags, those for hw_transfer.train too.

    Raises:
        UserError: a flag is wrong, or is one that the comparison sets itself.
    """
    own, flags = parser().parse_known_args(sys.argv[1:] if argv is None else list(argv))
    _, given = cli.parse(train.parser(), flags)
    for name in ("mode", "cache_features", "seed", "resume", "overwrite", "dry_run"):
        if name in given:
            raise UserError(f"--{name} belongs to a single run; here it is --scenarios and --seeds that say what to do")
    expected = train.COMMAND.parse(flags)
    name = own.name or expected.dataset
    return Comparison(list(dict.fromkeys(own.scenarios)), sorted(set(own.seeds)), name, flags, expected)


def main(argv: Sequence[str] | None = None) -> None:
    """Trains what is missing, then writes table, curves and summary."""
    compare(parse(argv))


def compare(comparison: Comparison) -> dict[str, Any]:
    """Trains what is missing of `comparison` and returns its summary.

    Raises:
        UserError: the folder is another command's, or a training failed.
        Stopped: on Ctrl-C or SIGTERM, after saving; the same command goes on.
    """
    folder = comparison.folder
    if (folder / CONFIG).is_file() and Run.open(folder, HOMEWORK).config.get("command") != NAME:
        raise UserError(f"{folder} is a run of hw_transfer.train and is not replaced; choose another --name")
    finished: dict[str, list[Run]] = {scenario: [] for scenario in comparison.scenarios}
    for seed in comparison.seeds:  # seed by seed, so that an interrupted comparison has both scenarios
        for scenario in comparison.scenarios:
            print(f"\n== {_EXPLAINED[scenario]}, seed {seed}", flush=True)
            flags = [*comparison.flags, *SCENARIOS[scenario], "--seed", str(seed)]
            name = f"{comparison.name}-{scenario}-seed{seed}"
            finished[scenario].append(train.COMMAND.train_once(flags, comparison.expected.results_dir, name))
    return _report(comparison, finished)


def _report(comparison: Comparison, finished: Mapping[str, Sequence[Run]]) -> dict[str, Any]:
    """Writes table, figure and summary into the comparison's folder and prints the table; returns the summary."""
    first = finished[comparison.scenarios[0]][0].summary()
    hashes = {name: value for trained in finished.values() for name, value in trained[0].config["data"].items()}
    own = {"scenarios": comparison.scenarios, "seeds": comparison.seeds, "name": comparison.name, "seed": None}
    config = runs.describe(HOMEWORK, NAME, {**vars(comparison.expected), **own}, hashes, {})
    summary = {
        "name": comparison.name,
        "homework": HOMEWORK,
        **{key: first[key] for key in ("dataset", "data", "images", "classes")},
        "seeds": comparison.seeds,
        "table": [_row(scenario, [run.summary() for run in trained]) for scenario, trained in finished.items()],
    }
    run = Run.create(comparison.expected.results_dir, config, comparison.name, overwrite=True)
    try:
        table = _markdown(summary)
        files.write_bytes(run.folder / "table.md", table.encode())
        _draw(run.folder, summary, finished)
        run.write_summary(summary)
    finally:
        run.close()
    print(f"\n{table}\nall of it is in {run.folder}")
    return summary


def _row(scenario: str, summaries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One line of the table: mean and standard deviation over the seeds, of the best and of the last epoch."""
    row: dict[str, Any] = {"scenario": scenario, "weights": summaries[0]["weights"]}
    for epoch in _EPOCHS:
        accuracies = [summary[epoch]["validation_accuracy"] for summary in summaries]
        row[f"{epoch}_validation_accuracy"] = statistics.mean(accuracies)
        row[f"{epoch}_validation_accuracy_std"] = _deviation(accuracies)
    row["learning_parameters"] = summaries[0]["learning_parameters"]
    row["training_seconds"] = statistics.mean(summary["speed"]["training_seconds"] for summary in summaries)
    return row


def _deviation(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0


def _markdown(summary: Mapping[str, Any]) -> str:
    lines = [
        f"Validation accuracy on {summary['data']} ({summary['images']['validation']} pictures), {SOURCE}, "
        f"seed {', '.join(map(str, summary['seeds']))}:",
        "",
        f"| scenario | starts from | {' | '.join(_EPOCHS.values())} | parameters that learn | training seconds |",
        "|---|---|---|---|---|---|",
    ]
    for row in summary["table"]:
        cells = [f"{row[f'{epoch}_validation_accuracy']:.4f}" for epoch in _EPOCHS]
        if len(summary["seeds"]) > 1:
            stds = [row[f"{epoch}_validation_accuracy_std"] for epoch in _EPOCHS]
            cells = [f"{cell} ± {std:.4f}" for cell, std in zip(cells, stds, strict=True)]
        lines.append(
            f"| {_EXPLAINED[row['scenario']]} | {row['weights']} | {' | '.join(cells)} "
            f"| {row['learning_parameters']} | {row['training_seconds']:.1f} |"
        )
    return "\n".join(lines) + "\n"


def _draw(folder: Path, summary: Mapping[str, Any], finished: Mapping[str, Sequence[Run]]) -> None:
    """The scenarios' curves in one figure: mean over the seeds, with their deviation as a band."""
    from hw_common import figures  # slow to import

    def panels(reduce: Callable[[Sequence[float]], float]) -> dict[str, dict[str, tuple[list[float], list[float]]]]:
        return {
            metric.replace("_", " "): {
                _EXPLAINED[scenario]: ([row["epoch"] for row in tables[0]], [
                    reduce(values) for values in zip(*([row[metric] for row in rows] for rows in tables), strict=True)
                ])
                for scenario, tables in rows_of.items()
            }
            for metric in ("training_loss", "validation_loss", "validation_accuracy")
        }  # fmt: skip

    rows_of = {name: [files.read_csv(run.folder / METRICS) for run in trained] for name, trained in finished.items()}
    seeds = f"mean of {len(summary['seeds'])} seeds" if len(summary["seeds"]) > 1 else f"seed {summary['seeds'][0]}"
    title = f"{summary['data']}, {SOURCE}, {seeds}"
    figure = figures.curves(panels(statistics.mean), "epoch", title, panels(_deviation))
    figures.save(figure, folder, "curves")


if __name__ == "__main__":
    cli.run_command(main)
