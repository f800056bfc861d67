"""A server of try-its in a thread, and requests to it over the loopback."""

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hw_report.serve import server
from hw_report.serve.access import Access
from hw_report.serve.app import make_app
from hw_report.serve.try_its import TryIt

HOST = "127.0.0.1"
TITLE = "hw_toy/run, trained on toys"


@dataclass(frozen=True)
class Reply:
    """The answer to a request."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def refusal(self) -> str:
        """The message of an error; the test fails if it is not one line of JSON or gives away a traceback."""
        assert 400 <= self.status < 600 and self.json.keys() == {"error"}, (self.status, self.body)
        assert "\n" not in self.json["error"] and "Traceback" not in self.json["error"]
        return self.json["error"]


@dataclass(frozen=True)
class Served:
    """A running server."""

    port: int

    @property
    def address(self) -> str:
        return f"http://{HOST}:{self.port}"

    def request(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Reply:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=60)
        with contextlib.closing(connection):
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # refused before all was sent
                connection.request(method, path, body, headers or {})
            reply = connection.getresponse()
            return Reply(reply.status, reply.headers, reply.read())

    def get(self, path: str, **headers: str) -> Reply:
        return self.request("GET", path, headers=headers)

    def upload(self, number: int, content: Any, **headers: str) -> Reply:
        return self.request("POST", f"/try/runs/{number}", content, headers)

    def raw(self, request: bytes, wait: bool = True) -> bytes:
        """Sends bytes and returns the first answer; leaves at once if not `wait`."""
        with socket.create_connection((HOST, self.port), timeout=60) as connection:
            connection.sendall(request)
            return connection.recv(65536) if wait else b""


def toy(answer) -> TryIt:
    """A try-it without a network."""
    return TryIt(TITLE, [("dsl-2019-hw3", "1.2")], "Choose an image.", "image", answer)


@contextlib.contextmanager
def serving(try_its, book=None, token=None) -> Iterator[Served]:
    """Serves in a thread until the block ends."""
    with socket.create_server((HOST, 0)) as listener:
        running = server.make_server(Access(make_app(try_its, book), HOST, token))
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            while not running.started:
                time.sleep(0.01)
            yield Served(listener.getsockname()[1])
        finally:
            running.should_exit = True
            thread.join()
