"""The appends that go to Postgres together."""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from enum import Enum, auto
from typing import Any
from uuid import UUID

from eventsourcing.persistence import StoredEvent

from pulse.eventstore.errors import AppendOutcomeUnknown, AppendRefused, VersionTaken

Key = tuple[UUID, int]
Positions = tuple[int, ...]
Columns = tuple[list[UUID], list[int], list[str], list[bytes]]

Outcome = Positions | BaseException
"""An append's positions in the log, or why it has none."""


class Sending(Enum):
    """How far an append's events have come."""

    WAITING = auto()
    """Postgres has not written them."""
    SENT = auto()
    """Postgres may be writing them."""
    UNCERTAIN = auto()
    """A reply was lost: they may be stored, and a conflict may be with themselves."""


class PendingAppend:
    """One caller's events, and the future of their positions, due at a time of the loop's clock."""

    __slots__ = ("deadline", "events", "future", "sending")

    def __init__(
        self, events: Sequence[StoredEvent], future: "asyncio.Future[Positions]", deadline: float
    ) -> None:
        self.events = events
        self.future = future
        self.deadline = deadline
        self.sending = Sending.WAITING

    @property
    def keys(self) -> list[Key]:
        """Stream and version of each event."""
        return [(event.originator_id, event.originator_version) for event in self.events]  # type: ignore[misc]

    @property
    def is_single(self) -> bool:
        """Whether it may share a statement in which conflicts are left out row by row."""
        return len(self.events) == 1

    def sent(self) -> None:
        """Note that a statement with these events is on its way."""
        if self.sending is Sending.WAITING:
            self.sending = Sending.SENT

    def not_written(self) -> None:
        """Note that the statement wrote nothing; an earlier one, whose reply was lost, may have."""
        if self.sending is Sending.SENT:
            self.sending = Sending.WAITING

    def succeed(self, positions: Positions) -> None:
        """Answer the caller, if it still waits."""
        if not self.future.done():
            self.future.set_result(positions)

    def fail(self, error: Exception) -> None:
        """Answer the caller, if it still waits."""
        if not self.future.done():
            self.future.set_exception(error)

    def take(self) -> None:
        """Answer the caller that another event has its version."""
        self.fail(VersionTaken(*self.keys[0]))

    def give_up(self, why: str) -> None:
        """Answer the caller, who cannot wait longer, whether the events may be stored."""
        certain = self.sending is Sending.WAITING
        self.fail(AppendRefused(why) if certain else AppendOutcomeUnknown(why))


def take_batch(queue: deque[PendingAppend], max_events: int) -> list[PendingAppend]:
    """The next appends that may share a statement: in order, all single or none, none given up."""
    batch: list[PendingAppend] = []
    events = 0
    while queue:
        pending = queue[0]
        events += len(pending.events)
        if pending.future.done():
            events -= len(pending.events)
        elif not batch or (pending.is_single == batch[0].is_single and events <= max_events):
            batch.append(pending)
        else:
            break
        queue.popleft()
    return batch


def columns(batch: Iterable[PendingAppend]) -> Columns:
    """The batch as the arrays that its statement takes."""
    events: list[Any] = [event for pending in batch for event in pending.events]
    return (
        [event.originator_id for event in events],
        [event.originator_version for event in events],
        [event.topic for event in events],
        [event.state for event in events],
    )


def stored_as_sent(pending: PendingAppend, stored: dict[Key, Sequence[Any]]) -> Positions | None:
    """The positions of this append's own events, if all of them are stored byte for byte.

    `stored` has position, topic and state by key.
    """
    rows = [stored.get(key) for key in pending.keys]
    positions = [
        row[0]
        for row, event in zip(rows, pending.events, strict=True)
        if row is not None and (row[1], row[2]) == (event.topic, event.state)
    ]
    return tuple(positions) if len(positions) == len(rows) else None
