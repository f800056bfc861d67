"""The sample: 120 rendered aerial scenes with five captions each, from a small grammar and a seed.

It is a data set like any other, a dataset.json with images, but for lying in memory; `python -m hw_caption.sample
FOLDER` writes it to disk.
"""

import functools
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from hw_caption.scenes import Scene, render
from hw_common.commands import cli
from hw_common.data import captioned_images
from hw_common.data.captioned_images import CaptionedImages
from hw_common.data.dataset_files import DatasetFile
from hw_common.runs import files
from hw_common.runs.errors import UserError

NAME = "sample scenes"
_DESCRIPTION = """\
Writes the sample to disk, as a folder with dataset.json and images that --dataset_dir of the other commands reads.

  python -m hw_caption.sample scenes
"""
_SEED = 1
# Splits of the scenes of one kind, in turn.
_SPLITS = ("train", "train", "val", "train", "train", "test") * 2


@dataclass(frozen=True)
class _Kind:
    """What scenes of a kind can look like and what can be said about them.

    Attributes:
        values: of each of a scene's attributes, those that it can have.
        phrases: sentences with attributes in braces.
        extras: what is said about an extra; connected by «and» or «with».
    """

    values: Mapping[str, Sequence[str]]
    phrases: Sequence[str]
    extras: Mapping[str, str]


_KINDS: Mapping[str, _Kind] = MappingProxyType({
    "houses": _Kind(
        {"colour": ("red", "orange", "grey"), "extra": ("", "trees", "cars", "pools")},
        (
            "a residential area with houses arranged neatly",
            "many houses with {colour} roofs stand in rows",
            "lots of houses with {colour} roofs arranged in lines",
            "roads go through a residential area with {colour} roofs",
            "there are rows of houses with {colour} roofs and roads between them",
            "a town of houses with {colour} roofs in straight rows",
        ),
        {"trees": "many trees beside the houses", "cars": "some cars on the roads", "pools": "some swimming pools"},
    ),
    "river": _Kind(
        {"colour": ("blue", "brown"), "ground": ("meadow", "forest"), "extra": ("", "bridge", "boats")},
        (
            "a {colour} river flows through a {ground}",
            "a curved river with {colour} water goes through the {ground}",
            "there is a curved {colour} river in the {ground}",
            "the {ground} is divided by a curved {colour} river",
            "a river with {colour} water and {ground} on both banks",
            "a curved river passes through the {ground}",
        ),
        {"bridge": "a bridge over the water", "boats": "white boats on the water"},
    ),
    "runway": _Kind(
        {"number": ("a straight runway", "two parallel runways"), "extra": ("", "airplane", "airplanes")},
        (
            "an airport with {number}",
            "{number} on the lawn of an airport",
            "this is a part of an airport with {number}",
            "there is an airport with {number} on a lawn",
            "{number} with white marks on a green lawn",
            "a part of an airport with {number} and white marks",
        ),
        {"airplane": "a white airplane", "airplanes": "three white airplanes"},
    ),
    "forest": _Kind(
        {"extra": ("", "road", "pond")},
        (
            "a dense forest with many dark green trees",
            "this is a dense forest",
            "a piece of dense forest with lots of trees",
            "there are lots of green trees in a forest",
            "many dark green trees make a dense forest",
            "the land is covered by dense forest",
        ),
        {"road": "a straight road through it", "pond": "a small blue pond in it"},
    ),
    "meadow": _Kind(
        {"colour": ("green", "yellow"), "extra": ("", "path", "trees")},
        (
            "a wide meadow with {colour} grass",
            "this is an open {colour} meadow",
            "there is a big piece of {colour} meadow",
            "a big {colour} meadow",
            "{colour} grass grows on an open meadow",
            "a piece of open meadow",
        ),
        {"path": "a curved path across it", "trees": "a few scattered trees on it"},
    ),
    "harbour": _Kind(
        {"colour": ("blue", "dark"), "extra": ("", "trees", "road")},
        (
            "a harbour with many white boats",
            "lots of white boats arranged neatly in a harbour",
            "many white boats on the {colour} water of a harbour",
            "there are many boats in rows in a harbour with {colour} water",
            "white boats parked beside the piers on {colour} water",
            "this is a harbour with {colour} water and lots of boats",
        ),
        {"trees": "a line of trees on the bank", "road": "a road on the bank"},
    ),
    "tennis": _Kind(
        {"colour": ("blue", "green", "orange"), "number": ("two", "four"), "extra": ("", "trees", "road")},
        (
            "{number} {colour} tennis courts on a lawn",
            "there are {number} tennis courts with {colour} ground",
            "{number} {colour} tennis courts arranged neatly",
            "a sports area with {number} {colour} tennis courts",
            "{number} tennis courts with white lines on {colour} ground",
            "this is a sports area with {number} tennis courts",
        ),
        {"trees": "a line of trees between them", "road": "a narrow road between them"},
    ),
    "factory": _Kind(
        {"colour": ("white", "grey", "blue"), "extra": ("", "cars", "containers")},
        (
            "an industrial area with many {colour} buildings",
            "many big buildings with {colour} roofs in an industrial area",
            "there are some big {colour} warehouses",
            "big warehouses with {colour} roofs arranged neatly",
            "this is an industrial area with big buildings",
            "an industrial area with {colour} warehouses and a road",
        ),
        {"cars": "some parked cars", "containers": "some containers"},
    ),
    "beach": _Kind(
        {"colour": ("blue", "green"), "extra": ("", "waves", "boats")},
        (
            "a beach beside the {colour} sea",
            "{colour} sea and a beach with yellow sand",
            "there is a long beach between the {colour} sea and a lawn",
            "a long beach with yellow sand beside the {colour} sea",
            "this is a beach with {colour} sea water on one side",
            "yellow sand between a lawn and the sea",
        ),
        {"waves": "white waves along it", "boats": "three white boats on the water"},
    ),
    "crossroad": _Kind(
        {"ground": ("meadow", "forest"), "extra": ("", "cars")},
        (
            "two wide roads cross in a {ground}",
            "a crossroad in the {ground}",
            "there is a crossroad of two wide roads in the {ground}",
            "the {ground} is divided by two roads",
            "two straight roads go through the {ground} and make a crossroad",
            "this is a crossroad of two roads",
        ),
        {"cars": "some cars on the roads"},
    ),
})  # fmt: skip


