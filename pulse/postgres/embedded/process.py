"""The server's process: is it there, is it ours, does it answer, end it within a limit.

The process id in postmaster.pid proves nothing by itself: after a kill -9 the file stays, and
the id may be some other process's by now. Who listens on the socket is the better witness.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from pulse.postgres.embedded.directories import socket_is_trusted
from pulse.postgres.embedded.place import Place

_POLL_SECONDS = 0.01
_CONNECT_SECONDS = 2
_LAST_CHILD_SECONDS = 0.5
_STATUS_LINE = 7  # of postmaster.pid, see miscadmin.h of Postgres


def listens(place: Place) -> bool:
    """Whether the server takes connections on its socket; about a millisecond.

    Raises:
        EmbeddedServerError: the socket's directory is not the server's own.
    """
    if not socket_is_trusted(place):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(_CONNECT_SECONDS)
        try:
            client.connect(str(place.socket))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except (BlockingIOError, TimeoutError):
            return True  # busy or frozen, but there
    return True


def serves(place: Place) -> bool:
    """Whether a server lives behind the socket; up to half a second where that is in doubt.

    After a kill -9 a child that was just being started may hold the socket for a moment: whoever
    connects then is hung up on. A server that other process ids are hidden from holds it on.
    """
    if not listens(place):
        return False
    if live_server(place.cluster) is not None:
        return True
    return not wait_until(lambda: not listens(place), _LAST_CHILD_SECONDS)


def is_ready(place: Place) -> bool:
    """Whether the server serves and has said that it is ready, recovery included."""
    lines = _lines(place.cluster / "postmaster.pid")
    status = lines[_STATUS_LINE].strip() if len(lines) > _STATUS_LINE else ""
    return status == "ready" and serves(place)


def live_server(cluster: Path) -> int | None:
    """Return the id of the process that serves this very cluster, None if there is none."""
    pid = _recorded_pid(cluster / "postmaster.pid")
    return pid if pid is not None and _serves(pid, cluster) else None


def discard_remains(place: Place, timeout_seconds: float) -> None:
    """Clear away what a killed server left, as far as Postgres itself would stumble over it.

    Its lock files count as held while any process of that id lives, and its last backends hold
    the shared memory until they notice. Call it under the start lock, with no live server.
    """
    for backend in _orphans(place.cluster):
        end(backend, place.cluster, [(signal.SIGQUIT, timeout_seconds), (signal.SIGKILL, 1)])
    for file in (
        place.cluster / "postmaster.pid",
        place.socket.with_name(f"{place.socket.name}.lock"),
    ):
        pid = _recorded_pid(file)
        if pid is not None and _exists(pid):
            file.unlink(missing_ok=True)


def end(pid: int, cluster: Path, steps: Iterable[tuple[signal.Signals, float]]) -> bool:
    """Send each signal in turn, waiting its seconds for the end; True once it is gone."""
    for number, seconds in steps:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
        if wait_until(lambda: not _serves(pid, cluster), seconds):
            return True
    return False


def wait_until(condition: Callable[[], bool], timeout_seconds: float) -> bool:
    """Poll until the condition holds; False when the time is up before it does."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return []


def _recorded_pid(file: Path) -> int | None:
    first = next(iter(_lines(file)), "").strip()
    return int(first) if first.isdecimal() else None


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _serves(pid: int, cluster: Path) -> bool:
    """Whether the process is a Postgres of this cluster; a zombie is none any more.

    A server's working directory is its cluster from its first moments on.
    """
    if sys.platform != "linux":
        return _serves_by_ps(pid, cluster)
    try:
        return Path(f"/proc/{pid}/comm").read_text() == "postgres\n" and Path(
            f"/proc/{pid}/cwd"
        ).samefile(cluster)
    except OSError:
        return False


def _serves_by_ps(pid: int, cluster: Path) -> bool:
    told = subprocess.run(
        ["/bin/ps", "-ww", "-o", "command=", "-p", str(pid)],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    return "postgres" in told.stdout and str(cluster) in told.stdout


def _orphans(cluster: Path) -> list[int]:
    """List a dead server's backends that still run; they end by themselves, but not always soon."""
    processes = (int(path.name) for path in Path("/proc").glob("[0-9]*"))
    return [pid for pid in processes if _serves(pid, cluster)]
