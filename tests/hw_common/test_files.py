"""Files appear whole or not at all, and their content is checked when they are read."""

import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw_common.runs import files
from hw_common.runs.errors import UserError


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def test_write_bytes_makes_and_replaces_a_file_and_leaves_nothing_else(tmp_path):
    for data in (b"first", b"second", b""):
        files.write_bytes(tmp_path / "a", data)
        assert (tmp_path / "a").read_bytes() == data
        assert names(tmp_path) == ["a"]


def test_new_folder_replaces_a_folder_as_a_whole(tmp_path):
    for name in ("first", "second"):
        with files.new_folder(tmp_path / "into" / "a", "try again") as new:
            (new / name).touch()
        assert (names(tmp_path / "into"), names(tmp_path / "into" / "a")) == (["a"], [name])


@pytest.mark.parametrize("failing", ["block", "new", "old"])
def test_new_folder_keeps_the_earlier_folder_after_an_error(tmp_path, monkeypatch, failing):
    with files.new_folder(tmp_path / "a", "try again") as new:
        (new / "earlier").touch()

    def swap(source, target, real=os.replace):
        if failing == ("new" if ".new-" in source.name else "old" if ".old-" in target.name else ""):
            raise OSError(28, "No space left on device")
        real(source, target)

    monkeypatch.setattr("os.replace", swap)
    with (
        pytest.raises(UserError, match="cannot write .*a: No space left on device; try again"),
        files.new_folder(tmp_path / "a", "try again") as new,
    ):
        (new / "later").touch()
        if failing == "block":
            raise OSError(28, "No space left on device")
    assert (names(tmp_path), names(tmp_path / "a")) == (["a"], ["earlier"])


def test_write_bytes_puts_the_data_on_disk_before_the_name(tmp_path, monkeypatch, real_fsync):
    calls = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, real=real, name=name: (calls.append(name), real(*a))[1])
    files.write_bytes(tmp_path / "a", b"data")
    assert calls == ["fsync", "replace", "fsync"]  # the file, its name, the folder


def test_write_bytes_interrupted_leaves_the_old_file_and_no_temporary_one(tmp_path, monkeypatch):
    files.write_bytes(tmp_path / "a", b"old")

    def interrupt(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        files.write_bytes(tmp_path / "a", b"new")
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"


def test_a_file_that_another_program_reads_is_replaced_a_little_later(tmp_path, monkeypatch):
    real, refused = os.replace, []

    def replace(source, target):
        if len(refused) < 3:
            refused.append(PermissionError(13, "Access is denied"))  # as Windows says
            raise refused[-1]
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    monkeypatch.setattr(files, "_SECONDS_BETWEEN", 0)
    files.write_bytes(tmp_path / "a", b"data")
    assert len(refused) == 3 and (tmp_path / "a").read_bytes() == b"data"
    monkeypatch.setattr(os, "replace", lambda *names: refused.clear() or replace(*names))  # it never ends
    with pytest.raises(UserError, match="cannot write .*a: Access is denied; the previous file is unchanged"):
        files.write_bytes(tmp_path / "a", b"new")
    assert names(tmp_path) == ["a"] and (tmp_path / "a").read_bytes() == b"data"


def test_remove_stale_removes_temporary_files_only(tmp_path):
    for name in (".last.pt.tmp", "mine.tmp", ".hidden", "last.pt"):
        (tmp_path / name).touch()
    files.remove_stale(tmp_path)
    assert names(tmp_path) == [".hidden", "last.pt", "mine.tmp"]


def test_check_writable_leaves_nothing_and_refuses_a_missing_folder(tmp_path):
    files.check_writable(tmp_path)
    assert names(tmp_path) == []
    with pytest.raises(OSError):
        files.check_writable(tmp_path / "none")


def test_json_comes_back(tmp_path):
    value = {"numbers": [1, 2.5, None, True], "text": "è"}
    files.write_json(tmp_path / "a.json", value)
    assert files.read_json(tmp_path / "a.json") == value


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_json_refuses_what_json_does_not_know_and_keeps_the_old_file(tmp_path, number):
    files.write_json(tmp_path / "a.json", 1)
    with pytest.raises(UserError, match="not finite"):
        files.write_json(tmp_path / "a.json", {"loss": number})
    assert files.read_json(tmp_path / "a.json") == 1


@pytest.mark.parametrize("data", [b"", b'{"a": ', b"\xff\xfe", b"NaN", b'{"a": Infinity}', b"[" * 100_000])
def test_damaged_json_is_the_users_error(tmp_path, data):
    (tmp_path / "a.json").write_bytes(data)
    with pytest.raises(UserError, match="a.json is damaged"):
        files.read_json(tmp_path / "a.json")


def test_missing_json_is_the_users_error(tmp_path):
    with pytest.raises(UserError, match="cannot read .*a.json"):
        files.read_json(tmp_path / "a.json")


@given(st.lists(st.floats(allow_nan=False), min_size=1, max_size=5))
def test_csv_keeps_all_digits(tmp_path_factory, numbers):
    path = tmp_path_factory.getbasetemp() / "digits.csv"
    rows = [{"epoch": i, "loss": number} for i, number in enumerate(numbers)]
    files.write_csv(path, rows)
    assert files.read_csv(path) == rows


def test_names_that_are_not_utf_8_are_escaped(tmp_path):
    files.write_csv(tmp_path / "a.csv", [{"name": "caf\udce9 猫"}])
    assert (tmp_path / "a.csv").read_text(encoding="utf-8") == "name\ncaf\\udce9 猫\n"


def test_csv_of_no_rows_is_empty(tmp_path):
    files.write_csv(tmp_path / "a.csv", [])
    assert (tmp_path / "a.csv").read_bytes() == b""
    assert files.read_csv(tmp_path / "a.csv") == []


@pytest.mark.parametrize("text", ["epoch,loss\n1,x\n", "epoch,loss\n1\n", "epoch,loss\n1,2,3\n", "a\n\udcff\n"])
def test_damaged_csv_is_the_users_error(tmp_path, text):
    (tmp_path / "a.csv").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(UserError, match="a.csv is damaged"):
        files.read_csv(tmp_path / "a.csv")


def test_missing_csv_is_the_users_error(tmp_path):
    with pytest.raises(UserError, match="cannot read .*a.csv"):
        files.read_csv(tmp_path / "a.csv")


def test_sha256_is_the_published_one(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")  # FIPS 180-2, appendix B.1
    assert files.sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_what_several_write_at_once_is_always_whole(tmp_path):
    path, torn = tmp_path / "x", []

    def write(letter):
        for _ in range(60):
            files.write_bytes(path, letter * 300_000)

    writers = [threading.Thread(target=write, args=(letter,)) for letter in (b"a", b"b", b"c")]
    files.write_bytes(path, b"a" * 300_000)
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        content = path.read_bytes()
        if content != content[:1] * 300_000:
            torn.append(len(content))
    for writer in writers:
        writer.join()
    assert torn == [] and names(tmp_path) == ["x"]
