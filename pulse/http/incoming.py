"""A request's body on its way in: how large it says it is, how long it may take, what is left."""

import asyncio
from collections.abc import Awaitable, Callable, Generator
from typing import Any, Final

from pulse.http.limits import MAX_BATCH_BYTES, MAX_ORDER_BYTES, BodyTooSlow, CallerGone

_LINGER_SECONDS: Final = 1.0
_LINGER_BYTES: Final = 16 * 1024 * 1024
_MOST_DIGITS: Final = 20

Message = Any
Steps = Generator[Any, Any, Message]
Receive = Callable[[], Awaitable[Message]]


class _Rest:
    """A coroutine that was begun by hand and waits for something: awaiting this goes on with it."""

    __slots__ = ("_steps", "_waits_for")

    def __init__(self, waits_for: Any, steps: Steps) -> None:  # noqa: ANN401 - the loop's own
        self._waits_for = waits_for
        self._steps = steps

    def __await__(self) -> Steps:
        try:
            yield self._waits_for
        except BaseException as error:
            self._steps.throw(error)
            raise
        return (yield from self._steps)


class Incoming:
    """The `receive` of one request, with a deadline from the first wait for its body on."""

    __slots__ = ("_body_seconds", "_late_at", "_length", "_most_bytes", "_receive", "slow", "whole")

    def __init__(
        self,
        receive: Receive,
        headers: list[tuple[bytes, bytes]],
        body_seconds: float,
        most_bytes: int = MAX_ORDER_BYTES,
    ) -> None:
        self._receive = receive
        self._body_seconds = body_seconds
        self._late_at: float | None = None
        self._length = _length(headers)
        self._most_bytes = most_bytes
        self.whole = self._length == 0
        self.slow = False

    @property
    def weight(self) -> int:
        """How many requests it counts for: one, and one more for each 64 KiB its path may take."""
        return 1 + min(self._length, self._most_bytes) // MAX_ORDER_BYTES

    @property
    def must_close(self) -> bool:
        """Whether so much may still come that the connection is not worth reading on."""
        return not self.whole and (self.slow or self._length > MAX_ORDER_BYTES)

    async def receive(self) -> Message:
        """ASGI's receive.

        Raises:
            BodyTooSlow: the deadline passed before the body was whole.
            CallerGone: the caller hung up before it was.
        """
        if self.whole:
            return await self._receive()
        steps = self._receive().__await__()
        try:
            waits_for = next(steps)
        except StopIteration as there:  # with the headers, as a small body is: no timer is needed
            message = there.value
        else:
            message = await self._in_time(_Rest(waits_for, steps))
        if message["type"] == "http.disconnect":
            raise CallerGone
        self.whole = not message.get("more_body", False)
        return message

    async def _in_time(self, rest: Awaitable[Message]) -> Message:
        if self._late_at is None:
            self._late_at = asyncio.get_running_loop().time() + self._body_seconds
        try:
            async with asyncio.timeout_at(self._late_at):
                return await rest
        except TimeoutError:
            self.slow = True
            raise BodyTooSlow(self._body_seconds) from None

    async def linger(self) -> None:
        """Read on and throw away for a moment, so that a caller still sending gets the answer.

        A connection closed over unread bytes is reset, which can overtake the answer.
        """
        if self.slow:
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


def _length(headers: list[tuple[bytes, bytes]]) -> int:
    """What Content-Length says, 0 where there is no body, the most a body may have if chunked."""
    for name, value in headers:
        if name == b"content-length":
            readable = value.isdigit() and len(value) <= _MOST_DIGITS
            return int(value) if readable else MAX_BATCH_BYTES
        if name == b"transfer-encoding":
            return MAX_BATCH_BYTES
    return 0
