"""The log as a download: `GET /internal/events` as NDJSON or CSV.

It is a custom ASGI response, because Litestar's streams do not end when the client stalls.
"""

import asyncio
import zlib
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any, Final, Literal

import structlog
from litestar import Response

from pulse.application.event_feed import EventFeed
from pulse.application.log_formats import LogFormat, export
from pulse.application.log_reader import LogRange, LogReader
from pulse.errors import PulseError
from pulse.http.asgi import HEAD_KEY, RawHeaders, Receive, Scope, Send
from pulse.http.errors import JSON, BadRequest
from pulse.http.negotiation import preferred_type
from pulse.http.parameters import parameter_error

_log = structlog.get_logger(__name__)

NDJSON: Final = "application/x-ndjson"
CSV: Final = "text/csv"
OFFERED: Final = (JSON, NDJSON, CSV)
"""The media types of `GET /internal/events`; the first is the default."""

Rows = Literal["events", "slices"]
_CONTENT_TYPES: Final[dict[LogFormat, bytes]] = {
    "ndjson": NDJSON.encode(),
    "csv": f"{CSV}; charset=utf-8; header=present".encode(),
    "csv-slices": f"{CSV}; charset=utf-8; header=present".encode(),
}
_FILES: Final[dict[LogFormat, bytes]] = {
    "ndjson": b"pulse-events.ndjson",
    "csv": b"pulse-events.csv",
    "csv-slices": b"pulse-slices.csv",
}
LOG_ID: Final = "X-Pulse-Log-Id"
END_POSITION: Final = "X-Pulse-End-Position"
_GZIP_LEVEL: Final = 3
_GZIP_WINDOW_BITS: Final = 31
"""The format of gzip, with the largest window."""


_PART_BYTES: Final = 64 * 1024
"""The most that is handed to the server at once, so that a stalled client holds little memory."""


class LogExport(Response[str]):
    """A response that streams a range of the log in one format.

    Until the response starts, errors are answered like those of every other call. After that, an
    export that fails closes the connection before the end of the body, which clients report as an
    error.
    """

    def __init__(
        self,
        log: LogReader,
        feed: EventFeed,
        wanted: LogRange,
        log_format: LogFormat,
        *,
        gzip: bool,
    ) -> None:
        super().__init__("", media_type=_CONTENT_TYPES[log_format].decode())
        self._log = log
        self._feed = feed
        self._wanted = wanted
        self._format: LogFormat = log_format
        self._gzip = gzip

    def to_asgi_response(self, *_: object, **__: object) -> Any:  # noqa: ANN401 - it is an ASGI app
        """The ASGI application of this response."""
        return self._stream

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._feed.counted():
            await send({"type": "http.response.start", "status": 200, "headers": self._headers()})
            if HEAD_KEY in scope:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                return
            disconnected = asyncio.ensure_future(_disconnect(receive))
            try:
                await self._send_all(send, disconnected)
            except asyncio.CancelledError:
                if not self._feed.stopped:
                    raise
            except TimeoutError:
                _log.warning("export.ended", reason="the reader accepted nothing for too long")
            except PulseError as error:
                _log.warning("export.ended", reason=str(error))
            finally:
                disconnected.cancel()

    async def _send_all(self, send: Send, disconnected: "asyncio.Future[None]") -> None:
        compressor = zlib.compressobj(_GZIP_LEVEL, wbits=_GZIP_WINDOW_BITS) if self._gzip else None
        chunks = export(self._log, self._wanted, self._format, self._feed.admission)
        async with aclosing(chunks):
            async for chunk in chunks:
                if disconnected.done() or self._feed.stopped:
                    return
                content = chunk.content
                await self._send(send, compressor.compress(content) if compressor else content)
        await self._send(send, compressor.flush() if compressor else b"")
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send(self, send: Send, content: bytes) -> None:
        """Send a part of the body.

        Raises:
            TimeoutError: the client accepted nothing for too long.
        """
        for start in range(0, len(content), _PART_BYTES):
            part = content[start : start + _PART_BYTES]
            async with asyncio.timeout(self._feed.limits.stall_seconds):
                await send({"type": "http.response.body", "body": part, "more_body": True})

    def _headers(self) -> RawHeaders:
        headers = [
            (b"content-type", _CONTENT_TYPES[self._format]),
            (b"content-disposition", b'attachment; filename="%b"' % _FILES[self._format]),
            (b"vary", b"accept, accept-encoding"),
            (LOG_ID.lower().encode(), str(self._wanted.log_id).encode()),
            (END_POSITION.lower().encode(), b"%d" % self._wanted.until),
            (b"x-accel-buffering", b"no"),  # nginx does not buffer the response
        ]
        return [*headers, (b"content-encoding", b"gzip")] if self._gzip else headers


async def _disconnect(receive: Receive) -> None:
    """Return when the client has disconnected."""
    while (await receive())["type"] != "http.disconnect":
        pass


def format_of(accept: Sequence[str], rows: Rows) -> LogFormat | None:
    """The format that the request accepts; None for a page in JSON, which is the default.

    Raises:
        BadRequest: 406 if none of the three is accepted; 400 for slices in another format than CSV.
    """
    kind = preferred_type(accept, OFFERED)
    if kind is None:
        raise BadRequest(
            f"Accept allows no media type of this call: send one of {', '.join(OFFERED)}",
            status=406,
            code="NOT_ACCEPTABLE",
            offered=list(OFFERED),
        )
    if rows == "slices":
        if kind != CSV:
            raise parameter_error("rows", "is slices, which only CSV offers", f"Accept: {CSV}")
        return "csv-slices"
    return {JSON: None, NDJSON: "ndjson", CSV: "csv"}[kind]
