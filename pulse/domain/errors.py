"""Errors of the domain. Each carries its facts as attributes."""

from uuid import UUID

from pulse.domain.values import Quantities, SessionPolicy, Window
from pulse.errors import PulseError


class OrderRefused(PulseError):
    """An order request breaks a rule: `code` and `field` name it, `expected` says what is valid.

    `field` is None if no single field is at fault.
    """

    def __init__(self, code: str, field: str | None, expected: str, problem: str) -> None:
        self.code = code
        self.field = field
        self.expected = expected
        super().__init__(f"{'the body' if field is None else field} {problem}: expected {expected}")


class MarketClosed(PulseError):
    """The window does not fit the trading sessions under this policy, or these are not known.

    `next_window` is the next window of the requested length inside one session; None if none is
    known.
    """

    def __init__(self, problem: str, policy: SessionPolicy, next_window: Window | None) -> None:
        self.policy = policy
        self.next_window = next_window
        super().__init__(problem)


class OrderUniqueKeyTaken(PulseError):
    """The key belongs to an order with other data. A key is never free again."""

    def __init__(self, order_unique_key: str, existing_order_id: UUID) -> None:
        self.order_unique_key = order_unique_key
        self.existing_order_id = existing_order_id
        super().__init__(
            f"order_unique_key {order_unique_key!r} already belongs to order {existing_order_id} "
            "with other data; use a new key for a new order"
        )


class OrderNotPlaced(PulseError):
    """A command other than PlaceOrder was given for a stream without an order."""


class NothingToCancel(PulseError):
    """The order has nothing left to cancel: it failed, or all of its slices are settled.

    The same holds for an order that Pulse neither splits nor releases: one that is parked (an event
    of it cannot be applied to the queue), that cannot be read, or whose stream has an event of
    another program. `quantities` is None if the order cannot be read. `why` also says what to do.
    """

    def __init__(self, order_id: UUID, quantities: Quantities | None, why: str) -> None:
        self.order_id = order_id
        self.quantities = quantities
        self.why = why
        super().__init__(f"this order cannot be cancelled: {why}")


class HaltNotFound(PulseError):
    """No halt has this id."""

    def __init__(self, halt_id: str) -> None:
        self.halt_id = halt_id
        super().__init__("no halt has this id")


class SplitterUnknown(PulseError):
    """This code does not have the order's splitter version. Newer code must split the order."""

    def __init__(self, splitter_version: int) -> None:
        self.splitter_version = splitter_version
        super().__init__(f"this code has no splitter version {splitter_version}")


class HistoryBroken(PulseError):
    """An event cannot follow the ones before it: Pulse did not write this stream."""
