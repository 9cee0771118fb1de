"""The log as a stream of server-sent events.

It is a custom ASGI response, because Litestar's streams neither end when the client stalls nor send
a last message when the server stops.
"""

import asyncio
import re
from typing import Annotated, Any, Final

import msgspec
from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from msgspec import Meta

from pulse.application.event_feed import (
    MAX_PARTITIONS,
    EventFeed,
    EventReader,
    FeedLimits,
    FeedQuery,
    Partition,
)
from pulse.application.event_view import EventType
from pulse.eventstore import PositionBeyondLog
from pulse.http.api.lists import LAST_POSITION
from pulse.http.asgi import HEAD_KEY, RawHeaders, Receive, Scope, Send
from pulse.http.errors import beyond_log
from pulse.http.parameters import parameter_error
from pulse.http.rights import needs
from pulse.postgres import DatabaseUnavailable

EVENT_STREAM: Final = "text/event-stream"
LAST_EVENT_ID: Final = "Last-Event-ID"
_MAX_DIGITS: Final = 20
_RETRY_SECONDS: Final = 1.0
"""The pause before another read after the database was unavailable, and before a reconnect."""
_PARTITION: Final = re.compile(r"([0-9]{1,4})/([0-9]{1,4})")
_PARTITION_EXPECTED: Final = (
    f"k/n with 0 <= k < n <= {MAX_PARTITIONS}, such as 0/4; it selects the orders whose id, as an "
    "integer modulo n, is k"
)
_LIMITS: Final = FeedLimits()
_HEADERS: Final[RawHeaders] = [
    (b"content-type", f"{EVENT_STREAM}; charset=utf-8".encode()),
    (b"x-accel-buffering", b"no"),  # nginx does not buffer the response
]
_MESSAGES: Final = {
    "SHUTDOWN": "this process is stopping: reconnect with Last-Event-ID",
    "TOO_SLOW": "the reader accepted nothing for too long: reconnect with Last-Event-ID",
    "LOG_CHANGED": "this is not the log that you read before: stop reading, and ask the operator",
}


class StreamParameters(msgspec.Struct, frozen=True):
    """The query parameters of a stream of the log."""

    after: Annotated[
        int,
        Meta(
            ge=0,
            description="exclusive; 0 is the start of the log. Ignored with a header Last-Event-ID",
        ),
    ] = 0
    type: EventType | None = None
    partition: Annotated[str, Meta(description=_PARTITION_EXPECTED)] | None = None


class _ReadPosition(msgspec.Struct, frozen=True):
    """The data of the events `log` and `heartbeat`."""

    position: int
    log_id: str


class _End(msgspec.Struct, frozen=True):
    """The data of the event `end`."""

    reason: str
    message: str
    position: int
    log_id: str


def feed_query(parameters: StreamParameters, last_event_ids: list[str]) -> FeedQuery:
    """The requested stream; the header Last-Event-ID takes precedence over `after`.

    Raises:
        BadRequest: a value is invalid.
    """
    after = parameters.after
    if last_event_ids:
        after = _position(last_event_ids)
    return FeedQuery(
        after=min(after, LAST_POSITION),  # no position is larger
        type=parameters.type,
        partition=None if parameters.partition is None else _partition(parameters.partition),
    )


def _position(last_event_ids: list[str]) -> int:
    text, *others = last_event_ids
    if others:
        raise parameter_error(LAST_EVENT_ID, "is repeated", "the header once")
    if not (text.isascii() and text.isdigit()):
        raise parameter_error(
            LAST_EVENT_ID, "is not a position", "the id of the last event that was received"
        )
    return int(text) if len(text) <= _MAX_DIGITS else LAST_POSITION


def _partition(text: str) -> Partition:
    matched = _PARTITION.fullmatch(text)
    if matched is not None:
        number, count = map(int, matched.groups())
        if number < count <= MAX_PARTITIONS:
            return Partition(number, count)
    raise parameter_error("partition", "is not a partition", _PARTITION_EXPECTED)


