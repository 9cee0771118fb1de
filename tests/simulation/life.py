"""What became of each order's slices, recorded from the events alone, and the rules for it.

This does not use the domain's code for releases: it states the rules a second time.
"""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from pulse.domain import (
    Event,
    OrderCancelled,
    OrderCreated,
    Quantities,
    Slice,
    SlicesExpired,
    SlicesReleased,
    SlicesScheduled,
    SliceState,
)
from tests.simulation.violation import require

if TYPE_CHECKING:
    from tests.simulation.profile import Profile

_SECOND: Final = timedelta(seconds=1)
_CATCH_UP: Final = timedelta(seconds=0.1)
"""The least distance after a late slice is 1 s, or the planned distance less this if shorter."""
_MAX_LATE: Final = timedelta(seconds=0.5)
_POLL: Final = timedelta(seconds=1)
"""A releaser reads the due orders this often, also while a halt covers them."""
_RECOVERY: Final = timedelta(seconds=2.5)
"""Once faults are over, every loop works again within this time: its longest backoff is 2 s."""


class OrderLife:
    """The slices of one order and what became of each; checks every event.

    `quiet_at` is when the faults end. All times are by the database's clock.
    """

    def __init__(self, created: OrderCreated, profile: "Profile", quiet_at: datetime) -> None:
        self.release = created.release
        self.ended = False
        self.remaining = created.total_quantity
        self._id = created.originator_id
        self._copied = (created.order_unique_key, created.instrument, created.side)
        self._sums: dict[SliceState, int] = {"RELEASED": 0, "CANCELLED": 0, "EXPIRED": 0}
        self._slices: tuple[Slice, ...] = ()
        self._settled: list[SliceState] = []
        self._released_at: datetime | None = None
        self._changed_at = quiet_at
        self._max_delay = timedelta(seconds=profile.max_release_delay)
        self._recovered_at = quiet_at + _RECOVERY
        self._resumed_at = quiet_at

    @property
    def quantities(self) -> Quantities:
        """The shares by what became of them."""
        return Quantities(
            remaining=self.remaining,
            released=self._sums["RELEASED"],
            cancelled=self._sums["CANCELLED"],
            expired=self._sums["EXPIRED"],
        )

    @property
    def states(self) -> tuple[SliceState, ...]:
        """The state of each slice."""
        scheduled: tuple[SliceState, ...] = ("SCHEDULED",)
        return (*self._settled, *scheduled * (len(self._slices) - len(self._settled)))

    @property
    def due_at(self) -> datetime | None:
        """When the next slice can be released; None if there is nothing to release."""
        number = len(self._settled)
        if not self.release or number == len(self._slices):
            return None
        scheduled_at = self._slices[number].scheduled_at
        if self._released_at is None:
            return scheduled_at
        planned = scheduled_at - self._slices[number - 1].scheduled_at
        if planned < _SECOND:
            return scheduled_at
        return max(scheduled_at, self._released_at + min(_SECOND, planned - _CATCH_UP))

    def add(self, event: Event, now: datetime, *, halted: bool) -> None:
        """Check an event after OrderCreated, and record it. `halted`: a halt covers the order."""
        require(not self.ended, f"{self._id} has {type(event).__name__} after its end")
        was_due_at = self.due_at
        match event:
            case SlicesScheduled():
                self._slices = event.slices
            case SlicesReleased():
                self._release(event, now)
            case SlicesExpired():
                self._check_background(event, now)
                late = [self._slices[n - 1] for n in event.sequence_numbers]
                early = [s for s in late if event.timestamp < self._expires_at(s)]
                require(not early, f"{self._id} expired {early} too early at {event.timestamp}")
                self._settle(event.sequence_numbers, event.quantity, "EXPIRED")
            case OrderCancelled(sequence_numbers=numbers) if self._slices:
                self._settle(numbers, event.quantity, "CANCELLED")
            case OrderCancelled():
                require(event.quantity == self.remaining, f"{self._id} cancels {event.quantity}")
                self._settle_whole("CANCELLED")
            case _:
                self._settle_whole("EXPIRED")
        in_background = isinstance(event, SlicesReleased | SlicesExpired)
        if in_background and was_due_at is not None and not halted:
            self._check_delay(was_due_at, now)
        self._released_at = event.timestamp if isinstance(event, SlicesReleased) else None
        self._changed_at = now
        self.ended = self.remaining == 0
        cancelled = isinstance(event, OrderCancelled)
        require(self.ended or not cancelled, f"{self._id} has {self.remaining} left after a cancel")

    def _release(self, event: SlicesReleased, now: datetime) -> None:
        self._check_background(event, now)
        copied = (event.order_unique_key, event.instrument, event.side)
        require(copied == self._copied, f"{self._id} was released as {copied}")
        due_at = self.due_at
        for s in event.slices:
            number = s.sequence_number
            require(s == self._slices[number - 1], f"{self._id} released {s}, never scheduled")
            require(
                event.timestamp >= s.scheduled_at,
                f"{self._id} released {number} before its time: {event.timestamp}",
            )
            require(
                event.timestamp < self._expires_at(s),
                f"{self._id} released {number} after it had expired: {event.timestamp}",
            )
            late = now - self._expires_at(s)
            require(late < timedelta(0), f"{self._id} released {number} {late} after its expiry")
        numbers = tuple(s.sequence_number for s in event.slices)
        self._settle(numbers, sum(s.quantity for s in event.slices), "RELEASED")
        require(
            due_at is not None and event.timestamp >= due_at,
            f"{self._id} released {numbers} too soon after the slice before",
        )
        for s, following in zip(event.slices, event.slices[1:], strict=False):
            require(
                following.scheduled_at - s.scheduled_at < _SECOND,
                f"{self._id} released {s} together with {following}",
            )

    def resume(self, now: datetime) -> None:
        """Record that a halt of the order was lifted. Expired slices were settled before."""
        number = len(self._settled)
        if self.release and not self.ended and number < len(self._slices):
            expired_at = self._expires_at(self._slices[number])
            if expired_at < now:
                self._check_delay(expired_at + _POLL, now)
        self._resumed_at = now

    def _check_background(self, event: SlicesReleased | SlicesExpired, now: datetime) -> None:
        require(self.release, f"{self._id} is one that Pulse does not release")
        require(event.timestamp <= now, f"{self._id} has an event of {event.timestamp} at {now}")

    def _check_delay(self, due_at: datetime, now: datetime) -> None:
        since = max(due_at, self._changed_at, self._recovered_at, self._resumed_at)
        late = now - since
        require(late <= _MAX_LATE, f"{self._id} was due at {due_at}, {late} late at {now}")

    def _expires_at(self, s: Slice) -> datetime:
        latest = s.scheduled_at + self._max_delay
        if s.sequence_number == len(self._slices):
            return latest
        successor = self._slices[s.sequence_number]
        return min(latest, max(s.scheduled_at + _SECOND, successor.scheduled_at))

    def _settle(self, numbers: tuple[int, ...], quantity: int, state: SliceState) -> None:
        settled = len(self._settled)
        again = [(n, self._settled[n - 1]) for n in numbers if n <= settled]
        require(not again, f"{self._id} settles {numbers} as {state} again, after {again}")
        following = tuple(range(settled + 1, settled + 1 + len(numbers)))
        require(numbers and numbers == following, f"{self._id} settles {numbers} after {settled}")
        of_slices = sum(self._slices[n - 1].quantity for n in numbers)
        require(quantity == of_slices, f"{self._id} settles {quantity} shares of {of_slices}")
        self._settled += [state] * len(numbers)
        self._sums[state] += quantity
        self.remaining -= quantity

    def _settle_whole(self, state: SliceState) -> None:
        self._sums[state], self.remaining = self.remaining, 0
