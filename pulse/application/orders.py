"""The use cases of every caller, in this process or over HTTP, and their results."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Final, Protocol
from uuid import UUID

import msgspec

from pulse.application.callers import Caller
from pulse.application.event_view import EventView, LogEntry
from pulse.domain import Order, OrderSpec, Slice, Trace, Window
from pulse.domain.order_request import SplitSeed
from pulse.errors import PulseError
from pulse.projections.order_view import OrderQueueStatus, OrderView


class Placed(msgspec.Struct, frozen=True):
    """The order with this key; `created` is True if this call created it.

    `position` is that of its creation in the log, None over HTTP.
    """

    order_id: UUID
    order_unique_key: str
    created: bool
    position: int | None = None


class CancelRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a cancellation. The event records the reason. No other field is allowed."""

    reason: (
        Annotated[
            str,
            msgspec.Meta(
                max_length=255,
                description="a string of at most 255 characters",
                examples=["the fund is closed"],
            ),
        ]
        | None
    ) = None


class OrderPreview(msgspec.Struct, frozen=True):
    """The schedule that an order would get. The same seed gives the same quantities and offsets."""

    slices: tuple[Slice, ...]
    split_seed: SplitSeed
    window: Window

    @classmethod
    def of(cls, order: Order) -> "OrderPreview":
        """The preview of an order as `pulse.domain.preview` returns it.

        Raises:
            PreviewFailed: its schedule breaks a rule.
        """
        if not order.slices:
            raise PreviewFailed(f"the schedule breaks a rule: {order.failure_message}")
        return cls(order.slices, f"{order.split_seed:016x}", order.window)


class PreviewFailed(PulseError):
    """The schedule of a previewed order breaks a rule, which is a bug. The order would fail."""


class EventPage(msgspec.Struct, frozen=True):
    """Events in commit order. `next_after` is the last position scanned: continue from there.

    `log_id` identifies the log; `pulse log fork` changes it, after a restore to an earlier point.
    """

    log_id: UUID
    events: tuple[EventView, ...]
    next_after: int


class EntryPage(msgspec.Struct, frozen=True):
    """Events in commit order, also decoded. `next_after` is the last position scanned."""

    entries: tuple[LogEntry, ...]
    next_after: int


class EntryPageBefore(msgspec.Struct, frozen=True):
    """Events, newest first, also decoded.

    `next_before` is the `before` of the next page, None on the last page.
    """

    entries: tuple[LogEntry, ...]
    next_before: int | None


class OwnOrderQuery(msgspec.Struct, frozen=True, kw_only=True):
    """A query of a caller's own orders; None means no filter.

    `created_from` is inclusive, `created_before` exclusive. `cursor` is that of an earlier page.
    """

    limit: int
    order_queue_status: OrderQueueStatus | None = None
    instrument: str | None = None
    order_unique_key: str | None = None
    created_from: datetime | None = None
    created_before: datetime | None = None
    cursor: str | None = None


class OwnOrderPage(msgspec.Struct, frozen=True):
    """Orders of one caller, newest first, as of a position. `next_cursor` is None on the last page.

    A page that is not the last may have fewer than `limit` orders, or none.
    """

    orders: tuple[OrderView, ...]
    next_cursor: str | None
    as_of_position: int


class CursorRefused(PulseError):
    """The cursor does not belong to this list, or to this log."""

    NOT_OF_THIS_LIST: Final = "is not a cursor of this list"
    OF_OTHER_FILTERS: Final = "belongs to other filters"
    OF_EARLIER_LOG: Final = "is from before the log was restored to an earlier point"


class OrderNotFound(PulseError):
    """No order has this id."""

    def __init__(self, order_id: str) -> None:
        self.order_id = order_id
        super().__init__("no order has this id")


class Orders(Protocol):
    """What every caller may do, in this process or over HTTP.

    Every method raises DatabaseUnavailable if the database cannot be used now. Over HTTP it raises
    PulseUnavailable, PulseBusy or PulseFailed instead, depending on the response.
    """

    async def place(self, requested: OrderSpec, caller: Caller, trace: Trace) -> Placed:
        """Place an order. The same request again returns the same order.

        Raises:
            OrderUniqueKeyTaken: an order with other data has the key.
            OrderRefused: no order has the key, and `start_at` is in the past or too far ahead.
            MarketClosed: no order has the key, and its window does not fit the trading sessions.
            ClockOff: this process may not accept orders; nothing was accepted.
            AppendRefused: this call stored nothing.
            AppendOutcomeUnknown: a retry with the same key resolves it.
        """

    async def cancel(
        self, order_id: UUID, reason: str | None, caller: Caller, trace: Trace
    ) -> OrderView:
        """Cancel the unsettled slices, and return the order in its new state.

        A cancelled order is returned unchanged.

        Raises:
            OrderNotFound: there is none, or it belongs to another caller.
            NothingToCancel: it failed, is parked or cannot be read, or all of its slices are
                settled.
            ClockOff, AppendRefused: this call cancelled nothing.
            AppendOutcomeUnknown: a retry resolves it.
        """

    async def order(self, order_id: UUID, caller: Caller, trace: Trace | None = None) -> OrderView:
        """One order with its slices and its claim.

        Raises:
            OrderNotFound: there is none, or it belongs to another caller.
        """

    async def own_orders(
        self, query: OwnOrderQuery, caller: Caller, trace: Trace | None = None
    ) -> OwnOrderPage:
        """A page of the caller's own orders, newest first. The caller is not an internal one.

        Raises:
            CursorRefused: the cursor belongs to another list, other filters, another caller or an
                earlier log.
        """

    async def history(
        self, order_id: UUID, caller: Caller, trace: Trace | None = None
    ) -> Sequence[EventView]:
        """Every event of one order, oldest first.

        Raises:
            OrderNotFound: there is none, or it belongs to another caller.
        """
