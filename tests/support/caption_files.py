"""Small captioned data sets in the real file formats, and files with false content; used by the tests of hw_caption."""

import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cnn_files import pixels
from PIL import Image

SPLITS = {"train": 3, "val": 1, "test": 2}
CAPTIONS = ("A red House .", "some houses", "many T-junctions , and a road")


def picture(seed: int = 0, mode: str = "RGB", suffix: str = "PNG", size: tuple[int, int] = (9, 7)) -> bytes:
    """An image file with random content."""
    buffer = io.BytesIO()
    Image.fromarray(pixels(*size, 3, seed=seed)).convert(mode).save(buffer, suffix)
    return buffer.getvalue()


def sentence(text: str) -> dict[str, Any]:
    """A caption as dataset.json has it."""
    return {"tokens": text.split(), "raw": text}


def description(splits: Mapping[str, int] = SPLITS, captions: Sequence[str] = CAPTIONS) -> dict[str, Any]:
    """The content of a dataset.json with so many images in each split: 0.tif, 1.tif, …, all with `captions`."""
    places = [split for split, count in splits.items() for _ in range(count)]
    images = [
        {"filename": f"{number}.tif", "split": split, "sentences": [sentence(text) for text in captions]}
        for number, split in enumerate(places)
    ]
    return {"dataset": "Tiny", "images": images}


def write_json(folder: Path, content: Mapping[str, Any] | None = None, images: str = "images") -> Path:
    """Writes dataset.json and the images that it names (PNG files, whatever their suffix); returns `folder`."""
    content = content or description()
    (folder / images).mkdir(parents=True, exist_ok=True)
    (folder / "dataset.json").write_text(json.dumps(content))
    for seed, image in enumerate(content["images"]):
        (folder / images / image["filename"]).write_bytes(picture(seed))
    return folder


def write_text(folder: Path, lines: Sequence[str], images: str = "Images") -> Path:
    """Writes captions.txt with `lines` and the images that they name; returns `folder`."""
    (folder / images).mkdir(parents=True, exist_ok=True)
    (folder / "captions.txt").write_text("\n".join(lines) + "\n", newline="")
    for seed, name in enumerate({line.partition(",")[0] for line in lines} - {"image", "\ufeffimage", ""}):
        (folder / images / name).write_bytes(picture(seed))
    return folder


def pack(folder: Path, archive: Path) -> Path:
    """Puts `folder` into a tar archive; returns its path."""
    with tarfile.open(archive, "w") as tar:
        tar.add(folder, arcname=folder.name)
    return archive


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file below `folder`, lock files left out."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }
