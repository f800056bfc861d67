"""Pictures from the web and from the data's folder: the pixels that are shown, and the files that are refused."""

import contextlib
import http.server
import struct
import threading
import time
import zlib

import numpy as np
import pytest
from numpy_files import picture, write_folder
from PIL import Image

from hw_numpy import image_utils


class Handler(http.server.BaseHTTPRequestHandler):
    """A server that sends a picture, or fails in one of several ways."""

    asked = []

    def do_GET(self):
        self.asked.append(self.path)
        with contextlib.suppress(OSError):  # the client hangs up
            getattr(self, f"send_{self.path.partition('.')[0].strip('/')}")()

    def reply(self, status, content=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def send_picture(self):
        self.reply(200, picture(3))

    def send_missing(self):
        self.reply(404, b"not here")

    def send_page(self):
        self.reply(200, b"<html>a page in place of a picture</html>")

    def send_large(self):
        self.reply(200, picture(3) + bytes(100_000))

    def send_moved(self):
        self.reply(302, Location="/picture.png")

    def send_file(self):
        self.reply(302, Location="file:///etc/passwd")

    def send_circle(self):
        self.reply(302, Location="/circle.png")

    def send_drip(self):
        self.reply(200)
        for _ in range(30):
            time.sleep(0.1)
            self.wfile.write(b"x")
            self.wfile.flush()

    def send_nonsense(self):
        self.wfile.write(b"\0\0\0 this is not HTTP\r\n\r\n")

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    Handler.asked = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.daemon_threads = True
        threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


GREY = np.full((192, 256, 3), 200)


@pytest.mark.parametrize("name", ["picture.png", "moved.png"])
def test_a_picture_comes_from_the_web_and_then_from_the_cache(server, tmp_path, name):
    for _ in range(2):
        image = image_utils.image_from_url(f"{server}/{name}", cache_dir=tmp_path / "cache")
        assert image.shape == (20, 40, 3) and tuple(image[5, 5]) == (60, 195, 90)
    assert Handler.asked == ["/picture.png"] if name == "picture.png" else ["/moved.png", "/picture.png"]
    [cached] = (tmp_path / "cache").iterdir()
    cached.write_bytes(b"damaged")
    assert image_utils.image_from_url(f"{server}/{name}", cache_dir=tmp_path / "cache").shape == (20, 40, 3)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing", "HTTP Error 404"), ("page", "is not an image that Pillow can read"),
        ("large", "has more than 90000 bytes"), ("file", "file:///etc/passwd"), ("circle", "infinite loop"),
        ("drip", "took longer than 0.5 s"), ("nonsense", "cannot load"),
    ],
)  # fmt: skip
def test_a_dead_link_is_a_grey_panel(server, tmp_path, capsys, name, reason):
    started = time.monotonic()
    image = image_utils.image_from_url(f"{server}/{name}.png", None, tmp_path / "cache", seconds=0.5, largest=90_000)
    assert time.monotonic() - started < 2.5
    np.testing.assert_array_equal(image, GREY)
    errors = capsys.readouterr().err
    assert errors.startswith("a grey panel replaces a picture: ") and reason in errors and errors.count("\n") == 1
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://127.0.0.1:9/nobody", "cannot load 'http://127.0.0.1:9/nobody'"),
        ("http://[", "cannot load 'http://['"),
        ("http://127.0.0.1:9/a b\n", "cannot load"),
        ("file:///etc/passwd", "there is no file"),
        ("ftp://127.0.0.1/x.png", "there is no file"),
        ("../secret.png", "'../secret.png' leads out of"),
        ("/etc/passwd", "'/etc/passwd' leads out of"),
        ("link.png", "'link.png' leads out of"),
        ("no\0.png", "cannot read"),
        ("images", "there is no file"),
        ("", "there is no file"),
        ("bomb.png", "claims too many pixels"),
        ("cut.png", "is damaged"),
    ],
)
def test_nothing_but_pictures_of_the_folder_and_the_web_is_read(tmp_path, capsys, url, reason):
    folder = write_folder(tmp_path / "data", {"images/0.png": picture(1), "cut.png": picture(2)[:60]})
    (tmp_path / "secret.png").write_bytes(picture(2))
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    header = b"IHDR" + struct.pack(">IIBBBBB", 20_000, 20_000, 1, 0, 0, 0, 0)
    bomb = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header)) + b"\0\0\0\x09IDAT" + bytes(13)
    (folder / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bomb)
    np.testing.assert_array_equal(image_utils.image_from_url(url, folder), GREY)
    errors = capsys.readouterr().err
    assert reason in errors and errors.count("\n") == 1
    assert image_utils.image_from_url("images/0.png", folder).shape == (20, 40, 3)


def test_a_path_without_a_folder_is_no_address(capsys):
    np.testing.assert_array_equal(image_utils.image_from_url(__file__), GREY)
    assert "is not an address: expected http:// or https://" in capsys.readouterr().err


def test_odd_pictures_are_shown_in_colour_and_small(tmp_path):
    deep = Image.fromarray(np.full((10, 1000), 30000, dtype=np.uint16))
    deep.save(tmp_path / "deep.png")
    Image.new("P", (8, 8)).save(tmp_path / "palette.gif")
    image = image_utils.image_from_url("deep.png", tmp_path)
    assert image.shape == (5, 512, 3) and image[0, 0].tolist() == [117, 117, 117]
    assert image_utils.image_from_url("palette.gif", tmp_path).shape == (8, 8, 3)


def test_a_cache_that_cannot_be_written_is_no_reason_to_stop(server, tmp_path):
    (tmp_path / "cache").write_text("a file in the way")
    assert image_utils.image_from_url(f"{server}/picture.png", cache_dir=tmp_path / "cache").shape == (20, 40, 3)
