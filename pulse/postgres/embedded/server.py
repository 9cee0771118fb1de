"""One use of the embedded server: the first to come starts it, the last to leave stops it.

Every process that uses the server shares `users.lock`; one that starts or stops it holds
`start.lock` alone. `users.lock` is taken and converted only under `start.lock`, since flock's
conversion is not atomic; getting it exclusively means to be the last. Each use has a file
description of its own, so the kernel counts threads and processes alike and forgets killed ones.
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
from pulse.postgres.embedded.cluster import START_SECONDS, launch, make_cluster
from pulse.postgres.embedded.directories import (
    PORT,
    EmbeddedServerError,
    Place,
    own_directory,
    refuse_writable_by_others,
    require_private,
)

FAST_STOP_SECONDS: float = 30
IMMEDIATE_STOP_SECONDS: float = 10
_LOCK_SECONDS: Final = 300  # longer than its holder may take: wait for a server, initdb, start


class EmbeddedServer:
    """A use of the server in one data directory; all methods block, in any thread.

    A process that is killed counts no longer, and the next last one out stops the server. A forked
    child has no use of its own; it must acquire one.
    """

    def __init__(self, place: Place, users: int, options: Mapping[str, str]) -> None:
        self._place = place
        self._users: int | None = users
        self._options = options
        self._process = os.getpid()

    @classmethod
    def acquire(cls, data_dir: Path, options: Mapping[str, str] | None = None) -> Self:
        """Use the server of this directory; it is ready for connections on return.

        `options` are further server settings, for tests; a running server keeps its own. From then
        on this process ignores the shell's PG* variables: they name other servers.

        Raises:
            EmbeddedServerError: there is no server for this platform, user or data; or, as root,
                others may write the directory.
        """
        for name in [name for name in os.environ if name.startswith("PG")]:
            del os.environ[name]
        refuse_writable_by_others(data_dir)
        place = Place.under(data_dir)
        place.make_home()
        with _start_lock(place):
            users = _open_lock(place.home / "users.lock")
            try:
                fcntl.flock(users, fcntl.LOCK_SH)
                _start(place, options or {})
            except BaseException:
                _close_lock(users)
                raise
        return cls(place, users, options or {})

    @property
    def conninfo(self) -> str:
        """What libpq needs to connect: the socket, the user and the database `pulse`."""
        return self._place.conninfo

    def ensure_running(self) -> bool:
        """Start the server again if it is gone; True if this call had to.

        Raises:
            EmbeddedServerError: it cannot be started, or this use has ended.
        """
        if self._users is None or self._process != os.getpid():
            raise EmbeddedServerError(
                "This process does not use the embedded server any more: acquire it again."
            )
        if _server_pid(self._place) is not None:
            return False
        with _start_lock(self._place):
            return _start(self._place, self._options)

    def release(self) -> None:
        """End this use, and stop the server if it was the last; harmless when repeated.

        Raises:
            EmbeddedServerError: the server does not stop; this use has ended all the same.
        """
        if self._users is None or self._process != os.getpid():
            return
        with _start_lock(self._place):
            users, self._users = self._users, None
            if users is None:  # another thread has released it meanwhile
                return
            try:
                if _try_exclusive(users):
                    _stop(self._place)
            finally:
                _close_lock(users)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def has_data(data_dir: Path) -> bool:
    """Whether a server was ever made in this directory."""
    return Place.under(data_dir).is_made


def _open_lock(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise EmbeddedServerError(
            f"The lock file {path} cannot be opened ({error.strerror}): run Pulse as the user "
            "who owns it, or choose another PULSE_DATA_DIR."
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
def _start_lock(place: Place) -> Iterator[None]:
    lock = _open_lock(place.home / "start.lock")
    try:
        if not _wait_until(lambda: _try_exclusive(lock), _LOCK_SECONDS):
            raise EmbeddedServerError(
                f"Another process has been starting or stopping the embedded server for more than "
                f"{_LOCK_SECONDS} s: find the one that holds start.lock in {place.home}, end it."
            )
        yield
    finally:
        _close_lock(lock)


def _start(place: Place, options: Mapping[str, str]) -> bool:
    """Bring the server up until it is ready; True if this call had to."""
    if not _wait_until(lambda: _is_ready(place) or not _is_present(place), START_SECONDS):
        raise EmbeddedServerError(
            f"The embedded Postgres server in {place.cluster} runs, but is not ready on "
            f"{place.sockets} after {START_SECONDS} s: look at its log, or end its processes."
        )
    if _is_ready(place):
        return False
    account, programs = choose_account(place)
    make_cluster(place, account, programs)
    _discard_remains(place)
    own_directory(place.sockets, account.uid, account.gid)
    launched = launch(place, account, programs, options)
    if launched.returncode:
        raise EmbeddedServerError(
            f"The embedded Postgres server in {place.cluster} did not start (run as uid "
            f"{account.uid}); remove the cause named in these lines, or set "
            f"PULSE_DATABASE_URL:\n{launched.stdout.strip()}"
        )
    return True


def _stop(place: Place) -> None:
    """Stop the server if it runs: fast, and after a limit immediately."""
    pid = _server_pid(place)
    if pid is None:
        gone = not _is_present(place)
    else:
        gone = _end(pid, place, signal.SIGINT, FAST_STOP_SECONDS) or _end(
            pid, place, signal.SIGQUIT, IMMEDIATE_STOP_SECONDS
        )
    if not gone:
        name = f"process {pid}" if pid else "a process not visible here"
        raise EmbeddedServerError(
            f"The embedded Postgres server in {place.cluster} ({name}) does not stop: look at its "
            "log, end it by hand, and start Pulse again; it recovers by itself."
        )
    if place.sockets.parent != place.home:
        with contextlib.suppress(OSError):
            place.sockets.rmdir()


def _discard_remains(place: Place) -> None:
    """Clear away what a killed server left, as far as Postgres itself would stumble over it.

    Its last backends hold the shared memory until they notice, and its lock files count as held
    while any process of that id lives.
    """
    for path in Path("/proc").glob("[0-9]*"):
        if _serves(int(path.name), place.cluster):
            _end(int(path.name), place, signal.SIGKILL, 1)
    for file in (place.cluster / "postmaster.pid", place.sockets / f".s.PGSQL.{PORT}.lock"):
        pid = _recorded_pid(file)
        if pid is not None and Path(f"/proc/{pid}").exists():
            file.unlink()


def _is_ready(place: Place) -> bool:
    address = f"{place.conninfo} connect_timeout=2"
    return _is_present(place) and PGconn.ping(address.encode()) == Ping.OK


def _is_present(place: Place) -> bool:
    """Whether a server runs, one of a process id that is hidden from this process included.

    Raises:
        EmbeddedServerError: its socket's directory is another user's: in /tmp anyone may make one.
    """
    try:
        require_private(place.sockets, place.cluster.stat().st_uid)
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(2)
            client.connect(str(place.sockets / f".s.PGSQL.{PORT}"))
    except (FileNotFoundError, ConnectionRefusedError):
        return _server_pid(place) is not None
    except (BlockingIOError, TimeoutError):
        return True
    return True


def _server_pid(place: Place) -> int | None:
    """The process that serves this very cluster: after a kill -9 the recorded id proves nothing."""
    pid = _recorded_pid(place.cluster / "postmaster.pid")
    return pid if pid is not None and _serves(pid, place.cluster) else None


def _recorded_pid(file: Path) -> int | None:
    with contextlib.suppress(FileNotFoundError):
        first = file.read_text(errors="replace").partition("\n")[0]
        return int(first) if first.isdecimal() else None
    return None


def _serves(pid: int, cluster: Path) -> bool:
    """Whether the process is a Postgres whose working directory is this cluster; no zombie is."""
    process = Path(f"/proc/{pid}")
    try:
        if not Path("/proc/self").exists():  # not Linux: any process of that id counts
            os.kill(pid, 0)
            return True
        is_postgres = (process / "comm").read_text() == "postgres\n"
        return is_postgres and (process / "cwd").samefile(cluster)
    except OSError:
        return False


def _end(pid: int, place: Place, number: signal.Signals, seconds: float) -> bool:
    """Send the signal and wait for the process's end; True once it is gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
    return _wait_until(lambda: not _serves(pid, place.cluster), seconds)


def _wait_until(condition: Callable[[], bool], timeout_seconds: float) -> bool:
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.01)
    return True
