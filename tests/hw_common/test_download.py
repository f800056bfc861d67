"""Data files: used where they are, downloaded where they are missing, never half there; the server is a thread."""

import contextlib
import functools
import gzip
import hashlib
import http.server
import io
import socket
import tarfile
import threading

import pytest

from hw_common.data import download
from hw_common.data.download import Download
from hw_common.runs.errors import UserError

DATA = b"a data set"


class Server(http.server.SimpleHTTPRequestHandler):
    """Serves the current folder and says nothing about it."""

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def mirror(tmp_path_factory):
    """The address of a server that has the file and an error page."""
    folder = tmp_path_factory.mktemp("mirror")
    (folder / "a.npz").write_bytes(DATA)
    (folder / "other.npz").write_bytes(b"an error page")
    handler = functools.partial(Server, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def wanted(*urls):
    return Download("a.npz", urls, hashlib.md5(DATA).hexdigest())


def test_a_file_in_place_needs_no_network(tmp_path):
    (tmp_path / "a.npz").write_bytes(DATA)
    assert download.place(tmp_path, [wanted("nonsense://nowhere")]) == [tmp_path / "a.npz"]


def test_a_missing_file_is_downloaded_whole_and_nothing_else_is_left(tmp_path, mirror):
    [path] = download.place(tmp_path / "new" / "folder", [wanted(f"{mirror}/a.npz")])
    assert path.read_bytes() == DATA
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("first", ["missing.npz", "other.npz"])
def test_the_next_address_is_tried_where_one_fails(tmp_path, mirror, first):
    [path] = download.place(tmp_path, [wanted(f"{mirror}/{first}", f"{mirror}/a.npz")])
    assert path.read_bytes() == DATA


@pytest.mark.parametrize(("name", "reason"), [("missing.npz", "404"), ("other.npz", "does not have the published MD5")])
def test_what_cannot_be_had_is_the_users_error_and_leaves_nothing(tmp_path, mirror, name, reason):
    folder = tmp_path / "data"
    with pytest.raises(UserError, match=reason) as refused:
        download.place(folder, [wanted(f"{mirror}/{name}")])
    assert list(tmp_path.iterdir()) == []  # neither the folder that was made for it, nor fewer folders than before
    for hint in (str(folder / "a.npz"), "--data_dir", "--dataset sample"):
        assert hint in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "answer",
    [b"", b"what?\r\n\r\n", b"HTTP/1.0 200 OK\r\nContent-Length: 9\r\n\r\nshort",
     b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n50\r\nshort"],
    ids=["nothing", "no HTTP", "breaks off", "breaks off in a chunk"],
)  # fmt: skip
def test_a_server_that_answers_badly_is_the_users_error(tmp_path, answer):
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


def test_a_folder_that_cannot_be_made_is_the_users_error(tmp_path, mirror):
    (tmp_path / "data").touch()
    with pytest.raises(UserError, match="cannot be written"):
        download.place(tmp_path / "data", [wanted(f"{mirror}/a.npz")])


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
