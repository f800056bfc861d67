"""Takes rights away from the process in which a student's file runs. Imports the standard library alone.

`enclose` is called by the process that forks the others, or without forks by that of each file; `confine` is called in
the process of a single file, just before the file is loaded. Limits that the system lacks are left out; `enclose`
returns those in force.
"""

import contextlib
import ctypes
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]  # otherwise a module

_LARGEST_FILE = 2**24  # bytes that the student's code may write into one file
_NEW_MOUNTS, _NEW_IPC, _NEW_USER, _NEW_NETWORK = 0x20000, 0x8000000, 0x10000000, 0x40000000  # <sched.h>
_READ_ONLY, _BIND, _RECURSIVE, _PRIVATE, _DETACH = 1, 0x1000, 0x4000, 0x40000, 2  # <sys/mount.h>
_NO_NEW_PRIVILEGES = 38  # <sys/prctl.h>
_CAPABILITIES_3 = 0x20080522  # <linux/capability.h>
_SYSTEM = ("/usr", "/lib", "/lib64", "/bin", "/etc", "/dev", "/sys", "/proc/self", "/proc/cpuinfo",
           "/proc/meminfo", "/proc/stat", "/var/cache", "/System", "/Library", "C:\\Windows")  # fmt: skip
_STARTS_PROCESSES = frozenset(("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.startfile",
                               "os.fork", "os.forkpty"))  # fmt: skip
_CHANGES_FILES = frozenset(("os.remove", "os.rename", "os.rmdir", "os.truncate", "os.chmod", "os.chown", "os.link",
                            "os.symlink", "os.mkdir", "os.utime"))  # fmt: skip
_USES_NETWORK = frozenset(("socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo"))


def enclose(hidden: Sequence[str], packages: Sequence[str]) -> list[str]:
    """Disconnects from the network and hides the folders `hidden`, where allowed; returns the limits in force as text.

    On Linux this needs kernel namespaces, which root can usually create, and other users on many systems.
    """
    in_force = []
    if sys.platform.startswith("linux"):
        libc = ctypes.CDLL(None, use_errno=True)
        is_root, user, group = os.geteuid() == 0, os.getuid(), os.getgid()
        spaces = _NEW_MOUNTS | _NEW_NETWORK | _NEW_IPC | (0 if is_root else _NEW_USER)
        if libc.unshare(spaces) == 0:
            in_force.append("no network")
            if not is_root:
                _map_user(user, group)
            if _mount(libc, None, "/", None, _RECURSIVE | _PRIVATE):
                if is_root:
                    _open_up(libc, [*packages, sys.prefix])
                if all([not Path(path).exists() or _mount(libc, "none", path, "tmpfs", _READ_ONLY) for path in hidden]):
                    in_force.append("the checker's files hidden")
        if is_root and _everybody_may_read([*packages, sys.prefix]):
            in_force.append("a user without rights")
    if resource is not None:
        in_force.append("limits on memory, time, files and processes")
    return in_force


def _everybody_may_read(folders: Sequence[str]) -> bool:
    """Whether Python still finds its files after it has become another user."""
    paths = [path for folder in folders for path in (Path(folder), *Path(folder).parents)]
    return all(path.stat().st_mode & 0o005 == 0o005 for path in paths)


def _map_user(user: int, group: int) -> None:
    """Keeps the user's and the group's number in a new user namespace."""
    with contextlib.suppress(OSError):
        Path("/proc/self/setgroups").write_text("deny", encoding="utf-8")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1", encoding="utf-8")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1", encoding="utf-8")


def _open_up(libc: Any, folders: Sequence[str]) -> None:
    """Makes `folders` readable for everybody, even if they are in a home folder that only its owner may enter.

    In the new mount namespace, the closed folder is replaced by a new one that contains nothing but `folders`.
    """
    for folder in dict.fromkeys(folders):
        closed = [path for path in reversed(Path(folder).parents) if path.stat().st_mode & 0o005 != 0o005]
        if not closed:
            continue
        inside = [path for path in dict.fromkeys(folders) if Path(path).is_relative_to(closed[0])]
        stages = [tempfile.mkdtemp() for _ in inside]
        for path, stage in zip(inside, stages, strict=True):
            _mount(libc, path, stage, None, _BIND | _RECURSIVE)
        if _mount(libc, "none", str(closed[0]), "tmpfs", 0):
            for path, stage in zip(inside, stages, strict=True):
                with contextlib.suppress(FileExistsError):  # it is in another one of `folders`
                    Path(path).mkdir(parents=True)
                    _mount(libc, stage, path, None, _BIND | _RECURSIVE)
        for stage in stages:
            libc.umount2(os.fsencode(stage), _DETACH)
            os.rmdir(stage)


