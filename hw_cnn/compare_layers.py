"""`python -m hw_cnn.compare_layers RUN`: compares our layers with torch's (convnets-2024-a2, Tasks 2.1, 3.1, 3.2)."""

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hw_common.commands import cli
from hw_common.commands.cli import add_flag
from hw_common.runs import files
from hw_common.runs.errors import UserError
from hw_common.training.timing import ratio, time_interleaved

if TYPE_CHECKING:
    from torch import Tensor, nn

    from hw_cnn.data import Split
    from hw_cnn.finished import Finished

_LOOP_ROUNDS = 5  # the loops are slow

_DESCRIPTION = """\
Compares MyLinear and MyConv2d with nn.Linear and nn.Conv2d: the mean absolute difference of their outputs before and
after the parameters are copied, and the accuracy and inference time of the trained network with our and torch's layers.
It also times the network with a convolution that loops over the pixels, as a naive solution does.

RUN is a finished run of the network cifar, for example:

  python -m hw_cnn.train --dataset sample --network cifar --name small
  python -m hw_cnn.compare_layers results/hw_cnn/small
"""


def parser() -> cli.Parser:
    """Declares the flags."""
    flags = cli.Parser("python -m hw_cnn.compare_layers", _DESCRIPTION, usage="%(prog)s RUN [flags]")
    cli.add_finished_run_flags(flags)
    add_flag(flags, "images", type=cli.positive_int, default=20, help="number of test images (default: 20)")
    rounds = "timed forward passes of torch's and our network (default: 200)"
    add_flag(flags, "rounds", type=cli.positive_int, default=200, help=rounds)
    return flags


def main(argv: Sequence[str] | None = None) -> None:
    """Compares the layers, prints the numbers and writes compare_layers.json into the run folder."""
    arguments = parser().parse_args(argv)
    from hw_cnn.finished import open_finished  # imports torch, so the arguments are checked first

    finished = open_finished(arguments.run)
    if finished.network.name != "cifar":
        raise UserError(f"{arguments.run} is a run of the network {finished.network.name}, expected the network cifar")
    test = finished.load_images(arguments.data_dir).test
    result = compare(finished, test, images=arguments.images, rounds=arguments.rounds, seed=arguments.seed)
    with finished.run.free_stem("compare_layers") as stem:
        path = finished.run.folder / f"{stem}.json"
        files.write_json(path, result)
    print(_table(result))
    print(f"written to {path}")


def compare(finished: "Finished", test: "Split", *, images: int, rounds: int, seed: int) -> dict[str, Any]:
    """Computes all numbers of Tasks 2.1, 3.1 and 3.2 on `images` random test images.

    `seed` is the random seed of the chosen images and of the new layers' parameters. Forward passes are timed: `rounds`
    of torch's and our network and at most 5 of the network with loops.
    """
    import torch  # slow to import, so the arguments are checked first
    from torch import nn

    from hw_cnn.data import to_input
    from hw_cnn.layers import LoopConv2d, MyConv2d, MyLinear
    from hw_cnn.models import CifarCNN

    torch.manual_seed(seed)
    chosen = torch.randperm(len(test))[:images]
    inputs, labels = to_input(test.images[chosen], finished.network).contiguous(), test.labels[chosen]
    theirs = nn.utils.convert_conv2d_weight_memory_format(finished.model, torch.contiguous_format)
    ours, loops = (
        CifarCNN(finished.settings.padding or 0, len(finished.classes), convolution=convolution, linear=MyLinear).eval()
        for convolution in (MyConv2d, LoopConv2d)
    )
    for own in (ours, loops):
        own.load_state_dict(theirs.state_dict())
    with torch.inference_mode():
        numbers = {
            "linear": differences(nn.Linear(8, 16), MyLinear(8, 16), torch.randn(len(inputs), 8)),
            "convolution": differences(nn.Conv2d(3, 8, 5), MyConv2d(3, 8, 5), inputs),
            "centred_convolution": differences(nn.Conv2d(3, 8, 5, padding=2), MyConv2d(3, 8, 5, padding=2), inputs),
            "network": {"after_copying": (ours(inputs) - theirs(inputs)).abs().mean().item()},
            "network_with_loops": {"after_copying": (loops(inputs) - theirs(inputs)).abs().mean().item()},
        }
        accuracy = {
            name: (model(inputs).argmax(1) == labels).double().mean().item()
            for name, model in (("default", theirs), ("own", ours))
        }
        seconds = time_interleaved({"default": lambda: theirs(inputs), "own": lambda: ours(inputs)}, rounds)
        naive = time_interleaved(
            {"loops": lambda: loops(inputs), "own": lambda: ours(inputs)}, min(rounds, _LOOP_ROUNDS), warm_up=1
        )
    return {
        "data": finished.run.summary()["data"],
        "images": len(inputs),
        "mean_absolute_difference": numbers,
        "accuracy": accuracy,
        "seconds_for_inference": {name: statistics.median(values) for name, values in seconds.items()},
        "mean_seconds_for_inference": {name: statistics.fmean(values) for name, values in seconds.items()},
        "ratio_own_default": ratio(seconds, of="own", to="default"),
        "ratio_loops_own": ratio(naive, of="loops", to="own"),
        "rounds": rounds,
        "threads": torch.get_num_threads(),
    }


def differences(theirs: "nn.Module", ours: "nn.Module", inputs: "Tensor") -> dict[str, float]:
    """Returns the mean absolute difference of two layers' outputs before and after copying `theirs` into `ours`.

    After copying, only rounding differs, since the sums are computed in another order.
    """
    before = (theirs(inputs) - ours(inputs)).abs().mean().item()
    ours.load_state_dict(theirs.state_dict())
    return {"before_copying": before, "after_copying": (theirs(inputs) - ours(inputs)).abs().mean().item()}


def _table(result: dict[str, Any]) -> str:
    lines = [f"{result['data']}, {result['images']} test images"]
    for layer, values in result["mean_absolute_difference"].items():
        shown = ", ".join(f"{value:.2e} {name.replace('_', ' ')}" for name, value in values.items())
        lines.append(f"mean absolute difference, {layer.replace('_', ' ')}: {shown}")
    accuracy, seconds = result["accuracy"], result["seconds_for_inference"]
    lines.append(f"accuracy: {accuracy['default']:.3f} with torch's layers, {accuracy['own']:.3f} with ours")
    lines.append(
        f"inference: {seconds['default'] * 1e3:.3f} ms with torch's layers, {seconds['own'] * 1e3:.3f} ms with "
        f"ours, ratio ours / torch's {result['ratio_own_default']:.2f} (median of {result['rounds']} rounds)"
    )
    lines.append(f"with loops over the pixels, inference takes {result['ratio_loops_own']:.0f} times as long as ours")
    return "\n".join(lines)


if __name__ == "__main__":
    cli.run_command(main)
