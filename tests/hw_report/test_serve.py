"""`python -m hw_report serve`: tiny trained runs answer uploads, and everything else is refused in one line."""

import io
import re
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from types import SimpleNamespace

import asr_files
import commands
import numpy as np
import ocr_files
import pytest
from finished_runs import contents_of
from PIL import Image
from served import serving

from hw_asr.transcription import transcribe
from hw_caption.caption import caption
from hw_cnn.predict import predict
from hw_common.runs.errors import UserError
from hw_ocr.read import read
from hw_report.__main__ import main
from hw_report.index import INDEX
from hw_report.serve import app, server
from hw_report.serve.try_its import Result, TryIt, open_try_it

RUNS = (
    ("hw_cnn.train", "fashion"),
    ("hw_ocr.train", "conv-bilstm-crf"),
    ("hw_caption.train", "attention"),
    ("hw_asr.train", "transformer"),
    ("hw_caption.train", "vanilla"),
)
CNN, OCR, CAPTION, ASR, VANILLA = range(len(RUNS))
TITLE = "hw_toy/run, trained on toys"


@pytest.fixture(scope="module")
def runs(request):
    """The folders of RUNS, and their try-its."""
    train = request.getfixturevalue("trained")
    folders = [train(*run).folder for run in RUNS]
    with pytest.MonkeyPatch.context() as patch:
        for command in {command for command, _ in RUNS}:
            commands.TINY[command].patch(patch)
        yield folders, [open_try_it(folder) for folder in folders]


@pytest.fixture(scope="module")
def served(runs):
    with serving(runs[1]) as running:
        yield running


def toy(answer):
    return TryIt(TITLE, [("dsl-2019-hw3", "1.2")], "Choose an image.", "image", answer)


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


LETTER = png(255 - 255 * ocr_files.image("a"))
NOISE = np.random.default_rng(0).integers(0, 256, (40, 30, 3)).astype(np.uint8)
SOUND = asr_files.encoded(asr_files.sound())


# ── Answers ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_list_names_questions_of_the_index(served):
    listed = served.get("/try/runs").json
    assert len(listed) == len(RUNS)
    for each in listed:
        for sheet, question in each["questions"]:
            assert question in [answer.question for answer in INDEX[sheet]]
    assert listed[CNN]["canvas"] is None and listed[OCR]["canvas"]["ink"] == "black"


def test_an_image_is_classified_as_by_the_command(runs, served, tmp_path):
    (tmp_path / "image.png").write_bytes(png(NOISE))
    found, [expected] = served.upload(CNN, png(NOISE)).json, predict(runs[0][CNN], [tmp_path / "image.png"])
    assert found["text"] == expected["class"]
    assert dict(found["probabilities"]) == pytest.approx(expected["probabilities"])
    assert len(found["pictures"]) == 5  # the input with Grad-CAM, two convolutions, two pooling layers
    for picture in (picture for row in found["pictures"].values() for picture in row):
        assert picture["alt"] and picture["source"].startswith("data:image/png;base64,")


def test_a_letter_is_read_as_by_the_command(runs, served, tmp_path):
    (tmp_path / "image.png").write_bytes(LETTER)
    found, [expected] = served.upload(OCR, LETTER).json, read(runs[0][OCR], [tmp_path / "image.png"])
    assert found["text"] == expected["text"]
    assert [value for _, value in found["probabilities"]] == pytest.approx(expected["probabilities"])


@pytest.mark.parametrize("number", (CAPTION, VANILLA))
def test_an_image_is_captioned_as_by_the_command(runs, served, tmp_path, number):
    (tmp_path / "image.png").write_bytes(png(NOISE))
    found, [(_, words)] = served.upload(number, png(NOISE)).json, caption(runs[0][number], [tmp_path / "image.png"])
    assert found["text"] == (" ".join(words) or "(no words)")
    [row] = found["pictures"].values() if number == CAPTION and words else [[]]
    assert len(row) == (len(words) + 1 if row else 0)  # the input, then a picture for each word


@pytest.mark.parametrize("is_speech", (True, False))
def test_a_sound_is_transcribed_as_by_the_command(runs, served, tmp_path, monkeypatch, is_speech):
    monkeypatch.setattr("hw_asr.transcription.has_speech", lambda samples, rate: is_speech)
    (tmp_path / "sound.wav").write_bytes(SOUND)
    found, [expected] = served.upload(ASR, SOUND).json, transcribe(runs[0][ASR], [tmp_path / "sound.wav"])
    if is_speech:
        assert found["text"] == expected["text"]
        [[picture]] = found["pictures"].values()
        assert expected["pieces"][0]["text"] in picture["alt"]
    else:
        assert found["text"] == "no speech found" and expected["pieces"][0]["text"] in found["notes"][0]


