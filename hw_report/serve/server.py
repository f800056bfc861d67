"""Starts the server and ends it."""

import importlib.util
import ipaddress
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hw_common.runs.errors import UserError

if TYPE_CHECKING:
    import uvicorn
    from starlette.types import ASGIApp

_BACKLOG = 64  # connections that wait to be accepted
_CONNECTIONS = 64  # open at the same time


def serve(runs: Sequence[Path], book: Path | None, host: str, port: int) -> None:
    """Serves the book and the try-its of finished runs until Ctrl-C.

    Args:
        runs: run folders.
        book: folder of the book; None if there is none.
        host: address or name at which to listen. If other machines can reach it, a token is required.
        port: port number; 0 for a free one.

    Raises:
        UserError: a package is missing, the address is wrong or taken, or a folder is not a finished run.
    """
    for package in ("starlette", "uvicorn"):
        if importlib.util.find_spec(package) is None:
            raise UserError(f'the package {package} is missing; install it with: pip install -e ".[serve]"')
    with _listen(host, port) as listener:
        # These modules import torch, which is slow, so the arguments are checked first.
        from hw_report.serve.access import Access, make_token
        from hw_report.serve.app import make_app
        from hw_report.serve.try_its import open_try_it

        address = listener.getsockname()
        token = None if ipaddress.ip_address(address[0]).is_loopback else make_token()
        try_its = [open_try_it(folder) for folder in runs]
        server = make_server(Access(make_app(try_its, book), host.lower(), token))
        for try_it in try_its:
            print(try_it.title)
        query = f"/?token={token}" if token else "/"
        print(f"open http://{_shown(host)}:{address[1]}{query} in a browser; Ctrl-C ends the server", flush=True)
        try:
            server.run(sockets=[listener])
        except KeyboardInterrupt:
            print()


def make_server(app: "ASGIApp") -> "uvicorn.Server":
    """The server of an application; it prints nothing."""
    import uvicorn

    config = uvicorn.Config(
        app, lifespan="off", ws="none", http="h11", log_level="critical", access_log=False, server_header=False,
        limit_concurrency=_CONNECTIONS, timeout_graceful_shutdown=1,
    )  # fmt: skip
    return uvicorn.Server(config)


def _listen(host: str, port: int) -> socket.socket:
    try:
        [(family, _, _, _, address), *_] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return socket.create_server(address[:2], family=family, backlog=_BACKLOG)
    except (socket.gaierror, UnicodeError):
        raise UserError(f"--host {host}: there is no such address; use an address of this machine") from None
    except PermissionError:
        raise UserError(f"--port {port} needs the administrator's rights; use 1024 or more") from None
    except OSError as error:
        reason = os.strerror(error.errno or 0)  # the error's own text repeats the address
        message = f"cannot listen at {host}, port {port}: {reason}; use another --port, or 0 for a free one"
        raise UserError(message) from error


def _shown(host: str) -> str:
    """`host` as a browser's address needs it."""
    if host in ("0.0.0.0", "::"):  # all addresses of this machine
        return socket.gethostname()
    return f"[{host}]" if ":" in host else host
