"""`python -m hw_cnn.train`: the command that trains the CNNs of the sheets."""

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hw_cnn.presets import DATASETS, HOMEWORK, MEDMNIST, NETWORKS, Network, Settings
from hw_common.commands import cli
from hw_common.commands.cli import add_flag
from hw_common.commands.training_command import TrainingCommand, fill_in
from hw_common.runs.errors import UserError

if TYPE_CHECKING:
    import torch

    from hw_common.training.experiment import Experiment

_DESCRIPTION = """\
Trains a CNN of ist-2021-22-hw2 Q2, ist-2023-24-hw2 Q2 or convnets-2024-a2 with the sheet's own settings.

  python -m hw_cnn.train --dataset sample                 half a minute, needs no download
  python -m hw_cnn.train --lr 0.01                        Fashion-MNIST as in ist-2021-22-hw2 Q2.2
  python -m hw_cnn.train --dataset octmnist -no_maxpool   OCTMNIST as in ist-2023-24-hw2 Q2.2
  python -m hw_cnn.train --dataset medmnist --medmnist_flag pneumoniamnist   another set of MedMNIST
  python -m hw_cnn.train --dataset cifar10                CIFAR-10 as in convnets-2024-a2 Task 1
  torchrun --nproc_per_node=2 -m hw_cnn.train …           the same on two processes

Writes a run folder: configuration, metrics of each epoch, curves, weights, final numbers.
Ctrl-C finishes the step and saves; --resume continues from there.
"""


def parser() -> cli.Parser:
    """Declares all flags; a default of None means that the default depends on the network and the recipe."""
    flags = cli.Parser("python -m hw_cnn.train", _DESCRIPTION)
    group = flags.add_argument_group("what to train")
    add_flag(
        group,
        "dataset",
        choices=tuple(DATASETS),
        default="fashion-mnist",
        help="default: fashion-mnist; folder reads DATA_DIR/{train,val,test}/<class>/*; sample needs no files",
    )
    medmnist = "name of a set of 2D images with one label each, for --dataset medmnist; for example pneumoniamnist"
    add_flag(group, "medmnist_flag", metavar="FLAG", help=medmnist)
    add_flag(group, "network", choices=tuple(NETWORKS), help="default: the network of the sheet that uses the data set")
    recipe = "settings of the sheet (plain, default) or our better ones (best)"
    add_flag(group, "recipe", choices=("plain", "best"), default="plain", help=recipe)
    add_flag(group, "dropout", type=cli.fraction, help="probability of the dropout layer (fashion 0.3, oct 0.7)")
    add_flag(group, "no_maxpool", action="store_true", help="oct: strides instead of pooling (ist-2023-24 Q2.2)")
    add_flag(group, "padding", type=int, choices=(0, 2), help="cifar: 0 as in Task 1.1 (default), 2 as in Equation 4")
    training = cli.add_training_flags(flags, optimizers=("sgd", "adam"))
    add_flag(training, "momentum", type=cli.fraction, help="Nesterov momentum of sgd")
    cli.add_schedule_flag(training)
    add_flag(training, "augment", action=argparse.BooleanOptionalAction, help="random flips and shifts by two pixels")
    balanced = "give each class the same total weight in the training loss, however many images it has"
    add_flag(training, "balanced", action="store_true", help=balanced)
    cli.add_kernels_flag(training)
    kernels = flags.add_argument_group("kernel figures (ist-2021-22 Q2.3)")
    layers = "; ".join(f"{n.name}: {' '.join(n.convolutions)}" for n in NETWORKS.values())
    add_flag(kernels, "conv_1_name", "convlayer1", help=f"convolution whose kernels are drawn ({layers})")
    add_flag(kernels, "conv_2_name", "convlayer2", help="second convolution whose kernels are drawn")
    cli.add_run_flags(flags)
    return flags


def _resolve(arguments: argparse.Namespace) -> argparse.Namespace:
    """Fills in the defaults of the network and the recipe, and rejects conflicting flags."""
    _check_medmnist(arguments.dataset, arguments.medmnist_flag)
    default_network = MEDMNIST[arguments.medmnist_flag] if arguments.medmnist_flag else DATASETS[arguments.dataset]
    arguments.network = arguments.network or default_network
    network = NETWORKS[arguments.network]
    recipe: dict[str, Any] = {**network.defaults, **(network.best if arguments.recipe == "best" else {})}
    _check_together(arguments, network, recipe)
    if (arguments.optimizer or recipe["optimizer"]) != "sgd":
        recipe["momentum"] = 0.0
    fill_in(arguments, recipe)
    if network.name == "cifar":
        arguments.padding = arguments.padding or 0
    if arguments.name is None:
        pooling = "-no_maxpool" if arguments.no_maxpool else ""
        dataset = arguments.medmnist_flag or arguments.dataset
        arguments.name = f"{dataset}-{network.name}{pooling}-{arguments.recipe}-lr{arguments.lr:g}"
    return arguments


def _check_medmnist(dataset: str, flag: str | None) -> None:
    if flag is not None and dataset != "medmnist":
        raise UserError(f"--medmnist_flag needs --dataset medmnist, not {dataset}")
    if dataset == "medmnist" and flag not in MEDMNIST:
        shown = "--dataset medmnist needs --medmnist_flag" if flag is None else f"--medmnist_flag {flag}"
        raise UserError(f"{shown}: expected a set of 2D images with one label each, one of {', '.join(MEDMNIST)}")


def _check_together(arguments: argparse.Namespace, network: Network, recipe: Mapping[str, Any]) -> None:
    if arguments.no_maxpool and network.name != "oct":
        raise UserError(f"-no_maxpool needs the network oct, not {network.name}")
    if arguments.padding is not None and network.name != "cifar":
        raise UserError(f"--padding needs the network cifar, not {network.name}")
    if arguments.dropout and network.name == "cifar":
        raise UserError("--dropout: the network cifar has no dropout layer")
    if arguments.momentum and (arguments.optimizer or recipe["optimizer"]) != "sgd":
        raise UserError("--momentum needs --optimizer sgd")
    for name in (arguments.conv_1_name, arguments.conv_2_name):
        if name is not None and name not in network.convolutions:
            raise UserError(f"there is no convolution {name!r}; {network.name} has {', '.join(network.convolutions)}")


def _prepare(arguments: argparse.Namespace, device: "torch.device") -> "Experiment":
    from hw_cnn import data, experiment  # imports torch

    settings = Settings.from_arguments(arguments)
    network = NETWORKS[settings.network]
    images = data.load(settings.dataset, arguments.data_dir, network, settings.seed, settings.medmnist_flag)
    drawn_layers = [name for name in (arguments.conv_1_name, arguments.conv_2_name) if name]
    return experiment.prepare(settings, images, device, drawn_layers)


COMMAND = TrainingCommand(HOMEWORK, parser, _resolve, _prepare)
main = COMMAND.main


if __name__ == "__main__":
    cli.run_command(main, under_torchrun=True)
