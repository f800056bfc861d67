"""What a sweep found: table, curves and choice from its finished trials."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hw_common.commands.over_seeds import cell, deviation, over_seeds
from hw_common.runs import files
from hw_common.runs.errors import UserError
from hw_common.runs.run_folder import Run

# (learning rate, seed) -> {"summary": summary.json of the trial, "rows": its metrics.csv, "hashes": of its data}
Trials = dict[tuple[float, int], Mapping[str, Any]]
_METRICS = ("validation_accuracy", "test_accuracy", "test_accuracy_course_subset")


def report(run: Run, lrs: Sequence[float], seeds: Sequence[int], trials: Trials, choose_by: str) -> dict[str, Any]:
    """Writes table, figure and summary.json into the sweep's folder and prints the table; returns the summary.

    Args:
        run: the sweep's folder.
        lrs: all learning rates of the sweep.
        seeds: all its seeds.
        trials: those that are complete.
        choose_by: "last" or "best" epoch: whose validation accuracy is compared.

    Raises:
        UserError: no trial is complete.
    """
    if not trials:
        raise UserError(f"no trial of {run.folder.name} is complete")
    table = [
        _row(lr, [a["summary"] for (rate, _), a in trials.items() if rate == lr])
        for lr in lrs
        if any(rate == lr for rate, _ in trials)
    ]
    hashes, first = (next(iter(trials.values()))[key] for key in ("hashes", "summary"))
    summary = {
        "name": run.folder.name,
        "homework": run.config["homework"],
        **{key: first[key] for key in ("dataset", "data", "network", "parameters")},
        "data_hashes": hashes,
        "seeds": seeds,
        "table": table,
        "choice": _choose(table, choose_by),
    }
    _draw(run.folder, summary, trials)
    files.write_csv(run.folder / "table.csv", table)
    files.write_bytes(run.folder / "table.md", _markdown(table).encode())
    run.write_summary(summary)
    print(_markdown(table))
    print(summary["choice"]["reason"])
    if len(trials) < len(lrs) * len(seeds):
        print(f"{len(lrs) * len(seeds) - len(trials)} trials are not complete: failed, or running on another machine")
    print(f"all of it is in {run.folder}")
    return summary


def _row(lr: float, summaries: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """One line of the table: mean and standard deviation over the seeds, of the last and of the best epoch."""
    # Only OCTMNIST has a test set of the course's own.
    metrics = [metric for metric in _METRICS if metric in summaries[0]["final"]]
    return {"lr": lr, **over_seeds(summaries, metrics)}


def _choose(table: Sequence[Mapping[str, float]], epoch: str) -> dict[str, Any]:
    """The learning rate with the best mean validation accuracy after the last, or the best, epoch; and why."""
    metric = f"{'final' if epoch == 'last' else 'best'}_validation_accuracy"
    best, *others = sorted(table, key=lambda row: -row[metric])
    reason = (
        f"learning rate {best['lr']:g}: mean validation accuracy of the {epoch} epoch {best[metric]:.4f} "
        f"over {best['seeds']} seed(s)"
    )
    if others:
        lead, spread = best[metric] - others[0][metric], best[f"{metric}_std"] + others[0][f"{metric}_std"]
        verdict = "more than" if lead > spread else "within"
        reason += f", {lead:.4f} ahead of {others[0]['lr']:g}"
        reason += f" ({verdict} the spread of {spread:.4f} over seeds)" if best["seeds"] > 1 else ""
    return {"lr": best["lr"], "reason": reason}


def _markdown(table: Sequence[Mapping[str, float]]) -> str:
    columns = [name for name in table[0] if f"{name}_std" in table[0]]
    titles = [
        name.replace("final_", "last epoch: ").replace("best_", "best epoch: ").replace("_", " ") for name in columns
    ]
    lines = [f"| learning rate | seeds | {' | '.join(titles)} | seconds a run |", "|" + "---|" * (len(columns) + 3)]
    for row in table:
        cells = [cell(row, name) for name in columns]
        lines.append(f"| {row['lr']:g} | {row['seeds']} | {' | '.join(cells)} | {row['training_seconds']:.0f} |")
    return "\n".join(lines) + "\n"


def _draw(folder: Path, summary: Mapping[str, Any], trials: Mapping[tuple[float, int], Mapping[str, Any]]) -> None:
    from hw_common.runs import figures  # slow to import

    panels: dict[str, dict[str, tuple[list[float], list[float]]]] = {}
    spread: dict[str, dict[str, tuple[list[float], list[float]]]] = {}
    for metric in ("training_loss", "validation_accuracy"):
        label = metric.replace("_", " ")
        panels[label], spread[label] = {}, {}
        for row in summary["table"]:
            curves = [[r[metric] for r in a["rows"]] for (lr, _), a in trials.items() if lr == row["lr"]]
            epochs = list(range(1, len(curves[0]) + 1))
            by_epoch = list(zip(*curves, strict=True))
            panels[label][f"lr {row['lr']:g}"] = (epochs, [statistics.mean(v) for v in by_epoch])
            spread[label][f"lr {row['lr']:g}"] = (epochs, [deviation(v) for v in by_epoch])
    title = f"{summary['data']}, network {summary['network']}: mean and spread over {len(summary['seeds'])} seed(s)"
    figures.save(figures.curves(panels, "epoch", title, spread), folder, "curves")
