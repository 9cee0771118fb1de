"""The use cases of every caller, in this process or over HTTP, and what they answer."""

from typing import Protocol
from uuid import UUID

import msgspec

from pulse.application.callers import Caller
from pulse.application.event_view import EventType, EventView
from pulse.domain import OrderSpec, Trace
from pulse.errors import PulseError
from pulse.projections.order_view import OrderView


class Placed(msgspec.Struct, frozen=True):
    """The order that has the key; `created` if this call created it."""

    order_id: UUID
    order_unique_key: str
    created: bool


class EventQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which events: after that position of the log, of that type or of all."""

    limit: int
    after: int = 0
    type: EventType | None = None


class EventPage(msgspec.Struct, frozen=True):
    """Events in commit order; `next_after` is the last position read, where to continue."""

    events: tuple[EventView, ...]
    next_after: int


class OrderNotFound(PulseError):
    """No order has this id."""

    def __init__(self, order_id: str) -> None:
        self.order_id = order_id
        super().__init__("no order has this id")


class Orders(Protocol):
    """What every caller may ask, in this process or of another one over HTTP.

    Every method raises DatabaseUnavailable when it cannot be answered now; over HTTP PulseAway, and
    PulseBusy or PulseFailed as Pulse itself answers.
    """

    async def place(self, requested: OrderSpec, caller: Caller, trace: Trace) -> Placed:
        """Place an order; the same request again is answered with the same order.

        Raises:
            OrderUniqueKeyTaken: an order with other data has the key.
            ClockOff: this process may take no orders; nothing was accepted.
            AppendRefused: nothing was accepted.
            AppendOutcomeUnknown: the same key asked again will tell.
        """

    async def order(self, order_id: UUID, caller: Caller, trace: Trace | None = None) -> OrderView:
        """One order with its slices and its claim.

        Raises:
            OrderNotFound: there is none, or none that is this caller's own: the two are alike.
        """
