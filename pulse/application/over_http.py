"""The use cases over HTTP: calls a Pulse API in another process on behalf of each caller.

Answers are validated strictly: anything unexpected is an error.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Final, Literal, TypeVar
from urllib.parse import quote, urlencode
from uuid import UUID

import httpx
import msgspec
import structlog
from msgspec import UNSET

from pulse.application.callers import Caller
from pulse.application.event_view import EventView
from pulse.application.orders import (
    CancelRequest,
    CursorRefused,
    OrderNotFound,
    OwnOrderPage,
    OwnOrderQuery,
    Placed,
)
from pulse.application.own_cursors import decode_own_cursor
from pulse.domain import (
    MarketClosed,
    NothingToCancel,
    OrderRefused,
    OrderSpec,
    OrderUniqueKeyTaken,
    Quantities,
    SessionPolicy,
    Trace,
    Window,
    order_id_for,
)
from pulse.errors import PulseError
from pulse.http_client import open_client
from pulse.projections.order_view import OrderView
from pulse.retry import Retry, RetryPolicy

if TYPE_CHECKING:
    from pulse.spans import Attributes, Span, Spans

_log = structlog.get_logger(__name__)

T = TypeVar("T")

ON_BEHALF_OF: Final = "X-Pulse-On-Behalf-Of"
MAX_ANSWER_BYTES: Final = 256 * 1024
"""More than an answer about an order of a hundred slices needs."""
MAX_LIST_BYTES: Final = 8 * 1024 * 1024
"""More than a page of 200 orders of a hundred slices, or the events of one order, need."""
UNAVAILABLE: Final = (
    "Pulse does not answer, so it is not known whether this request was processed: retry it "
    "unchanged"
)
REFUSED: Final = (
    "Pulse refuses the requests of this gateway: report this to the operator of the gateway, and "
    "retry the request unchanged later"
)
_BUSY: Final = (
    "Pulse refuses more requests of this caller for now: this one was not processed, retry later"
)
_ORDERS: Final = "internal/orders"
_MAX_LOGGED_CHARACTERS: Final = 500
_UNAVAILABLE_STATUSES: Final = frozenset(
    {
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)
_REFUSES_GATEWAY: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})


class PulseUnavailable(PulseError):
    """Pulse did not answer, is unavailable or refuses the gateway. A retry resolves the outcome."""


class PulseBusy(PulseError):
    """Pulse rate-limits this caller; the request was not processed."""


class PulseFailed(PulseError):
    """Pulse gave an unexpected answer, which callers must not see; the log says why."""


class HttpClientLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of the client. A call ends within `call_seconds`, all its attempts included.

    A call is attempted up to `attempts` times, but only retried if the connection failed or broke:
    never after a timeout or a complete answer. A retry is safe: a key places one order, and a
    second cancel changes nothing.
    """

    connections: int = 100
    connect_seconds: float = 2.0
    answer_seconds: float = 8.0
    call_seconds: float = 10.0
    attempts: int = 3
    retry: RetryPolicy = RetryPolicy(first_seconds=0.1, max_seconds=0.2)