def test_uploads_leave_nothing_behind(runs, served, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = [contents_of(folder) for folder in runs[0]]
    for number, content in enumerate((png(NOISE), LETTER, png(NOISE), SOUND)):
        assert served.upload(number, content).status == 200
    assert [contents_of(folder) for folder in runs[0]] == before and not any(tmp_path.iterdir())


def test_a_run_that_cannot_answer_is_refused(trained, tmp_path):
    folder = trained("hw_numpy.train").folder
    with pytest.raises(UserError, match="is a run of hw_numpy, which cannot answer uploads; expected a run of hw_cnn"):
        open_try_it(folder)
    (tmp_path / "config.json").write_text('{"schema": 1, "arguments": {}}')
    with pytest.raises(UserError, match="it names no homework"):
        open_try_it(tmp_path)


# ── Hostile uploads ──────────────────────────────────────────────────────────────────────────────────────────────────

BOMB = LETTER[:16] + (60_000).to_bytes(4, "big") * 2 + LETTER[24:]
HOSTILE = {
    "text": b"../../etc/passwd",
    "zeros": bytes(100_000),
    "noise": np.random.default_rng(1).bytes(50_000),
    "half a picture": png(NOISE)[:-1000],
    "header of a picture": LETTER[:20],
    "picture that claims 3.6 billion pixels": BOMB,
    "program": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(x) run\n",
    "drawing with a script": b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
    "archive": b"PK\3\4" + bytes(100),
    "pickle": b"\x80\x04cos\nsystem\n(S'true'\ntR.",
    "half a sound": SOUND[:100],
    "sound that claims 4 GB": asr_files.wav(b"\1\0" * 2205, promised=2**32 - 37),
    "sound that claims a year": asr_files.flac_claiming(2**36 - 1),
    "silence": asr_files.wav(bytes(44_100)),
    "MP3 without frames": b"\xff\xfb\x90\x00" + bytes(2000),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_hostile_uploads_are_refused_in_one_line(served, content, capfd):
    for number in (CNN, OCR, CAPTION, ASR):
        reply = served.upload(number, content)
        assert reply.status == 422 and reply.refusal.startswith("the upload ")
    assert capfd.readouterr() == ("", "")


def test_long_sounds_are_refused(served):
    long = asr_files.encoded(asr_files.sound(seconds=61, rate=8000), rate=8000)
    assert served.upload(ASR, long).refusal == "the upload lasts 61 s, over the limit of 60 s; shorten the file"


@pytest.fixture
def limits(monkeypatch):
    """Small limits, so that tests reach them quickly."""
    monkeypatch.setattr(app, "MAX_BYTES", 1_000_000)
    monkeypatch.setattr(app, "_READ_SECONDS", 0.3)
    monkeypatch.setattr(app, "_ANSWER_SECONDS", 0.3)


def blocks(number):
    for _ in range(number):
        yield bytes(100_000)


POST = b"POST /try/runs/0 HTTP/1.1\r\nHost: 127.0.0.1\r\n"


def test_the_size_of_an_upload_is_limited_whether_it_is_declared_or_not(limits):
    with serving([toy(lambda content: Result(str(len(content))))]) as running:
        assert running.upload(0, bytes(1_000_000)).json["text"] == "1000000"
        assert running.upload(0, blocks(10)).json["text"] == "1000000"
        for body in (bytes(1_000_001), blocks(11), blocks(200)):
            reply = running.upload(0, body)
            assert (reply.status, reply.refusal) == (413, "the upload is larger than the limit of 1 MB")
        assert running.upload(0, b"").refusal == "the upload is empty"
        assert b"413" in running.raw(POST + b"Content-Length: 99999999999999999999\r\n\r\nx")
        assert b"400" in running.raw(POST + b"Content-Length: -5\r\n\r\n")
        running.raw(POST + b"Content-Length: 5000\r\n\r\nx", wait=False)
        assert running.upload(0, b"x").status == 200


def test_an_upload_that_does_not_arrive_ends(limits):
    with serving([toy(lambda content: Result(""))]) as running:
        assert b"408 " in running.raw(POST + b"Content-Length: 10\r\n\r\nx")


@pytest.fixture
def blocked():
    """A try-it that answers after `go_on.set()`: (event, try-it)."""
    go_on = threading.Event()
    yield go_on, toy(lambda content: (go_on.wait(60), Result("fine"))[1])
    go_on.set()


def test_the_time_of_an_answer_is_limited(limits, blocked):
    with serving([blocked[1]]) as running:
        for _ in range(2):  # the first one goes on, so the second one is never begun
            reply = running.upload(0, b"x")
            assert reply.status == 503 and "this took longer than 0.3 s" in reply.refusal
        blocked[0].set()


def test_the_number_of_uploads_is_limited(blocked):
    go_on, try_it = blocked
    with serving([try_it]) as running, ThreadPoolExecutor(app.MAX_UPLOADS + 1) as visitors:
        pending = {visitors.submit(running.upload, 0, b"x") for _ in range(app.MAX_UPLOADS + 1)}
        done, pending = wait(pending, timeout=60, return_when=FIRST_COMPLETED)
        [reply] = (visitor.result() for visitor in done)
        assert "the server is busy" in reply.refusal and reply.headers["retry-after"] == "5"
        go_on.set()
        assert all(visitor.result().json["text"] == "fine" for visitor in pending)
        assert running.upload(0, b"x").status == 200


def test_a_mistake_of_ours_gives_one_line_and_the_server_goes_on(capfd):
    def fail(content):
        if content == b"x":
            raise ValueError("a\nb")
        return Result("fine", probabilities=[("nan", float("nan"))] if content == b"nan" else ())

    with serving([toy(fail)]) as running:
        assert running.upload(0, b"x").refusal == "this file could not be processed: ValueError"
        assert capfd.readouterr().err == f"error: {TITLE}: this file could not be processed: ValueError: a b\n"
        assert running.upload(0, b"nan").status == 500
        assert running.upload(0, b"y").json["text"] == "fine"


# ── Access ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def guarded():
    with serving([toy(lambda content: Result("fine"))], token="secret") as running:
        yield running


@pytest.fixture(scope="module")
def local():
    with serving([toy(lambda content: Result("fine"))]) as running:
        yield running


@pytest.mark.parametrize("host", ("127.0.0.1", "localhost", "LOCALHOST:1", "[::1]:80", "127.0.0.1:65535"))
def test_local_hosts_are_served(local, host):
    assert local.get("/try", Host=host).status == 200


@pytest.mark.parametrize(
    "host",
    ("evil.example", "127.0.0.1.evil.example", "evil.example:80", "10.0.0.1", "127.0.0.1@evil", "[::1", ""),
)
def test_foreign_hosts_are_refused(local, host):
    for path in ("/", "/try", "/try/runs", "/try/static/try.js"):
        assert "does not answer to the host" in local.get(path, Host=host).refusal
    assert local.upload(0, b"x", Host=host).status == 400


@pytest.mark.parametrize(
    "headers, allowed",
    [
        ({}, True),  # not a browser
        ({"Origin": "http://127.0.0.1"}, True),
        ({"Origin": "http://127.0.0.1", "Sec-Fetch-Site": "same-origin"}, True),
        ({"Origin": "http://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": "http://127.0.0.1:1"}, False),
        ({"Origin": "http://127.0.0.1.evil.example"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
    ],
)
def test_foreign_pages_cannot_upload(local, headers, allowed):
    reply = local.upload(0, b"x", Host="127.0.0.1", **headers)
    assert reply.status == (200 if allowed else 403)
    assert allowed or reply.refusal == "uploads are only accepted from this server's own pages"


def test_a_token_is_needed_once(guarded):
    for path in (
        "/",
        "/try",
        "/try/runs",
        "/try/static/try.js",
        "/try?token=",
        "/try?token=secreT",
        "/try?token=%ff%00",
    ):
        assert "needs a token" in guarded.get(path).refusal
    for cookie in ("", "try_it_token=", "try_it_token=secre", "try_it_token=\xff", "other=secret"):
        assert guarded.upload(0, b"x", Cookie=cookie).status == 403
    reply = guarded.get("//evil.example/?token=secret")
    assert (reply.status, reply.headers["location"]) == (303, "/evil.example/")
    cookie = guarded.get("/try?token=secret").headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=lax" in cookie
    assert guarded.upload(0, b"x", Cookie=cookie.partition(";")[0]).json["text"] == "fine"


def test_behind_a_token_addresses_and_the_own_name_are_hosts(guarded):
    for host, status in (("10.0.0.1:80", 200), (socket.gethostname(), 200), ("evil.example", 400)):
        assert guarded.get("/try", Host=host, Cookie="try_it_token=secret").status == status


def test_every_answer_has_the_security_headers(local):
    for reply in (local.get("/try"), local.get("/no"), local.get("/try", Host="evil"), local.upload(0, b"x")):
        assert "default-src 'self'" in reply.headers["content-security-policy"]
        assert "http" not in reply.headers["content-security-policy"]
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in reply.headers


@pytest.mark.parametrize(
    "method, path", [("PUT", "/try/runs/0"), ("GET", "/try/runs/0"), ("POST", "/try"), ("GET", "/docs"),
                     ("POST", "/try/runs/1"), ("POST", "/try/runs/-1"), ("POST", "/try/runs/%2e%2e%2f0"),
                     ("GET", "/try/static/..%2fapp.py"), ("GET", "/try/static//etc/passwd"), ("OPTIONS", "/try/runs/0"),
                     ("POST", "/try/runs/99999999999999999999999999")],
)  # fmt: skip
def test_there_are_no_other_addresses(local, method, path):
    assert local.request(method, path, b"x" if method == "POST" else None).refusal


# ── The book ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_pages_of_the_book_get_the_script(tmp_path):
    book = tmp_path / "book"
    book.mkdir()
    (book / "index.html").write_text("<html><head></head><body>Book é</body></html>", encoding="utf-8")
    (book / "book.css").write_text("</head>")
    (tmp_path / "secret.html").write_text("secret")
    (book / "link.html").symlink_to(tmp_path / "secret.html")
    with serving([], book) as running:
        for path in ("/", "/index.html"):
            body = running.get(path).body.decode()
            assert "/try/static/try.js" in body and "Book é" in body
        assert running.get("/book.css").body == b"</head>"
        assert b"try-all" in running.get("/try").body
        for path in ("/../secret.html", "/..%2fsecret.html", "/%2e%2e/secret.html", "/link.html", "/no.html"):
            assert running.get(path).status == 404


# ── The command ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_command_serves_until_ctrl_c(tmp_path):
    words = [sys.executable, "-m", "hw_report", "serve", "--port", "0", "--results_dir", str(tmp_path)]
    running = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=commands.ROOT,
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))  # fmt: skip
    assert "there is no book in" in running.stdout.readline()
    port = int(re.fullmatch(r"open http://127.0.0.1:(\d+)/ in a browser; Ctrl-C .*\n", running.stdout.readline())[1])
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"GET /try HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"200 OK" in connection.recv(65536)
        running.send_signal(signal.SIGINT)  # while a connection is open
        assert running.communicate(timeout=60) == ("\n", "") and running.returncode == 0


def test_a_taken_port_and_wrong_flags_are_refused(tmp_path):
    def refusal(*words):
        return commands.run_command(main, "serve", "--results_dir", tmp_path, *words).refusal

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        expected = f"cannot listen at 127.0.0.1, port {port}: Address already in use; use another --port, or 0"
        assert expected in refusal("--port", port)
    assert "--host no.such.host.invalid: there is no such address" in refusal("--host", "no.such.host.invalid")
    assert "there is no such address" in refusal("--host", "a" * 300)
    assert "expected the folder of a book, with index.html" in refusal("--book", tmp_path)
    assert "there is no such folder" in refusal("--port", 0, tmp_path / "none")
    for wrong in ("-1", "65536", "http"):
        assert f"expected a whole number from 0 to 65535, got '{wrong}'" in refusal(f"--port={wrong}")


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(server.importlib.util, "find_spec", lambda name: None)
    found = commands.run_command(main, "serve", "--results_dir", tmp_path)
    assert 'the package starlette is missing; install it with: pip install -e ".[serve]"' in found.refusal


def test_other_machines_need_the_printed_token(tmp_path, monkeypatch, capsys):
    made = []
    monkeypatch.setattr(
        server, "make_server", lambda app: made.append(app) or SimpleNamespace(run=lambda sockets: None)
    )
    main(["serve", "--host", "0.0.0.0", "--port", "0", "--results_dir", str(tmp_path)])
    [token] = re.findall(r"\?token=(\S{20,}) ", capsys.readouterr().out)
    assert made[0]._token == token
