"""`python -m hw_transfer.compare`: trains both scenarios of the sheet and puts them side by side."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from hw_common.commands import cli, comparison
from hw_common.commands.cli import add_flag
from hw_common.commands.comparison import Comparison
from hw_common.commands.over_seeds import cell, deviation, over_seeds
from hw_common.runs import files
from hw_common.runs.run_folder import METRICS, Run
from hw_transfer import train
from hw_transfer.presets import HOMEWORK, SOURCE

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
_OF_A_ROW = ("mode", "cache_features")
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
    comparison.add_flags(flags, "of its folder (default: the data set's)")
    return flags


def parse(argv: Sequence[str] | None = None) -> Comparison:
    """Checks all flags, those for hw_transfer.train too.

    Raises:
        UserError: a flag is wrong, or is one that the comparison sets itself.
    """
    own, flags, _ = comparison.parse(parser(), train.COMMAND, argv, _OF_A_ROW)
    arguments = train.COMMAND.parse(flags)
    name = own.name or arguments.dataset
    scenarios = list(dict.fromkeys(own.scenarios))
    return Comparison(
        command=train.COMMAND,
        rows={scenario: SCENARIOS[scenario] for scenario in scenarios},
        report=_report,
        seeds=own.seeds,
        jobs=own.jobs,
        name=name,
        trainings=name,
        flags=flags,
        common=comparison.common_arguments(arguments, _OF_A_ROW),
        results_dir=arguments.results_dir,
        may_change={"scenarios": scenarios},
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Trains what is missing, then writes table, curves and summary."""
    parse(argv).run()


def _report(run: Run, finished: Mapping[str, Sequence[Run]], seeds: Sequence[int]) -> dict[str, Any]:
    """Writes table, figure and summary into the comparison's folder and prints the table; returns the summary."""
    first = next(iter(finished.values()))[0].summary()
    hashes = {name: value for trained in finished.values() for name, value in trained[0].config["data"].items()}
    summary = {
        "name": run.folder.name,
        "homework": HOMEWORK,
        **{key: first[key] for key in ("dataset", "data", "images", "classes")},
        "data_hashes": hashes,
        "seeds": list(seeds),
        "table": [_row(scenario, [run.summary() for run in trained]) for scenario, trained in finished.items()],
    }
    table = _markdown(summary)
    files.write_bytes(run.folder / "table.md", table.encode())
    _draw(run.folder, summary, finished)
    run.write_summary(summary)
    print(f"\n{table}\nall of it is in {run.folder}")
    return summary


def _row(scenario: str, summaries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One line of the table: mean and standard deviation over the seeds, of the best and of the last epoch."""
    return {
        "scenario": scenario,
        **{key: summaries[0][key] for key in ("weights", "learning_parameters")},
        **over_seeds(summaries, ["validation_accuracy"]),
    }


def _markdown(summary: Mapping[str, Any]) -> str:
    lines = [
        f"Validation accuracy on {summary['data']} ({summary['images']['validation']} pictures), {SOURCE}, "
        f"seed {', '.join(map(str, summary['seeds']))}:",
        "",
        f"| scenario | starts from | {' | '.join(_EPOCHS.values())} | parameters that learn | training seconds |",
        "|---|---|---|---|---|---|",
    ]
    for row in summary["table"]:
        cells = [cell(row, f"{epoch}_validation_accuracy") for epoch in _EPOCHS]
        lines.append(
            f"| {_EXPLAINED[row['scenario']]} | {row['weights']} | {' | '.join(cells)} "
            f"| {row['learning_parameters']} | {row['training_seconds']:.1f} |"
        )
    return "\n".join(lines) + "\n"


def _draw(folder: Path, summary: Mapping[str, Any], finished: Mapping[str, Sequence[Run]]) -> None:
    """The scenarios' curves in one figure: mean over the seeds, with their deviation as a band."""
    from hw_common.runs import figures  # slow to import

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
    figure = figures.curves(panels(statistics.mean), "epoch", title, panels(deviation))
    figures.save(figure, folder, "curves")


if __name__ == "__main__":
    cli.run_command(main)
