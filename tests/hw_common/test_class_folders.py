"""Class folders as real systems leave them: junk files, other names of the validation set, names in any script."""

import gzip
import shutil
import tarfile
import unicodedata
import zipfile
from pathlib import Path

import cnn_files
import pytest
import transfer_files

from hw_cnn import readers
from hw_cnn.presets import NETWORKS
from hw_common.data import dataset_files
from hw_common.data.class_folders import ClassFolders, list_archive, list_folder
from hw_common.runs.errors import UserError
from hw_transfer import data

SPLITS = ("train", "val")
JUNK = (
    *("train/ants/Thumbs.db", "val/bees/desktop.ini", "train/ants/._0.png", "train/ants/.DS_Store"),
    *("train/.ipynb_checkpoints/0-checkpoint.png", "train/@eaDir/0.png", "val/__MACOSX/0.png", "val/bees/0.png~"),
    *("train/bees/0.png:Zone.Identifier", ".Trashes/train/x/0.png", "__MACOSX/val/x/0.png", "train/lost+found/0.png"),
)


def names(found: ClassFolders) -> dict[str, list[str]]:
    """The last three parts of the path of each file, by split."""
    return {split: ["/".join(Path(file.name).parts[-3:]) for file in files] for split, files in found.files.items()}


@pytest.mark.parametrize("suffix", ["", ".zip", ".tar", ".tar.gz"])
def test_junk_is_passed_over_in_folders_and_archives(tmp_path, suffix):
    members = {**transfer_files.members(), **dict.fromkeys(JUNK, b"no picture")}
    path = tmp_path / f"hymenoptera_data{suffix}"
    if suffix:
        (transfer_files.write_zip if suffix == ".zip" else transfer_files.write_tar)(path, members)
    else:
        for name, content in members.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)
    found = (list_archive if suffix else list_folder)(path, SPLITS)
    assert found.classes == ("ants", "bees")
    assert sum(names(found).values(), []) == sorted(transfer_files.members())
    assert len(data.load("hymenoptera", tmp_path).train) == 6


def test_both_homeworks_pass_over_junk(tmp_path):
    cnn_files.write_folder(tmp_path, {"train": 2, "val": 2, "test": 2})
    (tmp_path / "train" / ".ipynb_checkpoints").mkdir()
    for split in ("train", "val"):
        (tmp_path / split / "cat" / "Thumbs.db").write_bytes(b"no image")
    assert len(readers.read_folder(tmp_path, NETWORKS["fashion"], seed=0).train[1]) == 4
    assert len(data.load("folder", tmp_path).train) == 4


@pytest.mark.parametrize("name", ["val", "valid", "validation", "dev", "Valid", "VAL "])
def test_the_validation_set_has_several_names(tmp_path, name):
    cnn_files.write_folder(tmp_path, {"train": 2, "test": 1})
    shutil.copytree(tmp_path / "test", tmp_path / name)
    found = readers.read_folder(tmp_path, NETWORKS["fashion"], seed=0)
    assert (len(found.train[1]), len(found.val[1])) == (4, 2)
    (tmp_path / name / "cat" / "1.png").write_bytes((tmp_path / "test" / "cat" / "0.png").read_bytes())
    (tmp_path / name / "dog" / "1.png").write_bytes((tmp_path / "test" / "dog" / "0.png").read_bytes())
    assert len(data.load("folder", tmp_path).val) == 4


def test_two_validation_sets_are_refused(tmp_path):
    cnn_files.write_folder(tmp_path, {"train": 2, "val": 2, "test": 1})
    shutil.copytree(tmp_path / "val", tmp_path / "dev")
    for load in (lambda: readers.read_folder(tmp_path, NETWORKS["fashion"], 0), lambda: data.load("folder", tmp_path)):
        with pytest.raises(UserError, match="has the folders dev and val for the split val; keep one of them"):
            load()


