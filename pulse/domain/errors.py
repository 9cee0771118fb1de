"""Refusals of the domain. Each carries its facts as attributes."""

from uuid import UUID

from pulse.errors import PulseError


class OrderRefused(PulseError):
    """An order request breaks a rule: `code` and `field` say which, `expected` what is right.

    `field` is None where no single field is at fault.
    """

    def __init__(self, code: str, field: str | None, expected: str, problem: str) -> None:
        self.code = code
        self.field = field
        self.expected = expected
        super().__init__(f"{'the body' if field is None else field} {problem}: expected {expected}")


class OrderUniqueKeyTaken(PulseError):
    """The key already belongs to an order with other data; a key is spent for ever."""

    def __init__(self, order_unique_key: str, existing_order_id: UUID) -> None:
        self.order_unique_key = order_unique_key
        self.existing_order_id = existing_order_id
        super().__init__(
            f"order_unique_key {order_unique_key!r} already belongs to order {existing_order_id} "
            "with other data; use a new key for a new order"
        )


class OrderNotPlaced(PulseError):
    """A command other than placing reached a stream that has no order."""


class SplitterUnknown(PulseError):
    """The order names a splitter version this code does not have: newer code must split it."""

    def __init__(self, splitter_version: int) -> None:
        self.splitter_version = splitter_version
        super().__init__(f"splitter version {splitter_version} is not known to this code")


class HistoryBroken(PulseError):
    """An event does not follow the ones before it: the stream was not written by Pulse's rules."""
