"""Image files in class folders, `<folder>/<split>/<class>/*`, on disk or in an archive, which is not unpacked."""

import tarfile
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from PIL import Image

from hw_common.data import images
from hw_common.runs.errors import UserError

_LARGEST_ARCHIVE = 2**30  # bytes when unpacked; hymenoptera has 50 million


@dataclass(frozen=True)
class ImageFile:
    """An image file in a folder or in an archive."""

    name: str  # its path, for messages
    # its path on disk, its bytes, or a function that reads its bytes from an archive
    content: Path | bytes | Callable[[], bytes]

    def opened(self) -> AbstractContextManager[Image.Image]:
        """Opens the image with `hw_common.data.images.opened`, whose docstring says which files it rejects.

        Raises:
            UserError: the file in the archive is damaged, or `hw_common.data.images.opened` rejects it.
        """
        if isinstance(self.content, (Path, bytes)):
            return images.opened(self.content, self.name)
        try:
            return images.opened(self.content(), self.name)
        # The exceptions that zipfile raises for damaged and encrypted files.
        except (OSError, ValueError, RuntimeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise UserError(f"{self.name} is damaged: {error}") from error


@dataclass(frozen=True)
class ClassFolders:
    """The image files of a data set."""

    classes: tuple[str, ...]  # names of the classes, sorted
    files: Mapping[str, list[ImageFile]]  # image files of each split, class by class, sorted by name within a class
    labels: Mapping[str, list[int]]  # for each split, the position in `classes` of each file's class


Listed = dict[str, dict[str, list[ImageFile]]]  # split → class → files


def list_folder(
    folder: Path, splits: Sequence[str], *, smallest_class: int = 1, suffixes: tuple[str, ...] = ("",)
) -> ClassFolders:
    """Lists the image files `<folder>/<split>/<class>/*`.

    Args:
        folder: folder that contains a folder for each split.
        splits: names of the splits; all must have the same classes.
        smallest_class: smallest allowed number of images of a class in a split.
        suffixes: endings, in lower case, of the file names to list; all files by default. Hidden files and folders are
            skipped.

    Raises:
        UserError: a split is missing, there are fewer than two classes, the splits differ in their classes, or a class
            has too few images.
    """
    found: Listed = {}
    for split in splits:
        if not (folder / split).is_dir():
            raise UserError(
                f"{folder / split} does not exist; expected {folder}/{{{','.join(splits)}}}/<class>/* "
                "(name the folder with --data_dir)"
            )
        found[split] = {
            entry.name: [
                ImageFile(str(path), path)
                for path in sorted(entry.iterdir())
                if path.is_file() and _is_listed(path.name, suffixes)
            ]
            for entry in sorted((folder / split).iterdir())
            if entry.is_dir() and not entry.name.startswith(".")
        }
    return _check(folder, found, smallest_class)


def list_archive(
    path: Path, splits: Sequence[str], *, smallest_class: int = 1, suffixes: tuple[str, ...] = ("",)
) -> ClassFolders:
    """Lists the image files `<folder>/<split>/<class>/*` in a zip or tar archive without unpacking it.

    The name of the archive `path` ends in .zip, .tar or .tar.gz. The other arguments are explained in `list_folder`.

    Raises:
        UserError: the archive is damaged or would unpack to more than a gigabyte, or for the reasons of `list_folder`.
    """
    members = _zip_members(path) if path.suffix == ".zip" else _tar_members(path)
    found: Listed = {split: {} for split in splits}
    for member in sorted(members, key=lambda member: member.name):
        parts = PurePosixPath(member.name).parts
        if len(parts) == 4 and parts[1] in splits and _is_listed(parts[3], suffixes):
            file = ImageFile(f"{path}/{member.name}", member.content)
            found[parts[1]].setdefault(parts[2], []).append(file)
    return _check(path, found, smallest_class)


def _is_listed(name: str, suffixes: tuple[str, ...]) -> bool:
    return not name.startswith(".") and name.lower().endswith(suffixes)


def _check(where: Path, found: Listed, smallest_class: int) -> ClassFolders:
    first = next(iter(found))
    classes = sorted(found[first])
    if len(classes) < 2:
        raise UserError(f"{where / first} has {len(classes)} class folders, expected at least two")
    for split, files in found.items():
        if odd := sorted(set(files) ^ set(classes)):
            raise UserError(f"{where / split} and {where / first} differ in the class folders {', '.join(odd)}")
        for name in classes:
            if len(files[name]) < smallest_class:
                raise UserError(
                    f"the class folder {where / split / name} has {len(files[name])} images, "
                    f"expected at least {smallest_class}"
                )
    return ClassFolders(
        tuple(classes),
        {split: [file for name in classes for file in files[name]] for split, files in found.items()},
        {split: [label for label, name in enumerate(classes) for _ in files[name]] for split, files in found.items()},
    )


def _check_size(path: Path, size: int) -> None:
    if size > _LARGEST_ARCHIVE:
        raise UserError(f"{path} would unpack to more than {_LARGEST_ARCHIVE} bytes")


def _zip_members(path: Path) -> list[ImageFile]:
    try:
        archive = zipfile.ZipFile(path)  # stays open, because the files are read later, by several threads
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise UserError(f"{path} is damaged or not a zip archive: {error}") from error
    entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    _check_size(path, sum(entry.file_size for entry in entries))
    return [ImageFile(entry.filename, partial(archive.read, entry)) for entry in entries]


def _tar_members(path: Path) -> list[ImageFile]:
    """Reads the plain files of a tar archive; skips links, which could point outside the archive."""
    members, total = [], 0
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                total += member.size + tarfile.BLOCKSIZE  # the block is the member's header
                _check_size(path, total)
                if member.isfile() and (file := archive.extractfile(member)) is not None:
                    members.append(ImageFile(member.name, file.read()))
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise UserError(f"{path} is damaged or not a tar archive: {error}") from error
    return members
