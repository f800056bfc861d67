"""`python -m hw_numpy.coco_build SOURCE FOLDER`: caption files like the course's, from images that people can get."""

import collections
import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import ndarray
from PIL import Image

from hw_common.commands import cli
from hw_common.commands.cli import add_flag
from hw_common.runs.errors import UserError
from hw_common.runs.run_folder import available_cores
from hw_numpy import coco_files
from hw_numpy.coco_files import END, NULL, PARTS, SPECIAL_WORDS, START, UNKNOWN
from hw_numpy.coco_sources import Example, Source, read_examples
from hw_numpy.image_utils import decode

if TYPE_CHECKING:  # torch is slow to import, hence only once everything quick is checked
    from torch import nn

_DESCRIPTION = """\
Makes the files that the captioning of eecs545-w20-hw4 Q4 reads, from images with captions of your own.

  python -m hw_numpy.coco_build flickr1k.tar data/flickr1k
  python -m hw_numpy.caption --dataset coco --data_dir data/flickr1k

SOURCE is a folder or a tar archive with images and one of
  dataset.json  Karpathy's: his splits train (with restval) and val are taken, test is left out
  captions.txt  Flickr8k's, lines of image,caption: every tenth image is for validation
FOLDER must not exist yet; small copies of the images go there, too. An image's features are what torchvision's
ResNet-18 has before its last layer; PCA, fitted to the training images, then keeps at most 512 of their directions.
"""
_MOST_DIRECTIONS = 512
_BATCH = 32
_COPY_SIZE, _LARGEST_SIZE = 256, 1024  # pixels
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's channels


def parser() -> cli.Parser:
    """All flags."""
    flags = cli.Parser("python -m hw_numpy.coco_build", _DESCRIPTION, usage="%(prog)s SOURCE FOLDER [flags]")
    flags.add_argument("source", type=Path, metavar="SOURCE", help="folder or tar archive")
    flags.add_argument("folder", type=Path, metavar="FOLDER", help="is made")
    add_flag(
        flags,
        "weights",
        default="imagenet",
        help="imagenet: torchvision's, downloaded on first use; none: random ones; else a file, .safetensors or a "
        "plain state dict (default: imagenet)",
    )
    add_flag(
        flags,
        "image_size",
        type=cli.positive_int,
        default=224,
        help="images enter the network as squares of so many pixels (default: 224)",
    )
    add_flag(
        flags,
        "min_count",
        type=cli.positive_int,
        default=1,
        help="words rarer than this in the training captions become <UNK> (default: 1, all are kept)",
    )
    add_flag(
        flags,
        "data_dir",
        type=Path,
        default=Path(os.environ.get("HW_DATA_DIR", "data")),
        help="where ImageNet's weights are or will be downloaded to (default: $HW_DATA_DIR, else data)",
    )
    add_flag(flags, "threads", type=cli.positive_int, help="CPU threads (default: all cores)")
    return flags


def main(argv: Sequence[str] | None = None) -> None:
    """Makes the files and says what is in them."""
    arguments = parser().parse_args(argv)
    for name, value in build(**vars(arguments)).items():
        print(f"{name.replace('_', ' ')}: {value}")
    print(f"all of it is in {arguments.folder}")


def build(
    source: Path,
    folder: Path,
    weights: str = "imagenet",
    image_size: int = 224,
    min_count: int = 1,
    data_dir: Path = Path("data"),
    threads: int | None = None,
) -> dict[str, Any]:
    """Makes `folder` with caption files and images, whole or not at all.

    Args:
        source: folder or tar archive with images and dataset.json or captions.txt.
        folder: must not exist.
        weights: of ResNet-18: "imagenet", "none", or a file.
        image_size: height and width at which images enter the network, in pixels.
        min_count: words rarer than this in the training captions become <UNK>.
        data_dir: where ImageNet's weights are or will be downloaded to.
        threads: for torch; all cores by default.

    Returns:
        What is worth knowing about the result, as in coco2014_source.json.

    Raises:
        UserError: `source` or `weights` cannot be used, or `folder` exists or cannot be made.
    """
    if weights not in ("imagenet", "none") and not Path(weights).is_file():
        raise UserError(f"--weights {weights}: there is no such file; expected imagenet, none or a file")
    if image_size > _LARGEST_SIZE:
        raise UserError(f"--image_size {image_size} is more than the limit of {_LARGEST_SIZE} pixels")
    if folder.exists():
        raise UserError(f"{folder} exists already and is not touched; remove it or choose another")
    with Source(source) as opened:
        examples = read_examples(opened)
        network = _load_network(weights, data_dir, threads)
        with new_folder(folder) as made:
            features = _compute_features(examples, opened, network, image_size, made)
            shown = {"imagenet": "ImageNet's weights", "none": "random weights"}.get(weights, Path(weights).name)
            what = f"ResNet-18 with {shown}, images of {image_size}×{image_size} pixels"
            return write_files(made, source.resolve().name.partition(".")[0], what, examples, features, min_count)


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder to fill under another name, which becomes `folder` at the end and disappears if that is not reached."""
    making = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        making.mkdir(parents=True)
        yield making
        making.rename(folder)
    except OSError as error:
        raise UserError(f"cannot make {folder}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(making, ignore_errors=True)


def image_paths(examples: Sequence[Example]) -> list[str]:
    """Where the copy of each example's image goes in the folder, by its part and its number there."""
    counts: collections.Counter[str] = collections.Counter()
    paths = []
    for example in examples:
        paths.append(f"images/{example.part}/{counts[example.part]:06d}.jpg")
        counts[example.part] += 1
    return paths


