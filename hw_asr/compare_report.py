"""What a comparison found: table and figures from its finished trainings."""

from collections.abc import Mapping, Sequence
from typing import Any

from hw_asr.presets import PUBLISHED, SOURCE, TITLES
from hw_common.commands.over_seeds import cell, in_words, over_seeds
from hw_common.runs import files
from hw_common.runs.run_folder import METRICS, Run

_NAMES = ("loss", "loss_without_padding", "jaccard", "cosine", "damerau_levenshtein", "cer", "wer")
_COLUMNS = {  # of the table in Markdown: numbers of the test clips
    "CER": "cer",
    "WER": "wer",
    "loss, padding counted": "loss",
    "loss": "loss_without_padding",
    "Jaccard": "jaccard",
    "cosine": "cosine",
    "Damerau-Levenshtein": "damerau_levenshtein",
}


def report(run: Run, trained: Mapping[str, Sequence[Run]], seeds: Sequence[int]) -> dict[str, Any]:
    """Writes table, figures and summary.json into the comparison's folder and prints the table; returns the summary.

    Args:
        run: the comparison's folder.
        trained: the finished runs of each decoder, one per seed.
        seeds: of the runs.
    """
    summaries = {decoder: [run.summary() for run in of_decoder] for decoder, of_decoder in trained.items()}
    first = next(iter(summaries.values()))[0]
    published = first["dataset"] == "ljspeech"
    table = [_row(decoder, of_decoder, published) for decoder, of_decoder in summaries.items()]
    summary = {
        "name": run.folder.name,
        **{key: first[key] for key in ("homework", "dataset", "data", "preset")},
        "recipe": next(iter(trained.values()))[0].arguments["recipe"],
        "padding_counted_in_training": first["padding_counted_in_training"],
        "data_hashes": next(iter(trained.values()))[0].config["data"],
        "seeds": list(seeds),
        "table": table,
    }
    how = in_words(len(seeds))
    text = f"{first['data']}, test clips, last epoch, {how}:\n\n{_markdown(table)}"
    _draw(run, trained, first["padding_counted_in_training"], f"{first['data']}, {SOURCE}, {how}")
    files.write_csv(run.folder / "table.csv", table)
    files.write_bytes(run.folder / "table.md", text.encode())
    run.write_summary(summary)
    print(f"\n{text}\nall of it is in {run.folder}")
    return summary


def _row(decoder: str, summaries: Sequence[Mapping[str, Any]], published: bool) -> dict[str, Any]:
    """One line of the table: means and standard deviations over the seeds, of the last and of the best epoch."""
    row: dict[str, Any] = {
        "decoder": decoder,
        "data": summaries[0]["data"],
        "parameters": summaries[0]["parameters"],
        **over_seeds(summaries, (f"{part}_{name}" for part in ("validation", "test") for name in _NAMES)),
    }
    for name, value in PUBLISHED[decoder].items():
        row[f"published_test_{name}"] = float(value) if published else None
    return row


def _markdown(table: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        f"| decoder | parameters | {' | '.join(_COLUMNS)} | seconds a run |",
        "|" + "---|" * (len(_COLUMNS) + 3),
    ]
    for row in table:
        cells = [
            TITLES[row["decoder"]],
            str(row["parameters"]),
            *(cell(row, f"final_test_{name}") for name in _COLUMNS.values()),
        ]
        lines.append(f"| {' | '.join(cells)} | {row['training_seconds']:.0f} |")
        if row["published_test_loss"] is not None:
            cells = [row.get(f"published_test_{name}") for name in _COLUMNS.values()]
            shown = ["" if number is None else f"{number:.4f}" for number in cells]
            lines.append(f"| {TITLES[row['decoder']]}, published | | {' | '.join(shown)} | |")
    return "\n".join(lines) + "\n"


def _draw(run: Run, trained: Mapping[str, Sequence[Run]], count_padding: bool, what: str) -> None:
    from hw_asr import plots  # imports matplotlib

    rows = {
        TITLES[decoder]: [files.read_csv(run.folder / METRICS) for run in runs] for decoder, runs in trained.items()
    }
    plots.training_curves(run.folder, rows, count_padding, what)
    plots.similarities(run.folder, rows, what)
