"""A member of a group of processes: its configuration, and its socket to the supervisor."""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec
import structlog

from pulse.logs import LogShare

_log = structlog.get_logger(__name__)

SERVING: Final = b"s"
"""Sent by a member once it serves, or once its workers run."""

DRAIN: Final = b"d"
"""Sent to a member that another one replaces."""


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One process of a group.

    A replacement has the same `name` and a larger `generation`. `members` are the names of all
    members. Other users cannot read the group's `directory`. `control` and `listening` are
    inherited file descriptors: of the socket to the supervisor, and of the listening sockets.
    """

    name: str
    generation: int
    members: tuple[str, ...]
    directory: str
    control: int
    listening: tuple[int, ...] = ()

    @property
    def is_worker(self) -> bool:
        """Whether this member has workers and no HTTP. The others have HTTP and no workers."""
        return not self.listening

    @property
    def log_share(self) -> LogShare:
        """How this member shares the log with the other processes of the group."""
        return log_share(self.directory, self.name)

    def sockets(self) -> list[socket.socket]:
        """The sockets to listen on."""
        return [socket.socket(fileno=number) for number in self.listening]


def log_share(directory: str, name: str) -> LogShare:
    """How the process of this name shares the log with the others of the group."""
    return LogShare(name, Path(directory) / "log.lock")


class ControlSocket:
    """A member's end of the socket to its supervisor.

    The kernel closes the other end when the supervisor ends, even if it is killed. Then the member
    stops too, so that no process keeps the port.
    """

    def __init__(self, member: Member) -> None:
        self._socket = socket.socket(fileno=member.control)
        self._socket.setblocking(False)
        self._directory = member.directory
        self._draining: asyncio.Task[None] | None = None

    def report_serving(self) -> None:
        """Tell the supervisor that this member serves."""
        with contextlib.suppress(OSError):  # the supervisor has ended; `_read` handles that
            self._socket.send(SERVING)

    @contextmanager
    def watched(self, drain: Callable[[], Awaitable[None]] | None = None) -> Iterator[None]:
        """In the context call `drain` on request, and stop the process when the supervisor ends."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._socket, self._read, drain)
        try:
            yield
        finally:
            loop.remove_reader(self._socket)

    def _read(self, drain: Callable[[], Awaitable[None]] | None) -> None:
        try:
            received = self._socket.recv(1)
        except BlockingIOError:
            return
        except OSError:
            received = b""
        if received == DRAIN and drain is not None and self._draining is None:
            self._draining = asyncio.ensure_future(drain())
        if not received:
            asyncio.get_running_loop().remove_reader(self._socket)
            _log.warning(
                "process.orphaned", consequence="the supervisor has ended, so this process stops"
            )
            shutil.rmtree(self._directory, ignore_errors=True)
            os.kill(os.getpid(), signal.SIGTERM)
