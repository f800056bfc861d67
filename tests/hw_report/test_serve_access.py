"""Who may reach the server of `python -m hw_report serve`, the pages of the book, and the command itself."""

import re
import signal
import socket
import subprocess
import sys
from types import SimpleNamespace

import commands
import pytest
from served import serving, toy

from hw_report.__main__ import main
from hw_report.serve import server
from hw_report.serve.try_its import Result

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
