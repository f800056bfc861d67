"""`python -m hw_cnn.sweep`: chooses the learning rate by the validation accuracy, averaged over several seeds."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from hw_cnn import train
from hw_cnn.sweep_report import report, row_name, trial_of
from hw_common.commands import cli, comparison
from hw_common.commands.cli import add_flag
from hw_common.commands.comparison import Comparison
from hw_common.runs.errors import UserError
from hw_common.runs.run_folder import Run

_DESCRIPTION = """\
Trains at every learning rate with every seed and chooses the rate with the best mean validation accuracy
(ist-2021-22-hw2 Q2.2, ist-2023-24-hw2 Q2.1). All other flags are those of `python -m hw_cnn.train`.

  python -m hw_cnn.sweep --lrs 0.001 0.01 0.1 --seeds 42 43 44 --jobs 2
  python -m hw_cnn.sweep --dataset sample --epochs 5

Each training run has an ordinary run folder, <name>-lr<rate>-seed<seed>; table and curves go to the folder <name>.
Give the same command again to resume an interrupted sweep.

Several machines can share a sweep: give all of them the same --storage and each its own --results_dir. The storage is
the path of a journal file on a shared disk, or the address of a database: postgresql://USER:PASSWORD@HOST/NAME,
mysql://USER:PASSWORD@HOST/NAME, or sqlite:///FILE for several processes on one machine. `make` installs the drivers of
the databases; pip installs them with: pip install -e ".[postgres]" or pip install -e ".[mysql]".
"""


def parser() -> cli.Parser:
    """Declares the sweep's own flags; all others are passed on to `hw_cnn.train`."""
    flags = cli.Parser("python -m hw_cnn.sweep", _DESCRIPTION)
    add_flag(flags, "lrs", type=cli.positive_float, nargs="+", default=[0.001, 0.01, 0.1], help="learning rates")
    storage = "Optuna storage that machines share: the address of a database, or the path of a journal file"
    cli.add_place(flags, "storage", type=str, help=storage)
    choose_by = "epoch whose accuracies are compared: the last, as in the sheets (default), or each run's best"
    add_flag(flags, "choose_by", choices=("last", "best"), default="last", help=choose_by)
    comparison.add_flags(flags, "name of the sweep's folder; a sweep of that name is resumed")
    return flags


def parse(argv: Sequence[str] | None = None) -> Comparison:
    """Checks all flags, including those of hw_cnn.train.

    Raises:
        UserError: a flag is invalid, or is one that the sweep sets.
    """
    own, flags, _ = comparison.parse(parser(), train.COMMAND, argv, ("lr",))
    arguments = train.COMMAND.parse(flags)
    lrs = sorted(set(own.lrs))
    for one, other in itertools.pairwise(lrs):
        if row_name(one) == row_name(other):
            raise UserError(f"--lrs: {one} and {other} agree to six digits, so their runs would have the same name")
    name = own.name or f"sweep-{arguments.name.rpartition('-lr')[0]}"

    def report_runs(folder: Run, runs: Mapping[str, Sequence[Run]], seeds: Sequence[int]) -> dict[str, Any]:
        trials = {lr: [trial_of(run) for run in runs[row_name(lr)]] for lr in lrs}
        return report(folder, trials, seeds, own.choose_by)

    sweep = Comparison.of(
        train.COMMAND,
        own,
        flags,
        arguments,
        ("lr",),
        name=name,
        rows={row_name(lr): ["--lr", repr(lr)] for lr in lrs},
        report=report_runs,
        may_change={"lrs": lrs, "choose_by": own.choose_by, "storage": own.storage},
        kind="sweep",
        module="sweep",
        reports_partly=True,
        own_roles=cli.roles_of(parser()),
    )
    if own.storage is None:
        return sweep
    from hw_cnn.sweep_study import SharedSweep  # imports Optuna, which only shared sweeps need

    return SharedSweep(**vars(sweep), lrs=lrs, storage=own.storage, choose_by=own.choose_by)


def main(argv: Sequence[str] | None = None) -> None:
    """Trains what is missing, then writes the table, the curves and the chosen learning rate."""
    parse(argv).run()


if __name__ == "__main__":
    cli.run_command(main)
