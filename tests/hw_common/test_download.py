"""Data files: existing ones are used, missing ones are downloaded whole; the server is a thread."""

import contextlib
import errno
import gzip
import hashlib
import io
import os
import random
import shutil
import signal
import socket
import tarfile
import threading
import time

import file_server
import pytest

from hw_common.data import download, transfer
from hw_common.data.transfer import Download
from hw_common.runs.errors import Stopped, UserError

DATA = b"a data set"
LARGE = random.Random(0).randbytes(100_000)


@pytest.fixture
def server(monkeypatch):
    """A server on loopback with one file; retries do not wait for it."""
    monkeypatch.setattr(transfer, "_DELAY", 0)
    with file_server.serve({"/a.npz": DATA}) as server:
        yield server


def wanted(*urls, content=DATA, **more):
    return Download("a.npz", urls, hashlib.md5(content).hexdigest(), **more)


def test_a_file_in_place_needs_no_network(tmp_path):
    (tmp_path / "a.npz").write_bytes(DATA)
    assert download.place(tmp_path, [wanted("nonsense://nowhere")]) == [tmp_path / "a.npz"]


def test_a_file_of_another_size_is_refused(tmp_path, server):
    """The server sends the bytes of the published hash, whose number is not the published one."""
    with pytest.raises(UserError, match=f"has {len(DATA)} bytes|more than the expected {len(DATA) - 1} bytes"):
        download.place(tmp_path, [wanted(f"{server.url}/a.npz", size=len(DATA) - 1)])
    assert not (tmp_path / "a.npz").exists()


def test_a_missing_file_is_downloaded_whole_and_nothing_else_is_left(tmp_path, server):
    [path] = download.place(tmp_path / "new" / "folder", [wanted(f"{server.url}/a.npz", size=len(DATA))])
    assert path.read_bytes() == DATA
    assert list(path.parent.iterdir()) == [path]


def test_many_files_are_downloaded_once_each(tmp_path, server):
    server.files = {f"/images/{n}.tif": LARGE[n:] for n in range(30)}
    files = [
        Download(name[1:], [server.url + name], sha256=hashlib.sha256(content).hexdigest(), size=len(content))
        for name, content in server.files.items()
    ]
    folder = download.place_folder(tmp_path / "data" / "set", files, "do it by hand")
    assert {f"/{path.relative_to(folder)}": path.read_bytes() for path in folder.rglob("*.tif")} == server.files
    assert list(folder.parent.iterdir()) == [folder] and len(server.requests) == 30
    shutil.move(folder / "images", tmp_path)
    assert download.place_folder(folder, files, "do it by hand") == folder and len(server.requests) == 30


@pytest.mark.parametrize("first", ["missing.npz", "other.npz"])
def test_the_next_address_is_tried_where_one_fails(tmp_path, server, first):
    server.files["/other.npz"] = b"an error page"
    [path] = download.place(tmp_path, [wanted(f"{server.url}/{first}", f"{server.url}/a.npz")])
    assert path.read_bytes() == DATA


@pytest.mark.parametrize(
    ("name", "size", "reason"),
    [
        ("missing.npz", None, "404"),
        ("other.npz", None, "does not have the published MD5"),
        ("other.npz", 10, "has 13 bytes, not the published 10"),
    ],
)
def test_what_cannot_be_had_is_the_users_error_and_leaves_nothing(tmp_path, server, name, size, reason):
    server.files["/other.npz"] = b"an error page"
    folder = tmp_path / "data"
    with pytest.raises(UserError, match=reason) as refused:
        download.place(folder, [wanted(f"{server.url}/{name}", size=size, about="10 bytes, no licence")])
    assert list(tmp_path.iterdir()) == []  # neither the folder that was made for it, nor fewer folders than before
    for hint in (f"{server.url}/{name} (10 bytes, no licence)", f"into {folder}", "--data_dir", "--dataset sample"):
        assert hint in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "answer",
    [b"", b"what?\r\n\r\n", b"HTTP/1.0 200 OK\r\nContent-Length: 9\r\n\r\nshort",
     b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n50\r\nshort"],
    ids=["nothing", "no HTTP", "breaks off", "breaks off in a chunk"],
)  # fmt: skip
def test_a_server_that_answers_badly_is_the_users_error(tmp_path, answer, monkeypatch):
    monkeypatch.setattr(transfer, "_DELAY", 0)

    def serve():
        with contextlib.suppress(OSError):  # the server is closed
            while True:
                connection, _ = server.accept()
                with connection:
                    connection.recv(4096)
                    connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, daemon=True).start()
        with pytest.raises(UserError, match="a.npz is missing and could not be downloaded"):
            download.place(tmp_path, [wanted(f"http://127.0.0.1:{server.getsockname()[1]}/a.npz")])
        server.shutdown(socket.SHUT_RDWR)  # wakes the thread
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/a.npz", "http://no-such-host.invalid/a.npz", "nonsense://a.npz"])
def test_without_network_it_fails_at_once(tmp_path, url):
    with pytest.raises(UserError, match=f"fetch it from {url} and put it into {tmp_path}"):
        download.place(tmp_path, [wanted(url)])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("faults", [[429, 503], ["break"], [500, "break", "break"], ["hang"]])
