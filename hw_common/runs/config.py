"""The content of config.json: made for a new run, compared when a run is resumed."""

import contextlib
import datetime
import functools
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from hw_common.runs.errors import UserError
from hw_common.runs.roles import Role
from hw_common.runs.run_folder import SCHEMA, Run

_PACKAGES = ("torch", "torchvision", "numpy", "scikit-learn", "captum", "optuna")


def describe(
    homework: str,
    command: str,
    arguments: Mapping[str, Any],
    roles: Mapping[str, Role],
    data_hashes: Mapping[str, str],
    host: Mapping[str, Any],
) -> dict[str, Any]:
    """Makes the content of config.json for a new run.

    Args:
        homework: name of the package.
        command: module that `python -m` runs.
        arguments: arguments of the command.
        roles: role of each argument; TRAINED for arguments without a role.
        data_hashes: SHA-256 of each data file.
        host: device, threads and number of processes, on which rounding depends.
    """
    kept = {name: roles[name].value for name in arguments if roles.get(name, Role.TRAINED) != Role.TRAINED}
    return {
        "schema": SCHEMA,
        "homework": homework,
        "command": command,
        "arguments": {name: without_password(_plain(value)) for name, value in arguments.items()},
        "roles": kept,
        "data": dict(data_hashes),
        "versions": {"python": platform.python_version(), **_versions()},
        "git": git_revision(),
        "host": {"machine": platform.machine(), "cores": available_cores(), **host},
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "program": getattr(sys.modules["__main__"].__spec__, "name", command),
        "argv": [without_password(word) for word in sys.argv[1:]],
    }


@functools.cache
def _versions() -> dict[str, str]:
    """The versions of the packages that are installed; no command needs all of them."""
    versions = {}
    for name in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def check_same_arguments(
    run: Run,
    given: Mapping[str, Any],
    roles: Mapping[str, Role] | None = None,
    defaults: Mapping[str, Any] | None = None,
    may_have_moved: bool = True,
) -> None:
    """Refuses arguments that differ from the arguments that a run was started with, unless their roles allow it.

    Args:
        run: the run to resume.
        given: arguments for the rest of the run.
        roles: role of each argument; TRAINED for arguments without a role.
        defaults: values for arguments that the command did not have yet when the run was started.
        may_have_moved: whether only the last part of an INPUT's path is compared. Use it only where the hashes of the
            content are compared afterwards (`check_same_data`).

    Raises:
        UserError: an argument differs; the message names the first one.
    """
    for name, value in given.items():
        role = (roles or {}).get(name, Role.TRAINED)
        own, value = run.arguments.get(name, _plain((defaults or {}).get(name))), _plain(value)
        if role == Role.INPUT:
            same = value == own or (may_have_moved and _last_part(value) == _last_part(own))
        else:
            same = value == own or role.may_change_on_resume
        if not same:
            raise UserError(f"cannot resume {run.folder} with --{name} {value}: it was started with --{name} {own}")


def _plain(value: Any) -> Any:
    """Returns `value` as JSON stores it."""
    return str(value) if isinstance(value, Path) else value


def _last_part(value: Any) -> Any:
    return Path(value).name if isinstance(value, str) else value


def check_same_data(run: Run, hashes: Mapping[str, str]) -> None:
    """Refuses data that differ from the data that a run was started with.

    Args:
        run: the run to resume.
        hashes: SHA-256 of each data file. The name before the first slash is not compared, because the folder of the
            data set may have another name now.

    Raises:
        UserError: a data file differs; the message names the first one.
    """
    own, now = _without_folder(run.config.get("data", {})), _without_folder(hashes)
    for name in sorted(own.keys() | now.keys()):
        path, before = own.get(name, now.get(name, ("", "")))[0], own.get(name, ("", "none"))[1]
        current = now.get(name, ("", "none"))[1]
        if before != current:
            raise UserError(
                f"cannot resume {run.folder}: the data file {path} is not the one it was started with "
                f"(SHA-256 {current[:16]}, expected {before[:16]})"
            )


def _without_folder(hashes: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Maps the path of each data file, without its first folder, to its whole path and its hash."""
    return {path.partition("/")[2] or path: (path, digest) for path, digest in hashes.items()}


def check_same_host(run: Run, host: Mapping[str, Any]) -> None:
    """Refuses another device, number of processes or number of threads, because they would change the rounding.

    Raises:
        UserError: an entry of `host` differs; the message names it.
    """
    own = run.config.get("host", {})
    for name, value in host.items():
        if own.get(name) != value:
            raise UserError(
                f"cannot resume {run.folder} with {name} {value}: it was started with {own.get(name)}; "
                f"resume with: {run.resume_command}"
            )


def without_password(value: Any) -> Any:
    """Returns `value` with stars in place of the password in any address."""
    return re.sub(r"(://[^/@:\s]*):[^/@\s]*@", r"\1:***@", value) if isinstance(value, str) else value


def available_cores() -> int:
    """Number of CPU cores that this process may use; taskset or a container may allow fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.cache
def git_revision() -> str | None:
    """The commit of this code at the first call, with `-dirty` if files differ from it; None outside a git checkout."""
    try:
        return subprocess.run(
            ["git", "describe", "--always", "--dirty", "--exclude=*", "--abbrev=40"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
