"""`python -m hw_cnn.reproduce`: makes every figure and table about image classification of three sheets.

It uses the built-in sample by default; `--profile full` uses the sheets' own data sets and settings.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from hw_cnn import compare_layers, explain, sweep, train
from hw_cnn.presets import HOMEWORK, NETWORKS
from hw_cnn.sweep_report import row_name
from hw_common.commands import cli
from hw_common.commands.cli import add_flag
from hw_common.runs import files
from hw_common.runs.roles import Role
from hw_common.runs.run_folder import Run

_DESCRIPTION = """\
Trains the networks of ist-2021-22-hw2 Q2, ist-2023-24-hw2 Q2 and convnets-2024-a2 and draws all their figures.
Finished trainings are kept, interrupted ones are resumed.

  python -m hw_cnn.reproduce                              on the built-in sample, a few minutes
  python -m hw_cnn.reproduce --only fashion               only the part of ist-2021-22-hw2
  python -m hw_cnn.reproduce --profile full --data_dir …  on Fashion-MNIST, OCTMNIST and CIFAR-10, about two hours
"""
_SAMPLE = {
    "fashion": ["--dataset", "sample", "--network", "fashion", "--epochs", "8"],
    "oct": ["--dataset", "sample", "--network", "oct"],
    "cifar": ["--dataset", "sample", "--network", "cifar", "--epochs", "15"],
}
_FULL = {
    "fashion": ["--dataset", "fashion-mnist"],
    "oct": ["--dataset", "octmnist"],
    "cifar": ["--dataset", "cifar10"],
}
_LEARNING_RATES = {
    "fashion": ["0.001", "0.01", "0.1"],
    "oct": ["0.001", "0.01", "0.1"],
    "cifar": ["0.0025", "0.005", "0.01"],  # the sheet names none
}


def parser() -> cli.Parser:
    """Declares the flags."""
    flags = cli.Parser("python -m hw_cnn.reproduce", _DESCRIPTION)
    add_flag(flags, "profile", choices=("sample", "full"), default="sample", help="default: sample")
    add_flag(flags, "only", choices=tuple(_SAMPLE), help="part of the sheet with this network (default: all three)")
    add_flag(
        flags, "data_dir", role=Role.PLACE, help="folder of the data sets of --profile full, which are downloaded to it"
    )
    cli.add_results_dir_flag(flags)
    add_flag(flags, "jobs", type=cli.positive_int, default=2, help="trainings side by side in a sweep (default: 2)")
    return flags


def main(argv: Sequence[str] | None = None) -> None:
    """Trains and draws what is missing, then lists the files."""
    arguments = parser().parse_args(argv)
    started = time.monotonic()
    where = ["--results_dir", str(arguments.results_dir)]
    data = ["--data_dir", arguments.data_dir] if arguments.data_dir else []
    sets = _SAMPLE if arguments.profile == "sample" else _FULL
    networks = [arguments.only] if arguments.only else list(sets)
    prefix = arguments.profile
    best: dict[str, Run] = {}
    for network in networks:
        _say(f"{network}: learning rates")
        name = f"{prefix}-{network}"
        flags = [*sets[network], *_kernels(network), *where, *data]
        best[network] = _best_of_sweep(network, flags, name, arguments.profile, arguments.jobs)
    trained = dict(best)
    if "oct" in best:
        _say("oct without max-pooling, at the best learning rate (ist-2023-24-hw2 Q2.2)")
        flags = [*sets["oct"], "-no_maxpool", "--lr", str(best["oct"].arguments["lr"]), *_kernels("oct"), *data]
        name = f"{prefix}-oct-no_maxpool"
        trained["oct without max-pooling"] = train.COMMAND.train_once(flags, arguments.results_dir, name)
    outputs = _explain(best, data)
    folder = arguments.results_dir / HOMEWORK
    numbers = folder / (f"{prefix}-{arguments.only}-numbers.md" if arguments.only else f"{prefix}-numbers.md")
    table = _table(trained)
    files.write_bytes(numbers, table.encode())
    print(f"\n{table}\nfinished in {time.monotonic() - started:.0f} s; tables and figures:")
    for path in [numbers, *outputs]:
        print(f"  {path}")
    sweeps = [folder / f"{prefix}-{network}" for network in best]
    for run_folder in [*sweeps, *(run.folder for run in trained.values())]:
        print(f"  {run_folder}/*.png")


def _kernels(network: str) -> list[str]:
    """Returns the flags that draw the kernels of both convolutions."""
    first, second = NETWORKS[network].convolutions
    return ["-conv_1_name", first, "-conv_2_name", second]


def _say(what: str) -> None:
    print(f"\n== {what}", flush=True)


def _best_of_sweep(network: str, flags: list[str], name: str, profile: str, jobs: int) -> Run:
    """Runs a sweep over learning rates; returns the run with the chosen rate and the first seed."""
    seeds = ["--seeds", "42"] if profile == "sample" else ["--seeds", "42", "43", "44"]
    rates = ["--lrs", *_LEARNING_RATES[network]]
    swept = sweep.parse([*flags, *rates, *seeds, "--jobs", str(jobs), "--name", name])
    chosen = swept.run_name(row_name(swept.run()["choice"]["lr"]), swept.seeds[0])
    return Run.open(swept.results_dir / HOMEWORK / chosen, HOMEWORK)


def _explain(best: dict[str, Run], data: list[str]) -> list[Path]:
    """Makes the missing figures of each network's best run; returns the path of the last file of each command."""
    wanted: list[tuple[str, str, Callable[[list[str]], None], list[str]]] = [
        ("cifar", "compare_layers.json", compare_layers.main, []),
        ("cifar", "feature_maps.pdf", explain.main, ["feature_maps"]),
        ("cifar", "grad_cam.json", explain.main, ["grad_cam"]),
        ("fashion", "equivariance.json", explain.main, ["equivariance"]),
    ]
    paths = []
    for network, name, command, words in wanted:
        if network not in best:
            continue
        paths.append(best[network].folder / name)
        if not paths[-1].is_file():
            _say(f"{network}: {name.partition('.')[0].replace('_', ' ')}")
            command([*words, str(best[network].folder), *data])
    return paths


def _table(trained: Mapping[str, Run]) -> str:
    lines = [
        "| network | data | learning rate | parameters | validation accuracy | test accuracy | the course's 529 |",
        "|---|---|---|---|---|---|---|",
    ]
    for title, run in trained.items():
        summary = run.summary()
        final = summary["final"]
        lines.append(
            f"| {title} | {summary['data']} | {run.arguments['lr']:g} | {summary['parameters']} "
            f"| {final['validation_accuracy']:.4f} | {final['test_accuracy']:.4f} "
            f"| {final.get('test_accuracy_course_subset', '')} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    cli.run_command(main)
