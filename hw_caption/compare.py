"""`python -m hw_caption.compare`: compares the sheet's two decoders over several seeds."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from hw_caption import paired_test, train
from hw_caption.presets import PUBLISHED, SOURCE, TITLES, decoder_kind
from hw_common.commands import cli, comparison
from hw_common.commands.cli import add_flag
from hw_common.commands.comparison import Comparison
from hw_common.commands.over_seeds import cell, in_words, markdown, over_seeds
from hw_common.runs import files
from hw_common.runs.run_folder import METRICS, Run

_DESCRIPTION = """\
Trains the decoder without attention and the decoder with attention, each with every seed. The table shows, for each
decoding, mean and standard deviation of the metrics after the last and after the best epoch. The flags of
`python -m hw_caption.train` that are not listed here are passed on to it.

  python -m hw_caption.compare --seeds 42 43 44 --jobs 2
  python -m hw_caption.compare --seeds 42 43 44 --only vanilla --recipe best
  python -m hw_caption.compare --dataset sample --epochs 30

Each training run has an ordinary run folder. The same command resumes an interrupted comparison.
"""
_FLAGS: Mapping[str, Sequence[str]] = MappingProxyType({"vanilla": [], "attention": ["--use_attention"]})
_ROW_FLAGS = ("use_attention",)
_METRICS = ("bleu4", "corpus_bleu4", "rouge_l", "cider_d")


def parser() -> cli.Parser:
    """The comparison's own flags."""
    flags = cli.Parser("python -m hw_caption.compare", _DESCRIPTION)
    add_flag(flags, "only", choices=tuple(TITLES), help="train only this decoder (default: both)")
    comparison.add_flags(flags, "name of the comparison's folder (default: compare-<data>-<recipe>)")
    return flags


def parse(argv: Sequence[str] | None = None) -> Comparison:
    """Checks all flags, including those for hw_caption.train.

    Raises:
        UserError: a flag is wrong, or the comparison sets it itself.
    """
    own, flags, _ = comparison.parse(parser(), train.COMMAND, argv, _ROW_FLAGS)
    arguments = train.COMMAND.parse(flags)
    data = arguments.name.removesuffix(f"-{decoder_kind(arguments.use_attention)}-{arguments.recipe}")
    name = own.name or f"compare-{data}-{arguments.recipe}"
    rows = {decoder: _FLAGS[decoder] for decoder in ([own.only] if own.only else TITLES)}

    def report(folder: Run, trained: Mapping[str, Sequence[Run]], seeds: Sequence[int]) -> dict[str, Any]:
        from hw_caption import data  # imports torch

        dataset = arguments.dataset, arguments.data_dir, arguments.dataset_dir, arguments.min_count
        test = data.load(*dataset).test if trained.keys() == TITLES.keys() else None
        pairs = paired_test.paired_test(trained, test.names, test.captions) if test and len(test) > 1 else None
        return _report(folder, trained, seeds, pairs)

    return Comparison.of(train.COMMAND, own, flags, arguments, (*_ROW_FLAGS, "show"), name=name, rows=rows,
                         report=report, common={"only": own.only})  # fmt: skip


def main(argv: Sequence[str] | None = None) -> None:
    """Trains what is missing, then writes the table and the figure."""
    parse(argv).run()


def _report(
    folder: Run, trained: Mapping[str, Sequence[Run]], seeds: Sequence[int], pairs: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Writes table, figure and summary into the comparison's folder, prints the table and returns the summary.

    `pairs` is the result of the paired test; None if only one decoder was trained or there is only one test image.
    """
    from hw_caption import plots  # imports matplotlib

    summaries = {decoder: [run.summary() for run in runs] for decoder, runs in trained.items()}
    first = next(iter(summaries.values()))[0]
    table = [
        _row(decoder, decoding, of_decoder, published=first["data"] == "Sydney")
        for decoder, of_decoder in summaries.items()
        for decoding in first["ways"]
    ]
    backbone = next(iter(trained.values()))[0].arguments["backbone"]
    summary = comparison.summarize(folder, trained, seeds, table) | {"backbone": backbone, "paired_test": pairs}
    text = f"{first['data']}, encoder {backbone}, {in_words(len(seeds))}:\n\n{_markdown(table)}"
    text += f"\n{paired_test.in_words(pairs)}\n" if pairs else ""
    rows = {TITLES[key]: [files.read_csv(run.folder / METRICS) for run in runs] for key, runs in trained.items()}
    plots.training_curves(folder.folder, rows, f"{first['data']}, {SOURCE}, {in_words(len(seeds))}")
    comparison.write_results(folder, text, summary)
    return summary


def _row(decoder: str, decoding: str, summaries: Sequence[Mapping[str, Any]], published: bool) -> dict[str, Any]:
    """A row of the table: means and standard deviations over the seeds."""
    metrics = (f"validation_{decoding}_bleu4", *(f"test_{decoding}_{name}" for name in _METRICS))
    return {
        "decoder": decoder,
        "way": decoding,
        "parameters": summaries[0]["parameters"],
        **{name.replace(f"_{decoding}", ""): value for name, value in over_seeds(summaries, metrics).items()},
        "published_test_bleu4": PUBLISHED[decoder] if published else None,
    }


def _markdown(table: Sequence[Mapping[str, Any]]) -> str:
    columns = {
        "validation BLEU-4, last epoch": "final_validation_bleu4",
        "test BLEU-4, last epoch": "final_test_bleu4",
        "test BLEU-4, best epoch": "best_test_bleu4",
        "published": "published_test_bleu4",
        "corpus BLEU-4": "final_test_corpus_bleu4",
        "ROUGE-L": "final_test_rouge_l",
        "CIDEr-D": "final_test_cider_d",
    }
    rows = ([TITLES[row["decoder"]], row["way"], *(cell(row, name) for name in columns.values())] for row in table)
    return markdown(["decoder", "decoding", *columns], rows)


if __name__ == "__main__":
    cli.run_command(main)
