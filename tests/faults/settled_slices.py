"""How each slice in the log was settled: at most once, in time, and no share lost or created.

The rules of `pulse.domain.releases` are written a second time here, to find an error in them.
"""

from array import array
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, Final, assert_never
from uuid import UUID

import msgspec

from pulse.domain import (
    Event,
    HistoryBroken,
    Order,
    OrderCancelled,
    OrderCreated,
    Quantities,
    ReleasesHalted,
    ReleasesResumed,
    Slice,
    SlicesExpired,
    SlicesReleased,
    SlicesScheduled,
    SplittingFailed,
    TimedOut,
    evolve,
)
from tests.faults.report import quantile

MAX_DELAY_SECONDS: Final = 60.0
"""The default of PULSE_MAX_RELEASE_DELAY_SECONDS, which no case changes."""

MAX_INSERT: Final = timedelta(seconds=1)
"""A release may be recorded at most this long after the check that its slice has not expired."""

_ONE_SECOND: Final = timedelta(seconds=1)
_CATCH_UP: Final = timedelta(seconds=0.1)
"""A slice may follow a late one this much closer than planned."""


class Stored(msgspec.Struct, frozen=True):
    """An event as it is stored. `recorded_at` is by the database's clock."""

    position: int
    version: int
    recorded_at: datetime
    event: Event


class Examples:
    """A count, with the first few examples."""

    MAX: Final = 5

    def __init__(self) -> None:
        self.count = 0
        self.first: list[str] = []

    def add(self, name: str) -> None:
        """Count one, and keep it if it is one of the first."""
        self.count += 1
        if len(self.first) < self.MAX:
            self.first.append(name)


class SettledSlices:
    """How the slices of a log were settled, and the violations. Streams are added one by one.

    Each slice that Pulse releases must be settled if its deadline had passed at `settled_at`.
    """

    def __init__(self, settled_at: datetime) -> None:
        self.settled_at = settled_at
        self.count: Counter[str] = Counter()
        self.delays = array("d")
        self.append_seconds = 0.0
        self.stored_late = 0
        self.twice, self.lost, self.illegal = Examples(), Examples(), Examples()
        self.early, self.late, self.expired_early = Examples(), Examples(), Examples()
        self.together, self.unbalanced = Examples(), Examples()

    @property
    def violations(self) -> dict[str, Examples]:
        """Each kind of violation, by its description."""
        return {
            "slices settled twice": self.twice,
            "slices not settled by their deadline": self.lost,
            "events that cannot follow in their stream": self.illegal,
            "slices released before their time": self.early,
            "slices released after their deadline": self.late,
            "slices expired before their deadline": self.expired_early,
            "slices released too soon after the one before": self.together,
            "prefixes where total = remaining + released + cancelled + expired fails":
                self.unbalanced,
        }  # fmt: skip

    @property
    def summary(self) -> str | None:
        """One line about the slices; None if none was settled."""
        if not self.count:
            return None
        counts = ", ".join(f"{self.count[state]:,} {state}" for state in _STATES)
        if not self.delays:
            return f"slices: {counts}"
        p50, p99 = (quantile(self.delays, share) or 0.0 for share in (0.5, 0.99))
        return (
            f"slices: {counts}; released after their time: p50 {p50:.3f} s, p99 {p99:.3f} s; "
            f"stored at most {self.append_seconds:.2f} s after the decision, {self.stored_late:,} "
            "after their deadline"
        )

    def add(self, stream: Sequence[Stored]) -> Order | None:
        """Check one order's stream; returns the order, None if it cannot be folded."""
        account = _Account(self)
        order: Order | None = None
        illegal: HistoryBroken | None = None
        for stored in stream:
            account.add(stored)
            if illegal is None:
                try:
                    order = evolve(order, stored.event)
                except HistoryBroken as error:
                    illegal = error
                else:
                    account.check_balance(order.quantities)
        account.check_end()
        if illegal is not None:
            self.illegal.add(str(illegal))
            return None
        return order


_STATES: Final = ("released", "expired", "cancelled")


