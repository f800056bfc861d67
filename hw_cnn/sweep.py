"""`python -m hw_cnn.sweep`: tunes the learning rate on validation accuracy, over several seeds, with Optuna."""

import argparse
import contextlib
import itertools
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hw_cnn import train
from hw_cnn.presets import HOMEWORK
from hw_cnn.sweep_report import report
from hw_common.commands import cli
from hw_common.commands.cli import add_flag
from hw_common.commands.comparison import open_folder
from hw_common.runs import files, run_folder
from hw_common.runs.config import available_cores
from hw_common.runs.errors import Stopped, UserError
from hw_common.runs.roles import Role
from hw_common.runs.run_folder import Run

if TYPE_CHECKING:
    from hw_cnn.sweep_study import SharedStudy

_DESCRIPTION = """\
Trains at every learning rate with every seed and picks the rate with the best mean validation accuracy
(ist-2021-22-hw2 Q2.2, ist-2023-24-hw2 Q2.1). All other flags are those of `python -m hw_cnn.train`.

  python -m hw_cnn.sweep --lrs 0.001 0.01 0.1 --seeds 42 43 44 --jobs 2
  python -m hw_cnn.sweep --dataset sample --epochs 5

Each trial is an ordinary run folder. The same command again goes on where an interrupted sweep was. Several machines
share a sweep through --storage: the path of a journal file on a shared disk, or postgresql://…, mysql://…, redis://…,
which need their drivers (pip install psycopg2-binary, pymysql or redis).
Each machine needs a --results_dir of its own.
"""
COMMAND = "hw_cnn.sweep"
_OWN_FLAGS = ("lrs", "seeds", "jobs", "choose_by", "storage")


def parser() -> cli.Parser:
    """The sweep's own flags; what it does not know is passed on to `hw_cnn.train`."""
    flags = cli.Parser("python -m hw_cnn.sweep", _DESCRIPTION)
    add_flag(flags, "lrs", type=cli.positive_float, nargs="+", default=[0.001, 0.01, 0.1], help="learning rates")
    add_flag(flags, "seeds", type=cli.non_negative_int, nargs="+", default=[42], help="seeds (default: 42)")
    add_flag(
        flags,
        "jobs",
        role=Role.RUNNING,
        type=cli.positive_int,
        default=1,
        help="trials side by side; they share the cores evenly",
    )
    add_flag(
        flags,
        "storage",
        role=Role.PLACE,
        help="Optuna storage: an address, or a journal file's path (default: in the folder)",
    )
    add_flag(
        flags,
        "choose_by",
        choices=("last", "best"),
        default="last",
        help="compare the accuracies of the last epoch, as the sheets do, or of each run's best (default: last)",
    )
    add_flag(
        flags, "name", role=Role.RUNNING, type=cli.run_name, help="name of the sweep's folder; the same name goes on"
    )
    return flags


@dataclass
class Sweep:
    """A checked sweep: what to train, and where.

    Attributes:
        lrs: learning rates.
        seeds: seeds for each of them.
        jobs: trials side by side.
        choose_by: "last" or "best" epoch: whose validation accuracy is compared.
        storage: Optuna storage address or path of a journal file; None for one in the sweep's folder.
        name: of the sweep's folder; trials are called <name>-lr<lr>-seed<seed>.
        flags: further flags of hw_cnn.train, as given.
        expected: what hw_cnn.train makes of them.
        running: the processes that train at this moment.
        stopped: the signal that stopped the sweep.
    """

    lrs: list[float]
    seeds: list[int]
    jobs: int
    choose_by: str
    storage: str | None
    name: str
    flags: list[str]
    expected: argparse.Namespace
    running: set[subprocess.Popen] = field(default_factory=set)
    stopped: int | None = None

    @property
    def grid(self) -> list[tuple[float, int]]:
        """Every trial, seed by seed, so that an interrupted sweep has compared all rates on the first seeds."""
        return [(lr, seed) for seed in self.seeds for lr in self.lrs]

    @property
    def parent(self) -> Path:
        """The folder of all run folders."""
        return self.expected.results_dir / HOMEWORK


def parse(argv: Sequence[str] | None) -> Sweep:
    """Checks all flags, those for hw_cnn.train too.

    Raises:
        UserError: a flag is wrong, or is one that the sweep sets itself.
    """
    own, flags = parser().parse_known_args(sys.argv[1:] if argv is None else list(argv))
    _, given = cli.parse(train.parser(), flags)
    for name in ("lr", "seed", "resume", "overwrite", "dry_run", "threads"):
        if name in given:
            raise UserError(f"--{name} belongs to a single run; the sweep sets it itself (--lrs, --seeds, --jobs)")
    expected = train.COMMAND.parse(flags)
    name = own.name or f"sweep-{expected.name.rpartition('-lr')[0]}"
    lrs, seeds = sorted(set(own.lrs)), sorted(set(own.seeds))
    for one, other in itertools.pairwise(lrs):
        if trial_name(name, one, 0) == trial_name(name, other, 0):
            raise UserError(
                f"--lrs: {one} and {other} are the same to six digits, and so would be their folders' names"
            )
    return Sweep(lrs, seeds, own.jobs, own.choose_by, own.storage, name, flags, expected)


def trial_name(sweep_name: str, lr: float, seed: int) -> str:
    """The name of a trial's run folder."""
    return f"{sweep_name}-lr{lr:g}-seed{seed}"


def main(argv: Sequence[str] | None = None) -> None:
    """Runs what is missing of the sweep, then writes its table, figure and choice."""
    run_sweep(parse(argv))


def run_sweep(sweep: Sweep) -> dict[str, Any]:
    """Runs what is missing of `sweep` and returns its summary.

    Raises:
        UserError: another process runs this sweep here, its folder belongs to other flags, or trials failed.
        Stopped: on Ctrl-C or SIGTERM, after the running trials have saved.
    """
    from hw_cnn.sweep_study import SharedStudy  # slow to import

    run = _open_folder(sweep)
    try:
        study = SharedStudy(sweep.name, sweep.storage, run.folder, _common_flags(sweep))
        with _stoppable(sweep):
            failures = _run_missing(sweep, study, run.folder)
        trials = study.complete(sweep.grid)
        failed = f"{len(failures)} of {len(sweep.grid)} trials failed: {'; '.join(failures)}"
        if failures and not trials:
            raise UserError(failed)
        summary = report(run, sweep.lrs, sweep.seeds, trials, sweep.choose_by)
        if failures:
            raise UserError(failed)
        return summary
    finally:
        run.close()


def _common_flags(sweep: Sweep) -> dict[str, Any]:
    """What all trials have in common, wherever they run."""
    own = {"lr", "seed", "name", "threads", *_OWN_FLAGS, "data_dir", "results_dir", "resume", "overwrite", "dry_run"}
    return {name: value for name, value in vars(sweep.expected).items() if name not in own}


def _open_folder(sweep: Sweep) -> Run:
    own = {name: getattr(sweep, name) for name in _OWN_FLAGS}  # the grid may have grown
    arguments = {**vars(sweep.expected), "lr": None, "seed": None, "name": sweep.name}
    roles = cli.roles_of(parser())
    return open_folder(sweep.parent / sweep.name, "sweep", COMMAND, train.COMMAND, arguments, own, roles)


@contextlib.contextmanager
def _stoppable(sweep: Sweep) -> Iterator[None]:
    """Ctrl-C and SIGTERM reach the running trials, which save; then the sweep stops."""

    def stop(number: int, frame: object) -> None:
        sweep.stopped = number
        for process in list(sweep.running):
            process.send_signal(number)
        raise Stopped(number, f"the sweep {sweep.name} was stopped; the same command goes on where it was")

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _run_missing(sweep: Sweep, study: "SharedStudy", folder: Path) -> list[str]:
    """Runs the waiting trials; returns what to say about those that failed."""
    from tqdm import tqdm

    from hw_cnn.sweep_study import TrialFailed

    failures: list[str] = []
    waiting = study.enqueue_missing(sweep.grid)
    with tqdm(total=len(sweep.grid), initial=len(sweep.grid) - waiting, unit="run", disable=None) as bar:

        def train_one(lr: float, seed: int) -> dict[str, Any]:
            try:
                run = _train(sweep, lr, seed, folder)
            except UserError as error:
                failures.append(str(error))
                raise TrialFailed from error
            summary = run.summary()
            bar.update()
            tqdm.write(f"lr {lr:g}, seed {seed}: validation accuracy {summary['final']['validation_accuracy']:.4f}")
            rows = files.read_csv(run.folder / run_folder.METRICS)
            return {"summary": summary, "hashes": run.config["data"], "rows": rows}

        if waiting:
            study.run(sweep.grid, sweep.jobs, train_one)
    return failures


def _train(sweep: Sweep, lr: float, seed: int, folder: Path) -> Run:
    """The finished run of one trial: found, resumed or trained in a process of its own.

    Raises:
        UserError: the training ended with an error, or a run folder of that name has other flags.
    """
    name = trial_name(sweep.name, lr, seed)
    flags = [*sweep.flags, "--lr", repr(lr), "--seed", str(seed)]
    threads = max(1, available_cores() // sweep.jobs)
    argv = train.COMMAND.flags_to_finish(flags, sweep.expected.results_dir, name, threads)
    if not argv:
        return Run.open(sweep.parent / name, HOMEWORK)
    command = [sys.executable, "-m", "hw_cnn.train", *argv]
    log = folder / f"lr{lr:g}-seed{seed}.log"
    # A session of its own: Ctrl-C goes to the sweep, which passes it on once.
    with open(log, "a") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
        sweep.running.add(process)
        if sweep.stopped is not None:  # between the start and the line above
            process.send_signal(sweep.stopped)
        try:
            status = process.wait()
        except Stopped:  # it was told to stop too: let it save
            process.wait()
            raise
        finally:
            sweep.running.discard(process)
    if status != 0:
        last_line = (log.read_text().strip().splitlines() or ["no output"])[-1]
        raise UserError(f"lr {lr:g}, seed {seed} ended with status {status}: {last_line} (log: {log})")
    return Run.open(sweep.parent / name, HOMEWORK)


if __name__ == "__main__":
    cli.run_command(main)
