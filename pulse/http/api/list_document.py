"""The lists of orders and of slices, as the document tells them."""

from collections.abc import Iterable
from typing import Any, Final

from pulse.http.api.queries import order_query, slice_query
from pulse.http.openapi import answer, fault_of, operation, query_parameter, samples
from pulse.http.openapi.faults import Fault
from pulse.http.openapi.schemas import (
    INSTRUMENT,
    ORDER_ID,
    SIDE,
    SLICE,
    STATUS,
    TIME,
    Schema,
    list_of,
    or_null,
    record,
    ref,
    text,
    whole,
)
from pulse.projections import MOST_ORDERS_A_PAGE, MOST_SLICES_A_PAGE

_CURSOR: Final = "where the page before said it goes on; only with the same filters"
_NEXT: Final = or_null(text("the cursor of the next page; null if there is nothing more"))
_TIME_ASKED: Final = {
    **TIME,
    "description": "RFC 3339 with any zone and any number of fraction digits; `+` needs no "
    "encoding. Slices are compared with the time as it is written; their own times are whole "
    "microseconds",
}

SCHEMAS: Final[dict[str, Schema]] = {
    "Orders": record(
        "A page of orders, newest first.",
        orders=list_of(ref("Order")),
        next_cursor=_NEXT,
        as_of_position=whole(0, description="the position of the log that this list reflects"),
    ),
    "ScheduledSlice": record(
        "A slice with what it needs of its order.",
        order_id=ORDER_ID,
        instrument=INSTRUMENT,
        side=SIDE,
        **SLICE["properties"],
    ),
    "Slices": record(
        "A page of slices by time. A slice appears once and never changes.",
        slices=list_of(ref("ScheduledSlice")),
        next_cursor=_NEXT,
    ),
}


def orders(faults: Iterable[Fault]) -> dict[str, Any]:
    """`GET /internal/orders`."""
    page = {"orders": [samples.COMPLETED], "next_cursor": None, "as_of_position": 18}
    return {
        "get": operation(
            "list_orders",
            "List orders, newest first",
            tag="lists",
            parameters=[
                query_parameter("order_queue_status", STATUS, "COMPLETED"),
                query_parameter("instrument", INSTRUMENT, "NSE:RELIANCE"),
                query_parameter("limit", _limit(MOST_ORDERS_A_PAGE, 50), 50),
                query_parameter("cursor", text(), description=_CURSOR),
            ],
            answers={"200": answer("A page.", ref("Orders"), a_page=page)},
            faults=(
                fault_of("a limit out of range", lambda: order_query(b"limit=0")),
                fault_of("no such status", lambda: order_query(b"order_queue_status=OPEN")),
                fault_of("no such cursor", lambda: order_query(b"cursor=x")),
                *faults,
            ),
        )
    }


def slices(faults: Iterable[Fault]) -> dict[str, Any]:
    """`GET /internal/slices`."""
    first = {
        "order_id": str(samples.ORDER_ID),
        "instrument": "NSE:RELIANCE",
        "side": "BUY",
        **samples.SLICES[0],
    }
    page = {"slices": [first], "next_cursor": None}
    return {
        "get": operation(
            "list_slices",
            "List slices by time",
            tag="lists",
            parameters=[
                query_parameter("scheduled_from", _TIME_ASKED, "2026-03-02T09:15:00+05:30"),
                query_parameter(
                    "scheduled_before",
                    _TIME_ASKED,
                    "2026-03-02T15:30:00+05:30",
                    "exclusive, and not before `scheduled_from`",
                ),
                query_parameter("limit", _limit(MOST_SLICES_A_PAGE, 100), 100),
                query_parameter("cursor", text(), description=_CURSOR),
            ],
            answers={"200": answer("A page.", ref("Slices"), a_page=page)},
            faults=(
                fault_of("no zone", lambda: slice_query(b"scheduled_from=2026-03-02T09:15:00")),
                fault_of("no such cursor", lambda: slice_query(b"cursor=x")),
                *faults,
            ),
        )
    }


def _limit(most: int, default: int) -> Schema:
    return {**whole(1, most), "default": default}
