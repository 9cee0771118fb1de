"""The embedded server, shared by handles: the first one starts it, the last one stops it.

Each handle holds a shared lock on `users.lock`. A process that starts or stops the server holds
`start.lock` exclusively. `users.lock` is taken and converted only with `start.lock` held, since
flock does not convert atomically. Only the last handle can convert it to exclusive. Each handle has
its own open file description, so threads and processes count alike, and the kernel drops the lock
of a killed process.
"""

import contextlib
import fcntl
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, Self

from psycopg.pq import PGconn, Ping

from pulse.postgres.embedded.account import choose_account
from pulse.postgres.embedded.cluster import START_SECONDS, create_cluster, launch
from pulse.postgres.embedded.directories import (
    PORT,
    EmbeddedServerError,
    ServerPaths,
    create_private_directory,
    refuse_writable_by_others,
    require_private,
)

FAST_STOP_SECONDS: float = 30
IMMEDIATE_STOP_SECONDS: float = 10
_LOCK_SECONDS: Final = 300  # longer than the holder needs for a wait, initdb and a start


class EmbeddedServer:
    """A handle on the server of a data directory. All methods block; any thread may call them.

    The handle of a killed process no longer counts. A forked child must acquire its own handle.
    """

    def __init__(self, paths: ServerPaths, users: int, options: Mapping[str, str]) -> None:
        self._paths = paths
        self._users: int | None = users
        self._options = options
        self._process = os.getpid()

    @classmethod
    def acquire(cls, data_dir: Path, options: Mapping[str, str] | None = None) -> Self:
        """Start the server of this directory if needed; it accepts connections on return.

        `options` are extra server settings for tests; a running server ignores them. The PG*
        variables of this process are removed, since they point to other servers.

        Raises:
            EmbeddedServerError: the server cannot run on this platform, as this user or with this
                data; or the process runs as root and others may write the directory.
        """
        for name in [name for name in os.environ if name.startswith("PG")]:
            del os.environ[name]
        refuse_writable_by_others(data_dir)
        paths = ServerPaths.under(data_dir)
        paths.create_home()
        with _start_lock(paths):
            users = _open_lock(paths.home / "users.lock")
            try:
                fcntl.flock(users, fcntl.LOCK_SH)
                _start(paths, options or {})
            except BaseException:
                _close_lock(users)
                raise
        return cls(paths, users, options or {})

    @property
    def conninfo(self) -> str:
        """The conninfo of the server: its socket, user and database."""
        return self._paths.conninfo

    def ensure_running(self) -> bool:
        """Start the server if it is not running; True if this call started it.

        Raises:
            EmbeddedServerError: it cannot be started, or this handle was released.
        """
        if self._users is None or self._process != os.getpid():
            raise EmbeddedServerError(
                "This process no longer uses the embedded server: acquire it again."
            )
        if _server_pid(self._paths) is not None:
            return False
        with _start_lock(self._paths):
            return _start(self._paths, self._options)

    def release(self) -> None:
        """Release this handle, and stop the server if it was the last one. Idempotent.

        Raises:
            EmbeddedServerError: the server does not stop; the handle is released nevertheless.
        """
        if self._users is None or self._process != os.getpid():
            return
        with _start_lock(self._paths):
            users, self._users = self._users, None
            if users is None:  # another thread has released it
                return
            try:
                if _try_exclusive(users):
                    _stop(self._paths)
            finally:
                _close_lock(users)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def has_data(data_dir: Path) -> bool:
    """Whether this directory has the data of an embedded server."""
    return ServerPaths.under(data_dir).has_cluster


