"""A full disk or a read-only folder is reported early and in one line, and nothing is lost."""

import contextlib
import ctypes
import errno
import os
import subprocess

import pytest
import tiny

from hw_common.data import download
from hw_common.runs import checkpoints, files
from hw_common.runs.errors import UserError
from hw_common.runs.run_folder import LAST, Run

CAP_DAC_OVERRIDE = 1  # the capability by which root ignores permission bits


def leftovers(folder):
    return [entry.name for entry in folder.rglob(f".*{files.TEMPORARY_SUFFIX}")]


def no_space(*arguments, **options):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class FullFile:
    """A file on a full disk: takes half of what is written."""

    def __init__(self, path, mode):
        self.file = open(path, mode)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.file.close()

    def fileno(self):
        return self.file.fileno()

    def write(self, data):
        self.file.write(data[: len(data) // 2])
        no_space()


BREAKAGES = {"open": no_space, "write": FullFile, "fsync": no_space, "replace": no_space}


@pytest.mark.parametrize("call", BREAKAGES)
def test_a_disk_that_fills_up_costs_nothing_that_was_there(tmp_path, monkeypatch, call):
    run = tiny.new_run(tmp_path)
    tiny.train(run, epochs=1)
    before = {path.name: path.read_bytes() for path in run.folder.iterdir()}
    state = checkpoints.load_state(run.folder / LAST)
    with monkeypatch.context() as patch:
        if call in ("open", "write"):
            patch.setattr(files, "open", BREAKAGES[call], raising=False)
        else:
            patch.setattr(os, call, BREAKAGES[call])
        with pytest.raises(UserError, match="cannot write .*: No space left on device; .*--results_dir") as refused:
            tiny.train(run, state)
    assert "\n" not in str(refused.value)
    assert {path.name: path.read_bytes() for path in run.folder.iterdir()} == before
    run.close()
    tiny.resume(run.folder)
    assert checkpoints.load_state(run.folder / LAST)["progress"]["epoch"] == tiny.EPOCHS


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own with 128 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", folder], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("mounting needs root")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder, leave=0):
    """Fills a disk except for `leave` bytes; returns the file that fills it."""
    filler = folder / "filler"
    with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as file:
        while True:
            file.write(bytes(1024))
    os.truncate(filler, max(0, filler.stat().st_size - leave))
    return filler


@pytest.mark.parametrize("leave", [0, 8192])
def test_a_really_full_disk_stops_a_run_that_goes_on_once_there_is_room(small_disk, tmp_path, leave):
    run = tiny.new_run(small_disk)
    tiny.train(run, epochs=1)
    before = (run.folder / LAST).read_bytes()
    filler = fill(small_disk, leave)
    run.close()
    with pytest.raises(UserError, match="cannot write .*: No space left on device"):
        tiny.resume(run.folder)
    assert (run.folder / LAST).read_bytes() == before
    assert leftovers(small_disk) == []
    filler.unlink()
    tiny.resume(run.folder)
    undisturbed = tiny.new_run(tmp_path / "elsewhere")
    tiny.train(undisturbed)
    assert tiny.outcome(run.folder) == tiny.outcome(undisturbed.folder)


def test_a_really_full_disk_is_found_before_training(small_disk):
    fill(small_disk)
    with pytest.raises(UserError, match="No space left on device"):
        tiny.new_run(small_disk)
    assert leftovers(small_disk) == []


def test_a_disk_mounted_read_only_is_found_before_training_and_stops_a_save(small_disk):
    run = tiny.new_run(small_disk)
    tiny.train(run, epochs=1)
    before = (run.folder / LAST).read_bytes()
    run.close()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(UserError, match="cannot write"):
        tiny.new_run(small_disk)
    with pytest.raises(UserError, match="cannot write"):
        Run.reopen(run.folder, tiny.HOMEWORK)
    with pytest.raises(UserError, match="cannot write"):  # it may become so in the middle of a run
        files.write_bytes(run.folder / LAST, b"new")
    assert (run.folder / LAST).read_bytes() == before


class Header(ctypes.Structure):
    """`struct __user_cap_header_struct` of capset(2)."""

    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class Data(ctypes.Structure):
    """`struct __user_cap_data_struct` of capset(2)."""

    _fields_ = [("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32)]


@pytest.fixture
def permissions_count():
    """In the block, permission bits apply to root as well: this thread gives up CAP_DAC_OVERRIDE."""
    if os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header, data = Header(0x20080522, 0), (Data * 2)()
    assert libc.capget(ctypes.byref(header), data) == 0
    before = data[0].effective
    data[0].effective = before & ~(1 << CAP_DAC_OVERRIDE)
    assert libc.capset(ctypes.byref(header), data) == 0
    yield
    data[0].effective = before
    assert libc.capset(ctypes.byref(header), data) == 0


@pytest.fixture
def read_only(tmp_path, permissions_count):
    """Takes away the right to write into a folder."""
    locked = []

    def lock(folder):
        locked.append(folder)
        folder.chmod(0o555)
        with pytest.raises(PermissionError):
            (folder / "probe").touch()
        return folder

    yield lock
    for folder in locked:
        folder.chmod(0o755)


def test_a_read_only_results_folder_is_found_before_training(tmp_path, read_only):
    with pytest.raises(UserError, match="cannot write to .*: Permission denied; .*--results_dir"):
        tiny.new_run(read_only(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("lock_file", [True, False])
def test_a_read_only_run_folder_is_found_before_training(tmp_path, read_only, lock_file):
    run = tiny.new_run(tmp_path)
    run.close()
    if not lock_file:  # as in a copy of a run
        (run.folder / ".lock").unlink(missing_ok=True)
    read_only(run.folder)
    with pytest.raises(UserError, match="cannot write to .*: Permission denied"):
        Run.reopen(run.folder, tiny.HOMEWORK)
    with pytest.raises(UserError, match="cannot write to .*: Permission denied"):
        Run.create(tmp_path, tiny.CONFIG, "run", overwrite=True)
    assert Run.open(run.folder, tiny.HOMEWORK).config == tiny.CONFIG  # reading needs no right to write


def test_a_folder_that_becomes_read_only_keeps_what_it_has(tmp_path, read_only):
    files.write_bytes(tmp_path / "a", b"old")
    read_only(tmp_path)
    with pytest.raises(UserError, match="cannot write .*: Permission denied"):
        files.write_bytes(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"


def test_a_read_only_data_folder_is_the_users_error(tmp_path, read_only):
    with pytest.raises(UserError, match="cannot be written: Permission denied"):
        download.place(read_only(tmp_path), [download.Download("a.npz", ["http://127.0.0.1:9/a.npz"], "0")])
    with pytest.raises(UserError):
        download.unpack(tmp_path / "a.tar.gz", "batches")
