"""`python -m hw_caption.features`: computes the image features that training needs.

hw_caption.train also computes missing features, so this command is optional.
"""

import argparse
import math
from collections.abc import Sequence

from hw_caption.presets import DATASETS
from hw_common.commands import cli
from hw_common.commands.cli import add_flag
from hw_common.commands.training_command import fill_in
from hw_common.runs.errors import UserError
from hw_common.training.backbones import BACKBONES

_DESCRIPTION = """\
Runs the images of a data set through the frozen encoder (ist-2021-22-hw2 Q3.1a), ResNet-18 without its last two layers.
The encoder turns an image of 224×224 pixels into 7×7 regions of 512 features; other backbones give other numbers.

  python -m hw_caption.features                                  Sydney data set, torchvision's ImageNet weights
  python -m hw_caption.features --weights my_resnet18.safetensors
  python -m hw_caption.features --backbone mobilenet_v2          another network
  python -m hw_caption.features --dataset sample --weights none  the built-in sample, no download

Writes RESULTS_DIR/hw_caption/features/<data set>-<weights>-<size>/{rows.bin,index.json}; the folder's name
also contains the backbone unless it is ResNet-18. Features that are up to date are kept, so the same command resumes
after an interruption.
"""
_MIN_SIZE, _MAX_SIZE = 32, 1024  # pixels
_SIZE, _SAMPLE_SIZE = 224, 128


def parser() -> cli.Parser:
    """All flags."""
    flags = cli.Parser("python -m hw_caption.features", _DESCRIPTION)
    group = flags.add_argument_group("features")
    add_data_flags(group)
    add_flag(group, "views", type=int, choices=(1, 8), default=1, help="8: also all flips and rotations (default: 1)")
    add_flag(group, "seed", type=cli.non_negative_int, default=42, help="seed of --weights none (default: 42)")
    group = flags.add_argument_group("run")
    cli.add_machine_flags(group, threads="all cores")
    return flags


def add_data_flags(group: argparse._ActionsContainer) -> None:
    """Adds the flags for images and encoder; `resolve` fills in their defaults that depend on the data set."""
    add_flag(group, "dataset", choices=tuple(DATASETS), default="sydney", help="default: sydney; sample needs no files")
    dataset_help = (
        "other data set: folder or .tar with images and dataset.json (like Sydney) or captions.txt (Flickr8k)"
    )
    cli.add_input(group, "dataset_dir", help=dataset_help)
    backbone_help = "network of the encoder (default: resnet18, as in the sheet)"
    add_flag(group, "backbone", choices=tuple(BACKBONES), default="resnet18", help=backbone_help)
    weights_help = "encoder weights: imagenet (default), none (random; default for the sample) or a file"
    cli.add_input(group, "weights", type=str, help=weights_help)
    add_flag(group, "image_size", type=_image_size, help="side in pixels, a multiple of 32 (default: 224; sample: 128)")


def _image_size(text: str) -> int:
    if not text.isdecimal() or not _MIN_SIZE <= int(text) <= _MAX_SIZE or int(text) % 32:
        raise argparse.ArgumentTypeError(f"expected a multiple of 32 from {_MIN_SIZE} to {_MAX_SIZE}, got {text!r}")
    return int(text)


def resolve(arguments: argparse.Namespace) -> None:
    """Fills in the defaults that depend on the data set, in place.

    Raises:
        UserError: two flags contradict each other.
    """
    sample = arguments.dataset == "sample"
    if sample and arguments.dataset_dir is not None:
        raise UserError("--dataset sample reads no files; leave --dataset_dir out")
    size, weights = (_SAMPLE_SIZE, "none") if sample else (_SIZE, "imagenet")
    fill_in(arguments, {"image_size": size, "weights": weights})


def main(argv: Sequence[str] | None = None) -> None:
    """Computes missing and outdated features, then prints their folder."""
    arguments = parser().parse_args(argv)
    resolve(arguments)
    from hw_caption import data, feature_store  # these import torch
    from hw_common.training import determinism

    device = determinism.set_up(arguments.seed, arguments.device, arguments.threads)
    found = data.load(arguments.dataset, arguments.data_dir, arguments.dataset_dir)
    store = feature_store.ensure(
        found.images, found.label, arguments.weights, results_dir=arguments.results_dir, data_dir=arguments.data_dir,
        size=arguments.image_size, views=arguments.views, seed=arguments.seed, device=device,
        network=arguments.backbone,
    )  # fmt: skip
    side = math.isqrt(store.take([found.images[0].name]).shape[1])
    print(f"{found.name}: {len(found.images)} images with {side}×{side} regions are in {store.folder}")


if __name__ == "__main__":
    cli.run_command(main)
