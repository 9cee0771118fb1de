"""Orders and events for the benchmarks: single events from the domain, whole logs by SQL."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from typing import Final, Literal
from uuid import uuid4

from eventsourcing.persistence import StoredEvent

from benchmarks.database import Database
from pulse.application.origin import Origin
from pulse.domain import (
    INTERNAL_SCOPE,
    Claim,
    Event,
    Halts,
    OrderSpec,
    PlaceOrder,
    ReleaseSlices,
    SplitConfigRequest,
    SplitOrder,
    Trace,
    decide,
    evolve,
    fold,
)
from pulse.eventstore import LOG_CHANNEL, EventMapper

_KEY: Final = "KEY-OF-ORDER"
_INSTRUMENT: Final = "NSE:RELIANCE"
_INSTRUMENTS: Final = [_INSTRUMENT, "NSE:INFY", "NSE:TCS", "BSE:500325"]
_TRACE: Final = Trace(
    trace_id="trace-of-a-benchmark",
    trace_source="PULSE:POST/internal/orders",
    request_id="request-of-a-benchmark",
    request_source="PULSE:POST/internal/orders",
)

_FILL = """
INSERT INTO stored_events (originator_id, originator_version, topic, state)
SELECT md5(%(salt)s || n)::uuid, v.version, v.topic,
       convert_to(replace(replace(v.state, 'KEY-OF-ORDER', %(salt)s || n), 'NSE:RELIANCE',
                          (%(instruments)s::text[])[1 + n %% 4]), 'UTF8')
  FROM generate_series(1, %(orders)s::bigint) n
  CROSS JOIN unnest(%(versions)s::bigint[], %(topics)s::text[], %(states)s::text[])
       AS v (version, topic, state)
 ORDER BY n + %(distance)s::bigint * v.version, n, v.version"""

Stage = Literal["created", "completed", "released"]


def events_of_order(num_splits: int, *, release: bool = False) -> tuple[Event, Event]:
    """The creation and schedule of an order, decided by the domain."""
    now = datetime.now(UTC)
    by = Origin.of_this_process().recorded_by("benchmark")
    spec = OrderSpec(
        order_unique_key=_KEY,
        instrument=_INSTRUMENT,
        side="BUY",
        total_quantity=100 * num_splits,
        split_config=SplitConfigRequest(num_splits, duration_minutes=600),
    )
    place = PlaceOrder(
        spec=spec,
        key_scope=INTERNAL_SCOPE,
        placed_by="benchmark",
        split_seed=7,
        release=release,
        at=now,
        recorded_by=by,
        trace=_TRACE,
    )
    (created,) = decide(place, None)
    split = SplitOrder(
        claim=Claim(worker="benchmark", claimed_at=now, first_claimed_at=now),
        max_split_delay_seconds=300,
        at=now,
        request_id="request-of-a-benchmark",
        recorded_by=by,
    )
    (scheduled,) = decide(split, fold([created]))
    return created, scheduled


def _with_releases(num_splits: int) -> tuple[Event, ...]:
    """The events of `events_of_order`, and a release of each slice at its time."""
    events: tuple[Event, ...] = events_of_order(num_splits, release=True)
    order = fold(events)
    while order is not None and order.unsettled:
        command = ReleaseSlices(
            halts=Halts(),
            max_delay_seconds=60,
            released_by="benchmark",
            at=order.unsettled[0].scheduled_at,
            request_id="request-of-a-benchmark",
            recorded_by=Origin.of_this_process().recorded_by("benchmark"),
        )
        (released,) = decide(command, order)
        events += (released,)
        order = evolve(order, released)
    return events


_EVENTS_OF: Final[dict[Stage, Callable[[int], tuple[Event, ...]]]] = {
    "created": lambda num_splits: events_of_order(num_splits)[:1],
    "completed": events_of_order,
    "released": _with_releases,
}


@cache
def creation() -> StoredEvent:
    """The stored form of a creation."""
    return EventMapper().to_stored_event(events_of_order(5)[0])


def new_creation() -> StoredEvent:
    """A creation in a new stream."""
    sample = creation()
    return StoredEvent(uuid4(), 1, sample.topic, sample.state)


async def fill_log(
    database: Database, orders: int, *, num_splits: int, stage: Stage, apart: bool = False
) -> None:
    """Append the events of `orders` orders in one transaction, and notify listeners.

    The events of an order are adjacent. With `apart`, events of a thousand other orders are between
    two events of an order, as in a log of many concurrent orders.
    """
    events = _EVENTS_OF[stage](num_splits)
    stored = [EventMapper().to_stored_event(event) for event in events]
    parameters = {
        "salt": uuid4().hex[:8] + "-",
        "orders": orders,
        "instruments": _INSTRUMENTS,
        "distance": 1_000 if apart else 0,
        "versions": [event.originator_version for event in stored],
        "topics": [event.topic for event in stored],
        "states": [event.state.decode() for event in stored],
    }
    async with await database.connect() as connection:
        await connection.execute(_FILL, parameters)
        await connection.execute("SELECT pg_notify(%s, '')", (LOG_CHANNEL,))
