"""Orders and events as their callers see them: nothing reveals other callers or how Pulse runs.

Positions reveal how much others trade; claims and `recorded_by` reveal how Pulse runs. Only fields
that are named here are shown, so a field that newer code adds is not shown by accident.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Final
from uuid import UUID

import msgspec

from pulse.application.callers import Caller
from pulse.application.event_view import EventView
from pulse.domain import TIMED_OUT, Quantities, SplitConfig, Window
from pulse.projections.order_view import OrderQueueStatus, OrderView, SliceView

EVENT_FIELDS: Final[dict[str, tuple[str, ...]]] = {
    "OrderCreated": (
        *("order_unique_key", "instrument", "side", "total_quantity"),
        *("num_splits", "duration_minutes", "randomize", "start_at", "session_policy"),
        *("placed_by", "release", "window_starts_at", "applied_policy", "sessions"),
        "class_version",
    ),
    "SlicesScheduled": ("slices", "splitter_version"),
    "SplittingFailed": ("reason", "message"),
    "TimedOut": ("timeout_seconds",),
    "OrderCancelled": ("sequence_numbers", "quantity", "reason", "cancelled_by"),
    "SlicesReleased": ("order_unique_key", "instrument", "side", "slices"),
    "SlicesExpired": ("sequence_numbers", "quantity", "reason"),
}
"""The fields of an event's data that callers see, by type. Other types show none."""

OTHER_EVENT: Final = "OtherEvent"

_TIMED_OUT_MESSAGE: Final = (
    "not split in time; place it again under a new key if it is still wanted"
)
"""Pulse's own message names the worker."""

_ADDED_BY_LATER_CLASS_VERSIONS: Final = frozenset(
    {
        *("start_at", "session_policy", "release", "window_starts_at", "applied_policy"),
        *("sessions", "class_version"),
    }
)


class OwnOrder(msgspec.Struct, frozen=True, gc=False):
    """An order of the caller with its slices. `release` is whether Pulse releases them.

    `window` is when the first slice is due, and when the last one.
    """

    order_id: UUID
    order_unique_key: str
    instrument: str
    side: str
    total_quantity: int
    split_config: SplitConfig
    window: Window
    release: bool
    order_queue_status: OrderQueueStatus
    failure_reason: str | None
    failure_message: str | None
    version: int
    placed_by: str
    created_at: datetime
    updated_at: datetime
    split_completed_at: datetime | None
    quantities: Quantities
    slices: tuple[SliceView, ...]


class OwnOrders(msgspec.Struct, frozen=True):
    """A page of the caller's orders, newest first."""

    orders: tuple[OwnOrder, ...]
    next_cursor: (
        Annotated[
            str, msgspec.Meta(description="the cursor of the next page; null if there is none")
        ]
        | None
    )


class OwnEvent(msgspec.Struct, frozen=True):
    """An event of the caller's order; `data` has the fields that concern the order."""

    order_id: UUID
    version: int
    type: str
    occurred_at: str | None
    recorded_at: datetime
    data: dict[str, Any]


class OwnHistory(msgspec.Struct, frozen=True):
    """Every event of one order of the caller, oldest first."""

    order_id: UUID
    events: Annotated[Sequence[OwnEvent], msgspec.Meta(min_length=1)]


WITHHELD: Final = tuple(
    name for name in OrderView.__struct_fields__ if name not in OwnOrder.__struct_fields__
)
"""The fields of an order that its caller does not see."""


def own_order(order: OrderView) -> OwnOrder:
    """The order as its caller sees it."""
    own = OwnOrder(*(getattr(order, name) for name in OwnOrder.__struct_fields__))
    if own.failure_reason == TIMED_OUT:
        return msgspec.structs.replace(own, failure_message=_TIMED_OUT_MESSAGE)
    return own


def own_event(order_id: UUID, event: EventView, caller: Caller) -> OwnEvent:
    """The event of this order as the order's caller sees it.

    An event that another program wrote, or that this code does not know or cannot read, is an
    `OtherEvent` without data.
    """
    names = EVENT_FIELDS.get(event.type, ())
    needed = set(names) - _ADDED_BY_LATER_CLASS_VERSIONS
    known = event.occurred_at is not None and bool(names) and needed <= event.data.keys()
    data = {name: event.data[name] for name in names if name in event.data} if known else {}
    if data.get("cancelled_by", caller.placed_by) != caller.placed_by:
        data["cancelled_by"] = None
    return OwnEvent(
        order_id=order_id,
        version=event.version,
        type=event.type if known else OTHER_EVENT,
        occurred_at=event.occurred_at if known else None,
        recorded_at=event.recorded_at,
        data=data,
    )
