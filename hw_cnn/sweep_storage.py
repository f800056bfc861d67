"""Opens the storage through which machines share a sweep: a database or a journal file of Optuna."""

import contextlib
import random
import time

from filelock import FileLock
from optuna import storages
from optuna.exceptions import StorageInternalError
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from sqlalchemy import URL, make_url
from sqlalchemy.exc import SQLAlchemyError

from hw_common.runs.config import without_password
from hw_common.runs.errors import UserError

HEARTBEAT_SECONDS = 30
ERRORS = (StorageInternalError, SQLAlchemyError)  # Optuna raises these if the database does not answer
_DRIVERS = {  # the driver of each kind of database, and how to install it
    "postgresql": ("postgresql+psycopg", "'psycopg[binary]'"),
    "mysql": ("mysql+pymysql", "'pymysql[rsa]'"),
}
_OTHER_NAMES = {"postgres": "postgresql", "mariadb": "mysql"}
_SECONDS_TO_CONNECT = 10
_SECONDS_TO_ANSWER = 20  # MySQL's driver would wait forever for a machine that accepts the connection but sends nothing
_ATTEMPTS = 5

Lock = contextlib.AbstractContextManager[object]


def open_storage(address: str) -> tuple[storages.BaseStorage, Lock]:
    """Opens a database or, if `address` is a path, a journal file; creates what is missing.

    Returns:
        The storage, and a lock to hold while a trial is taken from its queue. SQLite cannot lock rows, so its lock is a
        file beside the database; the lock of the other storages does nothing.

    Raises:
        UserError: the storage cannot be opened.
    """
    try:
        if "://" not in address:
            return _open_journal(address), _no_lock()
        url = _database(address)
        lock = FileLock(f"{url.database}.lock") if url.get_backend_name() == "sqlite" else _no_lock()
        with lock:
            return _open_database(url), lock
    except UserError:
        raise
    except Exception as error:  # drivers raise exceptions of many types
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"cannot open the storage {without_password(address)}: {reason}") from error


def _open_journal(path: str) -> storages.JournalStorage:
    """Opens a journal file and reads it, since Optuna reports damage only later. Refuses other files."""
    with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
        if file.read(1) not in (b"", b"{"):
            raise UserError(f"--storage {path}: the file exists and is not the journal of a sweep; give another path")
    storage = storages.JournalStorage(JournalFileBackend(path, JournalFileOpenLock(path)))
    storage.get_all_studies()
    return storage


def _no_lock() -> Lock:
    return contextlib.nullcontext()


def _database(address: str) -> URL:
    """Returns the address of a database with its driver.

    Raises:
        UserError: the database is of another kind, or its driver is not installed.
    """
    url = make_url(address)
    kind, _, driver = url.drivername.partition("+")
    kind = _OTHER_NAMES.get(kind, kind)
    if kind == "sqlite" and url.database:
        return url
    if kind not in _DRIVERS:
        raise UserError(
            f"--storage {without_password(address)}: expected postgresql://…, mysql://…, sqlite:///file or the path of "
            "a journal file"
        )
    default, package = _DRIVERS[kind]
    url = url.set(drivername=f"{kind}+{driver}" if driver else default)
    try:
        url.get_dialect().import_dbapi()
    except ImportError as error:
        shown, other = without_password(address), f" (or write {kind}://… for the usual driver)" if driver else ""
        install = f"pip install {driver or package}{other}"
        raise UserError(f"--storage {shown} needs a driver that is not installed: {install}") from error
    return url


def _open_database(url: URL) -> storages.RDBStorage:
    """Connects to a database and creates its tables."""
    options: dict[str, object] = {"pool_pre_ping": True}  # connects again if the server closed the connection
    if url.drivername in [driver for driver, _ in _DRIVERS.values()]:
        limits = {"connect_timeout": _SECONDS_TO_CONNECT}
        is_mysql = url.get_backend_name() == "mysql"
        options["connect_args"] = {**limits, "read_timeout": _SECONDS_TO_ANSWER} if is_mysql else limits
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return storages.RDBStorage(
                url.render_as_string(hide_password=False),
                engine_kwargs=options,
                heartbeat_interval=HEARTBEAT_SECONDS,
                grace_period=4 * HEARTBEAT_SECONDS,  # a trial without a heartbeat for this long is started again
            )
        except ERRORS:  # another machine may be creating the same tables
            if attempt == _ATTEMPTS:
                raise
            time.sleep(attempt * random.uniform(0.1, 0.5))
    raise AssertionError("unreachable")