def test_faults_that_pass_are_overcome(tmp_path, server, faults, monkeypatch):
    monkeypatch.setattr(transfer, "_TIMEOUT", 0.3)
    server.files["/a.npz"], server.faults = LARGE, list(faults)
    [path] = download.place(tmp_path, [wanted(f"{server.url}/a.npz", content=LARGE)])
    assert path.read_bytes() == LARGE and len(server.requests) == len(faults) + 1


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("hang", "timed out"), (503, "answers 503"), ("break", "breaks off"), ("trickle", "bytes per")],
)
def test_a_server_that_never_recovers_is_given_up(tmp_path, server, fault, reason, monkeypatch):
    monkeypatch.setattr(transfer, "_TIMEOUT", 0.05)
    monkeypatch.setattr(transfer, "_SLOWEST", 10_000)
    server.files["/a.npz"], server.faults = LARGE, [fault] * 9
    with pytest.raises(UserError, match=reason):
        download.place(tmp_path, [wanted(f"{server.url}/a.npz", content=LARGE)])
    assert len(server.requests) == 6 and list(tmp_path.iterdir()) == []


def test_a_server_may_ask_for_a_pause():
    assert [transfer._seconds(text) for text in (None, "7", "1000000", "Fri, 31 Dec 1999 23:59:59 GMT")] == [
        0,
        7,
        60,
        0,
    ]


@pytest.mark.parametrize("ranges", [True, False], ids=["continues", "sends the whole file again"])
@pytest.mark.parametrize("there", [40_000, 100_000, 120_000], ids=["half", "all", "more than all"])
@pytest.mark.parametrize("right", [True, False], ids=["same file", "another file"])
def test_a_part_is_continued(tmp_path, server, ranges, there, right):
    server.files["/a.npz"], server.ranges = LARGE, ranges
    (tmp_path / "a.npz.part").write_bytes((LARGE * 2)[:there] if right else bytes(there))
    [path] = download.place(tmp_path, [wanted(f"{server.url}/a.npz", content=LARGE)])
    assert path.read_bytes() == LARGE and list(tmp_path.iterdir()) == [path]
    assert server.requests[0] == ("/a.npz", f"bytes={there}-")
    assert len(server.requests) == 1 + (there >= len(LARGE) or (ranges and not right))


def test_a_large_part_stays_after_a_failure(tmp_path, server, monkeypatch):
    monkeypatch.setattr(transfer, "_KEPT_PART", 10_000)
    server.files["/a.npz"], server.faults = LARGE, ["break", 404]
    with pytest.raises(UserError, match="404"):
        download.place(tmp_path, [wanted(f"{server.url}/a.npz", content=LARGE)])
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz.part"]
    [path] = download.place(tmp_path, [wanted(f"{server.url}/a.npz", content=LARGE)])
    assert path.read_bytes() == LARGE and server.requests[-1] == ("/a.npz", "bytes=50000-")


def test_a_folder_that_cannot_be_made_is_the_users_error(tmp_path, server):
    (tmp_path / "data").touch()
    with pytest.raises(UserError, match="cannot be written"):
        download.place(tmp_path / "data", [wanted(f"{server.url}/a.npz")])


