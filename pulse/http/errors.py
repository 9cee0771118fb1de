"""HTTP errors: one table maps each exception to its status and code; all have one shape."""

import math
from collections.abc import Callable
from typing import Any, Final

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException

from pulse.application.clock_watch import ClockOff
from pulse.application.event_feed import TooManyStreams
from pulse.application.list_reads import PositionNotReached
from pulse.application.orders import CursorRefused, OrderNotFound
from pulse.application.over_http import PulseBusy, PulseFailed, PulseUnavailable
from pulse.application.past import TimeInFuture, VersionBeyondStream
from pulse.application.readiness import ReadinessReport
from pulse.domain import (
    HaltNotFound,
    HistoryBroken,
    MarketClosed,
    NothingToCancel,
    OrderRefused,
    OrderUniqueKeyTaken,
)
from pulse.errors import PulseError
from pulse.eventstore import (
    AppendOutcomeUnknown,
    AppendQueueFull,
    AppendRefused,
    EventTooNew,
    EventUnreadable,
    PositionBeyondLog,
)
from pulse.evidence.state import TreeDamaged
from pulse.evidence.tree import NoSealedEvent, NoSuchTile, NothingSealed, NotYetSealed
from pulse.http.limits import (
    BodyTooSlow,
    ClientDisconnected,
    TooBusy,
    TooManyInFlight,
    TooManyRequests,
)
from pulse.postgres import UNEXPECTED_ERRORS, DatabaseUnavailable, describe
from pulse.projections.queue_history import HistoryIncomplete
from pulse.rfc3339 import format_time

_log = structlog.get_logger(__name__)

RETRY_AFTER_SECONDS: Final = 1
JSON: Final = "application/json"
CURSOR_EXPECTED: Final = "the next_cursor of an earlier page, with the filters of that page"


class ErrorBody(msgspec.Struct, frozen=True):
    """What went wrong: a code for programs, a message for people, and details."""

    code: str
    message: str
    details: dict[str, Any]


class ErrorResponse(msgspec.Struct, frozen=True):
    """The shape of every error. The details depend on the code."""

    error: ErrorBody


class BadRequest(PulseError):
    """The request is invalid: its syntax, media type, size or parameters."""

    def __init__(
        self, message: str, *, status: int = 400, code: str = "INVALID_REQUEST", **details: object
    ) -> None:
        self.status = status
        self.code = code
        self.details = details
        super().__init__(message)


class Unauthorized(PulseError):
    """The request has no valid token. The message never repeats what was sent."""


class Forbidden(PulseError):
    """The caller may not make this request."""

    def __init__(self, message: str, **details: object) -> None:
        self.details = details
        super().__init__(message)


class KeysUnavailable(PulseError):
    """Tokens cannot be checked now because the keys are unavailable."""


class NotReady(PulseError):
    """A readiness check fails; `ready.checks` has the reason of each, None if it passes."""

    def __init__(self, ready: ReadinessReport) -> None:
        self.ready = ready
        failing = "; ".join(f"{name}: {reason}" for name, reason in ready.checks.items() if reason)
        super().__init__(f"not ready: {failing}")


def beyond_log(error: PositionBeyondLog, field: str = "after") -> BadRequest:
    """The error for a position beyond the end of the log, given in the parameter `field`."""
    return BadRequest(
        str(error),
        code="POSITION_BEYOND_LOG",
        field=field,
        expected=f"a position from 0 to {error.end}",
        end=error.end,
        **{field: error.after},
    )


Answer = tuple[int, ErrorBody]

TOO_LARGE: Final = "the body is larger than this path accepts"
_UNKNOWN_OUTCOME: Final = "the outcome of this request is unknown: retry it unchanged"
_NOT_PROCESSED: Final = (
    "Pulse cannot use its database now; this request was not processed: retry it unchanged"
)
_NEWER_CODE: Final = "this order was written by newer code than this process runs: retry"
_UNREADABLE_HISTORY: Final = (
    "this order's events cannot be read: report it to the operator; GET the order's path followed "
    "by /events shows them as stored"
)
_DAMAGED_SEAL: Final = "the seal is damaged: report it to the operator"
_FAILED: Final = "Pulse failed; the error is in its log"
_QUEUE_FULL: Final = "the append queue is full; this request was not processed: retry it unchanged"

CODES: Final = {
    400: "INVALID_REQUEST",
    401: "UNAUTHORIZED",
    403: "FORBIDDEN",
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    406: "NOT_ACCEPTABLE",
    408: "REQUEST_TIMEOUT",
    413: "PAYLOAD_TOO_LARGE",
    415: "UNSUPPORTED_MEDIA_TYPE",
    429: "TOO_MANY_REQUESTS",
    500: "INTERNAL_ERROR",
    503: "UNAVAILABLE",
}
"""The code of a status, unless the error has its own."""

_INTERNAL_ERROR: Final = 500
_FRAMEWORK_MESSAGES: Final = {
    404: "not found",
    405: "this path does not allow this method",
    413: TOO_LARGE,
}


def _error(
    status: int, error: Exception, *, code: str = "", message: str = "", **details: object
) -> Answer:
    body = ErrorBody(code or CODES[status], message or str(error), details)
    return status, body


def _refused(error: OrderRefused) -> Answer:
    field = {} if error.field is None else {"field": error.field}
    return _error(400, error, code=error.code, **field, expected=error.expected)


def _parameter(error: PulseError, field: str, expected: str) -> Answer:
    message = f"{field} {error}: expected {expected}"
    return _error(400, error, message=message, field=field, expected=expected)


