"""`python -m hw_numpy.coco_build SOURCE FOLDER`: makes caption files like the course's from a data set of your own."""

import contextlib
import dataclasses
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import ndarray
from PIL import Image

from hw_common.commands import cli
from hw_common.commands.cli import add_flag
from hw_common.data import captioned_images
from hw_common.data.captioned_images import CaptionedImage
from hw_common.data.dataset_files import DatasetFile
from hw_common.data.images import decode
from hw_common.runs.config import available_cores
from hw_common.runs.errors import UserError
from hw_numpy import coco_files
from hw_numpy.coco_files import PARTS, Example

if TYPE_CHECKING:  # torch is slow to import
    from torch import nn

_DESCRIPTION = """\
Turns a data set of images with captions into the caption files that eecs545-w20-hw4 Q4 reads.

  python -m hw_numpy.coco_build flickr1k.tar data/flickr1k
  python -m hw_numpy.caption --dataset coco --data_dir data/flickr1k

SOURCE is a folder or a tar archive with images and one of
  dataset.json  Karpathy's format: the splits train (with restval) and val are used, test is left out
  captions.txt  Flickr8k's format: one line «image,caption» for each caption; every tenth image is for validation
FOLDER must not exist yet; it also gets small copies of the images. An image's features are the inputs of the last layer
of torchvision's ResNet-18. PCA, fitted to the training images, projects them on at most 512 directions.
"""
_BATCH = 32  # images
_LARGEST_SIZE = 1024  # pixels
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # mean and standard deviation of ImageNet's channels
_VALIDATION_EVERY = 10  # every tenth image of a captions.txt, which has no splits, is a validation image


def parser() -> cli.Parser:
    """All flags."""
    flags = cli.Parser("python -m hw_numpy.coco_build", _DESCRIPTION, usage="%(prog)s SOURCE FOLDER [flags]")
    flags.add_argument("source", type=Path, metavar="SOURCE", help="folder or tar archive")
    flags.add_argument("folder", type=Path, metavar="FOLDER", help="new folder for the caption files")
    cli.add_input(
        flags,
        "weights",
        type=str,
        default="imagenet",
        help="imagenet: torchvision's weights, downloaded on first use; none: random weights; or the path of a "
        "safetensors file or plain state dict (default: imagenet)",
    )
    add_flag(
        flags,
        "image_size",
        type=cli.positive_int,
        default=224,
        help="height and width of the network's input, in pixels (default: 224)",
    )
    add_flag(
        flags,
        "min_count",
        type=cli.positive_int,
        default=1,
        help="words that occur less often in the training captions become <UNK> (default: 1, keeps all words)",
    )
    text = "folder of ImageNet's weights, downloaded if they are missing (default: $HW_DATA_DIR, else data)"
    cli.add_place(flags, "data_dir", default=Path(os.environ.get("HW_DATA_DIR", "data")), help=text)
    add_flag(flags, "threads", type=cli.positive_int, help="CPU threads (default: all cores)")
    return flags


def main(argv: Sequence[str] | None = None) -> None:
    """Makes the files and prints what they contain."""
    arguments = parser().parse_args(argv)
    for name, value in build(**vars(arguments)).items():
        print(f"{name.replace('_', ' ')}: {value}")
    print(f"all files are in {arguments.folder}")


