"""Takes connections in as fast as they can be served; who is too many waits outside, not for long.

A process that accepts every connection spends itself on saying no: at ten times its load nothing is
left for the orders. So while it is full the kernel keeps whoever comes, and drops who is too many.
"""

import asyncio
import contextlib
import re
import socket
import struct
from collections.abc import Callable, Coroutine
from typing import Any, Final

from pulse.http.errors import JSON, answer_for, encode_error, error_headers
from pulse.http.limits import HEALTH_PATHS, TooBusy
from pulse.http.security import SECURITY_HEADERS
from pulse.http.tracing import headers_of, trace_of

BACKLOG: Final = 2048
LEAST_BACKLOG: Final = 128
LEAST_IN_FLIGHT: Final = 64
ANSWER_SECONDS: Final = 0.25
MOST_WAIT_SECONDS: Final = 0.5

_AT_ONCE: Final = 32
EXCEPTION_SECONDS: Final = 0.05
_PAUSE_SECONDS: Final = 0.005
BUSY_SECONDS: Final = 0.01
_READ_BYTES: Final = 65_536
_TRACING = re.compile(
    rb"\r\n(x-(?:trace|request)-(?:id|source)):[ \t]*([!-~]{1,128})(?=\r\n)", re.IGNORECASE
)
_TARGET = re.compile(rb"([A-Z]{1,16}) ([!-~]+) HTTP/1\.[01]\r\n")
_HEALTH: Final = tuple(path.encode() for path in HEALTH_PATHS)
_MILLISECONDS_SINCE_DATA: Final = 52
"""Where Linux' tcp_info says how long ago the last of what a connection sent arrived."""

TakeIn = Callable[[socket.socket], Coroutine[Any, Any, object]]


class Capacity:
    """How many requests may be in flight: what is answered in a quarter of a second, 64 at least.

    So each is answered in about that time, however fast this machine and its database are today.
    """

    def __init__(self, answered: Callable[[], int], clock: Callable[[], float]) -> None:
        self._answered = answered
        self._clock = clock
        self._looked_at = clock()
        self._answered_then = answered()
        self._most = LEAST_IN_FLIGHT

    @property
    def most(self) -> int:
        """As of the last quarter of a second that is over."""
        now = self._clock()
        passed = now - self._looked_at
        if passed >= ANSWER_SECONDS:
            answered = self._answered()
            rate = (answered - self._answered_then) / passed
            self._most = max(LEAST_IN_FLIGHT, int(rate * ANSWER_SECONDS))
            self._looked_at, self._answered_then = now, answered
        return self._most


