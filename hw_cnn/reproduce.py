"""`python -m hw_cnn.reproduce`: every figure and table of the three sheets, as far as they concern images.

On the built-in sample by default; `--profile full` takes the sheets' own data sets and settings instead.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hw_cnn import train
from hw_cnn.presets import HOMEWORK, NETWORKS
from hw_cnn.sweep import trial_name
from hw_common.commands import cli
from hw_common.commands.cli import add_flag
from hw_common.runs import files
from hw_common.runs.roles import Role
from hw_common.runs.run_folder import Run

_DESCRIPTION = """\
Trains the networks of ist-2021-22-hw2 Q2, ist-2023-24-hw2 Q2 and convnets-2024-a2 and draws all their figures.
What is finished already is kept; what was interrupted goes on.

  python -m hw_cnn.reproduce                              on the built-in sample, a few minutes
  python -m hw_cnn.reproduce --only fashion               only what ist-2021-22-hw2 asks for
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
    """All flags."""
    flags = cli.Parser("python -m hw_cnn.reproduce", _DESCRIPTION)
    add_flag(flags, "profile", choices=("sample", "full"), default="sample", help="default: sample")
    add_flag(flags, "only", choices=tuple(_SAMPLE), help="the part of one sheet, by its network (default: all three)")
    add_flag(
        flags, "data_dir", role=Role.PLACE, help="where the data sets of --profile full are or will be downloaded to"
    )
    cli.add_results_dir_flag(flags)
    add_flag(flags, "jobs", type=cli.positive_int, default=2, help="trainings side by side in a sweep (default: 2)")
    return flags


def main(argv: Sequence[str] | None = None) -> None:
    """Does what is missing, then says where everything is."""
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
        summary = _sweep(network, [*sets[network], *_kernels(network), *where, *data], name, arguments)
        # The run with the chosen learning rate and the first seed.
        chosen = trial_name(name, summary["choice"]["lr"], summary["seeds"][0])
        best[network] = Run.open(arguments.results_dir / HOMEWORK / chosen, HOMEWORK)
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
    """Flags that draw the kernels of both convolutions."""
    first, second = NETWORKS[network].convolutions
    return ["-conv_1_name", first, "-conv_2_name", second]


def _say(what: str) -> None:
    print(f"\n== {what}", flush=True)


def _sweep(network: str, flags: list[str], name: str, arguments: Any) -> dict[str, Any]:
    from hw_cnn import sweep

    seeds = ["--seeds", "42"] if arguments.profile == "sample" else ["--seeds", "42", "43", "44"]
    rates = ["--lrs", *_LEARNING_RATES[network]]
    return sweep.run_sweep(sweep.parse([*flags, *rates, *seeds, "--jobs", str(arguments.jobs), "--name", name]))


def _explain(best: dict[str, Run], data: list[str]) -> list[Path]:
    """Draws what is missing for the best runs of each network; returns the path of what each command writes last."""
    from hw_cnn import compare_layers, explain

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
