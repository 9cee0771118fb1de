"""The examples of the documents: one order in its requests and answers, and each way to go wrong.

The example of an error is what the code answers where its rule is broken.
"""

from collections.abc import Callable
from typing import Any, Final
from uuid import UUID

import msgspec

from pulse.application import ClockOff, OrderNotFound, PulseFailed
from pulse.domain import INTERNAL_SCOPE, OrderUniqueKeyTaken, order_id_for
from pulse.errors import PulseError
from pulse.eventstore import AppendOutcomeUnknown, AppendQueueFull
from pulse.http.bodies import read_order, require_json, require_unencoded
from pulse.http.limits import MAX_ORDER_BYTES, BodyTooSlow, TooBusy, TooManyRequests
from pulse.postgres import DatabaseUnavailable

KEY: Final = "ouk_first"
ORDER_ID: Final[UUID] = order_id_for(INTERNAL_SCOPE, KEY)
UNKNOWN_ID: Final = "0b6f4c1e-52c9-4f6e-8d0a-6a3f8a1f2b77"

REQUEST: Final[dict[str, Any]] = {
    "order_unique_key": KEY,
    "instrument": "NSE:RELIANCE",
    "side": "BUY",
    "total_quantity": 100,
    "split_config": {"num_splits": 2, "duration_minutes": 60, "randomize": True},
}
SHORTEST_REQUEST: Final[dict[str, Any]] = {
    **REQUEST,
    "order_unique_key": "ouk_second",
    "instrument": "BSE:500325",
    "side": "SELL",
    "split_config": {"num_splits": 2, "duration_minutes": 60},
}
REQUESTS: Final = {"with every field": REQUEST, "shortest": SHORTEST_REQUEST}
PLACED: Final[dict[str, Any]] = {"order_id": str(ORDER_ID), "order_unique_key": KEY}
SLICES: Final[list[dict[str, Any]]] = [
    {"sequence_number": 1, "quantity": 46, "scheduled_at": "2026-03-02T03:45:00.250000Z"},
    {"sequence_number": 2, "quantity": 54, "scheduled_at": "2026-03-02T04:45:00.250000Z"},
]
COMPLETED: Final[dict[str, Any]] = {
    **PLACED,
    "instrument": "NSE:RELIANCE",
    "side": "BUY",
    "total_quantity": 100,
    "split_config": REQUEST["split_config"],
    "order_queue_status": "COMPLETED",
    "failure_reason": None,
    "failure_message": None,
    "version": 2,
    "position": 18,
    "placed_by": "anonymous",
    "created_at": "2026-03-02T03:45:00.250000Z",
    "updated_at": "2026-03-02T03:45:00.263000Z",
    "split_completed_at": "2026-03-02T03:45:00.263000Z",
    "claimed_by": None,
    "claimed_at": None,
    "slices": SLICES,
}
PENDING: Final[dict[str, Any]] = {
    **COMPLETED,
    "order_queue_status": "PENDING",
    "version": 1,
    "position": 17,
    "updated_at": "2026-03-02T03:45:00.250000Z",
    "split_completed_at": None,
    "slices": [],
}


class Fault(msgspec.Struct, frozen=True):
    """A way to go wrong, by name, and the error it brings."""

    name: str
    error: Exception


def fault_of(name: str, breaking: Callable[[], object]) -> Fault:
    """The fault that this call brings about.

    Raises:
        AssertionError: it goes well, so the document would lie.
    """
    try:
        breaking()
    except PulseError as error:
        return Fault(name, error)
    raise AssertionError(f"{name} is no fault")


def _of_order(name: str, without: str = "", **changes: object) -> Fault:
    order = {field: value for field, value in (REQUEST | changes).items() if field != without}
    return fault_of(name, lambda: read_order(msgspec.json.encode(order)))


WRONG_ORDERS: Final = (
    fault_of("not JSON", lambda: read_order(b'{"order_unique_key":')),
    _of_order("a field is missing", without="side"),
    _of_order("an unknown field", price=2850),
    _of_order("no such instrument", instrument="RELIANCE"),
    _of_order("no such quantity", total_quantity=0),
    _of_order("fewer shares than slices", total_quantity=1),
    _of_order("a quantity as text", total_quantity="100"),
    _of_order("too many slices", split_config=REQUEST["split_config"] | {"num_splits": 101}),
    _of_order("white space at an end of the key", order_unique_key=f"{KEY} "),
)
NO_SUCH_ORDER: Final = Fault("no such order", OrderNotFound(UNKNOWN_ID))
FAULTS_OF_BODIES: Final = (
    Fault("the body is slow", BodyTooSlow(10)),
    fault_of("the body is too large", lambda: read_order(b" " * (MAX_ORDER_BYTES + 1))),
    fault_of("the body is not JSON", lambda: require_json("text/plain")),
    fault_of("the body is encoded", lambda: require_unencoded(b"gzip")),
)
FAULTS_OF_PLACING: Final = (
    *WRONG_ORDERS,
    Fault("the key is taken", OrderUniqueKeyTaken(KEY, ORDER_ID)),
    *FAULTS_OF_BODIES,
    Fault("too many orders wait", AppendQueueFull()),
    Fault("no answer in time", AppendOutcomeUnknown()),
    Fault("the clock is off", ClockOff("this process's clock is 1.7 s off the database's")),
)
A_CRASH: Final = Fault("a crash", PulseFailed())
FAULTS_OF_ALL: Final = (
    Fault("too many requests", TooManyRequests(100, 0.4)),
    A_CRASH,
    Fault("too busy", TooBusy()),
    Fault("the database is away", DatabaseUnavailable()),
)