def save_copy(image: Image.Image, path: Path) -> None:
    """Writes a small JPEG copy of `image`, for figures."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = image.copy()
    image.thumbnail((_COPY_SIZE, _COPY_SIZE))
    image.save(path, quality=90)


def write_files(
    folder: Path, name: str, what: str, examples: Sequence[Example], features: ndarray, min_count: int = 1
) -> dict[str, Any]:
    """Writes captions, features, vocabulary and addresses into `folder`, which has the images already.

    Args:
        folder: where to.
        name: of the data set.
        what: the features are.
        examples: the images with their captions.
        features: (examples, D).
        min_count: words rarer than this in the training captions become <UNK>.

    Returns:
        What is worth knowing about the result.
    """
    words = _vocabulary(examples, min_count)
    numbers = {word: number for number, word in enumerate(words)}
    longest = max(len(caption) for example in examples for caption in example.captions)
    in_training = features[[example.part == "train" for example in examples]]
    mean, directions = fit_pca(in_training)
    # One factor for all numbers: the network's first weights expect the features that come out to have variance 1.
    variance = ((in_training - mean) @ directions.T).var()
    scale = 1 / np.sqrt(variance) if variance > 0 else 1.0
    captions, images, tables, urls = {}, {}, {}, {}
    for part in PARTS:
        mine = [example for example in examples if example.part == part]
        rows = [_encode(caption, numbers, 2 + longest) for example in mine for caption in example.captions]
        captions[part] = np.array(rows)
        images[part] = np.repeat(np.arange(len(mine)), [len(example.captions) for example in mine])
        tables[part, False] = scale * features[[example.part == part for example in examples]]
        tables[part, True] = (tables[part, False] - scale * mean) @ directions.T
        urls[part] = image_paths(mine)
    facts = {
        "name": coco_files.plain_name(name),
        "features": f"{what}; {features.shape[1]} numbers, {len(directions)} after PCA",
        "training": f"{len(captions['train'])} captions of {len(urls['train'])} images",
        "validation": f"{len(captions['val'])} captions of {len(urls['val'])} images",
        "vocabulary": f"{len(words)} words with {', '.join(SPECIAL_WORDS)}",
        "longest_caption": f"{longest} words",
        "validation_words_unknown": f"{(captions['val'] == numbers[UNKNOWN]).sum()}",
    }
    coco_files.write(folder, captions, images, tables, urls, words, facts)
    return facts


def _vocabulary(examples: Sequence[Example], min_count: int) -> list[str]:
    """The special words, then those of the training captions, the most frequent first."""
    counts = collections.Counter(
        word for example in examples if example.part == "train" for caption in example.captions for word in caption
    )
    frequent = (word for word in counts if counts[word] >= min_count)
    return [*SPECIAL_WORDS, *sorted(frequent, key=lambda word: (-counts[word], word))]


def _encode(caption: Sequence[str], numbers: Mapping[str, int], length: int) -> list[int]:
    """<START>, the words' numbers, <END>, and <NULL> up to `length`."""
    words = [numbers.get(word, numbers[UNKNOWN]) for word in caption]
    encoded = [numbers[START], *words, numbers[END]]
    return encoded + [numbers[NULL]] * (length - len(encoded))


def fit_pca(features: ndarray) -> tuple[ndarray, ndarray]:
    """Principal component analysis.

    Args:
        features: (images, D).

    Returns:
        The mean (D,), and the directions (K, D) of the largest variances, at right angles and of length one; K is at
        most 512, D, and the number of images less one, since so many images span no more.
    """
    mean = features.mean(axis=0)
    _, _, directions = np.linalg.svd(features - mean, full_matrices=False)
    directions = directions[: max(1, min(_MOST_DIRECTIONS, len(features) - 1))]
    # A direction and its opposite are equally good: take the one whose largest number is positive.
    largest = np.abs(directions).argmax(axis=1)
    return mean, directions * np.sign(directions[np.arange(len(directions)), largest])[:, None]


def _load_network(weights: str, data_dir: Path, threads: int | None) -> "nn.Module":
    """ResNet-18 without its last layer, in eval mode."""
    import torch
    from torchvision.models import resnet18

    from hw_common.training.pretrained import load_backbone, load_pretrained

    pretrained = load_pretrained(weights, data_dir)
    torch.set_num_threads(threads or available_cores())
    torch.manual_seed(0)  # for --weights none
    network = resnet18()
    network.fc = torch.nn.Identity()
    if pretrained is not None:
        load_backbone(network, pretrained)
    return network.eval()


def _compute_features(
    examples: Sequence[Example], source: Source, network: "nn.Module", size: int, folder: Path
) -> ndarray:
    """The features (examples, 512) of all images; their copies go into `folder`."""
    import torch
    from tqdm import tqdm

    features = np.empty((len(examples), 512), dtype=np.float32)
    paths = image_paths(examples)
    order = sorted(range(len(examples)), key=lambda number: source.order(examples[number].file))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (_MEAN, _STD))
    bar = tqdm(total=len(examples), desc="features", unit="image", disable=None, leave=False)
    with bar, torch.inference_mode():
        for begin in range(0, len(order), _BATCH):
            batch, pixels = order[begin : begin + _BATCH], []
            for number in batch:
                file = examples[number].file
                image = decode(source.read(file), f"{file!r} in {source.path}")
                save_copy(image, folder / paths[number])
                pixels.append(np.asarray(image.resize((size, size), Image.Resampling.BILINEAR)))
            inputs = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2) / 255
            features[batch] = network((inputs - mean) / std).numpy()
            bar.update(len(batch))
    return features


if __name__ == "__main__":
    cli.run_command(main)
