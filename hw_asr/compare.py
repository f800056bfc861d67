"""`python -m hw_asr.compare`: the sheet's two decoders against one another, over several seeds."""

from collections.abc import Sequence

from hw_asr import train
from hw_asr.compare_report import report
from hw_asr.presets import TITLES
from hw_common.commands import cli, comparison
from hw_common.commands.cli import add_flag
from hw_common.commands.comparison import Comparison

_DESCRIPTION = """\
Trains the LSTM and the Transformer decoder with every seed and tabulates mean and standard deviation of their losses,
similarities and error rates (ist-2023-24-hw2 Q3.3). All other flags are those of `python -m hw_asr.train`.

  python -m hw_asr.compare --dataset digits --seeds 42 43 44 --jobs 2
  python -m hw_asr.compare --dataset digits --seeds 42 43 44 --only transformer --recipe best
  python -m hw_asr.compare --dataset sample --batch_size 8 --epochs 20

Each training is an ordinary run folder. The same command again goes on where an interrupted comparison was.
"""
_OF_A_ROW = ("decoder",)


def parser() -> cli.Parser:
    """The comparison's own flags; what it does not know is passed on to `hw_asr.train`."""
    flags = cli.Parser("python -m hw_asr.compare", _DESCRIPTION)
    add_flag(flags, "only", choices=tuple(TITLES), help="one of the decoders (default: both)")
    comparison.add_flags(flags, "of its folder (default: compare-<data>-<preset>-<recipe>)")
    return flags


def parse(argv: Sequence[str] | None = None) -> Comparison:
    """Checks all flags, those for hw_asr.train too.

    Raises:
        UserError: a flag is wrong, or is one that the comparison sets itself.
    """
    own, flags, _ = comparison.parse(parser(), train.COMMAND, argv, _OF_A_ROW)
    arguments = train.COMMAND.parse(flags)
    name = own.name or f"compare-{arguments.name.replace(f'-{arguments.decoder}-', '-', 1)}"
    decoders = [own.only] if own.only else list(TITLES)
    return Comparison(
        command=train.COMMAND,
        rows={decoder: ["--decoder", decoder] for decoder in decoders},
        report=report,
        seeds=own.seeds,
        jobs=own.jobs,
        name=name,
        trainings=name,
        flags=flags,
        common={**comparison.common_arguments(arguments, _OF_A_ROW), "decoders": decoders},
        results_dir=arguments.results_dir,
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Trains what is missing, then writes table and figures."""
    parse(argv).run()


if __name__ == "__main__":
    cli.run_command(main)
