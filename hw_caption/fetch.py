"""Downloads the data sets Sydney and Flickr8k from public copies whose hashes are known."""

import json
import shutil
import zipfile
from collections.abc import Iterable, Mapping
from functools import cache, partial
from pathlib import Path

from hw_common.data import captioned_images, download
from hw_common.data.captioned_images import CaptionedImages
from hw_common.data.dataset_files import DatasetFile
from hw_common.data.file_names import is_junk
from hw_common.data.transfer import Download
from hw_common.data.words import UNICODE, WordRules

_SYDNEY_FILES = Path(__file__).with_name("sydney_files.txt")
_SYDNEY_ABOUT = "613 TIFF files and dataset.json, 463 MB; no licence is stated"
# This file marks a folder that was downloaded, so that deleted images can be downloaded again.
_ORIGIN = "origin.txt"
_FLICKR = "https://github.com/jbrownlee/Datasets/releases/download/Flickr8k"
_FLICKR_ABOUT = "1 GB in all, licence: for non-commercial research and education only"
_FLICKR_IMAGES, _FLICKR_TEXTS = (
    Download(name, [f"{_FLICKR}/{name}"], md5=md5, about=_FLICKR_ABOUT)
    for name, md5 in (
        ("Flickr8k_Dataset.zip", "f18a1e2920de5bd84dae7cf08ec78978"),
        ("Flickr8k_text.zip", "bf6c1abcb8e4a833b7f922104de18627"),
    )
)
_FLICKR_SPLITS = {
    "train": "Flickr_8k.trainImages.txt",
    "val": "Flickr_8k.devImages.txt",
    "test": "Flickr_8k.testImages.txt",
}
_FLICKR_CAPTIONS = "Flickr8k.token.txt"
_OTHERWISE = (
    "give its parent folder with --data_dir, give the folder itself or a .tar archive of it with --dataset_dir, or "
    "use --dataset sample"
)


def sydney(folder: Path) -> Path:
    """Downloads Sydney to `folder` and returns it; raises UserError and Stopped like `download.place_folder`."""
    address, files = _sydney_files(_SYDNEY_FILES)

    def finish(part: Path) -> None:
        (part / _ORIGIN).write_text(f"{address}\n", encoding="utf-8")
        print(
            f"{folder} is complete. Once the image features exist, you may delete {folder / 'images'}; an image that "
            "is needed later is downloaded again.",
            flush=True,
        )

    return download.place_folder(folder, list(files.values()), _hint(folder), finish)


def read(path: Path, rules: WordRules = UNICODE) -> CaptionedImages:
    """Reads a data set like `captioned_images.read`; a deleted image of `sydney` is downloaded when it is read."""
    if not (path / _ORIGIN).is_file():
        return captioned_images.read(path, rules)
    _, files = _sydney_files(_SYDNEY_FILES)

    def find(name: str) -> DatasetFile | None:
        if (path / name).is_file():
            return DatasetFile.from_path(path / name, name)
        wanted = files.get(Path(name).as_posix())
        if wanted is None:
            return None
        return DatasetFile(name, str(path / name), partial(_read_again, path, wanted), wanted.sha256)

    return captioned_images.read_from(find, path, rules)


def restore(images: Iterable[DatasetFile]) -> None:
    """Downloads the images of `sydney` that were deleted and are among `images`, all at once."""
    missing = [image for image in images if image.sha256 is not None]
    if missing:
        _, files = _sydney_files(_SYDNEY_FILES)
        folder = Path(missing[0].where).parents[1]
        wanted = [files[Path(image.where).relative_to(folder).as_posix()] for image in missing]
        download.place(folder, wanted, f"these images were deleted; {_hint(folder)}")


def _read_again(folder: Path, wanted: Download) -> bytes:
    [path] = download.place(folder, [wanted], f"this image was deleted; {_hint(folder)}")
    return path.read_bytes()


def _hint(folder: Path) -> str:
    return f"fetch {_page(_sydney_files(_SYDNEY_FILES)[0])} ({_SYDNEY_ABOUT}) and put it at {folder}, {_OTHERWISE}"


@cache
def _sydney_files(table: Path) -> tuple[str, Mapping[str, Download]]:
    """The address of Sydney's public copy, and its files by name."""
    _, address, *lines = table.read_text(encoding="utf-8").splitlines()
    rows = [line.split(" ") for line in lines]
    return address, {
        name: Download(name, [f"{address}/{name}"], sha256=sha256, size=int(size)) for name, size, sha256 in rows
    }


def _page(address: str) -> str:
    """The page of a folder on github.com, given the address of its raw files."""
    _, _, _, owner, repository, commit, *folders = address.split("/")
    return "/".join(["https://github.com", owner, repository, "tree", commit, *folders])


def flickr8k(folder: Path) -> Path:
    """Downloads Flickr8k to `folder` and returns it; raises UserError and Stopped like `download.place_folder`."""
    hint = (
        f"fetch {_FLICKR_IMAGES.urls[0]} and {_FLICKR_TEXTS.urls[0]} ({_FLICKR_ABOUT}), "
        f"put the images into {folder}/images and the captions into {folder}/captions.txt with a line "
        f"«image,caption» for each, {_OTHERWISE}"
    )
    return download.place_folder(folder, [_FLICKR_TEXTS, _FLICKR_IMAGES], hint, _unpack_flickr)


def _unpack_flickr(folder: Path) -> None:
    """Replaces both archives by the images and by a dataset.json with the published splits."""
    with zipfile.ZipFile(folder / _FLICKR_TEXTS.name) as archive:
        names = [*_FLICKR_SPLITS.values(), _FLICKR_CAPTIONS]
        texts = {name: archive.read(name).decode().replace("\r", "").split("\n") for name in names}
    captions: dict[str, list[str]] = {}
    for line in texts[_FLICKR_CAPTIONS]:
        name, _, caption = line.partition("\t")
        if UNICODE.tokenize(caption):  # the data set has one caption without words, a full stop
            captions.setdefault(name.partition("#")[0], []).append(caption)
    images = [
        {"filename": name, "split": split, "sentences": [{"raw": caption} for caption in captions[name]]}
        for split, file in _FLICKR_SPLITS.items()
        for name in texts[file]
        if name
    ]
    wanted = {image["filename"] for image in images}
    (folder / "images").mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / _FLICKR_IMAGES.name) as archive:
        for member in archive.infolist():
            name = member.filename.rpartition("/")[2]
            if name in wanted and not any(map(is_junk, member.filename.split("/"))):
                with archive.open(member) as source, open(folder / "images" / name, "wb") as target:
                    shutil.copyfileobj(source, target)
    content = json.dumps({"dataset": "Flickr8k", "images": images})
    (folder / "dataset.json").write_text(content, encoding="utf-8")
    for archive_file in (_FLICKR_IMAGES, _FLICKR_TEXTS):
        (folder / archive_file.name).unlink()
