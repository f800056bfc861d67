"""`python -m hw_attention_theory.reproduce`: every table and figure of ist-2021-22-hw2 Q1 and ist-2023-24-hw2 Q1.

On the built-in sample by default; `--profile full` trains on MNIST and measures longer sequences instead.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from hw_attention_theory import parameter_counts, scaling, train, verify
from hw_attention_theory.presets import HOMEWORK, TITLES
from hw_common.commands import cli
from hw_common.commands.cli import add_flag
from hw_common.commands.train_all import train_all
from hw_common.runs import files
from hw_common.runs.errors import Stopped, UserError, signal_of
from hw_common.runs.roles import Role
from hw_common.runs.run_folder import CONFIG, Run

_DESCRIPTION = """\
Counts parameters, checks all claims, trains a classifier of pixel sequences with both attentions and measures how they
scale. Finished parts are kept, and interrupted ones are resumed.

  python -m hw_attention_theory.reproduce                              on the built-in sample, a minute
  python -m hw_attention_theory.reproduce --profile full --data_dir …  on MNIST, about half an hour
"""
_CHECKS: Mapping[str, Callable[[Sequence[str]], int]] = MappingProxyType({
    "parameter_counts": parameter_counts.main,
    "verify": verify.main,
})  # fmt: skip
_TRAININGS: Mapping[str, list[str]] = MappingProxyType(
    {"sample": ["--dataset", "sample", "--epochs", "15"], "full": []}
)
_SCALING: Mapping[str, list[str]] = MappingProxyType({
    "sample": ["--max_length", "8192", "--dimensions", "8", "16", "--terms", "3"],
    "full": [],
})  # fmt: skip


def parser() -> cli.Parser:
    """All flags."""
    flags = cli.Parser("python -m hw_attention_theory.reproduce", _DESCRIPTION)
    add_flag(flags, "profile", choices=tuple(_TRAININGS), default="sample", help="default: sample")
    add_flag(flags, "data_dir", role=Role.PLACE, help="folder with MNIST for --profile full, or to download it to")
    cli.add_results_dir_flag(flags)
    add_flag(flags, "jobs", type=cli.positive_int, default=2, help="trainings at the same time (default: 2)")
    return flags


def main(argv: Sequence[str] | None = None) -> None:
    """Computes what is missing, then prints the paths of tables and figures.

    Raises:
        UserError: a claim or a count is wrong, the data cannot be used, or a training failed.
        Stopped: on Ctrl-C or SIGTERM; the same command resumes.
    """
    arguments = parser().parse_args(argv)
    started = time.monotonic()
    try:
        checks = [_check(name, arguments.results_dir) for name in _CHECKS]
        print("\n== softmax and linear attention read digits pixel by pixel", flush=True)
        trained = _train(arguments.profile, arguments.data_dir, arguments.results_dir, arguments.jobs)
        print("\n== time and memory against the length (ist-2023-24-hw2 Q1.1 and Q1.4)", flush=True)
        where = ["--results_dir", str(arguments.results_dir), "--name", f"{arguments.profile}-scaling"]
        measured = scaling.run_scaling([*_SCALING[arguments.profile], *where])
    except (KeyboardInterrupt, Stopped) as stop:
        number = stop.signal_number if isinstance(stop, Stopped) else signal_of(stop)
        raise Stopped(number, "stopped; the same command goes on where it was") from None
    path = arguments.results_dir / HOMEWORK / f"{arguments.profile}-numbers.md"
    table = _table(trained)
    files.write_bytes(path, table.encode())
    print(f"\n{table}\nfinished in {time.monotonic() - started:.0f} s; tables and figures:\n  {path}")
    for folder in [*(run.folder for run in checks), *(run.folder for run in trained), measured.folder]:
        print(f"  {folder}")


def _check(name: str, results_dir: Path) -> Run:
    """The finished run folder of `parameter_counts` or `verify`."""
    print(f"\n== {name}", flush=True)
    folder = results_dir / HOMEWORK / name
    if not (folder / CONFIG).is_file() or not Run.open(folder, HOMEWORK).is_finished:
        _CHECKS[name](["--results_dir", str(results_dir)])
    run = Run.open(folder, HOMEWORK)
    if not run.summary().get("holds"):
        raise UserError(f"{folder} says that a claim is wrong; try again with: python -m {HOMEWORK}.{name}")
    return run


def _train(profile: str, data_dir: str | None, results_dir: Path, jobs: int) -> list[Run]:
    data = ["--data_dir", data_dir] if data_dir else []
    wanted = {f"{profile}-{name}": [*_TRAININGS[profile], "--attention", name, *data] for name in TITLES}
    logs = results_dir / HOMEWORK
    return list(train_all(train.COMMAND, wanted, results_dir, jobs, logs).values())


def _table(trained: Sequence[Run]) -> str:
    """The table of accuracy, time and memory of the trainings, in Markdown."""
    lines = [
        "| data | network | parameters | validation accuracy | test accuracy | training | memory for it |",
        "|---|---|---|---|---|---|---|",
    ]
    for run in trained:
        summary = run.summary()
        final, speed = summary["final"], summary["speed"]
        lines.append(
            f"| {summary['data']} | {summary['network']} | {summary['parameters']} "
            f"| {final['validation_accuracy']:.4f} | {final['test_accuracy']:.4f} "
            f"| {speed['training_seconds']:.0f} s | {speed['training_memory_mb']:.0f} MB |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    cli.run_command(main)
