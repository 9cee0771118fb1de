"""The use cases over HTTP: a Pulse API in another process, called in the name of each caller.

Answers are read strictly: nothing is taken for more than it says.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Final, TypeVar
from uuid import UUID

import httpx
import msgspec
import structlog

from pulse.application.callers import Caller
from pulse.application.orders import OrderNotFound, Placed
from pulse.domain import OrderSpec, OrderUniqueKeyTaken, Trace, order_id_for
from pulse.errors import PulseError
from pulse.http_client import open_client
from pulse.projections.order_view import OrderView
from pulse.retry import Retry, RetryPolicy

_log = structlog.get_logger(__name__)

T = TypeVar("T")

ON_BEHALF_OF: Final = "X-Pulse-On-Behalf-Of"
MAX_ANSWER_BYTES: Final = 256 * 1024
"""Far above an order of a hundred slices."""
AWAY: Final = (
    "Pulse does not answer, so it is not known whether this request was processed: retry with the "
    "same order_unique_key"
)
_BUSY: Final = (
    "Pulse takes no more requests of this caller now: this one was not processed, try again later"
)
_ORDERS: Final = "internal/orders"
_AWAY_STATUSES: Final = frozenset(
    {
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)
_REFUSES_GATEWAY: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})


class PulseAway(PulseError):
    """Pulse gave no answer, or none for now; a retry with the same key tells what happened."""


class PulseBusy(PulseError):
    """Pulse refuses this caller for now; the request was not processed."""


class PulseFailed(PulseError):
    """Pulse answered with what callers must not see; the log says why."""


class HttpLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of the client, in seconds. A call ends within `call_seconds`, all its tries included.

    Only a connection that failed is tried again, `attempts` times in all: never after a timeout and
    never after an answer. The order's key makes that safe.
    """

    connections: int = 100
    connect_seconds: float = 2.0
    answer_seconds: float = 8.0
    call_seconds: float = 10.0
    attempts: int = 3
    retry: RetryPolicy = RetryPolicy(first_seconds=0.1, max_seconds=0.2)


class OrdersOverHttp:
    """`Orders` of the Pulse API that `http` has for its base, known there as the gateway.

    Without a service token no Pulse would answer, so none is asked.
    """

    def __init__(self, http: httpx.AsyncClient, limits: HttpLimits) -> None:
        self._http = http
        self._limits = limits

    async def place(self, requested: OrderSpec, caller: Caller, trace: Trace) -> Placed:
        """Post the order; an answer that is not about this very order is taken for a failure."""
        key = requested.order_unique_key
        own_id = order_id_for(caller.key_scope, key)
        body = msgspec.json.encode(requested)
        answer = await self._ask("POST", _ORDERS, _headers(caller, trace), body)
        if answer.status_code not in {HTTPStatus.CREATED, HTTPStatus.OK}:
            taken = _says(answer, HTTPStatus.CONFLICT, "DUPLICATE_ORDER_UNIQUE_KEY")
            raise OrderUniqueKeyTaken(key, own_id) if taken else _refusal(answer)
        placed = _read(answer, _Placed)
        if (placed.order_id, placed.order_unique_key) != (own_id, key):
            raise _failed(answer, "it answered for another caller or key")
        return Placed(own_id, key, created=answer.status_code == HTTPStatus.CREATED)

    async def order(self, order_id: UUID, caller: Caller, trace: Trace | None = None) -> OrderView:
        """Ask for the order; that it is the caller's own is checked here once more."""
        answer = await self._ask("GET", f"{_ORDERS}/{order_id}", _headers(caller, trace))
        if answer.status_code != HTTPStatus.OK:
            missing = _says(answer, HTTPStatus.NOT_FOUND, "ORDER_NOT_FOUND")
            raise OrderNotFound(str(order_id)) if missing else _refusal(answer)
        view = _read(answer, OrderView)
        if view.order_id != order_id or not caller.may_read(order_id, view.order_unique_key):
            raise _failed(answer, "it answered with an order that is not the caller's")
        return view

    async def _ask(
        self, method: str, path: str, headers: dict[str, str], body: bytes | None = None
    ) -> httpx.Response:
        if "Authorization" not in self._http.headers:
            raise PulseAway(AWAY)
        retry = Retry(self._limits.retry)
        attempts_left = self._limits.attempts
        try:
            async with asyncio.timeout(self._limits.call_seconds):
                while True:
                    attempts_left -= 1
                    try:
                        return await self._once(method, path, headers, body)
                    except httpx.TransportError as error:
                        if isinstance(error, httpx.TimeoutException) or not attempts_left:
                            raise
                    await retry.wait()
        except (httpx.RequestError, TimeoutError) as error:
            _log.warning("pulse.away", reason=type(error).__name__)
            raise PulseAway(AWAY) from None

    async def _once(
        self, method: str, path: str, headers: dict[str, str], body: bytes | None
    ) -> httpx.Response:
        """One request, of whose answer at most MAX_ANSWER_BYTES are read."""
        content = bytearray()
        sent = self._http.stream(method, path, headers=headers, content=body)
        async with sent as answer:
            if answer.headers.get("content-encoding", "identity") != "identity":
                raise _failed(answer, "its answer is compressed, though none was asked for")
            async for piece in answer.aiter_bytes():
                content += piece
                if len(content) > MAX_ANSWER_BYTES:
                    raise _failed(answer, f"its answer is longer than {MAX_ANSWER_BYTES:,} bytes")
        return httpx.Response(answer.status_code, content=bytes(content))