class EventStream(Response[str]):
    """A response that streams the events of a query until it ends or the client disconnects.

    Until the response starts, errors are answered like those of every other call.
    """

    def __init__(self, feed: EventFeed, query: FeedQuery, position_field: str) -> None:
        super().__init__("", media_type=EVENT_STREAM)
        self._feed = feed
        self._query = query
        self._position_field = position_field

    def to_asgi_response(self, *_: object, **__: object) -> Any:  # noqa: ANN401 - it is an ASGI app
        """The ASGI application of this response."""
        return self._stream

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with self._feed.reader(self._query) as reader:
                await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
                if HEAD_KEY in scope:
                    await send({"type": "http.response.body", "body": b"", "more_body": False})
                    return
                await self._stream_to(reader, receive, send)
            if reader.ended != "DISCONNECTED":
                # Without a time limit: a stalled client receives this as the last message when it
                # reads again, or its connection breaks. The stream is no longer counted.
                await send({"type": "http.response.body", "body": _end(reader), "more_body": False})
        except PositionBeyondLog as error:
            raise beyond_log(error, field=self._position_field) from None
        except asyncio.CancelledError:
            if not self._feed.stopped:
                raise  # else the process stops, and the grace period for a stalled client is over

    async def _stream_to(self, reader: EventReader, receive: Receive, send: Send) -> None:
        """Send until the stream has ended."""
        listening = asyncio.create_task(_end_on_disconnect(receive, reader))
        try:
            await self._send_events(reader, send)
        except TimeoutError:
            reader.end("TOO_SLOW")
        finally:
            listening.cancel()

    async def _send_events(self, reader: EventReader, send: Send) -> None:
        clock = asyncio.get_running_loop().time
        limits = self._feed.limits
        heartbeat_at = clock() + limits.heartbeat_seconds
        content: bytes | None = None
        await self._send(_opening(reader), send)
        while reader.ended is None:
            if content:
                await self._send(content, send)
            reader.sent_position = reader.position
            if clock() >= heartbeat_at:
                await self._send(_read_position("heartbeat", reader), send)
                heartbeat_at = clock() + limits.heartbeat_seconds
            wait_seconds = heartbeat_at - clock()
            try:
                content = await reader.read()
            except DatabaseUnavailable:
                content, wait_seconds = None, min(wait_seconds, _RETRY_SECONDS)
            if content is None and reader.ended is None:
                await reader.wait(wait_seconds)

    async def _send(self, content: bytes, send: Send) -> None:
        """Send a part of the stream.

        Raises:
            TimeoutError: the client accepted nothing for too long; nothing was sent.
        """
        async with asyncio.timeout(self._feed.limits.stall_seconds):
            await send({"type": "http.response.body", "body": content, "more_body": True})


async def _end_on_disconnect(receive: Receive, reader: EventReader) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    reader.end("DISCONNECTED")


def _opening(reader: EventReader) -> bytes:
    return b"retry: %d\n%b" % (int(_RETRY_SECONDS * 1000), _read_position("log", reader))


def _read_position(kind: str, reader: EventReader) -> bytes:
    return _control(kind, reader.position, _ReadPosition(reader.position, str(reader.log_id)))


def _end(reader: EventReader) -> bytes:
    reason, position = str(reader.ended), reader.sent_position
    return _control("end", position, _End(reason, _MESSAGES[reason], position, str(reader.log_id)))


def _control(kind: str, position: int, data: msgspec.Struct) -> bytes:
    """A message about the stream itself. Events of the log have no `event` field."""
    encoded = msgspec.json.encode(data)
    return b"id: %d\nevent: %b\ndata: %b\n\n" % (position, kind.encode(), encoded)


def stream_routes(feed: EventFeed) -> list[HTTPRouteHandler]:
    """The route of the stream."""

    @get(
        "/internal/events/stream",
        opt=needs("read"),
        summary="Stream the log in commit order",
        tags=["events"],
        media_type=EVENT_STREAM,
        response_description="Server-sent events. The stream does not end by itself.",
    )
    async def stream_events(
        request: Request[Any, Any, Any], parameters: NamedDependency[StreamParameters]
    ) -> Response[str]:
        ids = request.headers.getall(LAST_EVENT_ID, [])
        field = LAST_EVENT_ID if ids else "after"
        return EventStream(feed, feed_query(parameters, ids), field)

    stream_events.fn.__doc__ = f"""
Server-sent events in commit order, from `after` on: first those in the log, then each new one as it
is committed. `data` of an event is the same object as in a page of `GET /internal/events`, and `id`
is its position. `type` selects one type. `partition=k/n` divides the work between n readers: it
selects the orders whose id, as an integer modulo n, is k. Events of no order go to every partition.

Messages with an `event` field are about the stream itself:

- `log` is the first message, with `position` and `log_id`. `log_id` identifies the log.
  `pulse log fork` changes it, after a restore to an earlier point: a reader that receives another
  one must stop.
- `heartbeat` is sent every {_LIMITS.heartbeat_seconds:g} s, with the same fields. Its `id` is the
  position that the stream has read to. A reader of a rare type resumes from there.
- `end` is the last message. `reason` is SHUTDOWN (the process is stopping), TOO_SLOW (the reader
  accepted nothing for {_LIMITS.stall_seconds:g} s), or LOG_CHANGED (this is another log).

To resume, send the last `id` as `after`, or as the header `Last-Event-ID`, which takes precedence.
A reader that stores each `id` together with its work misses no event and handles none
twice. A position beyond the end of the log is 400 `POSITION_BEYOND_LOG`. A process has at most
PULSE_MAX_STREAMS streams; one more is 503. Generated clients wait for the end of the response, and
the stream does not end: use an HTTP client that returns lines as they arrive.
"""
    return [stream_events]