def _open_lock(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise EmbeddedServerError(
            f"The lock file {path} cannot be opened ({error.strerror}): run Pulse as its owner, or "
            "choose another PULSE_DATA_DIR."
        ) from error


def _try_exclusive(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _close_lock(lock: int) -> None:
    fcntl.flock(lock, fcntl.LOCK_UN)  # a forked child may share the description
    os.close(lock)


@contextlib.contextmanager
def _start_lock(paths: ServerPaths) -> Iterator[None]:
    lock = _open_lock(paths.home / "start.lock")
    try:
        if not _wait_until(lambda: _try_exclusive(lock), _LOCK_SECONDS):
            raise EmbeddedServerError(
                f"Another process has been starting or stopping the embedded server for more than "
                f"{_LOCK_SECONDS} s: find and end the process that locks {paths.home}/start.lock."
            )
        yield
    finally:
        _close_lock(lock)


def _start(paths: ServerPaths, options: Mapping[str, str]) -> bool:
    """Start the server if needed and wait until it is ready; True if this call started it."""
    if not _wait_until(lambda: _is_ready(paths) or not _is_running(paths), START_SECONDS):
        raise EmbeddedServerError(
            f"The embedded Postgres server in {paths.cluster} is running, but not ready on "
            f"{paths.sockets} after {START_SECONDS} s: check its log, or end its processes."
        )
    if _is_ready(paths):
        return False
    account, programs = choose_account(paths)
    create_cluster(paths, account, programs)
    _remove_stale_server(paths)
    create_private_directory(paths.sockets, account.uid, account.gid)
    launched = launch(paths, account, programs, options)
    if launched.returncode:
        raise EmbeddedServerError(
            f"The embedded Postgres server in {paths.cluster} did not start as uid {account.uid}; "
            f"fix the cause below, or set PULSE_DATABASE_URL:\n{launched.stdout.strip()}"
        )
    return True


def _stop(paths: ServerPaths) -> None:
    """Stop the server if it is running: fast, then by an immediate shutdown."""
    pid = _server_pid(paths)
    if pid is None:
        gone = not _is_running(paths)
    else:
        gone = _signal_and_wait(pid, paths, signal.SIGINT, FAST_STOP_SECONDS) or _signal_and_wait(
            pid, paths, signal.SIGQUIT, IMMEDIATE_STOP_SECONDS
        )
    if not gone:
        name = f"process {pid}" if pid else "a process not visible here"
        raise EmbeddedServerError(
            f"The embedded Postgres server in {paths.cluster} ({name}) does not stop: check its "
            "log, kill it, and start Pulse again; the server recovers on start."
        )
    if paths.sockets.parent != paths.home:
        with contextlib.suppress(OSError):
            paths.sockets.rmdir()


def _remove_stale_server(paths: ServerPaths) -> None:
    """Remove the remains of a killed server that would keep Postgres from starting.

    Backends that have not noticed its end hold the shared memory. Postgres treats a lock file as
    held if any process has the pid in the file.
    """
    for path in Path("/proc").glob("[0-9]*"):
        if _is_server_of(int(path.name), paths.cluster):
            _signal_and_wait(int(path.name), paths, signal.SIGKILL, 1)
    for file in (paths.cluster / "postmaster.pid", paths.sockets / f".s.PGSQL.{PORT}.lock"):
        pid = _recorded_pid(file)
        if pid is not None and Path(f"/proc/{pid}").exists():
            file.unlink()


def _is_ready(paths: ServerPaths) -> bool:
    address = f"{paths.conninfo} connect_timeout=2"
    return _is_running(paths) and PGconn.ping(address.encode()) == Ping.OK


def _is_running(paths: ServerPaths) -> bool:
    """Whether a server is running, even in another pid namespace.

    Raises:
        EmbeddedServerError: another user owns the socket's directory; in /tmp anyone may create it.
    """
    try:
        require_private(paths.sockets, paths.cluster.stat().st_uid)
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(2)
            client.connect(str(paths.sockets / f".s.PGSQL.{PORT}"))
    except (FileNotFoundError, ConnectionRefusedError):
        return _server_pid(paths) is not None
    except (BlockingIOError, TimeoutError):
        return True
    return True


def _server_pid(paths: ServerPaths) -> int | None:
    """The server's pid, verified: after a kill -9 another process may have the recorded pid."""
    pid = _recorded_pid(paths.cluster / "postmaster.pid")
    return pid if pid is not None and _is_server_of(pid, paths.cluster) else None


def _recorded_pid(file: Path) -> int | None:
    with contextlib.suppress(FileNotFoundError):
        first = file.read_text(errors="replace").partition("\n")[0]
        return int(first) if first.isdecimal() else None
    return None


def _is_server_of(pid: int, cluster: Path) -> bool:
    """Whether the process is a Postgres server whose working directory is this cluster."""
    process = Path(f"/proc/{pid}")
    try:
        if not Path("/proc/self").exists():  # not Linux: any process with this pid counts
            os.kill(pid, 0)
            return True
        is_postgres = (process / "comm").read_text() == "postgres\n"
        return is_postgres and (process / "cwd").samefile(cluster)
    except OSError:
        return False


def _signal_and_wait(pid: int, paths: ServerPaths, number: signal.Signals, seconds: float) -> bool:
    """Send the signal and wait until the process has ended; False on a timeout."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
    return _wait_until(lambda: not _is_server_of(pid, paths.cluster), seconds)


def _wait_until(condition: Callable[[], bool], timeout_seconds: float) -> bool:
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.01)
    return True
