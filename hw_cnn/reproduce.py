"""Trains the networks of ist-2021-22-hw2 Q2, ist-2023-24-hw2 Q2 and convnets-2024-a2 and draws all their figures.

Finished training runs are kept, and interrupted ones are resumed.

  python -m hw_cnn.reproduce                              on the built-in sample, a few minutes
  python -m hw_cnn.reproduce --only fashion               only the part of ist-2021-22-hw2
  python -m hw_cnn.reproduce --profile full --data_dir …  on Fashion-MNIST, OCTMNIST and CIFAR-10, about two hours
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from hw_cnn import compare_layers, explain, sweep, train
from hw_cnn.presets import HOMEWORK, NETWORKS
from hw_cnn.sweep_report import row_name
from hw_common.commands import cli, reproduce
from hw_common.runs.run_folder import Run

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
    "cifar": ["0.0025", "0.005", "0.01"],  # the sheet gives no learning rates for this network
}
_SEEDS = {"sample": ["42"], "full": ["42", "43", "44"]}
# Each row has a network, the last file that the command writes into the network's best run, the command, and its
# subcommand, if it has one.
_EXPLANATIONS: tuple[tuple[str, str, Callable[[list[str]], None], list[str]], ...] = (
    ("cifar", "compare_layers.json", compare_layers.main, []),
    ("cifar", "feature_maps.pdf", explain.main, ["feature_maps"]),
    ("cifar", "grad_cam.json", explain.main, ["grad_cam"]),
    ("fashion", "equivariance.json", explain.main, ["equivariance"]),
)
_COLUMNS = {
    "network": "{title}",
    "data": "{data}",
    "learning rate": "{lr:g}",
    "parameters": "{parameters}",
    "validation accuracy": "{final[validation_accuracy]:.4f}",
    "test accuracy": "{final[test_accuracy]:.4f}",
    "the course's 529": "{course}",
}


def main(argv: Sequence[str] | None = None) -> None:
    """Trains and draws what is missing, then lists tables and figures."""
    flags = reproduce.parser(HOMEWORK, __doc__)
    only = "reproduce only the sheet of this network (default: all three sheets)"
    cli.add_flag(flags, "only", choices=tuple(_SAMPLE), help=only)
    cli.add_kernels_flag(flags)
    arguments = flags.parse_args(argv)
    with reproduce.start(HOMEWORK, arguments, "kernels") as made:
        sets = _SAMPLE if made.profile == "sample" else _FULL
        networks = [arguments.only] if arguments.only else list(sets)
        sweep_flags = [*made.where, "--seeds", *_SEEDS[made.profile]]
        training, best = {}, {}
        for network in networks:
            first, second = NETWORKS[network].convolutions  # their kernels are drawn
            training[network] = [*sets[network], "-conv_1_name", first, "-conv_2_name", second, *made.given]
            name = f"{made.profile}-{network}"
            best[network] = _best_of_sweep(network, [*training[network], *sweep_flags, "--name", name])
        trained = dict(best)
        if "oct" in best:
            title = "oct without max-pooling, at the best learning rate (ist-2023-24-hw2 Q2.2)"
            chosen = [*training["oct"], "-no_maxpool", "--lr", str(best["oct"].arguments["lr"])]
            trained["oct without max-pooling"] = made.train(title, train.COMMAND, chosen, "oct-no_maxpool")
        explanations = _explain(best, made.data)
        rows = [_row(title, run) for title, run in trained.items()]
        made.write_numbers([reproduce.markdown_table(_COLUMNS, rows)], part=arguments.only or "")
        folders = [made.folder / f"{made.profile}-{network}" for network in networks]
        folders += [run.folder for run in trained.values()]
        made.results.extend([*explanations, *(folder / "*.png" for folder in folders)])


def _best_of_sweep(network: str, flags: Sequence[str]) -> Run:
    """Runs a sweep over learning rates; returns the run with the chosen rate and the first seed."""
    reproduce.print_step(f"{network}: learning rates")
    swept = sweep.parse([*flags, "--lrs", *_LEARNING_RATES[network]])
    chosen = swept.run_name(row_name(swept.run()["choice"]["lr"]), swept.seeds[0])
    return Run.open(swept.results_dir / HOMEWORK / chosen, HOMEWORK)


def _explain(best: Mapping[str, Run], data: Sequence[str]) -> list[Path]:
    """Makes the missing figures of each network's best run; returns the path of the last file of each command."""
    paths = []
    for network, name, command, words in _EXPLANATIONS:
        if network not in best:
            continue
        paths.append(best[network].folder / name)
        if not paths[-1].is_file():
            reproduce.print_step(f"{network}: {name.partition('.')[0].replace('_', ' ')}")
            command([*words, str(best[network].folder), *data])
    return paths


def _row(title: str, run: Run) -> dict[str, object]:
    """The fields of a row of the table."""
    summary = run.summary()
    course = summary["final"].get("test_accuracy_course_subset", "")
    return {**summary, "title": title, "lr": run.arguments["lr"], "course": course}


if __name__ == "__main__":
    cli.run_command(main)