class _Account:
    """One order's shares, counted from its events without Pulse's code."""

    def __init__(self, slices: SettledSlices) -> None:
        self._slices = slices
        self._order_id: UUID | None = None
        self._total = 0
        self._release = False
        self._remaining: dict[int, Slice] = {}
        self._deadlines: dict[int, datetime] = {}
        self._shares: Counter[str] = Counter()
        self._released: list[tuple[Slice, datetime]] = []
        self._settled: set[int] = set()

    def add(self, stored: Stored) -> None:
        event = stored.event
        match event:
            case OrderCreated():
                self._order_id = event.originator_id
                self._total = event.total_quantity
                self._release = event.release
                self._shares["remaining"] = event.total_quantity
            case SlicesScheduled():
                self._remaining = {s.sequence_number: s for s in event.slices}
                for s, successor in pairwise((*event.slices, None)):
                    assert s is not None
                    self._deadlines[s.sequence_number] = deadline(s, successor)
            case SplittingFailed() | TimedOut():
                self._move("expired", self._total)
            case OrderCancelled():
                if not event.sequence_numbers:
                    self._move("cancelled", self._total)
                self._settle("cancelled", event.sequence_numbers, event.quantity, stored)
            case SlicesExpired():
                self._add_expiry(event, stored)
            case SlicesReleased():
                self._add_release(event, stored)
            case ReleasesHalted() | ReleasesResumed():
                raise AssertionError(f"{type(event).__name__} in the stream of an order")
            case _:
                assert_never(event)

    def _add_expiry(self, event: SlicesExpired, stored: Stored) -> None:
        for number in event.sequence_numbers:
            if number in self._deadlines and event.timestamp < self._deadlines[number]:
                self._slices.expired_early.add(self._name(number))
        self._settle("expired", event.sequence_numbers, event.quantity, stored)

    def _add_release(self, event: SlicesReleased, stored: Stored) -> None:
        slices, at = self._slices, event.timestamp
        for s in event.slices:
            number = s.sequence_number
            if s != self._remaining.get(number, s) or not self._release:
                slices.illegal.add(f"{self._name(number)} is released with other data")
            if min(at, stored.recorded_at) < s.scheduled_at:
                slices.early.add(f"{self._name(number)} {s.scheduled_at - at} early")
            expires_at = self._deadlines.get(number, at + _ONE_SECOND)
            slices.stored_late += stored.recorded_at >= expires_at
            took = (stored.recorded_at - at).total_seconds()
            if at >= expires_at or stored.recorded_at >= expires_at + MAX_INSERT:
                late = f"decided at {at}, stored {took:.1f} s later, expired at {expires_at}"
                slices.late.add(f"{self._name(number)} {late}")
            slices.append_seconds = max(slices.append_seconds, took)
            slices.delays.append((stored.recorded_at - s.scheduled_at).total_seconds())
            self._released.append((s, at))
        numbers = tuple(s.sequence_number for s in event.slices)
        self._settle("released", numbers, sum(s.quantity for s in event.slices), stored)

    def _settle(self, state: str, numbers: Sequence[int], quantity: int, stored: Stored) -> None:
        """Settle these slices; their shares must be those of the event."""
        slices = self._slices
        moved = 0
        for number in numbers:
            if number in self._settled:
                slices.twice.add(self._name(number))
                continue
            self._settled.add(number)
            moved += self._remaining.pop(number).quantity if number in self._remaining else 0
        slices.count[state] += len(numbers)
        self._move(state, moved)
        if numbers and moved != quantity:
            slices.unbalanced.add(f"{self._name(numbers[0])}: {quantity} of {moved} at {stored}")

    def _move(self, state: str, quantity: int) -> None:
        self._shares["remaining"] -= quantity
        self._shares[state] += quantity

    def check_balance(self, answered: Quantities) -> None:
        """The shares add up, and are those that Pulse's own fold computes."""
        own = {name: self._shares[name] for name in Quantities.__struct_fields__}
        balanced = sum(own.values()) == self._total and min(own.values()) >= 0
        if not balanced or own != msgspec.structs.asdict(answered):
            self._slices.unbalanced.add(f"{self._order_id}: {own}, Pulse says {answered}")

    def check_end(self) -> None:
        """No release in a burst; every slice whose deadline had passed is settled."""
        for (before, earlier), (s, at) in pairwise(self._released):
            planned, distance = s.scheduled_at - before.scheduled_at, at - earlier
            if planned >= _ONE_SECOND and distance < min(_ONE_SECOND, planned - _CATCH_UP):
                found = f"{self._name(s.sequence_number)} {distance} later, planned {planned}"
                self._slices.together.add(found)
        if self._release:
            for number in self._remaining:
                if self._deadlines[number] <= self._slices.settled_at:
                    self._slices.lost.add(self._name(number))

    def _name(self, number: int) -> str:
        return f"{self._order_id}/{number}"


def deadline(s: Slice, successor: Slice | None) -> datetime:
    """The time from which the slice must not be released: it expires."""
    latest = s.scheduled_at + timedelta(seconds=MAX_DELAY_SECONDS)
    if successor is None:
        return latest
    return min(latest, max(s.scheduled_at + _ONE_SECOND, successor.scheduled_at))


VIEW_ROWS: Final = """
SELECT q.order_id, q.order_queue_status, q.version, q.position, q.updated_at, q.remaining_quantity,
       q.released_quantity, q.cancelled_quantity, q.expired_quantity,
       ARRAY(SELECT s.quantity FROM order_slices s WHERE s.order_id = q.order_id
              ORDER BY s.sequence_number),
       ARRAY(SELECT s.scheduled_at FROM order_slices s WHERE s.order_id = q.order_id
              ORDER BY s.sequence_number),
       ARRAY(SELECT s.state FROM order_slices s WHERE s.order_id = q.order_id
              ORDER BY s.sequence_number),
       (SELECT d.due_at FROM due_orders d WHERE d.created_position = q.created_position)
  FROM order_queue_status q
 ORDER BY q.order_id"""


def view_row(order: Order, position: int) -> tuple[Any, ...]:
    """The row of VIEW_ROWS that the order must have; `position` is that of its last event."""
    quantities = order.quantities
    return (
        order.id, order.state, order.version, position, order.updated_at,
        quantities.remaining, quantities.released, quantities.cancelled, quantities.expired,
        [s.quantity for s in order.slices],
        [s.scheduled_at for s in order.slices],
        list(order.slice_states),
        order.due_at,
    )  # fmt: skip
