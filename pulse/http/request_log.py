"""One log line for each request: `http.answered`."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID
from zlib import crc32

import msgspec
from msgspec import UNSET, UnsetType

from pulse.domain import Trace
from pulse.http.asgi import caller_name
from pulse.http.tracing import w3c_trace_id
from pulse.printable import printable_json

SLOW_SECONDS: Final = 1.0
"""A request whose response takes this long to start is always logged, whatever the fraction."""

_FIRST_ERROR: Final = 500
_HASHES: Final = 2**32
_ROUNDED: Final = 3
_ENCODER: Final = msgspec.json.Encoder()
_DELETE: Final = b"\x7f"
"""The only control character of ASCII that JSON allows unescaped."""


class RequestLine(msgspec.Struct, frozen=True, gc=False):
    """The fields of a line. No query string, header or body is logged, only ids from them.

    `w3c_trace_id` is set if the trace has a `traceparent`, and `process` in a group of processes.
    """

    method: str
    route: str
    status: int
    ms: float
    trace_id: str
    request_id: str
    order_id: UUID | str | UnsetType
    caller: str
    timestamp: datetime
    w3c_trace_id: str | UnsetType = UNSET
    process: str | UnsetType = UNSET
    event: str = "http.answered"
    level: str = "info"
    logger: str = "pulse.http"


class RequestLog:
    """Logs a fraction of the requests, and each that failed (5xx, or a disconnect) or was slow.

    The fraction is taken by trace id, so the gateway and the API log the same requests.
    """

    def __init__(
        self, write: Callable[[RequestLine], None], fraction: float, process: str | None = None
    ) -> None:
        self._write = write
        self._process = process or UNSET
        self._below = round(fraction * _HASHES)

    def log(  # noqa: PLR0913, PLR0917 - called for every request, so without keywords
        self,
        method: str,
        route: str,
        status: int,
        seconds: float,
        trace: Trace,
        order_id: UUID | str | None,
        scope: Mapping[str, Any],
    ) -> None:
        """Log the request if it is selected. The scope has its caller."""
        if (
            self._below < _HASHES
            and 0 < status < _FIRST_ERROR
            and seconds < SLOW_SECONDS
            and crc32(trace.trace_id.encode()) >= self._below
        ):
            return
        line = RequestLine(
            method,
            route,
            status,
            round(1000 * seconds, _ROUNDED),
            trace.trace_id,
            trace.request_id,
            order_id or UNSET,
            caller_name(scope),
            datetime.now(UTC),
            UNSET if trace.traceparent is UNSET else w3c_trace_id(trace.traceparent),
            self._process,
        )
        self._write(line)


def render_text(renderer: Callable[[Any, str, Any], str], lines: Sequence[RequestLine]) -> bytes:
    """The lines as text, by structlog's console renderer."""
    rendered = [renderer(None, "", msgspec.to_builtins(line)) + "\n" for line in lines]
    return "".join(rendered).encode(errors="backslashreplace")


def render_json(lines: Sequence[RequestLine]) -> bytes:
    """The lines as JSON objects."""
    encoded = _ENCODER.encode_lines(lines)
    if _DELETE in encoded or not encoded.isascii():
        encoded = printable_json(encoded.decode()).encode()
    return encoded