def test_a_misnamed_validation_set_is_refused_instead_of_ignored(tmp_path):
    cnn_files.write_folder(tmp_path, {"train": 20, "eval": 2, "test": 1})
    with pytest.raises(UserError, match=r"eval contains class folders, but .*; rename it to val, or move it elsewhere"):
        readers.read_folder(tmp_path, NETWORKS["fashion"], 0)
    shutil.rmtree(tmp_path / "eval")
    (tmp_path / "notes" / "drafts").mkdir(parents=True)
    assert len(readers.read_folder(tmp_path, NETWORKS["fashion"], 0).train[1]) == 36


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
@pytest.mark.parametrize("damage", ["cut between files", "cut in a header", "wrong byte in a header"])
def test_a_damaged_tar_archive_is_no_shorter_archive(tmp_path, suffix, damage):
    whole = tmp_path / "whole.tar"
    transfer_files.write_tar(whole, transfer_files.members())
    with tarfile.open(whole) as archive:
        header = archive.getmembers()[-1].offset
    content = bytearray(whole.read_bytes())
    if damage == "wrong byte in a header":
        content[header] ^= 1
    else:
        del content[header + (100 if damage == "cut in a header" else 0) :]
    path = tmp_path / f"hymenoptera_data{suffix}"
    path.write_bytes(gzip.compress(content) if suffix == ".tar.gz" else content)
    with pytest.raises(UserError, match=rf"is damaged or not a tar archive: there is neither .* at byte {header}"):
        list_archive(path, SPLITS)
    with pytest.raises(UserError, match=rf"is damaged or not a tar archive: there is neither .* at byte {header}"):
        dataset_files.file_finder(path, ())


def test_zip_archives_may_separate_folders_by_backslashes(tmp_path):
    members = {name.replace("/", "\\"): content for name, content in transfer_files.members().items()}
    transfer_files.write_zip(tmp_path / "hymenoptera_data.zip", members)
    assert len(data.load("hymenoptera", tmp_path).train) == 6


NAMES = ("猫", "café", "cafe\u0301s", "screenshot 9.41\u202fAM", "👩\u200d👩\u200d👧", "חתול", "caf\udce9")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("suffix", ["", ".zip", ".tar"])
def test_class_names_in_any_script_are_read(tmp_path, name, suffix):
    members = transfer_files.members(classes=("ants", name))
    path = tmp_path / f"pictures{suffix}"
    if suffix == ".zip" and name == "caf\udce9":
        pytest.skip("a zip archive has names in Unicode or cp437")
    if suffix:
        (transfer_files.write_zip if suffix == ".zip" else transfer_files.write_tar)(path, members)
    else:
        transfer_files.write_folder(path, classes=("ants", name))
    found = (list_archive if suffix else list_folder)(path, SPLITS)
    assert found.classes == tuple(sorted(("ants", unicodedata.normalize("NFC", name))))
    assert len(found.files["train"]) == 6


def test_control_characters_in_the_name_of_a_class_are_escaped(tmp_path):
    for name in ("two\nlines", "a\ttab\u2028"):
        (tmp_path / "train" / name).mkdir(parents=True)
        (tmp_path / "train" / name / "0.png").touch()
    found = list_folder(tmp_path, ("train",))
    assert found.classes == (r"a\ttab\u2028", r"two\nlines") and len(found.files["train"]) == 2


def test_splits_may_spell_a_class_with_composed_letters_or_with_marks(tmp_path):
    transfer_files.write_folder(tmp_path, classes=("ants", "caf\u00e9"))
    (tmp_path / "val" / "caf\u00e9").rename(tmp_path / "val" / "cafe\u0301")
    assert list_folder(tmp_path, SPLITS).classes == ("ants", "café")


class Unflagged(zipfile.ZipInfo):
    """A member whose name is written in an encoding that the archive does not state."""

    encoding = "utf-8"

    def _encodeFilenameFlags(self) -> tuple[bytes, int]:  # noqa: N802
        return self.filename.encode(self.encoding), self.flag_bits


@pytest.mark.parametrize(("name", "encoding"), [("caf\u00e9", "utf-8"), ("猫", "utf-8"), ("caf\u00e9", "cp437")])
def test_zip_names_without_the_flag_are_utf_8_or_cp437(tmp_path, monkeypatch, name, encoding):
    monkeypatch.setattr(Unflagged, "encoding", encoding)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for member, content in transfer_files.members(classes=("ants", name)).items():
            archive.writestr(Unflagged(f"pictures/{member}"), content)
    found = list_archive(tmp_path / "a.zip", SPLITS)
    assert set(found.classes) == {"ants", name}
    assert found.files["val"][-1].decode().size == (40, 30)