_TABLE: Final[dict[type[Exception], Callable[[Any], Answer]]] = {
    OrderRefused: _refused,
    BadRequest: lambda e: _error(e.status, e, code=e.code, **e.details),
    CursorRefused: lambda e: _error(
        400,
        e,
        message=f"cursor {e}: expected {CURSOR_EXPECTED}",
        field="cursor",
        expected=CURSOR_EXPECTED,
    ),
    TimeInFuture: lambda e: _parameter(e, "at", f"a time not after {format_time(e.now)}"),
    VersionBeyondStream: lambda e: _parameter(e, "version", f"a version from 1 to {e.version}"),
    ClientDisconnected: lambda e: _error(400, e),
    Unauthorized: lambda e: _error(401, e),
    Forbidden: lambda e: _error(403, e, **e.details),
    OrderNotFound: lambda e: _error(404, e, code="ORDER_NOT_FOUND", order_id=e.order_id),
    HaltNotFound: lambda e: _error(404, e, code="HALT_NOT_FOUND", halt_id=e.halt_id),
    NothingSealed: lambda e: _error(404, e),
    NoSuchTile: lambda e: _error(404, e),
    NoSealedEvent: lambda e: _error(404, e),
    BodyTooSlow: lambda e: _error(408, e, expected=f"the whole body within {e.seconds:g} s"),
    OrderUniqueKeyTaken: lambda e: _error(
        409,
        e,
        code="DUPLICATE_ORDER_UNIQUE_KEY",
        order_unique_key=e.order_unique_key,
        existing_order_id=str(e.existing_order_id),
    ),
    NothingToCancel: lambda e: _error(
        409, e, code="NOTHING_TO_CANCEL", quantities=msgspec.to_builtins(e.quantities)
    ),
    MarketClosed: lambda e: _error(
        422,
        e,
        code="MARKET_CLOSED",
        session_policy=e.policy,
        next_window=msgspec.to_builtins(e.next_window),
    ),
    PulseBusy: lambda e: _error(429, e),
    TooManyInFlight: lambda e: _error(429, e),
    TooManyRequests: lambda e: _error(
        429,
        e,
        requests_per_second=e.per_second,
        retry_after_seconds=math.ceil(e.wait_seconds),
    ),
    TreeDamaged: lambda e: _error(500, e, message=_DAMAGED_SEAL),
    PulseFailed: lambda e: _error(500, e, message=_FAILED),
    EventUnreadable: lambda e: _error(500, e, message=_UNREADABLE_HISTORY),
    HistoryBroken: lambda e: _error(500, e, message=_UNREADABLE_HISTORY),
    NotYetSealed: lambda e: _error(503, e),
    KeysUnavailable: lambda e: _error(503, e),
    PulseUnavailable: lambda e: _error(503, e),
    TooBusy: lambda e: _error(503, e),
    TooManyStreams: lambda e: _error(503, e),
    NotReady: lambda e: _error(503, e, **msgspec.structs.asdict(e.ready)),
    EventTooNew: lambda e: _error(503, e, message=_NEWER_CODE),
    AppendQueueFull: lambda e: _error(503, e, message=_QUEUE_FULL),
    AppendRefused: lambda e: _error(503, e, message=_NOT_PROCESSED),
    AppendOutcomeUnknown: lambda e: _error(503, e, message=_UNKNOWN_OUTCOME),
    ClockOff: lambda e: _error(503, e, message=f"{e}; this request was not processed"),
    DatabaseUnavailable: lambda e: _error(503, e, message=_NOT_PROCESSED),
    HistoryIncomplete: lambda e: _error(503, e),
    PositionNotReached: lambda e: _error(503, e, position=e.position, min_position=e.min_position),
}


def answer_for(error: Exception) -> Answer:
    """The status and body of any error. One that is not in the table is a 500 without details.

    Errors that an operator must see are logged here once, with the ids of the request: each 500
    with its traceback, and each 503 whose cause is not an outage.
    """
    status, body = known_answer(error) or _error(500, error, message=_FAILED)
    if status == _INTERNAL_ERROR:
        _log.error("http.server_error", status=status, error=str(error), exc_info=error)
    elif isinstance(cause := _first_cause(error), UNEXPECTED_ERRORS):
        _log.error("http.unavailable", status=status, error=describe(cause))
    return status, body


def known_answer(error: Exception) -> Answer | None:
    """The status and body of an error of the table or of Litestar, else None. Logs nothing."""
    if known := _TABLE.get(type(error)):
        return known(error)
    if isinstance(error, HTTPException) and error.status_code in CODES.keys() - {_INTERNAL_ERROR}:
        message = _FRAMEWORK_MESSAGES.get(error.status_code, error.detail)
        return _error(error.status_code, error, message=message)
    return None


def _first_cause(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def error_headers(status: int, body: ErrorBody) -> dict[str, str]:
    """The headers of an error besides its content type."""
    if status == 401:  # noqa: PLR2004 - the status is the table's
        return {"www-authenticate": "Bearer"}
    if status not in {429, 503}:
        return {}
    return {"retry-after": str(body.details.get("retry_after_seconds", RETRY_AFTER_SECONDS))}


def handle_error(_: Request[Any, Any, Any], error: Exception) -> Response[ErrorResponse]:
    """Litestar's handler for every exception."""
    status, body = answer_for(error)
    headers = error_headers(status, body)
    if isinstance(error, HTTPException) and error.headers and "allow" in error.headers:
        headers["allow"] = error.headers["allow"]
    return Response(ErrorResponse(body), status_code=status, media_type=JSON, headers=headers)