class OrdersOverHttp:
    """`Orders` of the Pulse API at the base URL of `http`, called as the service `gateway`.

    Without a service token Pulse would refuse every call, so none is made.
    """

    def __init__(
        self, http: httpx.AsyncClient, limits: HttpClientLimits, spans: "Spans | None" = None
    ) -> None:
        self._http = http
        self._limits = limits
        self._spans = spans

    async def place(self, requested: OrderSpec, caller: Caller, trace: Trace) -> Placed:
        """Post the order. An answer about another order is a failure."""
        key = requested.order_unique_key
        own_id = order_id_for(caller.key_scope, key)
        body = msgspec.json.encode(requested)
        answer = await self._call("POST", _ORDERS, caller, trace, body)
        if answer.status_code not in {HTTPStatus.CREATED, HTTPStatus.OK}:
            if _is_refusal_with(answer, HTTPStatus.CONFLICT, "DUPLICATE_ORDER_UNIQUE_KEY"):
                raise OrderUniqueKeyTaken(key, own_id)
            raise _window_refusal(answer) or _refusal(answer)
        placed = _read(answer, _Placed)
        if (placed.order_id, placed.order_unique_key) != (own_id, key):
            raise _failed(answer, "the answer is for another caller or key")
        return Placed(own_id, key, created=answer.status_code == HTTPStatus.CREATED)

    async def cancel(
        self, order_id: UUID, reason: str | None, caller: Caller, trace: Trace
    ) -> OrderView:
        """Post the cancellation. The owner of the returned order is checked here again."""
        path = f"{_ORDERS}/{order_id}/cancel"
        body = msgspec.json.encode(CancelRequest(reason))
        answer = await self._call("POST", path, caller, trace, body)
        if _is_refusal_with(answer, HTTPStatus.CONFLICT, "NOTHING_TO_CANCEL"):
            refused = _read(answer, _CancelRefusal).error
            _, _, why = refused.message.partition(": ")
            raise NothingToCancel(order_id, refused.details.quantities, why)
        view = _order_in(answer, order_id, caller)
        if view.quantities.remaining or not view.quantities.cancelled:
            raise _failed(answer, "the order is not cancelled")
        return view

    async def order(self, order_id: UUID, caller: Caller, trace: Trace | None = None) -> OrderView:
        """Read the order. Its owner is checked here again."""
        answer = await self._call("GET", f"{_ORDERS}/{order_id}", caller, trace)
        return _order_in(answer, order_id, caller)

    async def own_orders(
        self, query: OwnOrderQuery, caller: Caller, trace: Trace | None = None
    ) -> OwnOrderPage:
        """Read a page. The owner of each returned order is checked here again."""
        decode_own_cursor(query, caller)
        given = {k: v for k, v in msgspec.to_builtins(query).items() if v is not None}
        path = f"{_ORDERS}?{urlencode(given, quote_via=quote)}"
        answer = await self._call("GET", path, caller, trace, max_bytes=MAX_LIST_BYTES)
        if answer.status_code == HTTPStatus.BAD_REQUEST and _field_in(answer) == "cursor":
            is_earlier = CursorRefused.OF_EARLIER_LOG in answer.text
            raise CursorRefused(
                CursorRefused.OF_EARLIER_LOG if is_earlier else CursorRefused.NOT_OF_THIS_LIST
            )
        if answer.status_code != HTTPStatus.OK:
            raise _refusal(answer)
        page = _read(answer, OwnOrderPage)
        if len(page.orders) > query.limit:
            raise _failed(answer, "the page has too many orders")
        for view in page.orders:
            _require_own(answer, view, caller)
        return page

    async def history(
        self, order_id: UUID, caller: Caller, trace: Trace | None = None
    ) -> Sequence[EventView]:
        """Read the events. The owner is checked here again, by the key in the first event."""
        path = f"{_ORDERS}/{order_id}/events"
        answer = await self._call("GET", path, caller, trace, max_bytes=MAX_LIST_BYTES)
        if answer.status_code != HTTPStatus.OK:
            missing = _is_refusal_with(answer, HTTPStatus.NOT_FOUND, "ORDER_NOT_FOUND")
            raise OrderNotFound(str(order_id)) if missing else _refusal(answer)
        events = _read(answer, _History).events
        key = events[0].data.get("order_unique_key") if events else None
        if not isinstance(key, str) or not caller.may_read(order_id, key):
            raise _failed(answer, "the events do not belong to the caller")
        if any(event.order_id != order_id for event in events):
            raise _failed(answer, "the events are of another order")
        return events

    async def _call(  # noqa: PLR0913 - what differs between the calls
        self,
        method: str,
        path: str,
        caller: Caller,
        trace: Trace | None,
        body: bytes | None = None,
        *,
        max_bytes: int = MAX_ANSWER_BYTES,
    ) -> httpx.Response:
        if "Authorization" not in self._http.headers:
            raise PulseUnavailable(REFUSED)
        if self._spans is None or trace is None:
            headers = _headers(caller, trace)
            return await self._call_with(method, path, headers, body, max_bytes)
        span = self._start_span(self._spans, method, path, trace)
        error: str | None = "cancelled"
        try:
            headers = _headers(caller, trace.within(span.context))
            answer = await self._call_with(method, path, headers, body, max_bytes)
            span.set({"http.response.status_code": answer.status_code})
            is_error = answer.status_code >= HTTPStatus.BAD_REQUEST
            error = str(answer.status_code) if is_error else None
        except PulseError as failure:
            error = type(failure).__name__
            raise
        finally:
            span.end(error=error)
        return answer

    def _start_span(self, spans: "Spans", method: str, path: str, trace: Trace) -> "Span":
        """The span of a call, by the semantic conventions of OpenTelemetry for HTTP clients."""
        url = self._http.base_url.copy_with(userinfo=b"")
        attributes: Attributes = {
            "http.request.method": method,
            "url.full": str(url.join(path.partition("?")[0])),
            "server.address": url.host,
            "server.port": url.port or (443 if url.scheme == "https" else 80),
        }
        return spans.start(method, "CLIENT", trace.context, attributes=attributes)

    async def _call_with(
        self, method: str, path: str, headers: dict[str, str], body: bytes | None, max_bytes: int
    ) -> httpx.Response:
        retry = Retry(self._limits.retry)
        attempts_left = self._limits.attempts
        try:
            async with asyncio.timeout(self._limits.call_seconds):
                while True:
                    attempts_left -= 1
                    try:
                        return await self._attempt(method, path, headers, body, max_bytes)
                    except httpx.TransportError as error:
                        if isinstance(error, httpx.TimeoutException) or not attempts_left:
                            raise
                    await retry.wait()
        except (httpx.RequestError, TimeoutError) as error:
            _log.warning("pulse.unavailable", reason=type(error).__name__)
            raise PulseUnavailable(UNAVAILABLE) from None

    async def _attempt(
        self, method: str, path: str, headers: dict[str, str], body: bytes | None, max_bytes: int
    ) -> httpx.Response:
        """Send one request. Reading stops soon after `max_bytes` of the answer."""
        content = bytearray()
        sent = self._http.stream(method, path, headers=headers, content=body)
        async with sent as answer:
            if answer.headers.get("content-encoding", "identity") != "identity":
                raise _failed(
                    answer, "the answer is compressed although the request did not allow it"
                )
            async for piece in answer.aiter_bytes():
                content += piece
                if len(content) > max_bytes:
                    raise _failed(answer, f"the answer is longer than {max_bytes:,} bytes")
        return httpx.Response(answer.status_code, content=bytes(content))


