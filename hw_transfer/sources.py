"""Where pictures come from: folders, and archives that are read in place."""

import tarfile
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from torchvision.datasets.folder import IMG_EXTENSIONS

from hw_common.data import download
from hw_common.runs.errors import UserError
from hw_transfer.images import PictureFile

SPLITS = ("train", "val")
_NAME = "hymenoptera_data"
# As the sheet's course has it; the published hash of the file.
_DOWNLOAD = download.Download(
    f"{_NAME}.zip", [f"https://download.pytorch.org/tutorial/{_NAME}.zip"], "5f8c32a6554f6acb4d649776e7735e48"
)
_LARGEST_ARCHIVE = 2**30  # bytes when unpacked; hymenoptera has 50 million


@dataclass(frozen=True)
class Listing:
    """The picture files of a data set.

    Attributes:
        classes: their names, sorted.
        files: of each split, those of the first class first.
        labels: the class number of each file.
    """

    classes: tuple[str, ...]
    files: Mapping[str, list[PictureFile]]
    labels: Mapping[str, list[int]]


def find(dataset: str, data_dir: Path) -> Listing:
    """The picture files of "hymenoptera" or "folder".

    hymenoptera is `hymenoptera_data/{train,val}/{ants,bees}/*`: a folder in `data_dir`, or a zip or tar archive there,
    which is read in place, so that `data_dir` need not be writable; else the zip is downloaded.

    Raises:
        UserError: there are no such files and they cannot be downloaded, or a class lacks pictures.
    """
    if dataset == "folder":
        return list_folder(data_dir)
    if (data_dir / _NAME).is_dir():
        return list_folder(data_dir / _NAME)
    for suffix in (".zip", ".tar", ".tar.gz"):
        if (data_dir / f"{_NAME}{suffix}").is_file():
            return list_archive(data_dir / f"{_NAME}{suffix}")
    return list_archive(*download.place(data_dir, [_DOWNLOAD]))


def list_folder(folder: Path) -> Listing:
    """The pictures in `folder/{train,val}/<class>/*`; files of other kinds are passed over, as ImageFolder does.

    Raises:
        UserError: a split is missing, the class folders differ, or one has fewer than two pictures.
    """
    found: dict[tuple[str, str], list[PictureFile]] = {}
    for split in SPLITS:
        if not (folder / split).is_dir():
            raise UserError(
                f"{folder / split} does not exist; expected {folder}/{{train,val}}/<class>/* "
                "(name the folder with --data_dir)"
            )
        for class_folder in sorted((folder / split).iterdir()):
            if class_folder.is_dir() and not class_folder.name.startswith("."):
                paths = sorted(path for path in class_folder.iterdir() if path.is_file() and _is_picture(path.name))
                files = [PictureFile(str(path), path.read_bytes) for path in paths]
                found[split, class_folder.name] = files
    return _listing(str(folder), found)


def list_archive(path: Path) -> Listing:
    """The pictures `<folder>/{train,val}/<class>/*` in a zip or tar archive, which is not unpacked.

    Raises:
        UserError: the archive is damaged or claims more than a gigabyte; or as `list_folder`.
    """
    members = _zip_members(path) if path.suffix == ".zip" else _tar_members(path)
    found: dict[tuple[str, str], list[PictureFile]] = {}
    for file in sorted(members, key=lambda file: file.name):
        parts = PurePosixPath(file.name).parts
        if len(parts) == 4 and parts[1] in SPLITS and _is_picture(parts[3]):
            named = PictureFile(f"{path}/{file.name}", file.read)
            found.setdefault((parts[1], parts[2]), []).append(named)
    return _listing(str(path), found)


def _is_picture(name: str) -> bool:
    return not name.startswith(".") and name.lower().endswith(IMG_EXTENSIONS)


def _listing(where: str, found: Mapping[tuple[str, str], list[PictureFile]]) -> Listing:
    classes, in_val = ([name for part, name in found if part == split] for split in SPLITS)
    if set(classes) != set(in_val):
        odd = sorted(set(classes) ^ set(in_val))
        raise UserError(f"train and val in {where} differ in the classes {', '.join(odd)}")
    if len(classes) < 2:
        raise UserError(f"{where} has {len(classes)} classes with pictures in train/<class>/*, expected at least two")
    for (split, name), files in found.items():
        if len(files) < 2:
            what = "no picture" if not files else "only one picture"
            raise UserError(f"{where}/{split}/{name} has {what}; every class needs at least two in train and in val")
    return Listing(
        tuple(classes),
        {split: [file for name in classes for file in found[split, name]] for split in SPLITS},
        {split: [label for label, name in enumerate(classes) for _ in found[split, name]] for split in SPLITS},
    )


def _check_size(path: Path, size: int) -> None:
    if size > _LARGEST_ARCHIVE:
        raise UserError(f"{path} claims more than {_LARGEST_ARCHIVE} bytes when unpacked")


def _zip_members(path: Path) -> list[PictureFile]:
    try:
        archive = zipfile.ZipFile(path)  # stays open for the pictures' readers; it may be read by several threads
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise UserError(f"{path} is damaged or no zip archive: {error}") from error
    entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    _check_size(path, sum(entry.file_size for entry in entries))
    return [PictureFile(entry.filename, lambda entry=entry: archive.read(entry)) for entry in entries]


def _tar_members(path: Path) -> list[PictureFile]:
    """Plain files only: a link could lead anywhere."""
    files, total = [], 0
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                total += member.size + tarfile.BLOCKSIZE  # of its header
                _check_size(path, total)
                if member.isfile():
                    content = archive.extractfile(member).read()
                    files.append(PictureFile(member.name, lambda content=content: content))
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise UserError(f"{path} is damaged or no tar archive: {error}") from error
    return files
