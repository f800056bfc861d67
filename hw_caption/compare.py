"""`python -m hw_caption.compare`: the sheet's two decoders against one another, over several seeds."""

import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hw_caption import train
from hw_caption.presets import PUBLISHED, SOURCE, TITLES
from hw_caption.train import HOMEWORK
from hw_common import cli, files, runs
from hw_common.cli import add_flag
from hw_common.errors import Stopped, UserError, signal_of
from hw_common.runs import CONFIG, METRICS, Run
from hw_common.side_by_side import train_all

_DESCRIPTION = """\
Trains the decoders without and with attention with every seed and tabulates mean and standard deviation of their
metrics, after the last and the best epoch, for each way of decoding. All other flags are those of
`python -m hw_caption.train`.

  python -m hw_caption.compare --seeds 42 43 44 --jobs 2
  python -m hw_caption.compare --seeds 42 43 44 --only vanilla --recipe best
  python -m hw_caption.compare --dataset sample --epochs 30

Each training is an ordinary run folder. The same command again goes on where an interrupted comparison was.
"""
COMMAND = "hw_caption.compare"
_METRICS = ("bleu4", "corpus_bleu4", "rouge_l", "cider_d")
_OF_A_RUN = ("use_attention", "seed", "resume", "overwrite", "dry_run")  # flags that the comparison sets itself
_NOT_OF_THE_RESULT = (*_OF_A_RUN, "threads", "data_dir", "results_dir", "name", "tensorboard", "show")


@dataclass(frozen=True)
class Comparison:
    """A checked comparison.

    Attributes:
        only: the one decoder to train, a key of TITLES; None for both.
        seeds: of the trainings, for each decoder.
        jobs: trainings side by side.
        name: of its folder; the trainings' are <name>-<decoder>-seed<seed>.
        flags: of hw_caption.train, as given.
        common: what all trainings have in common.
        results_dir: where run folders are.
    """

    only: str | None
    seeds: Sequence[int]
    jobs: int
    name: str
    flags: Sequence[str]
    common: Mapping[str, Any]
    results_dir: Path

    @property
    def decoders(self) -> list[str]:
        """What is compared, keys of TITLES."""
        return [self.only] if self.only else list(TITLES)

    def run_name(self, decoder: str, seed: int) -> str:
        """The name of a training's run folder."""
        return f"{self.name}-{decoder}-seed{seed}"


def parser() -> cli.Parser:
    """The comparison's own flags; what it does not know is passed on to `hw_caption.train`."""
    flags = cli.Parser("python -m hw_caption.compare", _DESCRIPTION)
    add_flag(flags, "seeds", type=cli.non_negative_int, nargs="+", default=[42], help="seeds (default: 42)")
    add_flag(flags, "only", choices=tuple(TITLES), help="one of the two decoders (default: both)")
    add_flag(flags, "jobs", type=cli.positive_int, default=1, help="trainings side by side; they share the cores")
    add_flag(flags, "name", type=cli.run_name, help="of its folder (default: compare-<data>-<recipe>)")
    return flags


