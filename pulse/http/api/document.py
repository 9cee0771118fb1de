"""The OpenAPI document of the internal API: what its handlers do not say themselves."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from litestar.handlers import HTTPRouteHandler

from pulse.application import Notice, Ready
from pulse.domain import OrderSpec
from pulse.eventstore import PositionBeyondLog
from pulse.http.api.health import HELLO
from pulse.http.api.lists import (
    EventParameters,
    OrderParameters,
    SliceParameters,
    beyond_log,
    order_query,
    slice_query,
)
from pulse.http.auth import NOT_THIS_MACHINE, bearer_token
from pulse.http.bodies import MAX_BATCH_ORDERS, decode_batch
from pulse.http.errors import Forbidden, NotReady, answer_for
from pulse.http.openapi import examples
from pulse.http.openapi.document import Described, document, ref
from pulse.http.openapi.examples import (
    A_CRASH,
    FAULTS_OF_ALL,
    FAULTS_OF_BODIES,
    FAULTS_OF_PLACING,
    NO_SUCH_ORDER,
    WRONG_ORDERS,
    Fault,
    fault_of,
)
from pulse.http.parameters import parse_query

_DESCRIPTION: Final = """
Pulse owns trading orders: it stores a parent order, splits it into time-scheduled slices, and
answers what happened, when, and why. This is its internal API, for services.

