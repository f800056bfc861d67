"""Image files in class folders, `<folder>/<split>/<class>/*`, on disk or in an archive, which is not unpacked."""

import contextlib
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from PIL import Image

from hw_common.data import images
from hw_common.data.dataset_files import check_end, read_file
from hw_common.data.file_names import VALIDATION, is_junk
from hw_common.runs.errors import UserError

_LARGEST_ARCHIVE = 2**30  # bytes when unpacked; hymenoptera has 50 million
_UTF8_FLAG = 0x800  # bit of a zip member whose name is UTF-8
# Usual names of a split's folder, in lower case; a split that is not listed here has only its own name.
_FOLDER_NAMES = {"val": VALIDATION}


@dataclass(frozen=True)
class ImageFile:
    """An image file in a folder or in an archive."""

    name: str  # the file's path, for messages
    # The path on disk, the bytes, or a function that reads the bytes from an archive.
    content: Path | bytes | Callable[[], bytes]

    def decode(self, shorter_side: int | None = None) -> Image.Image:
        """Decodes the image with `hw_common.data.images.decode`, whose docstring explains `shorter_side`.

        Raises:
            UserError: the file cannot be read, or `hw_common.data.images.decode` rejects it.
        """
        return images.decode(self._read(), self.name, shorter_side)

    def _read(self) -> bytes:
        if isinstance(self.content, bytes):
            return self.content
        if isinstance(self.content, Path):
            return read_file(self.content)
        try:
            return self.content()
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
    folder: Path,
    splits: Sequence[str],
    *,
    optional: Sequence[str] = (),
    smallest_class: int = 1,
    suffixes: tuple[str, ...] = ("",),
) -> ClassFolders:
    """Lists the image files `<folder>/<split>/<class>/*`.

    The folder of the split "val" may also be called valid, validation or dev. Case and spaces around a name do not
    matter. Junk files and folders (see `file_names.is_junk`) are skipped.

    Args:
        folder: folder that contains a folder for each split.
        splits: names of the splits; all must have the same classes.
        optional: splits that may be missing.
        smallest_class: smallest allowed number of images of a class in a split.
        suffixes: endings, in lower case, of the file names to list; all files by default.

    Raises:
        UserError: a split is missing or has two folders, a folder with another name looks like a missing split, there
            are fewer than two classes, the splits differ in their classes, or a class has too few images.
    """
    entries = [entry for entry in folder.iterdir() if entry.is_dir()] if folder.is_dir() else []
    names = _split_folders(folder, splits, (entry.name for entry in entries))
    found: Listed = {}
    for split in splits:
        if split in names:
            found[split] = _list_classes(folder / names[split], suffixes)
        elif split not in optional:
            raise UserError(
                f"{folder / split} does not exist; expected {folder}/{{{','.join(splits)}}}/<class>/* "
                "(name the folder with --data_dir)"
            )
        else:
            _check_unnamed(split, entries, set(names.values()), found)
    return _check({split: folder / names[split] for split in found}, found, smallest_class)


def _check_unnamed(split: str, entries: Sequence[Path], named: set[str], found: Listed) -> None:
    """Refuses a folder that looks like the missing `split`: its name is not in `named`, but it has a class folder."""
    classes = {name for files in found.values() for name in files}
    for entry in sorted(entries):
        if entry.name not in named and not is_junk(entry.name) and not classes.isdisjoint(_list_classes(entry, ("",))):
            raise UserError(
                f"{entry} contains class folders, but its name is not that of a split; rename it to {split}, or move "
                "it elsewhere"
            )


def _list_classes(folder: Path, suffixes: tuple[str, ...]) -> dict[str, list[ImageFile]]:
    classes: dict[str, list[ImageFile]] = {}
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and not is_junk(entry.name):
            files = classes.setdefault(_class_name(entry.name), [])
            files += [
                ImageFile(str(path), path)
                for path in sorted(entry.iterdir())
                if path.is_file() and _is_listed(path.name, suffixes)
            ]
    return classes


