"""Every refusal over HTTP: one table from error to status and code, one shape for all."""

import math
from collections.abc import Callable
from typing import Any, Final

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException

from pulse.application import (
    ClockOff,
    OrderNotFound,
    PulseAway,
    PulseBusy,
    PulseFailed,
    Ready,
)
from pulse.domain import HistoryBroken, OrderRefused, OrderUniqueKeyTaken
from pulse.errors import PulseError
from pulse.eventstore import (
    AppendOutcomeUnknown,
    AppendQueueFull,
    AppendRefused,
    EventTooNew,
    EventUnreadable,
)
from pulse.http.limits import (
    BodyTooSlow,
    CallerGone,
    TooBusy,
    TooManyAtOnce,
    TooManyRequests,
)
from pulse.postgres import UNEXPECTED_ERRORS, DatabaseUnavailable, describe

_log = structlog.get_logger(__name__)

RETRY_AFTER_SECONDS: Final = 1
JSON: Final = "application/json"


class ErrorBody(msgspec.Struct, frozen=True):
    """What went wrong: a code for programs, a message for people, the facts in details."""

    code: str
    message: str
    details: dict[str, Any]


class BadRequest(PulseError):
    """The request as a whole is wrong: its form, its type, its size."""

    def __init__(
        self, message: str, *, status: int = 400, code: str = "INVALID_REQUEST", **details: object
    ) -> None:
        self.status = status
        self.code = code
        self.details = details
        super().__init__(message)


class Unauthorized(PulseError):
    """The request proves no identity; the text says what is wrong, and never what was sent."""


class Forbidden(PulseError):
    """The caller may not make this request, here or at all."""

    def __init__(self, message: str, **details: object) -> None:
        self.details = details
        super().__init__(message)


class KeysUnavailable(PulseError):
    """Tokens cannot be checked now, so none is known to be good or bad."""


class NotReady(PulseError):
    """A readiness check fails; `ready.checks` holds the reason of each, None where all is well."""

    def __init__(self, ready: Ready) -> None:
        self.ready = ready
        failing = "; ".join(f"{name}: {reason}" for name, reason in ready.checks.items() if reason)
        super().__init__(f"not ready: {failing}")


Answer = tuple[int, ErrorBody]

TOO_LARGE: Final = "the body is larger than this path takes"
_UNAVAILABLE: Final = "UNAVAILABLE"
_UNKNOWN_OUTCOME: Final = (
    "the log did not answer in time, so the outcome is unknown: retry with the same "
    "order_unique_key"
)
_NOT_PROCESSED: Final = (
    "Pulse cannot reach its database; this request was not processed: retry with the same "
    "order_unique_key"
)
_NEWER_CODE: Final = "this order was written by newer code than this process runs: retry"
_UNREADABLE_HISTORY: Final = (
    "this order's history cannot be read and needs a person; its events are shown as they are "
    "stored under /events"
)
_FAILED: Final = "Pulse failed to answer; the error is in its log"
_QUEUE_FULL: Final = "too many orders wait to be stored; this request was not processed, try again"

_INTERNAL_ERROR: Final = 500
_CRASH: Final[Answer] = (_INTERNAL_ERROR, ErrorBody("INTERNAL_ERROR", _FAILED, {}))

_HTTP_CODES: Final = {
    400: "INVALID_REQUEST",
    401: "UNAUTHORIZED",
    403: "FORBIDDEN",
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    408: "REQUEST_TIMEOUT",
    413: "PAYLOAD_TOO_LARGE",
    415: "UNSUPPORTED_MEDIA_TYPE",
    429: "TOO_MANY_REQUESTS",
    503: _UNAVAILABLE,
}


def _refused(error: OrderRefused) -> Answer:
    details = {"field": error.field, "expected": error.expected}
    return 400, ErrorBody(error.code, str(error), details)


def _too_slow(error: BodyTooSlow) -> Answer:
    expected = f"the whole body within {error.seconds:g} s"
    return 408, ErrorBody("REQUEST_TIMEOUT", str(error), {"expected": expected})


def _too_many(error: TooManyRequests) -> Answer:
    details = {
        "requests_per_second": error.per_second,
        "retry_after_seconds": math.ceil(error.wait_seconds),
    }
    return 429, ErrorBody("TOO_MANY_REQUESTS", str(error), details)


def _key_taken(error: OrderUniqueKeyTaken) -> Answer:
    details = {
        "order_unique_key": error.order_unique_key,
        "existing_order_id": str(error.existing_order_id),
    }
    return 409, ErrorBody("DUPLICATE_ORDER_UNIQUE_KEY", str(error), details)


