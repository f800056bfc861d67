"""`python -m hw_asr.compare`: compares the sheet's two decoders over several seeds."""

from collections.abc import Mapping, Sequence
from typing import Any

from hw_asr import train
from hw_asr.presets import PUBLISHED, SOURCE, TITLES
from hw_common.commands import cli, comparison
from hw_common.commands.cli import add_flag
from hw_common.commands.comparison import Comparison
from hw_common.commands.over_seeds import cell, in_words, markdown, over_seeds
from hw_common.runs import files
from hw_common.runs.run_folder import METRICS, Run

_DESCRIPTION = """\
Trains the LSTM and the Transformer decoder with every seed, and tabulates mean and standard deviation of their losses,
similarities and error rates (ist-2023-24-hw2 Q3.3). All other flags are those of `python -m hw_asr.train`.

  python -m hw_asr.compare --dataset digits --seeds 42 43 44 --jobs 2
  python -m hw_asr.compare --dataset digits --seeds 42 43 44 --only transformer --recipe best
  python -m hw_asr.compare --dataset sample --batch_size 8 --epochs 20

Each training run has an ordinary run folder. The same command continues an interrupted comparison.
"""
_VARIED = ("decoder",)
_METRICS = {  # columns of the Markdown table: heading and metric
    "CER": "cer",
    "WER": "wer",
    "loss, padding counted": "loss",
    "loss": "loss_without_padding",
    "Jaccard": "jaccard",
    "cosine": "cosine",
    "Damerau-Levenshtein": "damerau_levenshtein",
}
_CSV_METRICS = ("loss", "loss_without_padding", "jaccard", "cosine", "damerau_levenshtein", "cer", "wer")


def parser() -> cli.Parser:
    """The comparison's own flags; all others are passed on to `hw_asr.train`."""
    flags = cli.Parser("python -m hw_asr.compare", _DESCRIPTION)
    add_flag(flags, "only", choices=tuple(TITLES), help="train only this decoder (default: both)")
    comparison.add_flags(flags, "name of the comparison's folder (default: compare-<data>-<preset>-<recipe>)")
    return flags


def parse(argv: Sequence[str] | None = None) -> Comparison:
    """Checks all flags, including those for hw_asr.train.

    Raises:
        UserError: a flag is wrong, or is one that the comparison sets itself.
    """
    own, flags, _ = comparison.parse(parser(), train.COMMAND, argv, _VARIED)
    arguments = train.COMMAND.parse(flags)
    name = own.name or f"compare-{arguments.name.replace(f'-{arguments.decoder}-', '-', 1)}"
    decoders = [own.only] if own.only else list(TITLES)
    rows = {decoder: ["--decoder", decoder] for decoder in decoders}
    return Comparison.of(train.COMMAND, own, flags, arguments, _VARIED, name=name, rows=rows, report=_report,
                         common={"decoders": decoders})  # fmt: skip


def main(argv: Sequence[str] | None = None) -> None:
    """Trains what is missing, then writes table and figures."""
    parse(argv).run()


def _report(run: Run, trained: Mapping[str, Sequence[Run]], seeds: Sequence[int]) -> dict[str, Any]:
    """Writes table, figures and summary.json, prints the table, and returns the summary.

    `trained` contains the finished runs of each decoder, one per seed.
    """
    summaries = {decoder: [run.summary() for run in runs] for decoder, runs in trained.items()}
    first_run, first = next(iter(trained.values()))[0], next(iter(summaries.values()))[0]
    table = [_row(decoder, decoder_summaries) for decoder, decoder_summaries in summaries.items()]
    summary = comparison.summarize(run, trained, seeds, table, "preset", "padding_counted_in_training")
    summary["recipe"] = first_run.arguments["recipe"]
    statistic = in_words(len(seeds))
    text = f"{first['data']}, test clips, last epoch, {statistic}:\n\n{_markdown(table)}"
    _draw(run, trained, first["padding_counted_in_training"], f"{first['data']}, {SOURCE}, {statistic}")
    comparison.write_results(run, text, summary)
    return summary


def _row(decoder: str, summaries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A row of the table: means and standard deviations over the seeds, for the last and the best epoch."""
    row: dict[str, Any] = {
        "decoder": decoder,
        "data": summaries[0]["data"],
        "parameters": summaries[0]["parameters"],
        **over_seeds(summaries, (f"{part}_{name}" for part in ("validation", "test") for name in _CSV_METRICS)),
    }
    for name, value in PUBLISHED[decoder].items():  # these results are for LJSpeech, so other data sets get None
        row[f"published_test_{name}"] = float(value) if summaries[0]["dataset"] == "ljspeech" else None
    return row


def _markdown(table: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for row in table:
        title, metrics = TITLES[row["decoder"]], [cell(row, f"final_test_{name}") for name in _METRICS.values()]
        rows.append([title, str(row["parameters"]), *metrics, f"{row['training_seconds']:.0f}"])
        if row["published_test_loss"] is not None:
            published = [row.get(f"published_test_{name}") for name in _METRICS.values()]
            rows.append([f"{title}, published", "", *("" if one is None else f"{one:.4f}" for one in published), ""])
    return markdown(["decoder", "parameters", *_METRICS, "seconds per run"], rows)


def _draw(run: Run, trained: Mapping[str, Sequence[Run]], count_padding: bool, title: str) -> None:
    from hw_asr import plots  # imports matplotlib

    rows = {TITLES[name]: [files.read_csv(run.folder / METRICS) for run in runs] for name, runs in trained.items()}
    plots.training_curves(run.folder, rows, count_padding, title)
    plots.similarities(run.folder, rows, title)


if __name__ == "__main__":
    cli.run_command(main)
