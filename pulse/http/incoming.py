"""A request's body on its way in: its declared size, its deadline, and what is left unread."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from pulse.errors import PulseError
from pulse.http.callers import caller_name
from pulse.http.limits import (
    MAX_BATCH_BYTES,
    MAX_ORDER_BYTES,
    BodyTooSlow,
    CallerGone,
    TooBusy,
)

_LINGER_SECONDS: Final = 1.0
_LINGER_BYTES: Final = 16 * 1024 * 1024
_MOST_DIGITS: Final = 20
_WITHOUT_BODY: Final = frozenset(("GET", "HEAD", "OPTIONS"))

Message = Any
Receive = Callable[[], Awaitable[Message]]


class BodiesInProgress:
    """The bodies that have not arrived whole, by caller, oldest first.

    Each must be whole within `seconds`. Together they weigh at most `max_weight`: one more ends the
    oldest of the caller that has the most, so that a caller with many slow bodies takes places from
    itself and not from others.
    """

    def __init__(self, seconds: float, max_weight: int) -> None:
        self._seconds = seconds
        self._max_weight = max_weight
        self._weight = 0
        self._deadlines: dict[Incoming, float] = {}
        self._of_caller: dict[str, dict[Incoming, None]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, incoming: "Incoming") -> None:
        """A body begins."""
        loop = asyncio.get_running_loop()
        self._weight += incoming.weight
        self._deadlines[incoming] = loop.time() + self._seconds
        self._of_caller.setdefault(incoming.caller, {})[incoming] = None
        while self._weight > self._max_weight:
            most = max(self._of_caller.values(), key=len)
            self._expire(next(iter(most)), TooBusy())
        if self._timer is None:
            self._timer = loop.call_later(self._seconds, self._expire_late)

    def discard(self, incoming: "Incoming") -> None:
        """It is whole, or its request is answered."""
        if self._deadlines.pop(incoming, None) is None:
            return
        self._weight -= incoming.weight
        own = self._of_caller[incoming.caller]
        del own[incoming]
        if not own:
            del self._of_caller[incoming.caller]

    def _expire(self, incoming: "Incoming", error: PulseError) -> None:
        self.discard(incoming)
        incoming.expire(error)

    def _expire_late(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        for incoming, deadline in list(self._deadlines.items()):
            if deadline > loop.time():
                self._timer = loop.call_at(deadline, self._expire_late)
                return
            self._expire(incoming, BodyTooSlow(self._seconds))


class Incoming:
    """The `receive` of one request.

    `on_whole` is called once the body is whole, before the application sees its last part, and may
    raise to refuse the request.
    """

    __slots__ = (
        "_bodies",
        "_ended",
        "_length",
        "_on_whole",
        "_receive",
        "_scope",
        "_task",
        "_waiting",
        "admitted",
        "weight",
        "whole",
    )

    def __init__(
        self,
        receive: Receive,
        scope: Mapping[str, Any],
        bodies: BodiesInProgress,
        max_bytes: int,
        on_whole: Callable[["Incoming"], None],
    ) -> None:
        self._receive = receive
        self._bodies = bodies
        self._on_whole = on_whole
        self._scope = scope
        self._ended: PulseError | None = None
        self._length = _length(scope)
        self._task: asyncio.Task[Any] | None = None
        self._waiting = False
        self.weight = 1 + min(self._length, max_bytes) // MAX_ORDER_BYTES
        """How many requests it counts for: one, and one more for each 64 KiB it may hold."""
        self.whole = self._length == 0 and not _may_go_on(scope)
        self.admitted = False

    @property
    def must_close(self) -> bool:
        """Whether so much may still come that the connection is not worth reading on."""
        return not self.whole and (self._ended is not None or self._length > MAX_ORDER_BYTES)

    @property
    def caller(self) -> str:
        """Who sends it, once a door has let the request through."""
        return caller_name(self._scope)

    async def receive(self) -> Message:
        """ASGI's receive.

        Raises:
            BodyTooSlow: the body was not whole in time.
            CallerGone: the connection closed before it was whole.
            TooBusy: too many bodies are arriving, its caller having the most of them; or it is
                whole, and more requests are in flight than the process takes.
        """
        if self.whole:
            return await self._receive()
        if self._task is None:
            self._task = asyncio.current_task()
            self._bodies.add(self)
        message = await self._receive_in_time(self._task)
        if message["type"] == "http.disconnect":
            raise CallerGone
        if not message.get("more_body", False):
            self.whole = True
            self._bodies.discard(self)
            self._on_whole(self)
        return message

    async def _receive_in_time(self, task: "asyncio.Task[Any] | None") -> Message:
        if self._ended is None:
            self._waiting = True
            try:
                return await self._receive()
            except asyncio.CancelledError:
                if self._ended is None or (task is not None and task.uncancel() > 0):
                    raise
            finally:
                self._waiting = False
        raise self._ended

    def expire(self, error: PulseError) -> None:
        """End the wait for the body: `receive` raises this."""
        self._ended = error
        if self._waiting and self._task is not None:
            self._task.cancel()

    async def linger(self) -> None:
        """Read on and discard for up to a second, so that a caller still sending gets the answer.

        A connection closed over unread bytes is reset, which can overtake the answer.
        """
        if self._ended is not None:
            return
        left = _LINGER_BYTES
        try:
            async with asyncio.timeout(_LINGER_SECONDS):
                while left > 0:
                    message = await self._receive()
                    if not message.get("more_body", False):
                        return
                    left -= len(message["body"])
        except TimeoutError:
            return


def _length(scope: Mapping[str, Any]) -> int:
    """Content-Length; 0 where there is no body; the most a body may have where none is declared."""
    for name, value in scope["headers"]:
        if name == b"content-length":
            readable = value.isdigit() and len(value) <= _MOST_DIGITS
            return int(value) if readable else MAX_BATCH_BYTES
        if name == b"transfer-encoding":
            return MAX_BATCH_BYTES
    return MAX_BATCH_BYTES if _may_go_on(scope) else 0


def _may_go_on(scope: Mapping[str, Any]) -> bool:
    """Whether a body may follow whatever the headers declare: HTTP/2 ends it with its stream."""
    return scope["http_version"] == "2" and scope["method"] not in _WITHOUT_BODY