With service tokens set, calls below `/internal` need one as a bearer token; without any, they are
answered only to requests made on the same machine, directly and through no proxy.
"""
_TAGS: Final = {
    "orders": "Placing orders and reading them.",
    "lists": "Across orders, page by page.",
    "events": "What happened.",
    "health": "How the process is.",
}
_AUTH: Final = (
    fault_of("no service token", lambda: bearer_token([])),
    Fault("from elsewhere", Forbidden(NOT_THIS_MACHINE)),
)
_RECORDED_BY: Final = {"component": "api", "instance": "host:4711:79e748", "code_version": "0.1.0"}
_TRACE: Final = {
    "trace_id": "t1772423100abcdef012345",
    "trace_source": "OMS:rebalance",
    "request_id": "r1772423100abcdef012345",
    "request_source": "OMS:worker-3",
}
_CREATED: Final[dict[str, Any]] = {
    "position": 17,
    "order_id": str(examples.ORDER_ID),
    "version": 1,
    "type": "OrderCreated",
    "occurred_at": "2026-03-02T03:45:00.250000Z",
    "recorded_at": "2026-03-02T03:45:00.252113Z",
    "data": {
        "recorded_by": _RECORDED_BY,
        "trace": _TRACE,
        "key_scope": "internal",
        "order_unique_key": examples.KEY,
        "instrument": "NSE:RELIANCE",
        "side": "BUY",
        "total_quantity": 100,
        **examples.REQUEST["split_config"],
        "split_seed": "1f83d9abfb41bd6b",
        "splitter_version": 1,
        "placed_by": "anonymous",
    },
}
_SCHEDULED: Final[dict[str, Any]] = {
    "position": 18,
    "order_id": str(examples.ORDER_ID),
    "version": 2,
    "type": "SlicesScheduled",
    "occurred_at": "2026-03-02T03:45:00.263000Z",
    "recorded_at": "2026-03-02T03:45:00.264571Z",
    "data": {
        "recorded_by": {**_RECORDED_BY, "component": "worker"},
        "trace": {
            **_TRACE,
            "trace_source": "PULSE_BACKGROUND:host:4711:79e748",
            "request_id": "r17724231000123456789ab",
            "request_source": "PULSE_BACKGROUND:host:4711:79e748",
        },
        "slices": examples.SLICES,
        "splitter_version": 1,
        "worker": "host:4711:79e748",
        "claimed_at": "2026-03-02T03:45:00.259000Z",
    },
}
_SCHEDULED_SLICE: Final = {
    "order_id": str(examples.ORDER_ID),
    "instrument": "NSE:RELIANCE",
    "side": "BUY",
    **examples.SLICES[0],
}
_CHECKS: Final = ("database", "schema", "append", "projection", "clock", "workers")
_NOTICE: Final = Notice(
    "no_worker",
    "no worker is present, with 3 orders waiting, the oldest for 12 s: start workers "
    "(`pulse background`, or `pulse up`)",
    needs_person=True,
)
_NOT_READY: Final = Ready(
    {
        **dict.fromkeys(_CHECKS),
        "projection": "the order queue is 12 s behind the log at position 18, more than 10 s",
    },
    parked_orders=0,
    orders_for_newer_code=0,
    notices=(_NOTICE,),
)
_READY: Final[dict[str, Any]] = {
    "status": "ready",
    "checks": dict.fromkeys(_CHECKS, "ok"),
    "parked_orders": 0,
    "orders_for_newer_code": 0,
    "notices": [msgspec.to_builtins(_NOTICE)],
}
_BATCH: Final[dict[str, Any]] = {
    "type": "array",
    "minItems": 1,
    "maxItems": MAX_BATCH_ORDERS,
    "items": {"anyOf": [ref(OrderSpec), {"description": "anything else is refused in its place"}]},
}
_REFUSED: Final = answer_for(WRONG_ORDERS[3].error)
_RESULTS: Final = [
    {"status": 201, "body": examples.PLACED},
    {"status": _REFUSED[0], "body": {"error": msgspec.to_builtins(_REFUSED[1])}},
]


def document_of_api(handlers: Sequence[HTTPRouteHandler]) -> dict[str, Any]:
    """The document, made by breaking the rules once for each example of an error."""
    return document(
        "Pulse",
        _DESCRIPTION,
        handlers=handlers,
        described=_DESCRIBED,
        tags=_TAGS,
        security_schemes={"serviceToken": {"type": "http", "scheme": "bearer"}},
    )


def _internal(
    answers: dict[str, Any],
    *faults: Fault,
    again: str = "",
    **body: Any,  # noqa: ANN401
) -> Described:
    """A call below `/internal`."""
    return Described(
        answers=answers,
        faults=(*faults, *_AUTH, *FAULTS_OF_ALL),
        security=({}, {"serviceToken": []}),
        again=again,
        **body,
    )


def _page(**page: object) -> dict[str, Any]:
    return {"200": {"a page": page}}


def _of_orders(query: bytes) -> object:
    return order_query(parse_query(query, OrderParameters))


def _of_slices(query: bytes) -> object:
    return slice_query(parse_query(query, SliceParameters))


_DESCRIBED: Final = {
    "place_order": _internal(
        {"201": {"accepted": examples.PLACED}, "200": {"accepted before": examples.PLACED}},
        *FAULTS_OF_PLACING,
        reads_with="read_order",
        again="The same request again: the order existed already.",
        body=ref(OrderSpec),
        body_examples=examples.REQUESTS,
    ),
    "place_orders": _internal(
        {"200": {"one accepted, one refused": {"results": _RESULTS}}},
        fault_of("no orders", lambda: decode_batch(b"[]")),
        fault_of("no array", lambda: decode_batch(b"{}")),
        *FAULTS_OF_BODIES,
        body=_BATCH,
        body_examples={
            "two orders": [
                examples.REQUEST,
                {**examples.REQUEST, "order_unique_key": "ouk_other", "instrument": "RELIANCE"},
            ]
        },
    ),
    "read_order": _internal(
        {"200": {"completed": examples.COMPLETED, "just accepted": examples.PENDING}},
        NO_SUCH_ORDER,
    ),
    "read_history": _internal(
        {
            "200": {
                "completed": {
                    "order_id": str(examples.ORDER_ID),
                    "events": [_CREATED, _SCHEDULED],
                }
            }
        },
        NO_SUCH_ORDER,
    ),
    "list_orders": _internal(
        _page(orders=[examples.COMPLETED], next_cursor=None, as_of_position=18),
        fault_of("a limit out of range", lambda: _of_orders(b"limit=0")),
        fault_of("no such status", lambda: _of_orders(b"order_queue_status=OPEN")),
        fault_of("no such cursor", lambda: _of_orders(b"cursor=x")),
    ),
    "list_slices": _internal(
        _page(slices=[_SCHEDULED_SLICE], next_cursor=None),
        fault_of("no zone", lambda: _of_slices(b"scheduled_from=2026-03-02T09:15:00")),
        fault_of("no such cursor", lambda: _of_slices(b"cursor=x")),
    ),
    "list_events": _internal(
        _page(events=[_CREATED, _SCHEDULED], next_after=18),
        Fault("beyond the log", beyond_log(PositionBeyondLog(after=99, end=18))),
        fault_of("no such type", lambda: parse_query(b"type=OrderFilled", EventParameters)),
    ),
    "say_hello": _internal({"200": {"hello": {"message": HELLO}}}),
    "read_health": Described(answers={"200": {"alive": {"status": "ok"}}}, faults=(A_CRASH,)),
    "read_readiness": Described(
        answers={"200": {"ready": _READY}},
        faults=(Fault("not ready", NotReady(_NOT_READY)), A_CRASH),
    ),
}
