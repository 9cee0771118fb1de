"""What can be asked of an order. Time, seed and author come in the command: the domain has none."""

from datetime import datetime

from pulse.domain.order_request import OrderSpec
from pulse.domain.values import RecordedBy, Trace, Value


class PlaceOrder(Value, frozen=True):
    """Accept this order. `split_seed` is an unsigned 64-bit number."""

    spec: OrderSpec
    key_scope: str
    placed_by: str
    split_seed: int
    at: datetime
    recorded_by: RecordedBy
    trace: Trace


class Claim(Value, frozen=True):
    """A worker's hold on an order. Both times are the database's clock.

    `first_claimed_at` is kept when a claim is handed back, so an order's age cannot be reset.
    """

    worker: str
    claimed_at: datetime
    first_claimed_at: datetime


class SplitOrder(Value, frozen=True):
    """Split the claimed order, unless it is too late to.

    `max_split_delay_seconds`: claimed later than this after its creation it is TOO_LATE; 0 leaves
    only the window's end.
    """

    claim: Claim
    max_split_delay_seconds: float
    at: datetime
    request_id: str
    recorded_by: RecordedBy


class TimeOutOrder(Value, frozen=True):
    """Give up the order whose claim outlived `timeout_seconds`."""

    claim: Claim
    timeout_seconds: float
    detected_by: str
    at: datetime
    request_id: str
    recorded_by: RecordedBy


Command = PlaceOrder | SplitOrder | TimeOutOrder