def _mount(libc: Any, source: str | None, target: str, kind: str | None, flags: int) -> bool:
    names = [name if name is None else os.fsencode(name) for name in (source, target, kind)]
    return libc.mount(*names, ctypes.c_ulong(flags), b"size=1m,mode=755" if kind else None) == 0


def confine(folder: str, packages: Sequence[str], seconds: int, memory: int) -> None:
    """Sets the limits of the process of one file.

    Args:
        folder: the copy of the student's files, the only folder in which the process may write.
        packages: folders of installed packages, which the process may read.
        seconds: limit of CPU time and of wall-clock time.
        memory: bytes that the process may take in addition to what it has.
    """
    if resource is not None:
        _limit_resources(seconds, memory)
        signal.alarm(seconds)
    if sys.platform.startswith("linux"):
        _give_up_rights(folder, packages)
    sys.addaudithook(_Refusal([folder, *packages, sys.prefix, sys.base_prefix, *_SYSTEM], folder))


def _limit_resources(seconds: int, memory: int) -> None:
    """Sets limits that the kernel enforces even if the checker itself has been killed."""
    assert resource is not None
    with contextlib.suppress(OSError, ValueError, IndexError):  # only Linux has this file
        memory += int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[5]) * resource.getpagesize()
    limits = {
        "RLIMIT_DATA": memory,  # unlike RLIMIT_AS, it does not count the files of large libraries
        "RLIMIT_CPU": seconds,
        "RLIMIT_FSIZE": _LARGEST_FILE,
        "RLIMIT_CORE": 0,
        "RLIMIT_NPROC": 0,  # no forks
    }
    for name, value in limits.items():
        with contextlib.suppress(OSError, ValueError, AttributeError):  # the administrator has set a lower limit
            resource.setrlimit(getattr(resource, name), (value, value))


def _give_up_rights(folder: str, packages: Sequence[str]) -> None:
    """Becomes a user that owns nothing but `folder`, without capabilities, and without a way to get rights back."""
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() == 0 and _everybody_may_read([*packages, sys.prefix]):
        for user in (2**20 + os.getpid(), 65534):  # with a separate user, it cannot disturb other processes
            with contextlib.suppress(OSError):  # a container may have few user ids
                os.chown(folder, user, -1)
                os.setgroups([])
                os.setresgid(65534, 65534, 65534)
                os.setresuid(user, user, user)
                break
    libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    with contextlib.suppress(AttributeError):  # a C library without this function
        libc.capset((ctypes.c_uint32 * 2)(_CAPABILITIES_3, 0), (ctypes.c_uint32 * 6)())


class _Refusal:
    """An audit hook that forbids opening or changing other files, starting processes and using the network."""

    def __init__(self, readable: Sequence[str], writable: str) -> None:
        self._real, self._separator = os.path.realpath, os.sep  # the student's code may replace functions of os.path
        self._readable = [self._real(path) for path in readable]
        self._writable = [self._real(path) for path in (writable, os.devnull)]
        self._ours = tuple(f"{path}{os.sep}hw_" for path in self._readable[1:])  # our packages, if they are installed

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Raises PermissionError if `event` is not allowed."""
        if event == "open":
            path, mode, flags = arguments
            writes = bool(set(mode) & set("wax+")) if isinstance(mode, str) else bool((flags or 0) & 0o3)
            if not self._is_inside(path, self._writable if writes else self._readable):
                raise PermissionError(f"the check does not allow opening {os.path.basename(os.fsdecode(path))}")
        elif event in _CHANGES_FILES:
            if not all(self._is_inside(path, self._writable) for path in arguments if isinstance(path, str | bytes)):
                raise PermissionError("the check does not allow changing files elsewhere")
        elif event in _STARTS_PROCESSES:
            raise PermissionError("the check does not allow starting processes")
        elif event in _USES_NETWORK:
            raise PermissionError("the check does not allow using the network")

    def _is_inside(self, path: Any, folders: list[str]) -> bool:
        if not isinstance(path, str | bytes):
            return True  # a file that is open already
        real = self._real(os.fsdecode(path))
        is_inside = any(real == folder or real.startswith(folder + self._separator) for folder in folders)
        return is_inside and not real.startswith(self._ours)
