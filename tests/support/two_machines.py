"""Two network namespaces, joined by a pair of virtual network interfaces, that stand for two machines."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest

ADDRESSES = ("10.213.77.1", "10.213.77.2")


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"network namespaces cannot be made here: ip {' '.join(words)}: {done.stderr.strip()}")


@contextlib.contextmanager
def two_machines() -> Iterator[list[str]]:
    """Yields the names of the namespaces; skips the test without the rights."""
    if shutil.which("ip") is None:
        pytest.skip("network namespaces cannot be made here: there is no command ip (package iproute2)")
    names = [f"hw-{os.getpid()}-{side}" for side in "ab"]
    try:
        for name in names:
            _ip("netns", "add", name)
        _ip("link", "add", "veth0", "netns", names[0], "type", "veth", "peer", "name", "veth0", "netns", names[1])
        for name, address in zip(names, ADDRESSES, strict=True):
            _ip("-n", name, "address", "add", f"{address}/24", "dev", "veth0")
            for interface in ("lo", "veth0"):
                _ip("-n", name, "link", "set", interface, "up")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)