def list_archive(
    path: Path, splits: Sequence[str], *, smallest_class: int = 1, suffixes: tuple[str, ...] = ("",)
) -> ClassFolders:
    """Lists the image files `<folder>/<split>/<class>/*` in a zip or tar archive without unpacking it.

    The name of the archive `path` ends in .zip, .tar or .tar.gz. The names of splits, the other arguments and the files
    that are skipped are explained in `list_folder`.

    Raises:
        UserError: the archive is damaged or would unpack to more than a gigabyte, or for the reasons of `list_folder`.
    """
    members = _zip_members(path) if path.suffix == ".zip" else _tar_members(path)
    images_of: dict[tuple[str, str], list[ImageFile]] = {}
    for member in sorted(members, key=lambda member: member.name):
        parts = PurePosixPath(member.name).parts
        if len(parts) == 4 and not any(map(is_junk, parts[:3])) and _is_listed(parts[3], suffixes):
            file = ImageFile(f"{path}/{member.name}", member.content)
            images_of.setdefault((parts[1], _class_name(parts[2])), []).append(file)
    names = _split_folders(path, splits, (folder for folder, _ in images_of))
    found: Listed = {
        split: {name: files for (folder, name), files in images_of.items() if folder == names.get(split)}
        for split in splits
    }
    return _check({split: path / names.get(split, split) for split in splits}, found, smallest_class)


def _split_folders(where: Path, splits: Sequence[str], names: Iterable[str]) -> dict[str, str]:
    """The name of each split's folder, chosen from `names`; splits without a folder are left out."""
    present = sorted(set(names))
    chosen = {}
    for split in splits:
        found = [name for name in present if name.strip().lower() in _FOLDER_NAMES.get(split, (split,))]
        if len(found) > 1:
            raise UserError(f"{where} has the folders {' and '.join(found)} for the split {split}; keep one of them")
        if found:
            chosen[split] = found[0]
    return chosen


def _class_name(folder: str) -> str:
    """The name of a class folder, with composed letters, since two splits may spell the same folder in two ways.

    Line breaks and other control characters are escaped, so that each message about the class is one line.
    """
    is_control = {c: unicodedata.category(c) in ("Cc", "Zl", "Zp") for c in folder}
    shown = "".join(c.encode("unicode_escape").decode() if is_control[c] else c for c in folder)
    return unicodedata.normalize("NFC", shown)


def _is_listed(name: str, suffixes: tuple[str, ...]) -> bool:
    return not is_junk(name) and name.lower().endswith(suffixes)


def _check(where: Mapping[str, Path], found: Listed, smallest_class: int) -> ClassFolders:
    """Checks the files `found`; `where` has the path of each split, for messages."""
    first = next(iter(found))
    classes = sorted(found[first])
    if len(classes) < 2:
        raise UserError(f"{where[first]} has {len(classes)} class folders, expected at least two")
    for split, files in found.items():
        if odd := sorted(set(files) ^ set(classes)):
            raise UserError(f"{where[split]} and {where[first]} differ in the class folders {', '.join(odd)}")
        for name in classes:
            if len(files[name]) < smallest_class:
                raise UserError(
                    f"the class folder {where[split] / name} has {len(files[name])} images, "
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
    return [ImageFile(_zip_name(entry), partial(archive.read, entry)) for entry in entries]


def _zip_name(entry: zipfile.ZipInfo) -> str:
    """The name of a zip member. Many programs write UTF-8 without the flag for it; Python reads such names as cp437.

    Some programs for Windows write backslashes between folders.
    """
    name = entry.filename
    if not entry.flag_bits & _UTF8_FLAG:
        with contextlib.suppress(ValueError):
            name = name.encode("cp437").decode()
    return name.replace("\\", "/")


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
            check_end(archive)
    except (tarfile.TarError, EOFError, OSError, ValueError, OverflowError, RecursionError, zlib.error) as error:
        raise UserError(f"{path} is damaged or not a tar archive: {error}") from error
    return members
