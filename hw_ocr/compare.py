"""`python -m hw_ocr.compare`: the report's networks against one another, over several seeds."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from hw_common import cli, files, runs
from hw_common.cli import add_flag
from hw_common.errors import Stopped, UserError, signal_of
from hw_common.runs import CONFIG, Run
from hw_common.side_by_side import train_all
from hw_ocr import train
from hw_ocr.compare_report import report
from hw_ocr.presets import CONV_LAYERS
from hw_ocr.train import HOMEWORK

_DESCRIPTION = """\
Trains the networks of dsl-2019-hw3 with every seed and tabulates mean and standard deviation of their accuracies:
`layers` is the report's Table 1, CNNs with 2 to 5 convolutions; `sequences` compares the networks of words with and
without CRF (Question 2), with the CNN of single letters beside them, and our recommendation, for which the sample is
too small. The choice is made on the validation fold, not on the test fold as in the report. All other flags are those
of `python -m hw_ocr.train`.

  python -m hw_ocr.compare --seeds 42 43 44 --jobs 2
  python -m hw_ocr.compare --dataset sample --only layers

Each training is an ordinary run folder. The same command again goes on where an interrupted comparison was.
"""
COMMAND = "hw_ocr.compare"
# What is compared: the end of a run's name, and the flags that train it.
_CNN = {f"cnn{layers}": ["--model", "cnn", "--conv_layers", str(layers)] for layers in CONV_LAYERS}
ROWS: Mapping[str, Mapping[str, list[str]]] = MappingProxyType({
    "layers": _CNN,
    "sequences": {
        "cnn2": _CNN["cnn2"],
        "cnn2-crf": [*_CNN["cnn2"], "--crf"],
        "bilstm": ["--model", "bilstm"],
        "bilstm-crf": ["--model", "bilstm", "--crf"],
        "conv-bilstm": ["--model", "conv-bilstm"],
        "conv-bilstm-crf": ["--model", "conv-bilstm", "--crf"],
        "best": ["--recipe", "best"],
    },
})  # fmt: skip
_OF_A_ROW = ("model", "conv_layers", "crf", "recipe", "hidden", "layers", "dropout")
_OF_A_RUN = ("seed", "resume", "overwrite", "dry_run")


@dataclass(frozen=True)
class Comparison:
    """A checked comparison.

    Attributes:
        rows: what is compared: as ROWS.
        seeds: for each row.
        jobs: trainings side by side.
        name: of the folders: <name>-<what> and, of the trainings, <name>-<row>-seed<seed>.
        flags: further flags of hw_ocr.train, as given.
        common: what all trainings have in common.
        results_dir: where run folders are.
    """

    rows: Mapping[str, Mapping[str, list[str]]]
    seeds: Sequence[int]
    jobs: int
    name: str
    flags: Sequence[str]
    common: Mapping[str, Any]
    results_dir: Path


def parser() -> cli.Parser:
    """The comparison's own flags; what it does not know is passed on to `hw_ocr.train`."""
    flags = cli.Parser("python -m hw_ocr.compare", _DESCRIPTION)
    add_flag(flags, "only", choices=tuple(ROWS), help="one of the two comparisons (default: both)")
    add_flag(flags, "seeds", type=cli.non_negative_int, nargs="+", default=[42], help="seeds (default: 42)")
    add_flag(flags, "jobs", type=cli.positive_int, default=1, help="trainings side by side; they share the cores")
    add_flag(flags, "name", type=cli.run_name, help="how names of its folders begin (default: compare-<dataset>)")
    return flags


def parse(argv: Sequence[str] | None = None) -> Comparison:
    """Checks all flags, those for hw_ocr.train too.

    Raises:
        UserError: a flag is wrong, or is one that the comparison sets itself.
    """
    own, flags = parser().parse_known_args(sys.argv[1:] if argv is None else list(argv))
    arguments, given = cli.parse(train.parser(), flags)
    for name in (*_OF_A_ROW, *_OF_A_RUN):
        if name in given:
            raise UserError(f"--{name} belongs to a single training; the comparison sets it itself")
    ignored = (*_OF_A_ROW, *_OF_A_RUN, "threads", "data_dir", "results_dir", "name")
    return Comparison(
        rows={what: _rows(what, arguments.dataset) for what in ([own.only] if own.only else ROWS)},
        seeds=sorted(set(own.seeds)),
        jobs=own.jobs,
        name=own.name or f"compare-{arguments.dataset}",
        flags=flags,
        common={name: value for name, value in vars(arguments).items() if name not in ignored},
        results_dir=arguments.results_dir,
    )


def _rows(what: str, dataset: str) -> dict[str, list[str]]:
    return {row: flags for row, flags in ROWS[what].items() if row != "best" or dataset != "sample"}


def run_name(name: str, row: str, seed: int) -> str:
    """The name of a training's run folder."""
    return f"{name}-{row}-seed{seed}"


def main(argv: Sequence[str] | None = None) -> None:
    """Trains what is missing, then writes tables, figures and choices."""
    run_comparison(parse(argv))


def run_comparison(comparison: Comparison) -> dict[str, dict[str, Any]]:
    """Trains what is missing of `comparison`; returns the summaries, by the keys of ROWS.

    Raises:
        UserError: another process runs it here, a folder belongs to other flags, or trainings failed.
        Stopped: on Ctrl-C or SIGTERM, after the running trainings have saved.
    """
    try:
        return {what: _compare(comparison, what) for what in comparison.rows}
    except (KeyboardInterrupt, Stopped) as stop:
        number = stop.signal_number if isinstance(stop, Stopped) else signal_of(stop)
        raise Stopped(number, "the comparison was stopped; the same command goes on where it was") from None


def _compare(comparison: Comparison, what: str) -> dict[str, Any]:
    rows = comparison.rows[what]
    folder = _open_folder(comparison, what)
    try:
        wanted = {  # seed by seed, so that an interrupted comparison has all rows with the first seeds
            run_name(comparison.name, row, seed): [*comparison.flags, *flags, "--seed", str(seed)]
            for seed in comparison.seeds
            for row, flags in rows.items()
        }
        trained = train_all(train.COMMAND, wanted, comparison.results_dir, comparison.jobs, folder.folder)
        by_row = {row: [trained[run_name(comparison.name, row, seed)] for seed in comparison.seeds] for row in rows}
        return report(folder, by_row, comparison.seeds)
    finally:
        folder.close()


def _open_folder(comparison: Comparison, what: str) -> Run:
    name = f"{comparison.name}-{what}"
    arguments = {**comparison.common, "only": what, "name": name}
    grown = {"seeds": comparison.seeds, "jobs": comparison.jobs}  # may change from call to call
    config = runs.describe(HOMEWORK, COMMAND, {**arguments, **grown}, {}, {})
    folder = comparison.results_dir / HOMEWORK / name
    if not (folder / CONFIG).is_file():
        return Run.create(comparison.results_dir, config, name, overwrite=True)
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


if __name__ == "__main__":
    cli.run_command(main)
