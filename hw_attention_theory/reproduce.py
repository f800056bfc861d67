"""Makes every table and figure of ist-2021-22-hw2 Q1 and ist-2023-24-hw2 Q1.

It counts parameters, checks all claims, trains a classifier of pixel sequences with both attentions and measures how
they scale. Finished parts are kept, and interrupted ones are resumed.

  python -m hw_attention_theory.reproduce                              on the built-in sample, a minute
  python -m hw_attention_theory.reproduce --profile full --data_dir …  on MNIST, about half an hour
"""

from collections.abc import Sequence
from pathlib import Path

from hw_attention_theory import parameter_counts, scaling, train, verify
from hw_attention_theory.presets import HOMEWORK, TITLES
from hw_common.commands import cli, reproduce
from hw_common.commands.train_all import train_all
from hw_common.runs.errors import UserError
from hw_common.runs.run_folder import CONFIG, Run

_CHECKS = {"parameter_counts": parameter_counts.main, "verify": verify.main}
_TRAININGS = {"sample": ["--dataset", "sample", "--epochs", "15"], "full": []}
_SCALING = {"sample": ["--max_length", "8192", "--dimensions", "8", "16", "--terms", "3"], "full": []}
_COLUMNS = {
    "data": "{data}",
    "network": "{network}",
    "parameters": "{parameters}",
    "validation accuracy": "{final[validation_accuracy]:.4f}",
    "test accuracy": "{final[test_accuracy]:.4f}",
    "training": "{speed[training_seconds]:.0f} s",
    "memory for training": "{speed[training_memory_mb]:.0f} MB",
}


def main(argv: Sequence[str] | None = None) -> None:
    """Computes what is missing, then lists tables and figures.

    Raises:
        UserError: a claim or a count is wrong, the data cannot be used, or a training run failed.
        Stopped: on Ctrl-C or SIGTERM; the same command resumes.
    """
    flags = reproduce.parser(HOMEWORK, __doc__)
    cli.add_kernels_flag(flags)
    arguments = flags.parse_args(argv)
    with reproduce.start(HOMEWORK, arguments, "kernels") as made:
        runs = [_check(name, made.results_dir) for name in _CHECKS]
        reproduce.print_step("softmax and linear attention read digits pixel by pixel")
        common = [*_TRAININGS[made.profile], *made.given]
        wanted = {f"{made.profile}-{attention}": [*common, "--attention", attention] for attention in TITLES}
        trained = train_all(train.COMMAND, wanted, made.results_dir, arguments.jobs, made.folder).values()
        reproduce.print_step("time and memory against the length (ist-2023-24-hw2 Q1.1 and Q1.4)")
        where = ["--results_dir", str(made.results_dir), "--name", f"{made.profile}-attention-times"]
        measured = scaling.run_scaling([*_SCALING[made.profile], *where])
        made.write_numbers([reproduce.markdown_table(_COLUMNS, [run.summary() for run in trained])])
        made.results.extend(run.folder for run in [*runs, *trained, measured])


def _check(name: str, results_dir: Path) -> Run:
    """The finished run folder of `parameter_counts` or `verify`."""
    reproduce.print_step(name)
    folder = results_dir / HOMEWORK / name
    if not (folder / CONFIG).is_file() or not Run.open(folder, HOMEWORK).is_finished:
        _CHECKS[name](["--results_dir", str(results_dir)])
    run = Run.open(folder, HOMEWORK)
    if not run.summary().get("holds"):
        raise UserError(f"the check recorded in {folder} failed; repeat it with: python -m {HOMEWORK}.{name}")
    return run


if __name__ == "__main__":
    cli.run_command(main)