@asynccontextmanager
async def open_orders_over_http(
    base_url: str,
    service_token: str | None,
    *,
    limits: HttpClientLimits | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
    spans: "Spans | None" = None,
) -> AsyncIterator[OrdersOverHttp]:
    """The orders of the API at `base_url`, over a pool of keep-alive connections.

    Proxy variables of the environment are ignored: the service token goes only to that API.
    """
    limits = limits or HttpClientLimits()
    known = {"Authorization": f"Bearer {service_token}"} if service_token else {}
    async with open_client(
        "PULSE_API_BASE_URL",
        base_url=base_url,
        # without compression MAX_ANSWER_BYTES bounds the memory
        headers={"Accept-Encoding": "identity", **known},
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),  # callers share no cookies
        timeout=httpx.Timeout(limits.answer_seconds, connect=limits.connect_seconds),
        limits=httpx.Limits(
            max_connections=limits.connections, max_keepalive_connections=limits.connections
        ),
        trust_env=False,
        verify=not base_url.startswith("http:"),  # without TLS no certificates are read
        transport=transport,
    ) as http:
        yield OrdersOverHttp(http, limits, spans)


def _headers(caller: Caller, trace: Trace | None) -> dict[str, str]:
    headers = {ON_BEHALF_OF: caller.key_scope, "Content-Type": "application/json"}
    if trace is not None:
        headers |= {
            "X-Trace-Id": trace.trace_id,
            "X-Request-Id": trace.request_id,
            "X-Trace-Source": trace.trace_source,
            "X-Request-Source": trace.request_source,
        }
        if trace.traceparent is not UNSET:
            headers["traceparent"] = trace.traceparent
        if trace.tracestate is not UNSET:
            headers["tracestate"] = trace.tracestate
    return headers


class _Placed(msgspec.Struct, frozen=True):
    order_id: UUID
    order_unique_key: str


class _Fault(msgspec.Struct, frozen=True):
    code: str
    message: str


class _Refusal(msgspec.Struct, frozen=True):
    error: _Fault


class _History(msgspec.Struct, frozen=True):
    events: tuple[EventView, ...]


class _FieldDetails(msgspec.Struct, frozen=True):
    field: str


class _FieldFault(msgspec.Struct, frozen=True):
    details: _FieldDetails


class _FieldRefusal(msgspec.Struct, frozen=True):
    error: _FieldFault


class _StartDetails(msgspec.Struct, frozen=True):
    field: Literal["split_config.start_at"]
    expected: str


class _StartFault(msgspec.Struct, frozen=True):
    code: Literal["INVALID_SPLIT_CONFIG"]
    message: str
    details: _StartDetails