_TABLE: Final[dict[type[Exception], Callable[[Any], Answer]]] = {
    OrderRefused: _refused,
    OrderUniqueKeyTaken: _key_taken,
    OrderNotFound: lambda e: (
        404,
        ErrorBody("ORDER_NOT_FOUND", str(e), {"order_id": e.order_id}),
    ),
    BadRequest: lambda e: (e.status, ErrorBody(e.code, str(e), e.details)),
    Unauthorized: lambda e: (401, ErrorBody("UNAUTHORIZED", str(e), {})),
    Forbidden: lambda e: (403, ErrorBody("FORBIDDEN", str(e), e.details)),
    KeysUnavailable: lambda e: (503, ErrorBody(_UNAVAILABLE, str(e), {})),
    PulseAway: lambda e: (503, ErrorBody(_UNAVAILABLE, str(e), {})),
    PulseBusy: lambda e: (429, ErrorBody("TOO_MANY_REQUESTS", str(e), {})),
    PulseFailed: lambda _: _CRASH,
    EventTooNew: lambda _: (503, ErrorBody(_UNAVAILABLE, _NEWER_CODE, {})),
    EventUnreadable: lambda _: (500, ErrorBody("INTERNAL_ERROR", _UNREADABLE_HISTORY, {})),
    HistoryBroken: lambda _: (500, ErrorBody("INTERNAL_ERROR", _UNREADABLE_HISTORY, {})),
    NotReady: lambda e: (503, ErrorBody(_UNAVAILABLE, str(e), msgspec.structs.asdict(e.ready))),
    BodyTooSlow: _too_slow,
    CallerGone: lambda e: (400, ErrorBody("INVALID_REQUEST", str(e), {})),
    TooManyRequests: _too_many,
    TooManyAtOnce: lambda e: (429, ErrorBody(_HTTP_CODES[429], str(e), {})),
    TooBusy: lambda e: (503, ErrorBody(_UNAVAILABLE, str(e), {})),
    AppendQueueFull: lambda _: (503, ErrorBody(_UNAVAILABLE, _QUEUE_FULL, {})),
    AppendRefused: lambda _: (503, ErrorBody(_UNAVAILABLE, _NOT_PROCESSED, {})),
    ClockOff: lambda e: (503, ErrorBody(_UNAVAILABLE, f"{e}; this request was not processed", {})),
    AppendOutcomeUnknown: lambda _: (503, ErrorBody(_UNAVAILABLE, _UNKNOWN_OUTCOME, {})),
    DatabaseUnavailable: lambda _: (503, ErrorBody(_UNAVAILABLE, _NOT_PROCESSED, {})),
}


def answer_for(error: Exception) -> Answer:
    """The status and body of any error; one that the table lacks is a 500 without any detail.

    What an operator must see is logged here, once, with the ids of its request: each 500 with its
    traceback, and each 503 whose cause is not an outage.
    """
    status, body = known_answer(error) or _CRASH
    if status == _INTERNAL_ERROR:
        _log.error("http.server_error", status=status, error=str(error), exc_info=error)
    elif isinstance(cause := _first_cause(error), UNEXPECTED_ERRORS):
        _log.error("http.unavailable", status=status, error=describe(cause))
    return status, body


def known_answer(error: Exception) -> Answer | None:
    """The answer to an error of the table or of the framework, logging nothing; None for others."""
    known = _TABLE.get(type(error))
    if known is not None:
        return known(error)
    if isinstance(error, HTTPException) and error.status_code in _HTTP_CODES:
        status = error.status_code
        return status, ErrorBody(_HTTP_CODES[status], _http_message(error), {})
    return None


def _first_cause(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def encode_error(body: ErrorBody) -> bytes:
    """The bytes of an error's response."""
    return msgspec.json.encode({"error": body})


def as_answered(body: ErrorBody) -> dict[str, Any]:
    """The same as a value, for a document to show."""
    return {"error": msgspec.to_builtins(body)}


def error_headers(status: int, body: ErrorBody) -> dict[str, str]:
    """The headers an error brings besides its type."""
    if status == 401:  # noqa: PLR2004 - the status is the table's
        return {"www-authenticate": "Bearer"}
    if status not in {429, 503}:
        return {}
    return {"retry-after": str(body.details.get("retry_after_seconds", RETRY_AFTER_SECONDS))}


def handle_error(_: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Litestar's handler for every exception."""
    status, body = answer_for(error)
    headers = error_headers(status, body)
    if isinstance(error, HTTPException) and error.headers and "allow" in error.headers:
        headers["allow"] = error.headers["allow"]
    return Response(encode_error(body), status_code=status, media_type=JSON, headers=headers)


def _http_message(error: HTTPException) -> str:
    match error.status_code:
        case 404:
            return "nothing lives at this path"
        case 405:
            return "this path does not take this method"
        case 413:
            return TOO_LARGE
        case _:
            return error.detail
