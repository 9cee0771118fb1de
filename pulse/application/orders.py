"""The use cases of every caller, in this process or over HTTP, and their results."""

from typing import Annotated, Protocol
from uuid import UUID

import msgspec

from pulse.application.callers import Caller
from pulse.application.event_view import EventType, EventView
from pulse.domain import OrderSpec, Trace
from pulse.errors import PulseError
from pulse.projections.order_view import OrderView


class Placed(msgspec.Struct, frozen=True):
    """The order with this key; `created` is True if this call created it."""

    order_id: UUID
    order_unique_key: str
    created: bool


class CancelRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why an order is cancelled. The reason is recorded in the event; no other field is allowed."""

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


class EventQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Selects events: those after a position of the log, of one type or of all."""

    limit: int
    after: int = 0
    type: EventType | None = None


class EventPage(msgspec.Struct, frozen=True):
    """Events in commit order. `next_after` is the last position scanned: continue from there.

    `log_id` identifies the log; it changes when the log is restored to an earlier point.
    """

    log_id: UUID
    events: tuple[EventView, ...]
    next_after: int


class OrderNotFound(PulseError):
    """No order has this id."""

    def __init__(self, order_id: str) -> None:
        self.order_id = order_id
        super().__init__("no order has this id")


class Orders(Protocol):
    """What every caller may do, in this process or over HTTP.

    Every method raises DatabaseUnavailable if it cannot be answered now. Over HTTP it raises
    PulseUnavailable instead, and PulseBusy or PulseFailed if Pulse answers so.
    """

    async def place(self, requested: OrderSpec, caller: Caller, trace: Trace) -> Placed:
        """Place an order. The same request again returns the same order.

        Raises:
            OrderUniqueKeyTaken: an order with other data has the key.
            ClockOff: this process may not accept orders; nothing was accepted.
            AppendRefused: nothing was accepted.
            AppendOutcomeUnknown: a retry with the same key resolves it.
        """

    async def cancel(
        self, order_id: UUID, reason: str | None, caller: Caller, trace: Trace
    ) -> OrderView:
        """Cancel what is not settled yet, and return the order as it then stands.

        A cancelled order is returned unchanged.

        Raises:
            OrderNotFound: there is none, or it belongs to another caller.
            NothingToCancel: it failed, is parked or cannot be read, or all of its slices are
                settled.
            ClockOff, AppendRefused: nothing was cancelled.
            AppendOutcomeUnknown: a retry resolves it.
        """

    async def order(self, order_id: UUID, caller: Caller, trace: Trace | None = None) -> OrderView:
        """One order with its slices and its claim.

        Raises:
            OrderNotFound: there is none, or it belongs to another caller.
        """