@asynccontextmanager
async def open_orders_over_http(
    base_url: str,
    service_token: str | None,
    *,
    limits: HttpLimits | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
) -> AsyncIterator[OrdersOverHttp]:
    """The orders of the API at `base_url`, over one pool of connections that are kept alive.

    No proxy of the environment is used: the service token goes to that API alone.
    """
    limits = limits or HttpLimits()
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
        transport=transport,
    ) as http:
        yield OrdersOverHttp(http, limits)


def _headers(caller: Caller, trace: Trace | None) -> dict[str, str]:
    headers = {ON_BEHALF_OF: caller.key_scope, "Content-Type": "application/json"}
    if trace is not None:
        headers |= {
            "X-Trace-Id": trace.trace_id,
            "X-Request-Id": trace.request_id,
            "X-Trace-Source": trace.trace_source,
            "X-Request-Source": trace.request_source,
        }
    return headers


class _Placed(msgspec.Struct, frozen=True):
    order_id: UUID
    order_unique_key: str


class _Fault(msgspec.Struct, frozen=True):
    code: str
    message: str


class _Refusal(msgspec.Struct, frozen=True):
    error: _Fault


def _read(answer: httpx.Response, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(answer.content, type=kind)
    except (ValueError, RecursionError):
        raise _failed(answer, "it cannot be read") from None


def _code_in(answer: httpx.Response) -> str | None:
    try:
        return msgspec.json.decode(answer.content, type=_Refusal).error.code
    except (ValueError, RecursionError):
        return None


def _says(answer: httpx.Response, status: int, code: str) -> bool:
    """Whether Pulse itself refuses with this status and code; a proxy could send either alone."""
    return answer.status_code == status and _code_in(answer) == code


def _refusal(answer: httpx.Response) -> PulseError:
    """What an answer that grants nothing means to the caller of the gateway."""
    status = answer.status_code
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return PulseBusy(_BUSY)
    if status in _REFUSES_GATEWAY:
        _log.error("pulse.refuses_gateway", status=status)
        return PulseAway(AWAY)
    if status in _AWAY_STATUSES:
        return PulseAway(AWAY)
    return _failed(answer, _code_in(answer) or "it gives no reason that can be read")


def _failed(answer: httpx.Response, reason: str) -> PulseFailed:
    """The failure, without what is in the answer."""
    return PulseFailed(f"Pulse answered {answer.status_code}: {reason}")