def test_a_full_disk_is_one_line(tmp_path, server):
    (tmp_path / "a.npz.part").symlink_to("/dev/full")
    with pytest.raises(UserError, match=f"{os.strerror(errno.ENOSPC)}; free disk space .* to continue"):
        download.place(tmp_path, [wanted(f"{server.url}/a.npz")])
    with pytest.raises(UserError, match=r"needs 10\^?.* MB more, but its disk has \d+ MB free"):
        download.place(tmp_path, [wanted(f"{server.url}/a.npz", size=10**18)])
    assert not (tmp_path / "a.npz").exists()


def test_two_processes_do_not_download_twice(tmp_path, server, capsys):
    server.files["/a.npz"], server.faults = LARGE, ["hang"]
    threads = [
        threading.Thread(target=download.place, args=(tmp_path, [wanted(f"{server.url}/a.npz", content=LARGE)]))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for _ in range(200):
        if "waiting for another process" in (output := capsys.readouterr().out):
            break
        time.sleep(0.02)
    server.released.set()
    for thread in threads:
        thread.join()
    assert output and (tmp_path / "a.npz").read_bytes() == LARGE
    assert {asked for asked, _ in server.requests} == {"/a.npz"} and len(server.requests) == 2  # one was continued


def test_ctrl_c_keeps_what_is_complete_and_the_same_command_continues(tmp_path, server):
    server.files = {"/1": LARGE, "/2": LARGE[1:]}
    files = [
        Download(name, [f"{server.url}/{name}"], sha256=hashlib.sha256(server.files[f"/{name}"]).hexdigest())
        for name in ("1", "2")
    ]
    server.faults = [None, "hang"]
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    started = time.monotonic()
    with pytest.raises(Stopped, match=r"stopped after 1 of 2 files .*; the same command continues"):
        download.place_folder(tmp_path / "set", files, "do it by hand")
    assert time.monotonic() - started < 5  # it does not wait for the server
    assert [path.name for path in tmp_path.iterdir()] == ["set.part"]
    server.requests.clear()
    folder = download.place_folder(tmp_path / "set", files, "do it by hand")
    assert sorted(path.name for path in folder.iterdir()) == ["1", "2"] and len(server.requests) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def pack(path, names):
    content = " ".join(map(str, range(9999))).encode()
    with tarfile.open(path, "w:gz") as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def test_an_archive_is_unpacked_beside_itself(tmp_path):
    pack(tmp_path / "a.tar.gz", ["batches/1", "batches/2"])
    target = download.unpack(tmp_path / "a.tar.gz", "batches")
    assert target == tmp_path / "batches"
    assert sorted(path.name for path in target.iterdir()) == ["1", "2"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar.gz", "batches"]


def refused_and_nothing_left(archive):
    with pytest.raises(UserError, match="cannot unpack batches from"):
        download.unpack(archive, "batches")
    return list(archive.parent.iterdir()) == [archive]


@pytest.mark.parametrize("place", [0.0, 0.25, 0.5, 0.75, 0.99])
def test_a_damaged_archive_is_the_users_error_and_leaves_nothing(tmp_path, place):
    archive = tmp_path / "a.tar.gz"
    pack(archive, ["batches/1"])
    data = bytearray(archive.read_bytes())
    start = int(place * len(data))
    data[start : start + 30] = b"\xff" * len(data[start : start + 30])
    archive.write_bytes(data)
    assert refused_and_nothing_left(archive)


def test_what_is_no_whole_archive_is_the_users_error_and_leaves_nothing(tmp_path):
    archive = tmp_path / "a.tar.gz"
    pack(archive, ["batches/1"])
    whole = archive.read_bytes()
    for data in (whole[: len(whole) // 2], gzip.decompress(whole)[:700], b"", b"no archive"):
        archive.write_bytes(data)
        assert refused_and_nothing_left(archive)


def test_an_archive_of_something_else_is_the_users_error_and_writes_nowhere_else(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    archive = folder / "a.tar.gz"
    for names in (["others/1"], ["../outside", "batches/1"]):
        pack(archive, names)
        assert refused_and_nothing_left(archive)
        assert list(tmp_path.iterdir()) == [folder]