@functools.cache
def dataset() -> CaptionedImages:
    """The sample as the reader of dataset.json gives it; each picture is rendered when it is first read."""
    description, scenes = _scenes()
    content = json.dumps(description).encode()
    found = {"dataset.json": DatasetFile("dataset.json", "sample/dataset.json", lambda: content)}
    for name, (scene, seed) in scenes.items():
        picture = functools.cache(functools.partial(render, scene, seed))
        found[f"images/{name}"] = DatasetFile(name, f"sample/images/{name}", picture)
    return captioned_images.read_from(found.get, Path("sample"))


def _scenes() -> tuple[dict[str, Any], dict[str, tuple[Scene, int]]]:
    """The content of dataset.json, and for each image its scene and the seed that it is rendered from."""
    rng = np.random.default_rng(_SEED)
    images, scenes = [], {}
    for name, kind in _KINDS.items():
        combinations = [
            dict(zip(kind.values, values, strict=True)) for values in itertools.product(*kind.values.values())
        ]
        rng.shuffle(combinations)
        for number, split in enumerate(_SPLITS):
            attributes = combinations[number % len(combinations)]
            file = f"{name}{number + 1:02}.png"
            scenes[file] = Scene(name, **attributes), len(scenes)
            sentences = [{"tokens": caption.split(), "raw": caption} for caption in _captions(kind, attributes, rng)]
            images.append({"filename": file, "split": split, "sentences": sentences})
    return {"dataset": NAME, "images": images}, scenes


def _captions(kind: _Kind, attributes: Mapping[str, str], rng: np.random.Generator) -> list[str]:
    """Five different captions; all but the last mention what is there beside the main thing."""
    phrases = [str(phrase).format(**attributes) for phrase in rng.permutation(kind.phrases)[:5]]
    if not attributes.get("extra"):
        return phrases
    extra = kind.extras[attributes["extra"]]
    connected = [f"{p} {'and' if ' with ' in p else rng.choice(['and', 'with'])} {extra}" for p in phrases[:4]]
    return connected + phrases[4:]


def parser() -> cli.Parser:
    """All flags."""
    flags = cli.Parser("python -m hw_caption.sample", _DESCRIPTION, usage="%(prog)s FOLDER")
    flags.add_argument("folder", type=Path, metavar="FOLDER", help="to be made")
    return flags


def main(argv: Sequence[str] | None = None) -> None:
    """Writes dataset.json and the images into a new folder."""
    folder = parser().parse_args(argv).folder
    found = dataset()
    try:
        folder.mkdir(parents=True)
        (folder / "images").mkdir()
    except FileExistsError as error:
        raise UserError(f"{folder} exists already; name a new folder") from error
    for image in found.images:
        files.write_bytes(folder / "images" / image.file.name, image.file.read())
    files.write_bytes(folder / found.captions_file, found.content)  # last: without it, it is no data set
    print(f"{len(found.images)} images with their captions are in {folder}")


if __name__ == "__main__":
    cli.run_command(main)
