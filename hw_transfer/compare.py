"""`python -m hw_transfer.compare`: trains both scenarios of the sheet and compares them in one table and figure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from hw_common.commands import cli, comparison
from hw_common.commands.cli import add_flag
from hw_common.commands.comparison import Comparison
from hw_common.commands.over_seeds import cell, markdown, over_seeds
from hw_common.runs import files
from hw_common.runs.run_folder import METRICS, Run
from hw_transfer import train
from hw_transfer.presets import CITATION

_DESCRIPTION = """\
Starts from pretrained weights, trains the whole network (finetune) and, separately, only its last layer (freeze), and
reports both validation accuracies (eecs545-w20-hw4 Q5e). All other flags are those of `python -m hw_transfer.train`.

  python -m hw_transfer.compare                                             ants and bees
  python -m hw_transfer.compare --seeds 42 43 44                            mean and deviation over three seeds
  python -m hw_transfer.compare --scenarios finetune freeze cached scratch  two more scenarios

Each training run has an ordinary run folder, <name>-<scenario>-seed<seed>; table and curves go to the folder <name>.
Give the same command again to resume an interrupted comparison; finished runs are kept.
"""


@dataclass(frozen=True)
class Scenario:
    """A row of the comparison."""

    title: str  # name in the table and in the figure
    flags: Sequence[str]  # flags of `hw_transfer.train` that select the scenario


SCENARIOS: Mapping[str, Scenario] = MappingProxyType({
    "finetune": Scenario("finetune", ["--mode", "finetune"]),
    "freeze": Scenario("freeze", ["--mode", "freeze"]),
    "cached": Scenario("freeze, cached features", ["--mode", "freeze", "--cache_features"]),
    "scratch": Scenario("from random weights", ["--mode", "finetune", "--weights", "none"]),
})  # fmt: skip
_SCENARIO_ARGUMENTS = ("mode", "cache_features")  # arguments in which scenarios differ


def parser() -> cli.Parser:
    """Declares the comparison's own flags; all others are passed on to `hw_transfer.train`."""
    flags = cli.Parser("python -m hw_transfer.compare", _DESCRIPTION)
    scenarios = "default: finetune freeze; cached: freeze with --cache_features; scratch: finetune from random weights"
    default = ["finetune", "freeze"]
    add_flag(flags, "scenarios", nargs="+", choices=tuple(SCENARIOS), default=default, help=scenarios)
    comparison.add_flags(flags, "name of the comparison's folder (default: the data set's)")
    return flags


def parse(argv: Sequence[str] | None = None) -> Comparison:
    """Checks all flags, including those of hw_transfer.train.

    Raises:
        UserError: a flag is invalid, or is one that the comparison sets.
    """
    own, flags, _ = comparison.parse(parser(), train.COMMAND, argv, _SCENARIO_ARGUMENTS)
    arguments = train.COMMAND.parse(flags)
    name = own.name or arguments.dataset
    scenarios = list(dict.fromkeys(own.scenarios))
    rows = {scenario: SCENARIOS[scenario].flags for scenario in scenarios}
    return Comparison.of(train.COMMAND, own, flags, arguments, _SCENARIO_ARGUMENTS, name=name, rows=rows,
                         report=_report, may_change={"scenarios": scenarios})  # fmt: skip


def main(argv: Sequence[str] | None = None) -> None:
    """Trains what is missing, then writes the table, the curves and the summary."""
    parse(argv).run()


def _report(run: Run, finished: Mapping[str, Sequence[Run]], seeds: Sequence[int]) -> dict[str, Any]:
    """Writes table, figure and summary into the folder `run`, prints the table, and returns the summary.

    `finished` contains the runs of each scenario, one for each seed.
    """
    table = [_row(scenario, [run.summary() for run in runs]) for scenario, runs in finished.items()]
    summary = comparison.summarize(run, finished, seeds, table, "images", "classes")
    _draw(run, summary, finished)
    comparison.write_results(run, _markdown(summary), summary)
    return summary


def _row(scenario: str, summaries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns a table row: the accuracy's mean and standard deviation over the seeds, for the best and last epoch."""
    return {
        "scenario": scenario,
        **{key: summaries[0][key] for key in ("backbone", "weights", "learning_parameters")},
        **over_seeds(summaries, ["validation_accuracy"]),
    }


def _markdown(summary: Mapping[str, Any]) -> str:
    title = (
        f"Validation accuracy on {summary['data']} ({summary['images']['validation']} pictures), {CITATION}, "
        f"seed {', '.join(map(str, summary['seeds']))}"
    )
    head = ("scenario", "network", "starts from", "best epoch", "last epoch", "trained parameters", "training seconds")
    rows = [
        (SCENARIOS[row["scenario"]].title, row["backbone"], row["weights"], cell(row, "best_validation_accuracy"),
         cell(row, "final_validation_accuracy"), str(row["learning_parameters"]), f"{row['training_seconds']:.1f}")
        for row in summary["table"]
    ]  # fmt: skip
    return f"{title}:\n\n{markdown(head, rows)}"


def _draw(run: Run, summary: Mapping[str, Any], finished: Mapping[str, Sequence[Run]]) -> None:
    from hw_common.runs import figures  # slow to import

    metrics = {
        SCENARIOS[scenario].title: [files.read_csv(run.folder / METRICS) for run in runs]
        for scenario, runs in finished.items()
    }
    panels = {name.replace("_", " "): name for name in ("training_loss", "validation_loss", "validation_accuracy")}
    seeds = f"mean of {len(summary['seeds'])} seeds" if len(summary["seeds"]) > 1 else f"seed {summary['seeds'][0]}"
    title = f"{summary['data']}, {CITATION}, {seeds}"
    figures.save(figures.curves_over_seeds(metrics, panels, title), run.folder, "curves")


if __name__ == "__main__":
    cli.run_command(main)
