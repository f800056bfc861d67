"""A file server on loopback whose faults a test chooses."""

import contextlib
import http.server
import threading
import time
from collections.abc import Iterator, Mapping


class _Listener(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 50


class _Handler(http.server.BaseHTTPRequestHandler):
    """Serves `files`; `faults` holds what happens to the next requests instead, and `requests` what was asked for."""

    def do_GET(self):
        self.server.requests.append((self.path, self.headers.get("Range")))
        content = self.server.files.get(self.path)
        fault = self.server.faults.pop(0) if self.server.faults else None
        if content is None or isinstance(fault, int):
            self.send_response(fault or 404)
            self.end_headers()
            return
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").partition("-")[0])
        if start >= len(content):
            self.send_error(416)
            return
        partial = start and self.server.ranges
        self.send_response(206 if partial else 200)
        rest = content[start:] if partial else content
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        if fault == "hang":
            self.wfile.write(rest[: len(rest) // 2])
            self.server.released.wait(20)
        elif fault == "trickle":
            with contextlib.suppress(OSError):  # the client is gone
                for byte in rest[:100]:
                    self.wfile.write(bytes([byte]))
                    time.sleep(0.01)
        else:
            self.wfile.write(rest[: len(rest) // 2] if fault == "break" else rest)

    def log_message(self, *arguments):
        pass


@contextlib.contextmanager
def serve(files: Mapping[str, bytes]) -> Iterator[_Listener]:
    """Serves `files`, by their paths; `url` of the server is its address. Sleeping answers end with the block."""
    with _Listener(("127.0.0.1", 0), _Handler) as server:
        server.files, server.faults, server.requests, server.ranges = dict(files), [], [], True
        server.released = threading.Event()
        server.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        yield server
        server.released.set()
        server.shutdown()