class Entrance:
    """Accepts at these listeners while fewer requests are in flight than can be answered soon.

    More of them fill it only while it has more to do than it can: where its loop comes round in
    time those inside wait for Postgres, and whoever comes is best told so by the process itself.

    While it is full, one connection each 50 ms is taken in all the same, so that whoever asks for
    the process's health is heard. Who has waited longer than half a second is told 503 at the door
    without being looked at further: it would be served last and may be gone.
    """

    def __init__(
        self,
        listeners: list[socket.socket],
        take_in: TakeIn,
        in_flight: Callable[[], int],
        capacity: Capacity,
    ) -> None:
        self._listeners = listeners
        self._take_in = take_in
        self._in_flight = in_flight
        self._capacity = capacity
        self._loop = asyncio.get_running_loop()
        self._entering: set[asyncio.Task[object]] = set()
        self._pause: asyncio.TimerHandle | None = None
        self._next_exception_at = 0.0
        self._due_at = 0.0
        self._busy = True
        self._backlog = BACKLOG

    def open(self) -> None:
        """Begin to accept."""
        self._watch()

    def close(self) -> list[socket.socket]:
        """Listen no more; whoever waits outside is returned, since closing would reset them."""
        if self._pause is not None:
            self._pause.cancel()
        else:
            self._look_away()
        waiting: list[socket.socket] = []
        for listener in self._listeners:
            with listener, contextlib.suppress(OSError):
                while True:
                    waiting.append(listener.accept()[0])
        return waiting

    def _watch_again(self) -> None:
        self._busy = self._loop.time() - self._due_at > BUSY_SECONDS
        self._watch()

    def _watch(self) -> None:
        self._pause = None
        for listener in self._listeners:
            self._loop.add_reader(listener, self._accept_at, listener)

    def _look_away(self) -> None:
        for listener in self._listeners:
            self._loop.remove_reader(listener)

    def _accept_at(self, listener: socket.socket) -> None:
        most = self._capacity.most
        free = most - self._in_flight() - len(self._entering)
        if free <= 0 and not self._busy:
            free = _AT_ONCE
        if free <= 0 and self._loop.time() >= self._next_exception_at:
            free = 1
        if free <= 0:
            self._queue_at_most(max(LEAST_BACKLOG, most * 2))
            self._pause_for_a_moment()
            return
        for _ in range(_AT_ONCE):
            try:
                connection = listener.accept()[0]
                connection.setblocking(False)
            except (BlockingIOError, ConnectionAbortedError, InterruptedError):
                self._queue_at_most(BACKLOG)  # nobody waits
                return
            except OSError:  # no descriptor is left, say: those inside will give theirs back
                break
            if free > most // 2 or not _is_refused(connection):
                self._let_in(connection)
                free -= 1
            if free <= 0:
                self._next_exception_at = self._loop.time() + EXCEPTION_SECONDS
                break
        else:
            return
        self._pause_for_a_moment()

    def _queue_at_most(self, connections: int) -> None:
        """So many may wait at the kernel's, which lets the next ones knock again in a second."""
        if connections != self._backlog:
            self._backlog = connections
            for listener in self._listeners:
                listener.listen(connections)

    def _pause_for_a_moment(self) -> None:
        if self._pause is None:
            self._look_away()
            self._due_at = self._loop.time() + _PAUSE_SECONDS
            self._pause = self._loop.call_at(self._due_at, self._watch_again)

    def _let_in(self, connection: socket.socket) -> None:
        entering = self._loop.create_task(self._take_in(connection))
        self._entering.add(entering)
        entering.add_done_callback(self._entering.discard)


def _seconds_waited(connection: socket.socket) -> float:
    """How long ago what is here to read arrived; 0 where the system does not tell."""
    if not hasattr(socket, "TCP_INFO"):
        return 0.0
    try:
        told = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 64)
    except OSError:
        return 0.0
    milliseconds: int = struct.unpack_from("=I", told, _MILLISECONDS_SINCE_DATA)[0]
    return milliseconds / 1000


def _is_refused(connection: socket.socket) -> bool:
    """Whether it waited too long and was told to come back.

    Not who has said nothing yet, nor who asks for health.
    """
    if _seconds_waited(connection) <= MOST_WAIT_SECONDS:
        return False
    try:
        begin = connection.recv(_READ_BYTES, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        begin = b""
    target = _TARGET.match(begin)
    if target and target[2].endswith(_HEALTH):
        return False
    with connection, contextlib.suppress(OSError):
        connection.recv(_READ_BYTES)  # unread bytes would turn the close into a reset
        connection.send(_refusal(begin, target))
    return True


def _refusal(begin: bytes, target: re.Match[bytes] | None) -> bytes:
    status, body = answer_for(TooBusy())
    content = encode_error(body)
    method, path = (part.decode() for part in target.groups()) if target else ("UNREADABLE", "")
    given = [(name.lower(), value) for name, value in _TRACING.findall(begin)]
    headers = [
        (b"content-type", JSON.encode()),
        (b"content-length", str(len(content)).encode()),
        (b"connection", b"close"),
        *((name.encode(), value.encode()) for name, value in error_headers(status, body).items()),
        *headers_of(trace_of(method, path, given)),
        *SECURITY_HEADERS,
    ]
    lines = b"".join(b"%b: %b\r\n" % header for header in headers)
    return b"HTTP/1.1 %d Service Unavailable\r\n%b\r\n%b" % (status, lines, content)
