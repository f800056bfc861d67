"""What a comparison found: table, figure and choice from its finished trainings."""

from collections.abc import Mapping, Sequence
from typing import Any

from hw_common.commands.over_seeds import cell, in_words, over_seeds
from hw_common.runs import files
from hw_common.runs.run_folder import Run
from hw_ocr.presets import PUBLISHED

_METRICS = tuple(f"{part}_{unit}" for part in ("validation", "test") for unit in ("accuracy", "word_accuracy"))


def report(run: Run, trained: Mapping[str, Sequence[Run]], seeds: Sequence[int]) -> dict[str, Any]:
    """Writes table, figure and summary.json into the comparison's folder and prints the table; returns the summary.

    Args:
        run: the comparison's folder.
        trained: the finished runs of each row, one per seed.
        seeds: of the runs.
    """
    summaries = {row: [run.summary() for run in of_row] for row, of_row in trained.items()}
    first = next(iter(summaries.values()))[0]
    table = [_row(name, of_row, published=first["dataset"] == "ocr") for name, of_row in summaries.items()]
    summary = {
        "name": run.folder.name,
        **{key: first[key] for key in ("homework", "dataset", "data")},
        "data_hashes": next(iter(trained.values()))[0].config["data"],
        "seeds": list(seeds),
        "table": table,
        "choice": _choose(table),
    }
    text = f"{first['data']}, last epoch:\n\n{_markdown(table)}"
    _draw(run, summary)
    files.write_csv(run.folder / "table.csv", table)
    files.write_bytes(run.folder / "table.md", text.encode())
    run.write_summary(summary)
    print(f"\n{text}\n{summary['choice']['reason']}\nall of it is in {run.folder}")
    return summary


def _row(name: str, summaries: Sequence[Mapping[str, Any]], published: bool) -> dict[str, Any]:
    """One line of the table: mean and standard deviation over the seeds, of the last and of the best epoch."""
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
    """The network with the best mean validation accuracy by letter after the last epoch; and why."""
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
    """The numbers of the last epoch; those published are of test data."""
    columns = {
        "validation, by letter": "final_validation_accuracy",
        "test, by letter": "final_test_accuracy",
        "published, by letter": "published_test_accuracy",
        "validation, by word": "final_validation_word_accuracy",
        "test, by word": "final_test_word_accuracy",
        "published, by word": "published_test_word_accuracy",
    }
    columns = {title: name for title, name in columns.items() if any(row[name] is not None for row in table)}
    lines = [
        f"| network | parameters | seeds | {' | '.join(columns)} | seconds a run |",
        "|" + "---|" * (len(columns) + 4),
    ]
    for row in table:
        cells = [str(row[key]) for key in ("network", "parameters", "seeds")]
        cells += [cell(row, name) for name in columns.values()]
        lines.append(f"| {' | '.join(cells)} | {row['training_seconds']:.0f} |")
    return "\n".join(lines) + "\n"


def _draw(run: Run, summary: Mapping[str, Any]) -> None:
    from hw_ocr import plots  # imports torch and matplotlib

    plots.comparison(run.folder, summary["table"], f"{summary['data']}, last epoch: {in_words(len(summary['seeds']))}")
