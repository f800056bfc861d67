"""Files in folders and archives: those inside the data set are found, and no others."""

import errno
import gzip
import io
import os
import tarfile

import pytest

from hw_common.data import dataset_files
from hw_common.data.dataset_files import DatasetFile, file_finder, is_inside, label_of
from hw_common.runs.errors import UserError

CONTENTS = {"list.txt": b"a list", "parts/a": b"A", "parts/b c": bytes(1000)}


@pytest.fixture
def folder(tmp_path):
    """A data set in a folder."""
    for name, content in CONTENTS.items():
        path = tmp_path / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "set"


def pack(folder, mode="w"):
    path = folder.with_suffix(".tar")
    with tarfile.open(path, mode) as tar:
        tar.add(folder, arcname="outer/set")
    return path


@pytest.mark.parametrize("mode", [None, "w", "w:gz", "w:bz2", "w:xz"])
def test_files_are_found_in_folders_and_archives(folder, mode):
    path = folder if mode is None else pack(folder, mode)
    find = file_finder(path, ("list.txt",))
    for name, content in CONTENTS.items():
        file = find(name)
        assert file.name == name and file.read() == content and name in file.where and str(path) in file.where
    for name in ("another", "parts", "", "x" * 5000):
        assert find(name) is None


def test_the_root_is_the_one_nearest_to_the_top(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for name in ("deep/er/list.txt", "deep/list.txt", "deep/part", "part"):
            member = tarfile.TarInfo(name)
            member.size = len(name)
            tar.addfile(member, io.BytesIO(name.encode()))
    find = file_finder(tmp_path / "x.tar", ("list.txt",))
    assert find("part").read() == b"deep/part"
    assert file_finder(tmp_path / "x.tar", ("nothing",))("part").read() == b"part"


@pytest.mark.parametrize("name", ["../a", "/a", "a/../../b", "", ".", "a\nb", "a\0b", ".."])
def test_names_that_leave_the_folder(name):
    assert not is_inside(name)


@pytest.mark.parametrize(
    "name", ["a", "a/b.wav", "..a", "a b", "at 9.41\u202fAM.png", "👩\u200d👧.png", "\u200fחתול.png", "caf\udce9.png"]
)
def test_names_that_do_not(name):
    assert is_inside(name)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("there", "asked"), [("cafe\u0301.jpg", "caf\u00e9.jpg"), ("caf\u00e9.jpg", "cafe\u0301.jpg")])
def test_names_are_found_in_both_spellings_of_a_letter_with_a_mark(tmp_path, packed, there, asked):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / there).write_bytes(b"picture")
    path = tmp_path / "x"
    if packed:
        path = tmp_path / "x.tar"
        with tarfile.open(path, "w") as archive:
            archive.add(tmp_path / "x", ".")
    file = file_finder(path, ())(asked)
    assert file is not None and (file.name, file.read()) == (asked, b"picture")


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("x.tar.gz", "x"),
        ("my set", "my_set"),
        ("caf\udce9", "caf_"),
        ("cafe\u0301", "café"),
        ("एक.tar", "एक"),
        ("…", "_"),
    ],
)
def test_a_data_set_is_called_after_its_folder_or_archive(tmp_path, name, label):
    assert label_of(tmp_path / name) == label


def test_junk_folders_are_not_the_root(tmp_path):
    for folder in ("__MACOSX", "data/set"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "metadata.csv").write_text(folder)
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for folder in ("__MACOSX", "data"):
            archive.add(tmp_path / folder, folder)
    file = file_finder(tmp_path / "a.tar", ("metadata.csv",))("metadata.csv")
    assert file is not None and file.read() == b"data/set"


def test_links_in_archives_are_no_files(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
            member = tarfile.TarInfo(f"link {kind}")
            member.type, member.linkname = kind, "/etc/passwd"
            tar.addfile(member)
    find = file_finder(tmp_path / "x.tar", ())
    assert all(find(f"link {kind}") is None for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE))


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("share", [0.9, 0.5, 0.05])
def test_archives_that_are_cut_short(folder, mode, share):
    path = pack(folder, mode)
    os.truncate(path, int(share * path.stat().st_size) if mode != "w" else int(share * 2000))
    with pytest.raises(UserError, match="damaged|cut short") as caught:
        find = file_finder(path, ("list.txt",))
        for name in CONTENTS:
            if (file := find(name)) is None:
                raise UserError("cut short between two members")  # noqa: TRY301
            file.read()
    assert "\n" not in str(caught.value)