def build(
    source: Path,
    folder: Path,
    weights: str = "imagenet",
    image_size: int = 224,
    min_count: int = 1,
    data_dir: Path = Path("data"),
    threads: int | None = None,
) -> dict[str, Any]:
    """Makes `folder` with caption files and images. After an error, the folder does not exist.

    Args:
        source: folder or tar archive with images and dataset.json or captions.txt.
        folder: new folder for the caption files.
        weights: weights of ResNet-18: "imagenet", "none", or the path of a file.
        image_size: height and width of the network's input, in pixels.
        min_count: words that occur less often in the training captions become <UNK>.
        data_dir: folder of ImageNet's weights; they are downloaded if they are missing.
        threads: torch's threads; None for all cores.

    Returns:
        Facts about the result, as in coco2014_source.json.

    Raises:
        UserError: `source` or `weights` cannot be used, or `folder` exists or cannot be made.
    """
    if weights not in ("imagenet", "none") and not Path(weights).is_file():
        raise UserError(f"--weights {weights}: there is no such file; expected imagenet, none or a file")
    if image_size > _LARGEST_SIZE:
        raise UserError(f"--image_size {image_size} is more than the limit of {_LARGEST_SIZE} pixels")
    if folder.exists():
        raise UserError(f"{folder} exists already and is not changed; remove it or choose another folder")
    images = _read_images(source)
    examples = [Example(str(image.split), image.captions) for image in images]
    network = _load_network(weights, data_dir, threads)
    with _new_folder(folder) as made:
        copies = [made / path for path in coco_files.image_paths(examples)]
        features = _compute_features([image.file for image in images], copies, network, image_size)
        shown = {"imagenet": "ImageNet's weights", "none": "random weights"}.get(weights, Path(weights).name)
        description = f"ResNet-18 with {shown}, images of {image_size}×{image_size} pixels"
        name = source.resolve().name.partition(".")[0]
        return coco_files.write(made, name, description, examples, features, min_count)


def _read_images(source: Path) -> list[CaptionedImage]:
    """The training and validation images in the folder or archive `source`."""
    found = captioned_images.read(source)
    if found.left_out is not None:
        print(found.left_out, file=sys.stderr)
    images = []
    for number, image in enumerate(found.images, 1):
        if image.split is None:
            image = dataclasses.replace(image, split="train" if number % _VALIDATION_EVERY else "val")
        if image.split in PARTS:
            images.append(image)
    for part, title in zip(PARTS, ("training", "validation"), strict=True):
        if not any(image.split == part for image in images):
            raise UserError(f"{found.captions_file} in {source} has no images for {title}")
    return images


@contextlib.contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder that is renamed to `folder` at the end, or removed after an error."""
    making = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        making.mkdir(parents=True)
        yield making
        making.rename(folder)
    except OSError as error:
        raise UserError(f"cannot make {folder}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _load_network(weights: str, data_dir: Path, threads: int | None) -> "nn.Module":
    """ResNet-18 without its last layer, in eval mode."""
    import torch
    from torchvision.models import resnet18

    from hw_common.training.pretrained import load_backbone, load_pretrained

    pretrained = load_pretrained(weights, data_dir)
    torch.set_num_threads(threads or available_cores())
    torch.manual_seed(0)  # fixes the random weights of --weights none
    network = resnet18()
    network.fc = torch.nn.Identity()
    if pretrained is not None:
        load_backbone(network, pretrained)
    return network.eval()


def _compute_features(files: Sequence[DatasetFile], copies: Sequence[Path], network: "nn.Module", size: int) -> ndarray:
    """The features (images, 512) of all images; saves a small copy of each image at the path in `copies`."""
    import torch
    from tqdm import tqdm

    features = np.empty((len(files), 512), dtype=np.float32)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (_MEAN, _STD))
    bar = tqdm(total=len(files), desc="features", unit="image", disable=None, leave=False)
    with bar, torch.inference_mode():
        for begin in range(0, len(files), _BATCH):
            pixels = []
            for file, copy in zip(files[begin : begin + _BATCH], copies[begin : begin + _BATCH], strict=True):
                image = decode(file.read(), file.where)
                coco_files.save_copy(image, copy)
                pixels.append(np.asarray(image.resize((size, size), Image.Resampling.BILINEAR)))
            inputs = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2) / 255
            features[begin : begin + _BATCH] = network((inputs - mean) / std).numpy()
            bar.update(len(pixels))
    return features


if __name__ == "__main__":
    cli.run_command(main)
