"""One log line for each request: `http.answered`."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID
from zlib import crc32

import msgspec
from msgspec import UNSET, UnsetType

from pulse.printable import printable_json

SLOW_SECONDS: Final = 1.0
"""A request that takes longer is always logged, whatever the fraction."""

_FIRST_ERROR: Final = 500
_HASHES: Final = 2**32
_ROUNDED: Final = 3
_ENCODER: Final = msgspec.json.Encoder()


class RequestLine(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of a line. Nothing of the request's query string, headers or body but its ids."""

    method: str
    route: str
    status: int
    ms: float
    trace_id: str
    request_id: str
    order_id: UUID | str | UnsetType = UNSET
    caller: str
    event: str = "http.answered"
    level: str = "info"
    logger: str = "pulse.http"
    timestamp: datetime


Render = Callable[[RequestLine], bytes]


class RequestLog:
    """Logs a fraction of the requests, and each that failed (5xx, or a disconnect) or was slow.

    The fraction is taken by trace id, so the gateway and the API log the same requests.
    """

    def __init__(self, write: Callable[[bytes], None], render: Render, fraction: float) -> None:
        self._write = write
        self._render = render
        self._below = round(fraction * _HASHES)

    def log(  # noqa: PLR0913 - the fields of a line
        self,
        *,
        method: str,
        route: str,
        status: int,
        seconds: float,
        trace_id: str,
        request_id: str,
        order_id: UUID | str | None,
        caller: str,
    ) -> None:
        """Log the request, unless it is not in the fraction."""
        if (
            self._below < _HASHES
            and 0 < status < _FIRST_ERROR
            and seconds < SLOW_SECONDS
            and crc32(trace_id.encode()) >= self._below
        ):
            return
        line = RequestLine(
            method=method,
            route=route,
            status=status,
            ms=round(1000 * seconds, _ROUNDED),
            trace_id=trace_id,
            request_id=request_id,
            order_id=order_id or UNSET,
            caller=caller,
            timestamp=datetime.now(UTC),
        )
        self._write(self._render(line))


def render_text(renderer: Callable[[Any, str, Any], str], line: RequestLine) -> bytes:
    """The line as text, by structlog's console renderer."""
    fields = msgspec.to_builtins(line)
    return (renderer(None, "", fields) + "\n").encode(errors="backslashreplace")


def render_json(line: RequestLine) -> bytes:
    """The line as a JSON object."""
    encoded = _ENCODER.encode(line)
    if not encoded.isascii():
        encoded = printable_json(encoded.decode()).encode()
    return encoded + b"\n"
