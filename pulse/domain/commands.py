"""The commands of an order. Each carries its time and its author: the domain reads no clock."""

from datetime import datetime

from pulse.domain.halts import Halts
from pulse.domain.order_request import OrderSpec
from pulse.domain.sessions import SessionCalendar
from pulse.domain.values import RecordedBy, SessionPolicy, Trace, TraceContext, Value


class PlaceOrder(Value, frozen=True):
    """Accept this order. `split_seed` is an unsigned 64-bit number.

    `release` is whether Pulse releases the order's slices at their times. `default_policy` applies
    to an order that names no session policy; only a policy other than NONE reads the `calendar`.
    """

    spec: OrderSpec
    key_scope: str
    placed_by: str
    split_seed: int
    release: bool
    at: datetime
    recorded_by: RecordedBy
    trace: Trace
    default_policy: SessionPolicy = "NONE"
    calendar: SessionCalendar | None = None


class Claim(Value, frozen=True):
    """A worker's claim on an order. Both times are by the database's clock.

    `first_claimed_at` survives the release of a claim. Only `Claims.undo` resets it.
    """

    worker: str
    claimed_at: datetime
    first_claimed_at: datetime


class SplitOrder(Value, frozen=True):
    """Split the claimed order, unless it is too late.

    An order that is claimed after the end of its window fails as TOO_LATE. So does an order that is
    first claimed more than `max_split_delay_seconds` after its creation, or after the start of its
    window if that is later; 0 turns this limit off. `context` is the span of this work, if it has
    one.
    """

    claim: Claim
    max_split_delay_seconds: float
    at: datetime
    request_id: str
    recorded_by: RecordedBy
    context: TraceContext | None = None


class TimeOutOrder(Value, frozen=True):
    """Time out the claimed order, which was first claimed more than `timeout_seconds` ago."""

    claim: Claim
    timeout_seconds: float
    detected_by: str
    at: datetime
    request_id: str
    recorded_by: RecordedBy


class CancelOrder(Value, frozen=True):
    """Cancel everything of the order that is not settled yet."""

    reason: str | None
    cancelled_by: str
    at: datetime
    recorded_by: RecordedBy
    trace: Trace


class ReleaseSlices(Value, frozen=True):
    """Release the slices that are due, or expire those that are too late to be released.

    Slices that a halt in force covers are not released.

    `at` is by the database's clock. A slice expires `max_delay_seconds` after its time, or earlier;
    see `pulse.domain.releases`. `context` is the span of this work, if it has one.
    """

    max_delay_seconds: float
    halts: Halts
    released_by: str
    at: datetime
    request_id: str
    recorded_by: RecordedBy
    context: TraceContext | None = None


Command = PlaceOrder | SplitOrder | TimeOutOrder | CancelOrder | ReleaseSlices
