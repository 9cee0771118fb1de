"""The errors in the documents.

`error_example` gets an error from the code that refuses a request; the others are constructed here.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from pulse.application.clock_watch import ClockOff
from pulse.application.orders import OrderNotFound
from pulse.application.over_http import PulseFailed
from pulse.domain import (
    INTERNAL_SCOPE,
    CancelOrder,
    HaltNotFound,
    MarketClosed,
    Order,
    OrderRefused,
    OrderUniqueKeyTaken,
    RecordedBy,
    Trace,
    Window,
    decide,
    order_id_for,
)
from pulse.domain.order_request import INVALID_SPLIT_CONFIG
from pulse.domain.windows import START_EXPECTED
from pulse.errors import PulseError
from pulse.eventstore import AppendOutcomeUnknown, AppendQueueFull
from pulse.http.bodies import (
    read_cancel_request,
    read_halt_request,
    read_order,
    read_preview_request,
    require_json,
    require_unencoded,
)
from pulse.http.limits import MAX_ORDER_BYTES, BodyTooSlow, TooBusy, TooManyRequests
from pulse.postgres import DatabaseUnavailable

_ORDER: Final[dict[str, Any]] = {
    "order_unique_key": "ouk_first",
    "instrument": "NSE:RELIANCE",
    "side": "BUY",
    "total_quantity": 100,
    "split_config": {"num_splits": 2, "duration_minutes": 60},
}
_ORDER_ID: Final = order_id_for(INTERNAL_SCOPE, _ORDER["order_unique_key"])


class ErrorExample(msgspec.Struct, frozen=True):
    """A named example of an invalid request or a failure, and the exception that it raises."""

    name: str
    error: Exception


def error_example(name: str, breaking: Callable[[], object]) -> ErrorExample:
    """The error with the exception that this call raises.

    Raises:
        AssertionError: the call does not fail, so the documented example would be false.
    """
    try:
        breaking()
    except PulseError as error:
        return ErrorExample(name, error)
    raise AssertionError(f"{name} raises no error")


def _of_order(name: str, without: str = "", **changes: object) -> ErrorExample:
    order = {field: value for field, value in (_ORDER | changes).items() if field != without}
    return error_example(name, lambda: read_order(msgspec.json.encode(order)))


WRONG_ORDERS: Final = (
    error_example("not JSON", lambda: read_order(b'{"order_unique_key":')),
    _of_order("a field is missing", without="side"),
    _of_order("an unknown field", price=2850),
    _of_order("an invalid instrument", instrument="RELIANCE"),
    _of_order("a quantity out of range", total_quantity=0),
    _of_order("fewer shares than slices", total_quantity=1),
    _of_order("a quantity as text", total_quantity="100"),
    _of_order("too many slices", split_config=_ORDER["split_config"] | {"num_splits": 101}),
    _of_order(
        "no offset",
        split_config=_ORDER["split_config"] | {"start_at": "2026-03-02T09:15:00"},
    ),
    _of_order(
        "an unknown policy", split_config=_ORDER["split_config"] | {"session_policy": "SKIP"}
    ),
    _of_order("white space at an end of the key", order_unique_key="ouk_first "),
)
NO_SUCH_ORDER: Final = ErrorExample(
    "no such order", OrderNotFound("0b6f4c1e-52c9-4f6e-8d0a-6a3f8a1f2b77")
)
BODY_ERRORS: Final = (
    ErrorExample("the body is slow", BodyTooSlow(10)),
    error_example("the body is too large", lambda: read_order(b" " * (MAX_ORDER_BYTES + 1))),
    error_example("the body is not JSON", lambda: require_json("text/plain")),
    error_example("the body is encoded", lambda: require_unencoded(b"gzip")),
)
_CLOCK_OFF: Final = ErrorExample(
    "the clock is off",
    ClockOff(
        "this process's clock is 1.700 s ahead of the database's, more than 1 s: correct the "
        "host's clock"
    ),
)
_WRITING_ERRORS: Final = (
    *BODY_ERRORS,
    ErrorExample("the append queue is full", AppendQueueFull()),
    ErrorExample("the outcome is unknown", AppendOutcomeUnknown()),
)
_STARTED: Final = OrderRefused(
    INVALID_SPLIT_CONFIG, "split_config.start_at", START_EXPECTED, "is in the past"
)
_CLOSED: Final = MarketClosed(
    "the window from 2026-03-02T09:30:00Z to 2026-03-02T10:30:00Z is not inside one trading "
    "session of NSE:RELIANCE; use another session_policy, or start_at 2026-03-03T03:45:00Z, where "
    "the window fits",
    "REJECT",
    Window(
        starts_at=datetime(2026, 3, 3, 3, 45, tzinfo=UTC),
        ends_at=datetime(2026, 3, 3, 4, 45, tzinfo=UTC),
    ),
)
_WRONG_WINDOWS: Final = (
    ErrorExample("a start in the past", _STARTED),
    ErrorExample("the market is closed", _CLOSED),
)
PLACING_ERRORS: Final = (
    *WRONG_ORDERS,
    *_WRONG_WINDOWS,
    ErrorExample("the key is taken", OrderUniqueKeyTaken("ouk_first", _ORDER_ID)),
    *_WRITING_ERRORS,
    _CLOCK_OFF,
)
PREVIEWING_ERRORS: Final = (
    *WRONG_ORDERS,
    *_WRONG_WINDOWS,
    error_example(
        "an invalid seed",
        lambda: read_preview_request(msgspec.json.encode(_ORDER | {"split_seed": "7"})),
    ),
    *BODY_ERRORS,
    _CLOCK_OFF,
)


def _cancel_failed_order() -> object:
    at = datetime(2026, 3, 2, 3, 45, tzinfo=UTC)
    source = "OMS:rebalance"
    trace = Trace(trace_id="t1", trace_source=source, request_id="r1", request_source=source)
    order = Order(
        id=_ORDER_ID,
        version=2,
        key_scope=INTERNAL_SCOPE,
        placed_by="anonymous",
        spec=read_order(msgspec.json.encode(_ORDER)),
        split_seed=0,
        splitter_version=1,
        release=True,
        trace_id=trace.trace_id,
        created_at=at,
        updated_at=at,
        window_starts_at=at,
        state="FAILED",
    )
    command = CancelOrder(
        reason=None,
        cancelled_by="anonymous",
        at=at,
        recorded_by=RecordedBy(component="api", instance="host:4711:79e748", code_version="0.1.0"),
        trace=trace,
    )
    return decide(command, order)


CANCELLING_ERRORS: Final = (
    error_example("not JSON", lambda: read_cancel_request(b'{"reason":')),
    error_example("an unknown field", lambda: read_cancel_request(b'{"quantity":54}')),
    error_example("a reason that is not text", lambda: read_cancel_request(b'{"reason":7}')),
    NO_SUCH_ORDER,
    error_example("nothing to cancel", _cancel_failed_order),
    *_WRITING_ERRORS,
    _CLOCK_OFF,
)
HALTING_ERRORS: Final = (
    error_example("no reason", lambda: read_halt_request(b'{"scope":"ALL"}')),
    error_example("an unknown scope", lambda: read_halt_request(b'{"scope":"BSE","reason":"x"}')),
    error_example(
        "no instrument", lambda: read_halt_request(b'{"scope":"INSTRUMENT","reason":"x"}')
    ),
    error_example(
        "an invalid instrument",
        lambda: read_halt_request(b'{"scope":"INSTRUMENT","instrument":"TCS","reason":"x"}'),
    ),
    *_WRITING_ERRORS,
)
NO_SUCH_HALT: Final = ErrorExample(
    "no such halt", HaltNotFound("0b6f4c1e-52c9-4f6e-8d0a-6a3f8a1f2b77")
)
LIFTING_ERRORS: Final = (NO_SUCH_HALT, *_WRITING_ERRORS[len(BODY_ERRORS) :])
A_CRASH: Final = ErrorExample("a crash", PulseFailed())
COMMON_ERRORS: Final = (
    ErrorExample("too many requests", TooManyRequests(100, 0.4)),
    A_CRASH,
    ErrorExample("too busy", TooBusy()),
    ErrorExample("the database is unavailable", DatabaseUnavailable()),
)