def test_a_compressed_archive_that_unpacks_to_too_much_is_refused(folder, monkeypatch):
    monkeypatch.setattr(dataset_files, "LARGEST_PACKED", 1000)
    with pytest.raises(UserError, match="holds more than 1000 bytes; unpack it and name its folder"):
        file_finder(pack(folder, "w:gz"), ("list.txt",))


def test_an_archive_that_is_cut_short_while_it_is_read(folder):
    path = pack(folder)
    file = file_finder(path, ("list.txt",))("parts/b c")
    os.truncate(path, 2000)
    with pytest.raises(UserError, match="set.tar is cut short"):
        file.read()


def test_what_is_no_archive(tmp_path):
    (tmp_path / "x").write_bytes(b"no archive" * 100)
    (tmp_path / "y").write_bytes(gzip.compress(b"no archive" * 100))
    for name in "xy":
        with pytest.raises(UserError, match="is damaged or not a tar archive"):
            file_finder(tmp_path / name, ())
    with pytest.raises(UserError, match="does not exist; expected a folder or a tar archive"):
        file_finder(tmp_path / "z", ())


def test_archives_that_would_fill_the_memory(folder, monkeypatch):
    monkeypatch.setattr(dataset_files, "LARGEST_PACKED", 1000)
    with pytest.raises(UserError, match="holds more than 1000 bytes; unpack it"):
        file_finder(pack(folder, "w:gz"), ())


def test_long_names_count_too(tmp_path, monkeypatch):
    monkeypatch.setattr(dataset_files, "LARGEST_PACKED", 100_000)
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz", format=tarfile.GNU_FORMAT) as tar:
        tar.addfile(tarfile.TarInfo("x" * 200_000))
    with pytest.raises(UserError, match="holds more than 100000 bytes"):
        file_finder(tmp_path / "x.tar.gz", ())


@pytest.mark.parametrize("packed", [False, True])
def test_sizes_below_zero_end_the_reading(tmp_path, packed):
    first, second = tarfile.TarInfo("a"), tarfile.TarInfo("b")
    second.size = -512
    content = b"".join(member.tobuf(tarfile.GNU_FORMAT) for member in (first, second)) + bytes(1024)
    (tmp_path / "x.tar").write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(UserError, match="x.tar is damaged or not a tar archive: b has -512 bytes"):
        file_finder(tmp_path / "x.tar", ())


def test_a_size_beyond_all_file_positions_is_damage(tmp_path):
    first, second = tarfile.TarInfo("a"), tarfile.TarInfo("b")
    second.size = 2**63 - 1
    content = b"".join(member.tobuf(tarfile.GNU_FORMAT) for member in (first, second)) + bytes(1024)
    (tmp_path / "x.tar.gz").write_bytes(gzip.compress(content))
    with pytest.raises(UserError, match="x.tar.gz is damaged or not a tar archive"):
        file_finder(tmp_path / "x.tar.gz", ())


def test_files_that_are_too_large(folder, monkeypatch):
    monkeypatch.setattr(dataset_files, "LARGEST_FILE", 999)
    for path in (folder, pack(folder)):
        with pytest.raises(UserError, match="b c is larger than the limit of 999|set.tar is larger than"):
            file_finder(path, ("list.txt",))("parts/b c").read()


def test_a_file_that_is_gone(tmp_path):
    with pytest.raises(UserError, match="cannot read .*gone: No such file"):
        DatasetFile.from_path(tmp_path / "gone").read()


def test_a_folder_that_may_not_be_read_is_not_called_empty(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr("pathlib.Path.is_file", refuse)  # root, as which tests may run, can read every folder
    with pytest.raises(PermissionError, match="captions.txt"):
        file_finder(tmp_path, ())("captions.txt")