class _StartRefusal(msgspec.Struct, frozen=True):
    error: _StartFault


class _ClosedDetails(msgspec.Struct, frozen=True):
    session_policy: SessionPolicy
    next_window: Window | None


class _ClosedFault(msgspec.Struct, frozen=True):
    code: Literal["MARKET_CLOSED"]
    message: str
    details: _ClosedDetails


class _ClosedRefusal(msgspec.Struct, frozen=True):
    error: _ClosedFault


class _CancelRefusalDetails(msgspec.Struct, frozen=True):
    quantities: Quantities | None


class _CancelFault(msgspec.Struct, frozen=True):
    message: str
    details: _CancelRefusalDetails


class _CancelRefusal(msgspec.Struct, frozen=True):
    error: _CancelFault


def _order_in(answer: httpx.Response, order_id: UUID, caller: Caller) -> OrderView:
    """The returned order, which must be this one and the caller's."""
    if answer.status_code != HTTPStatus.OK:
        missing = _is_refusal_with(answer, HTTPStatus.NOT_FOUND, "ORDER_NOT_FOUND")
        raise OrderNotFound(str(order_id)) if missing else _refusal(answer)
    view = _read(answer, OrderView)
    if view.order_id != order_id:
        raise _failed(answer, "the answer is about another order")
    _require_own(answer, view, caller)
    return view


def _require_own(answer: httpx.Response, view: OrderView, caller: Caller) -> None:
    """Check that a returned order is the caller's and that its quantities are consistent."""
    if not caller.may_read(view.order_id, view.order_unique_key):
        raise _failed(answer, "the order does not belong to the caller")
    if sum(msgspec.structs.astuple(view.quantities)) != view.total_quantity:
        raise _failed(answer, "the quantities do not sum to that of the order")


def _read(answer: httpx.Response, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(answer.content, type=kind)
    except (ValueError, RecursionError):
        raise _failed(answer, "the answer cannot be decoded") from None


def _code_in(answer: httpx.Response) -> str | None:
    fault = _fault_in(answer)
    return None if fault is None else fault.code


def _reason_in(answer: httpx.Response) -> str:
    """The message of Pulse's own error, for the operator's log."""
    fault = _fault_in(answer)
    return "no readable error" if fault is None else fault.message[:_MAX_LOGGED_CHARACTERS]


def _fault_in(answer: httpx.Response) -> _Fault | None:
    try:
        return msgspec.json.decode(answer.content, type=_Refusal).error
    except (ValueError, RecursionError):
        return None


def _field_in(answer: httpx.Response) -> str | None:
    try:
        return msgspec.json.decode(answer.content, type=_FieldRefusal).error.details.field
    except (ValueError, RecursionError):
        return None


def _is_refusal_with(answer: httpx.Response, status: int, code: str) -> bool:
    """Whether Pulse itself gave this status and code; a proxy could send only the status."""
    return answer.status_code == status and _code_in(answer) == code


def _window_refusal(answer: httpx.Response) -> PulseError | None:
    """The refusal of the order's window, which only the API can decide; None for another error."""
    with suppress(ValueError, RecursionError):
        if answer.status_code == HTTPStatus.UNPROCESSABLE_ENTITY:
            closed = msgspec.json.decode(answer.content, type=_ClosedRefusal).error
            details = closed.details
            return MarketClosed(closed.message, details.session_policy, details.next_window)
        if answer.status_code == HTTPStatus.BAD_REQUEST:
            start = msgspec.json.decode(answer.content, type=_StartRefusal).error
            field, expected = start.details.field, start.details.expected
            problem = start.message.removeprefix(f"{field} ").removesuffix(f": expected {expected}")
            return OrderRefused(start.code, field, expected, problem)
    return None


def _refusal(answer: httpx.Response) -> PulseError:
    """The error of an unsuccessful answer, as the caller of the gateway sees it."""
    status = answer.status_code
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return PulseBusy(_BUSY)
    if status in _REFUSES_GATEWAY:
        _log.error("pulse.refused_gateway", status=status, reason=_reason_in(answer))
        return PulseUnavailable(REFUSED)
    if status in _UNAVAILABLE_STATUSES:
        return PulseUnavailable(UNAVAILABLE)
    return _failed(answer, _code_in(answer) or "no readable error code")


def _failed(answer: httpx.Response, reason: str) -> PulseFailed:
    """The error, without the content of the answer."""
    return PulseFailed(f"Pulse answered {answer.status_code}: {reason}")
