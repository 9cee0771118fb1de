"""The events, of one order and of all, as the document tells them."""

from collections.abc import Iterable
from typing import Any, Final

from pulse.application import TOPICS
from pulse.eventstore import MOST_SCANNED, PositionBeyondLog
from pulse.http.api.lists import beyond_log
from pulse.http.api.queries import MOST_EVENTS_A_PAGE, event_query
from pulse.http.openapi import answer, fault_of, operation, query_parameter, samples
from pulse.http.openapi.faults import NO_SUCH_ORDER, Fault
from pulse.http.openapi.schemas import (
    ORDER_ID,
    POSITION,
    TIME,
    Schema,
    list_of,
    or_null,
    record,
    ref,
    text,
    whole,
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
    "order_id": str(samples.ORDER_ID),
    "version": 1,
    "type": "OrderCreated",
    "occurred_at": "2026-03-02T03:45:00.250000Z",
    "recorded_at": "2026-03-02T03:45:00.252113Z",
    "data": {
        "recorded_by": _RECORDED_BY,
        "trace": _TRACE,
        "key_scope": "internal",
        "order_unique_key": samples.KEY,
        "instrument": "NSE:RELIANCE",
        "side": "BUY",
        "total_quantity": 100,
        **samples.REQUEST["split_config"],
        "split_seed": "1f83d9abfb41bd6b",
        "splitter_version": 1,
        "placed_by": "anonymous",
    },
}
_SCHEDULED: Final[dict[str, Any]] = {
    "position": 18,
    "order_id": str(samples.ORDER_ID),
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
        "slices": samples.SLICES,
        "splitter_version": 1,
        "worker": "host:4711:79e748",
        "claimed_at": "2026-03-02T03:45:00.259000Z",
    },
}

_TO_THE_END: Final = f"""
To read the whole log, begin with `after=0` and send each page's `next_after` as the next `after`.
The log ends, for now, where `next_after` equals the `after` that was sent: ask again later from
there. **An empty page is not the end**: with `type` one call scans at most {MOST_SCANNED:,} events,
so a page may hold few events of that type or none, and `next_after` still moves on.

To read up to a fixed point, stop once `next_after` has reached the `as_of_position` of
`GET /internal/orders`, which is what that list was made from.
"""

SCHEMAS: Final[dict[str, Schema]] = {
    "Event": record(
        "A fact of the log.",
        position=POSITION,
        order_id=ORDER_ID,
        version=whole(1, description="its place in the order's own stream"),
        type=text(f"one of {', '.join(TOPICS)}; what another wrote is shown under its topic"),
        occurred_at=or_null({**TIME, "description": "the clock of the process that wrote it"}),
        recorded_at={**TIME, "description": "the database's clock"},
        data={"type": "object", "description": "the event's own fields"},
    ),
    "History": record(
        "Every event of one order, oldest first.",
        order_id=ORDER_ID,
        events=list_of(ref("Event"), minItems=1),
    ),
    "Events": record(
        "A page of the log.",
        events=list_of(ref("Event")),
        next_after=whole(
            0,
            description="the last position scanned: send it as `after` for the next page. Equal to "
            "the `after` that was sent, it says that the log ends here for now",
        ),
    ),
}


def history(order_id: dict[str, Any], faults: Iterable[Fault]) -> dict[str, Any]:
    """`GET /internal/orders/{order_id}/events`."""
    whole_history = {"order_id": str(samples.ORDER_ID), "events": [_CREATED, _SCHEDULED]}
    return operation(
        "read_history",
        "Read an order's history",
        tag="events",
        parameters=[order_id],
        answers={"200": answer("The history.", ref("History"), completed=whole_history)},
        faults=(NO_SUCH_ORDER, *faults),
    )


def log(faults: Iterable[Fault]) -> dict[str, Any]:
    """`GET /internal/events`."""
    page = {"events": [_CREATED, _SCHEDULED], "next_after": 18}
    return {
        "get": operation(
            "list_events",
            "Read the log in commit order",
            tag="events",
            description=_TO_THE_END,
            parameters=[
                query_parameter("after", {**whole(0), "default": 0}, 0, "exclusive"),
                query_parameter("limit", {**whole(1, MOST_EVENTS_A_PAGE), "default": 100}, 100),
                query_parameter("type", {"type": "string", "enum": list(TOPICS)}, "OrderCreated"),
            ],
            answers={"200": answer("A page.", ref("Events"), a_page=page)},
            faults=(
                Fault("beyond the log", beyond_log(PositionBeyondLog(after=99, end=18))),
                fault_of("no such type", lambda: event_query(b"type=OrderFilled")),
                *faults,
            ),
        )
    }
