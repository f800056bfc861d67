"""A PostgreSQL server for the tests: its own folder, a free port of the loopback, no password."""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest


def programs() -> Path | None:
    """The folder with initdb and postgres; Debian keeps it off the PATH."""
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return folders[-1] if folders and (folders[-1] / "postgres").exists() else None


def _owner() -> str | None:
    """The user who has to run the server: PostgreSQL refuses root."""
    names = {user.pw_name for user in pwd.getpwall()}
    return next((name for name in ("postgres", "nobody") if name in names), None) if os.getuid() == 0 else None


@contextlib.contextmanager
def server() -> Iterator[str]:
    """Starts a server; yields the first part of the addresses of its databases."""
    folder_of_programs = programs()
    if folder_of_programs is None:
        pytest.skip("PostgreSQL is not installed: there is no initdb")
    owner = _owner()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="postgres-", ignore_cleanup_errors=True) as folder:
        if owner:
            os.chown(folder, pwd.getpwnam(owner).pw_uid, -1)
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.STDOUT, "cwd": folder, "user": owner}
        make = [folder_of_programs / "initdb", "-D", f"{folder}/data", "-U", "sweep", "-A", "trust", "--no-sync"]
        subprocess.run(make, check=True, **quiet)
        settings = [
            f"-cport={port}",
            "-clisten_addresses=127.0.0.1",
            f"-cunix_socket_directories={folder}",
            "-cfsync=off",
        ]
        process = subprocess.Popen([folder_of_programs / "postgres", "-D", f"{folder}/data", *settings], **quiet)
        try:
            yield f"postgresql://sweep@127.0.0.1:{port}/"
        finally:
            process.send_signal(signal.SIGINT)  # does not wait until the clients disconnect
            process.wait()


def new_database(server: str, name: str) -> str:
    """Makes an empty database as soon as the server accepts connections; returns its address."""
    import psycopg

    for _ in range(300):
        with contextlib.suppress(psycopg.OperationalError):
            with psycopg.connect(f"{server}postgres", autocommit=True) as connection:
                connection.execute(f"CREATE DATABASE {name}")
            return server + name
        time.sleep(0.1)
    raise TimeoutError(server)
