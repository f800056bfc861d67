"""Report of a sweep: table, curves and chosen learning rate."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hw_common.commands import comparison
from hw_common.commands.over_seeds import cell, markdown, over_seeds
from hw_common.runs import files
from hw_common.runs.errors import UserError
from hw_common.runs.run_folder import METRICS, Run

_METRICS = ("validation_accuracy", "test_accuracy", "test_accuracy_course_subset", "test_auc")


@dataclass(frozen=True)
class Trial:
    """A finished training run of a sweep."""

    summary: Mapping[str, Any]  # content of its summary.json
    rows: Sequence[Mapping[str, float]]  # content of its metrics.csv, a row for each epoch
    hashes: Mapping[str, str]  # hashes of its data files


def row_name(lr: float) -> str:
    """Returns the part of a run's name for a learning rate; the whole name is <sweep>-lr<rate>-seed<seed>."""
    return f"lr{lr:g}"


def trial_of(run: Run) -> Trial:
    """Reads a finished run folder."""
    return Trial(run.summary(), files.read_csv(run.folder / METRICS), run.config["data"])


def report(run: Run, trials: Mapping[float, Sequence[Trial]], seeds: Sequence[int], choose_by: str) -> dict[str, Any]:
    """Writes table, figure and summary.json into the folder `run`, prints the table, and returns the summary.

    `trials` are the finished trials of each learning rate. `choose_by` is the epoch whose validation accuracy is
    compared: "last" or "best".

    Raises:
        UserError: the trials were trained on different data.
    """
    found = {lr: lr_trials for lr, lr_trials in trials.items() if lr_trials}
    first = next(iter(found.values()))[0]
    for lr_trials in found.values():
        for trial in lr_trials:
            if trial.hashes != first.hashes:
                raise UserError(f"{trial.summary['name']} was trained on other data files than {first.summary['name']}")
    table = [_row(lr, [trial.summary for trial in lr_trials]) for lr, lr_trials in found.items()]
    summary = {
        "name": run.folder.name,
        "homework": run.config["homework"],
        **{key: first.summary[key] for key in ("dataset", "data", "network", "parameters")},
        "data_hashes": first.hashes,
        "seeds": list(seeds),
        "table": table,
        "choice": _choose(table, choose_by),
    }
    _draw(run, summary, found)
    text = f"{_markdown(table)}\n{summary['choice']['reason']}\n"
    if missing := len(trials) * len(seeds) - sum(map(len, found.values())):
        text += f"{missing} training runs are not finished: they failed, or another machine is running them\n"
    comparison.write_results(run, text, summary)
    return summary


def _row(lr: float, summaries: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Returns a table row: each metric's mean and standard deviation over the seeds, for the last and best epoch."""
    # Only OCTMNIST has a second test set, the course's subset; only MedMNIST's sets have an AUC.
    metrics = [metric for metric in _METRICS if metric in summaries[0]["final"]]
    return {"lr": lr, **over_seeds(summaries, metrics)}


def _choose(table: Sequence[Mapping[str, float]], epoch: str) -> dict[str, Any]:
    """Returns the learning rate with the best mean validation accuracy (of the last or best epoch) and the reason."""
    metric = f"{'final' if epoch == 'last' else 'best'}_validation_accuracy"
    best, *others = sorted(table, key=lambda row: -row[metric])
    reason = (
        f"learning rate {best['lr']:g}: mean validation accuracy of the {epoch} epoch {best[metric]:.4f} "
        f"over {_seeds(best['seeds'])}"
    )
    if others:
        lead, spread = best[metric] - others[0][metric], best[f"{metric}_std"] + others[0][f"{metric}_std"]
        verdict = "more than" if lead > spread else "within"
        reason += f", {lead:.4f} ahead of learning rate {others[0]['lr']:g}"
        reason += f" ({verdict} the spread of {spread:.4f} over seeds)" if best["seeds"] > 1 else ""
    return {"lr": best["lr"], "reason": reason}


def _seeds(count: float) -> str:
    return "1 seed" if count == 1 else f"{count:.0f} seeds"


def _markdown(table: Sequence[Mapping[str, float]]) -> str:
    columns = [name for name in table[0] if f"{name}_std" in table[0]]
    titles = [
        name.replace("final_", "last epoch: ").replace("best_", "best epoch: ").replace("_", " ") for name in columns
    ]
    rows = (
        [f"{row['lr']:g}", f"{row['seeds']}", *(cell(row, name) for name in columns), f"{row['training_seconds']:.0f}"]
        for row in table
    )
    return markdown(["learning rate", "seeds", *titles, "seconds per run"], rows)


def _draw(run: Run, summary: Mapping[str, Any], trials: Mapping[float, Sequence[Trial]]) -> None:
    from hw_common.runs import figures  # slow to import

    rows = {f"lr {lr:g}": [trial.rows for trial in lr_trials] for lr, lr_trials in trials.items()}
    panels = {"training loss": "training_loss", "validation accuracy": "validation_accuracy"}
    count = len(summary["seeds"])
    spread = f"mean and spread over {_seeds(count)}" if count > 1 else f"seed {summary['seeds'][0]}"
    title = f"{summary['data']}, network {summary['network']}: {spread}"
    figures.save(figures.curves_over_seeds(rows, panels, title), run.folder, "curves")
