"""The use cases asked of another process: a Pulse API over HTTP, in the name of each caller."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Final
from uuid import UUID

import httpx
import msgspec
import structlog

from pulse.application.answers_over_http import (
    AWAY,
    PulseAway,
    failed,
    read_order,
    read_placed,
    refusal,
    says,
)
from pulse.application.callers import Caller
from pulse.application.orders import OrderNotFound, Placed
from pulse.domain import OrderUniqueKeyTaken, RequestedOrder, Trace, order_id_for
from pulse.http_client import open_client
from pulse.projections import OrderView

_log = structlog.get_logger(__name__)

ON_BEHALF_OF: Final = "X-Pulse-On-Behalf-Of"
_ORDERS: Final = "internal/orders"
_PLAIN: Final = {"Accept-Encoding": "identity"}  # what is not packed cannot swell
MAX_ANSWER_BYTES: Final = 256 * 1024
"""Far above an order of a hundred slices."""


class HttpLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of the client, in seconds. A call ends within `call_seconds`, all its tries included.

    Only what broke is tried again, at most `attempts` times in all: never what took too long, and
    never an answer. An order's key makes that safe.
    """

    connections: int = 100
    connect_seconds: float = 2.0
    answer_seconds: float = 8.0
    call_seconds: float = 10.0
    attempts: int = 3
    retry_seconds: float = 0.05


class OrdersOverHttp:
    """`Orders` of the Pulse API that `http` has for its base, known there as the gateway.

    Without a service token no Pulse would listen, so none is asked.
    """

    def __init__(self, http: httpx.AsyncClient, limits: HttpLimits) -> None:
        self._http = http
        self._limits = limits
        self._known = "Authorization" in http.headers

    async def place(self, requested: RequestedOrder, caller: Caller, trace: Trace) -> Placed:
        """Post the order; an answer that is not about this very order is taken for a failure."""
        key = requested.order_unique_key
        own_id = order_id_for(caller.key_scope, key)
        answer = await self._ask("POST", _ORDERS, _headers(caller, trace), _body(requested))
        if answer.status_code not in {httpx.codes.CREATED, httpx.codes.OK}:
            taken = says(answer, httpx.codes.CONFLICT, "DUPLICATE_ORDER_UNIQUE_KEY")
            raise OrderUniqueKeyTaken(key, own_id) if taken else refusal(answer)
        if read_placed(answer) != (own_id, key):
            raise failed(answer, "it answered for another caller or key")
        created = answer.status_code == httpx.codes.CREATED
        return Placed(own_id, key, created=created)

    async def order(self, order_id: UUID, caller: Caller, trace: Trace | None = None) -> OrderView:
        """Ask for the order; that it is the caller's own is looked at here once more."""
        answer = await self._ask("GET", f"{_ORDERS}/{order_id}", _headers(caller, trace))
        if answer.status_code != httpx.codes.OK:
            missing = says(answer, httpx.codes.NOT_FOUND, "ORDER_NOT_FOUND")
            raise OrderNotFound(str(order_id)) if missing else refusal(answer)
        view = read_order(answer)
        if view.order_id != order_id or not caller.may_read(order_id, view.order_unique_key):
            raise failed(answer, "it answered with an order that is not the caller's")
        return view

    async def _ask(
        self, method: str, path: str, headers: dict[str, str], body: bytes | None = None
    ) -> httpx.Response:
        if not self._known:
            raise PulseAway(AWAY)
        try:
            async with asyncio.timeout(self._limits.call_seconds):
                return await self._ask_again(method, path, headers, body)
        except (httpx.RequestError, TimeoutError) as error:
            _log.warning("pulse.away", reason=type(error).__name__)
            raise PulseAway(AWAY) from None

    async def _ask_again(
        self, method: str, path: str, headers: dict[str, str], body: bytes | None
    ) -> httpx.Response:
        for attempt in range(1, self._limits.attempts):
            try:
                return await self._once(method, path, headers, body)
            except httpx.TimeoutException:
                raise
            except httpx.TransportError:
                await asyncio.sleep(self._limits.retry_seconds * attempt)
        return await self._once(method, path, headers, body)

    async def _once(
        self, method: str, path: str, headers: dict[str, str], body: bytes | None
    ) -> httpx.Response:
        """One request; of an answer no more is read than one can have."""
        content = bytearray()
        sent = self._http.stream(method, path, headers=headers, content=body)
        async with sent as answer:
            if answer.headers.get("content-encoding", "identity") != "identity":
                raise failed(answer, "its answer is packed, though none was asked for")
            async for piece in answer.aiter_bytes():
                content += piece
                if len(content) > MAX_ANSWER_BYTES:
                    raise failed(answer, f"its answer is longer than {MAX_ANSWER_BYTES:,} bytes")
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
        headers=_PLAIN | known,
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),  # one caller's are no other's
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


def _body(requested: RequestedOrder) -> bytes:
    spec = requested.spec
    return msgspec.json.encode(
        {
            "order_unique_key": requested.order_unique_key,
            "instrument": spec.instrument,
            "side": spec.side,
            "total_quantity": spec.total_quantity,
            "split_config": {
                "num_splits": spec.num_splits,
                "duration_minutes": spec.duration_minutes,
                "randomize": spec.randomize,
            },
        }
    )