def parse(argv: Sequence[str] | None = None) -> Comparison:
    """Checks all flags, those for hw_caption.train too.

    Raises:
        UserError: a flag is wrong, or is one that the comparison sets itself.
    """
    own, flags = parser().parse_known_args(sys.argv[1:] if argv is None else list(argv))
    _, given = cli.parse(train.parser(), flags)
    for name in _OF_A_RUN:
        if name in given:
            raise UserError(f"--{name} belongs to a single training; the comparison sets it itself")
    arguments = train.COMMAND.parse(flags)
    data = arguments.name.removesuffix(f"-{train.decoder_kind(arguments)}-{arguments.recipe}")
    return Comparison(
        only=own.only,
        seeds=sorted(set(own.seeds)),
        jobs=own.jobs,
        name=own.name or f"compare-{data}-{arguments.recipe}",
        flags=flags,
        common={name: value for name, value in vars(arguments).items() if name not in _NOT_OF_THE_RESULT},
        results_dir=arguments.results_dir,
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Trains what is missing, then writes table and curves."""
    run_comparison(parse(argv))


def run_comparison(comparison: Comparison) -> dict[str, Any]:
    """Trains what is missing of `comparison`; returns the summary.

    Raises:
        UserError: another process runs it here, a folder belongs to other flags, or a training failed.
        Stopped: on Ctrl-C or SIGTERM, after the running training has saved.
    """
    folder = _open_folder(comparison)
    try:
        kinds = {"vanilla": [], "attention": ["--use_attention"]}
        wanted = {  # seed by seed, so that an interrupted comparison has both decoders with the first seeds
            comparison.run_name(decoder, seed): [*comparison.flags, *kinds[decoder], "--seed", str(seed)]
            for seed in comparison.seeds
            for decoder in comparison.decoders
        }
        trained = train_all(train.COMMAND, wanted, comparison.results_dir, comparison.jobs, folder.folder)
        of_decoders = {
            decoder: [trained[comparison.run_name(decoder, seed)] for seed in comparison.seeds]
            for decoder in comparison.decoders
        }
        return _report(folder, of_decoders, comparison.seeds)
    except (KeyboardInterrupt, Stopped) as stop:
        number = stop.signal_number if isinstance(stop, Stopped) else signal_of(stop)
        raise Stopped(number, "the comparison was stopped; the same command goes on where it was") from None
    finally:
        folder.close()


def _open_folder(comparison: Comparison) -> Run:
    arguments = {**comparison.common, "only": comparison.only, "name": comparison.name}
    grown = {"seeds": comparison.seeds, "jobs": comparison.jobs}  # may change from call to call
    config = runs.describe(HOMEWORK, COMMAND, {**arguments, **grown}, {}, {})
    folder = comparison.results_dir / HOMEWORK / comparison.name
    if not (folder / CONFIG).is_file():
        return Run.create(comparison.results_dir, config, comparison.name, overwrite=True)
    run = Run.reopen(folder, HOMEWORK)
    try:
        if run.config.get("command") != COMMAND:
            raise UserError(f"{folder} is not a comparison; choose another --name")
        runs.check_same_arguments(run, arguments)
        files.write_json(folder / CONFIG, config)
    except UserError as error:
        run.close()
        raise UserError(f"{error}; a comparison with other flags needs another --name") from error
    return run


def _report(folder: Run, trained: Mapping[str, Sequence[Run]], seeds: Sequence[int]) -> dict[str, Any]:
    """Writes table, curves and summary into the comparison's folder and prints the table; returns the summary."""
    summaries = {decoder: [run.summary() for run in of_decoder] for decoder, of_decoder in trained.items()}
    first = next(iter(summaries.values()))[0]
    table = [
        _row(decoder, way, of_decoder, published=first["data"] == "Sydney")
        for decoder, of_decoder in summaries.items()
        for way in first["ways"]
    ]
    summary = {
        "name": folder.folder.name,
        **{key: first[key] for key in ("homework", "dataset", "data")},
        "data_hashes": next(iter(trained.values()))[0].config["data"],
        "seeds": list(seeds),
        "table": table,
    }
    text = f"{first['data']}, {_seeds(len(seeds))}:\n\n{_markdown(table)}"
    _draw(folder, trained, f"{first['data']}, {SOURCE}, {_seeds(len(seeds))}")
    files.write_csv(folder.folder / "table.csv", table)
    files.write_bytes(folder.folder / "table.md", text.encode())
    folder.write_summary(summary)
    print(f"\n{text}\nall of it is in {folder.folder}")
    return summary


def _row(decoder: str, way: str, summaries: Sequence[Mapping[str, Any]], published: bool) -> dict[str, Any]:
    """One line of the table: means and standard deviations over the seeds."""
    row: dict[str, Any] = {"decoder": decoder, "way": way, "parameters": summaries[0]["parameters"]}
    for epoch in ("final", "best"):
        for metric in (f"validation_{way}_bleu4", *(f"test_{way}_{name}" for name in _METRICS)):
            values = [summary[epoch][metric] for summary in summaries]
            name = f"{epoch}_{metric.replace(f'_{way}', '')}"
            row[name] = statistics.mean(values)
            row[f"{name}_std"] = statistics.stdev(values) if len(values) > 1 else 0.0
    row["published_test_bleu4"] = PUBLISHED[decoder] if published else None
    row["training_seconds"] = statistics.mean(summary["speed"]["training_seconds"] for summary in summaries)
    row["seeds"] = len(summaries)
    return row


def _seeds(count: int) -> str:
    return "one seed" if count == 1 else f"mean and standard deviation over {count} seeds"


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
    lines = [f"| decoder | decoding | {' | '.join(columns)} |", "|" + "---|" * (len(columns) + 2)]
    for row in table:
        cells = [TITLES[row["decoder"]], row["way"], *(_cell(row, name) for name in columns.values())]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(row: Mapping[str, Any], name: str) -> str:
    if row[name] is None:
        return ""
    deviation = row.get(f"{name}_std")
    return f"{row[name]:.4f}" + (f" ± {deviation:.4f}" if deviation is not None and row["seeds"] > 1 else "")


def _draw(folder: Run, trained: Mapping[str, Sequence[Run]], what: str) -> None:
    from hw_caption import plots  # imports matplotlib, hence after the arguments are checked

    rows = {
        TITLES[decoder]: [files.read_csv(run.folder / METRICS) for run in runs] for decoder, runs in trained.items()
    }
    plots.training_curves(folder.folder, rows, what)


if __name__ == "__main__":
    cli.run_command(main)
