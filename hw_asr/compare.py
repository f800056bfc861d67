"""`python -m hw_asr.compare`: the sheet's two decoders against one another, over several seeds."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hw_asr import train
from hw_asr.compare_report import report
from hw_asr.presets import TITLES
from hw_asr.train import HOMEWORK
from hw_common import cli, files, runs
from hw_common.cli import add_flag
from hw_common.errors import Stopped, UserError, signal_of
from hw_common.runs import CONFIG, Run
from hw_common.side_by_side import train_all

_DESCRIPTION = """\
Trains the LSTM and the Transformer decoder with every seed and tabulates mean and standard deviation of their losses,
similarities and error rates (ist-2023-24-hw2 Q3.3). All other flags are those of `python -m hw_asr.train`.

  python -m hw_asr.compare --dataset digits --seeds 42 43 44 --jobs 2
  python -m hw_asr.compare --dataset digits --seeds 42 43 44 --only transformer --recipe best
  python -m hw_asr.compare --dataset sample --batch_size 8 --epochs 20

Each training is an ordinary run folder. The same command again goes on where an interrupted comparison was.
"""
COMMAND = "hw_asr.compare"
_OF_A_RUN = ("decoder", "seed", "resume", "overwrite", "dry_run")  # flags that the comparison sets itself
_NOT_OF_THE_RESULT = (*_OF_A_RUN, "threads", "data_dir", "results_dir", "name", "tensorboard")


@dataclass(frozen=True)
class Comparison:
    """A checked comparison.

    Attributes:
        decoders: what is compared.
        seeds: for each decoder.
        jobs: trainings side by side.
        name: of its folder; those of the trainings are called <name>-<decoder>-seed<seed>.
        flags: further flags of hw_asr.train, as given.
        common: what all trainings have in common.
        results_dir: where run folders are.
    """

    decoders: Sequence[str]
    seeds: Sequence[int]
    jobs: int
    name: str
    flags: Sequence[str]
    common: Mapping[str, Any]
    results_dir: Path

    def run_name(self, decoder: str, seed: int) -> str:
        """The name of a training's run folder."""
        return f"{self.name}-{decoder}-seed{seed}"


def parser() -> cli.Parser:
    """The comparison's own flags; what it does not know is passed on to `hw_asr.train`."""
    flags = cli.Parser("python -m hw_asr.compare", _DESCRIPTION)
    add_flag(flags, "only", choices=tuple(TITLES), help="one of the decoders (default: both)")
    add_flag(flags, "seeds", type=cli.non_negative_int, nargs="+", default=[42], help="seeds (default: 42)")
    add_flag(flags, "jobs", type=cli.positive_int, default=1, help="trainings side by side; they share the cores")
    add_flag(flags, "name", type=cli.run_name, help="of its folder (default: compare-<data>-<preset>-<recipe>)")
    return flags


def parse(argv: Sequence[str] | None = None) -> Comparison:
    """Checks all flags, those for hw_asr.train too.

    Raises:
        UserError: a flag is wrong, or is one that the comparison sets itself.
    """
    own, flags = parser().parse_known_args(sys.argv[1:] if argv is None else list(argv))
    _, given = cli.parse(train.parser(), flags)
    for name in _OF_A_RUN:
        if name in given:
            raise UserError(f"--{name} belongs to a single training; the comparison sets it itself")
    arguments = train.COMMAND.parse(flags)
    return Comparison(
        decoders=[own.only] if own.only else list(TITLES),
        seeds=sorted(set(own.seeds)),
        jobs=own.jobs,
        name=own.name or f"compare-{arguments.name.replace(f'-{arguments.decoder}-', '-', 1)}",
        flags=flags,
        common={name: value for name, value in vars(arguments).items() if name not in _NOT_OF_THE_RESULT},
        results_dir=arguments.results_dir,
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Trains what is missing, then writes table and figures."""
    run_comparison(parse(argv))


def run_comparison(comparison: Comparison) -> dict[str, Any]:
    """Trains what is missing of `comparison`; returns the summary.

    Raises:
        UserError: another process runs it here, a folder belongs to other flags, or trainings failed.
        Stopped: on Ctrl-C or SIGTERM, after the running trainings have saved.
    """
    folder = _open_folder(comparison)
    try:
        wanted = {  # seed by seed, so that an interrupted comparison has both decoders with the first seeds
            comparison.run_name(decoder, seed): [*comparison.flags, "--decoder", decoder, "--seed", str(seed)]
            for seed in comparison.seeds
            for decoder in comparison.decoders
        }
        trained = train_all(train.COMMAND, wanted, comparison.results_dir, comparison.jobs, folder.folder)
        of_decoders = {
            decoder: [trained[comparison.run_name(decoder, seed)] for seed in comparison.seeds]
            for decoder in comparison.decoders
        }
        return report(folder, of_decoders, comparison.seeds)
    except (KeyboardInterrupt, Stopped) as stop:
        number = stop.signal_number if isinstance(stop, Stopped) else signal_of(stop)
        raise Stopped(number, "the comparison was stopped; the same command goes on where it was") from None
    finally:
        folder.close()


def _open_folder(comparison: Comparison) -> Run:
    arguments = {**comparison.common, "decoders": comparison.decoders, "name": comparison.name}
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


if __name__ == "__main__":
    cli.run_command(main)
