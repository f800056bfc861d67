"""`python -m hw_attention_theory.parameter_counts`: parameters of each layer (ist-2021-22-hw2 Q1.1 and Q1.2)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hw_attention_theory.folders import replaced_folder
from hw_attention_theory.presets import CITATIONS
from hw_common.commands import cli
from hw_common.commands.cli import add_flag

if TYPE_CHECKING:
    from torch import nn

COMMAND = "hw_attention_theory.parameter_counts"
_SIDE, _CHANNELS, _CLASSES = 28, 3, 10  # images of 28×28×3
_KERNELS, _KERNEL_SIDE = 8, 5
_POOL_SIDE, _POOL_STRIDE = 4, 2
_HIDDEN = 100
_BIAS = 1  # number of parameters of each kernel's bias
_DESCRIPTION = """\
Counts the parameters of the two networks of ist-2021-22-hw2 Q1.1 and Q1.2, by formula and by building them in torch.

  python -m hw_attention_theory.parameter_counts

Writes a run folder with the table; the next call replaces it. Exits with status 1 if formula and torch disagree.
"""


@dataclass(frozen=True)
class Layer:
    """A layer with its number of parameters by formula; by default it has none."""

    name: str  # name in the sheet
    output: tuple[int, ...]  # shape of the output, channels last
    formula: str = "0"  # formula of the number of parameters
    parameters: int = 0  # value of the formula


def _linear(name: str, inputs: int, outputs: int) -> Layer:
    return Layer(name, (outputs,), f"{inputs}·{outputs} + {outputs}", inputs * outputs + outputs)


def convolutional_network() -> list[Layer]:
    """The layers of Q1.1: 5×5 convolution, 4×4 max-pooling with stride 2, linear output layer, softmax.

    The convolution has stride 1 and no padding. Max-pooling and softmax have no parameters, so the answer is the sum
    for the convolution and the linear layer. `count` compares each number with the layer built in torch.
    """
    side = _SIDE - _KERNEL_SIDE + 1
    pooled = (side - _POOL_SIDE) // _POOL_STRIDE + 1
    return [
        Layer("convolution", (side, side, _KERNELS),
              f"{_KERNELS}·({_KERNEL_SIDE}·{_KERNEL_SIDE}·{_CHANNELS} + {_BIAS})",
              _KERNELS * (_KERNEL_SIDE * _KERNEL_SIDE * _CHANNELS + _BIAS)),
        Layer("max-pooling", (pooled, pooled, _KERNELS)),
        _linear("linear", pooled * pooled * _KERNELS, _CLASSES),
        Layer("softmax", (_CLASSES,)),
    ]  # fmt: skip


def feedforward_network() -> list[Layer]:
    """The layers of Q1.2: hidden layer of 100 units, its activation, linear output layer, softmax.

    It has 23 times as many parameters as the network of Q1.1. Almost all are in the hidden layer, where each unit has a
    weight of its own for every input. A unit of the convolution is connected only to a window of 5×5 pixels (local
    connections), and all units of a channel have the same kernel of 75 weights (weight sharing).
    """
    return [
        _linear("hidden", _SIDE * _SIDE * _CHANNELS, _HIDDEN),
        Layer("activation", (_HIDDEN,)),
        _linear("linear", _HIDDEN, _CLASSES),
        Layer("softmax", (_CLASSES,)),
    ]


def build() -> dict[str, "nn.Sequential"]:
    """Both networks in torch, by question, with one module for each `Layer`."""
    from torch import nn

    return {
        "Q1.1": nn.Sequential(
            nn.Conv2d(_CHANNELS, _KERNELS, _KERNEL_SIDE),
            nn.MaxPool2d(_POOL_SIDE, _POOL_STRIDE),
            nn.Sequential(nn.Flatten(), nn.Linear(math.prod(convolutional_network()[1].output), _CLASSES)),
            nn.Softmax(dim=1),
        ),
        "Q1.2": nn.Sequential(
            nn.Sequential(nn.Flatten(), nn.Linear(_SIDE * _SIDE * _CHANNELS, _HIDDEN)),
            nn.ReLU(),
            nn.Linear(_HIDDEN, _CLASSES),
            nn.Softmax(dim=1),
        ),
    }


def count() -> list[dict[str, Any]]:
    """Both networks, with the parameters of each layer by formula and in torch; compares output shapes too."""
    import torch

    from hw_common.training.parameters import count_parameters

    networks = []
    names = ("convolutional network", "feed-forward network")
    by_formula = (convolutional_network(), feedforward_network())
    for (question, network), name, layers in zip(build().items(), names, by_formula, strict=True):
        rows: list[dict[str, Any]] = []
        x = torch.zeros(1, _CHANNELS, _SIDE, _SIDE)
        for layer, module in zip(layers, network, strict=True):
            x = module(x)
            built = count_parameters(module)
            shape = (*x.shape[2:], x.shape[1])  # channels are first in torch, last in the sheet
            rows.append({
                "layer": layer.name, "output": list(layer.output), "formula": layer.formula,
                "parameters": layer.parameters, "parameters_in_torch": built,
                "agree": layer.parameters == built and layer.output == shape,
            })  # fmt: skip
        total = sum(row["parameters"] for row in rows)
        networks.append({"question": question, "network": name, "layers": rows, "parameters": total})
    return networks


def parser() -> cli.Parser:
    """All flags."""
    flags = cli.Parser(f"python -m {COMMAND}", _DESCRIPTION)
    cli.add_results_dir_flag(flags)
    add_flag(flags, "name", type=cli.run_name, default="parameter_counts", help="default: parameter_counts")
    return flags


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the table and writes the run folder; returns 1 if formula and torch disagree, else 0."""
    arguments = parser().parse_args(argv)
    with replaced_folder(arguments.results_dir, arguments.name, COMMAND, {"name": arguments.name}) as run:
        networks = count()
        ratio = networks[1]["parameters"] / networks[0]["parameters"]
        agree = all(row["agree"] for network in networks for row in network["layers"])
        run.write_summary({
            "name": run.folder.name, "source": CITATIONS["2021-22"], "networks": networks,
            "ratio": ratio, "holds": agree,
        })  # fmt: skip
    for network in networks:
        print(_text(network))
    print(f"the feed-forward network has {ratio:.1f} times the parameters of the convolutional one")
    print(f"formulas and torch {'agree' if agree else 'DISAGREE'}; the table is in {run.folder}")
    return 0 if agree else 1


def _text(network: dict[str, Any]) -> str:
    lines = [f"{CITATIONS['2021-22'][:-3]} {network['question']}, {network['network']}:"]
    for row in network["layers"]:
        output = "×".join(map(str, row["output"]))
        mark = "" if row["agree"] else f"   torch: {row['parameters_in_torch']}"
        lines.append(f"  {row['layer']:12} {output:>8}  {row['formula']:>16} = {row['parameters']:>7}{mark}")
    return "\n".join([*lines, f"  {'together':12} {'':8}  {'':16}   {network['parameters']:>7}", ""])


if __name__ == "__main__":
    cli.run_command(main)
