"""Pending appends, and the batches that are sent to Postgres in one statement."""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import msgspec
from eventsourcing.persistence import StoredEvent

from pulse.eventstore.errors import (
    AppendOutcomeUnknown,
    AppendRefused,
    ConditionFailed,
    VersionTaken,
)

if TYPE_CHECKING:
    from pulse.spans import Span

Key = tuple[UUID, int]
Positions = tuple[int, ...]
Columns = tuple[list[UUID], list[int], list[str], list[bytes]]


class AppendCondition(msgspec.Struct, frozen=True):
    """What must hold when an event is written, checked under the log's lock.

    The guard stream still has `guard_version`, and the database's clock is before `before`.
    """

    guard_version: int
    before: datetime


NEVER: Final = AppendCondition(guard_version=0, before=datetime.min.replace(tzinfo=UTC))
"""A condition that never holds: the append only succeeds if its event is stored already."""

AppendResult = Positions | BaseException
"""An append's positions in the log, or the error it ended with."""


class SendState(Enum):
    """Whether an append's events may be stored."""

    WAITING = auto()
    """They are not stored."""
    SENT = auto()
    """A statement is in progress."""
    UNCERTAIN = auto()
    """A reply was lost: they may be stored, so a conflict may be with these very events."""


class PendingAppend:
    """A caller's events, the future for their positions, and its deadline by the loop's clock.

    The span of the commit is linked with `span`, if there is one.
    """

    __slots__ = ("condition", "deadline", "events", "future", "send_state", "span")

    def __init__(
        self,
        events: Sequence[StoredEvent],
        future: "asyncio.Future[Positions]",
        deadline: float,
        condition: AppendCondition | None = None,
        span: "Span | None" = None,
    ) -> None:
        self.events = events
        self.condition = condition
        self.span = span
        self.future = future
        self.deadline = deadline
        self.send_state = SendState.UNCERTAIN if condition is NEVER else SendState.WAITING

    @property
    def keys(self) -> list[Key]:
        """Stream and version of each event."""
        return [(event.originator_id, event.originator_version) for event in self.events]  # type: ignore[misc]

    @property
    def is_single(self) -> bool:
        """Whether it may share a statement that skips each conflicting row."""
        return len(self.events) == 1

    def mark_sent(self) -> None:
        """Record that a statement with these events is being sent."""
        if self.send_state is SendState.WAITING:
            self.send_state = SendState.SENT

    def mark_not_written(self) -> None:
        """Record that this statement wrote nothing. An earlier one with a lost reply may have."""
        if self.send_state is SendState.SENT:
            self.send_state = SendState.WAITING

    def succeed(self, positions: Positions) -> None:
        """Return the positions to the caller, unless it already has a result."""
        if not self.future.done():
            self.future.set_result(positions)

    def fail(self, error: Exception) -> None:
        """Raise the error to the caller, unless it already has a result."""
        if not self.future.done():
            self.future.set_exception(error)

    def conflict(self) -> None:
        """Raise VersionTaken to the caller."""
        self.fail(VersionTaken(*self.keys[0]))

    def fail_condition(self) -> None:
        """Raise ConditionFailed to the caller."""
        self.fail(ConditionFailed("the guard stream has a newer event, or the time has passed"))

    def give_up(self, reason: str) -> None:
        """Raise AppendRefused if certainly nothing was written, otherwise AppendOutcomeUnknown."""
        certain = self.send_state is SendState.WAITING
        self.fail(AppendRefused(reason) if certain else AppendOutcomeUnknown(reason))


def take_batch(
    queue: deque[PendingAppend], max_events: int, guard_stream: UUID | None
) -> list[PendingAppend]:
    """Take the next appends that may share a statement, in order: all single-event, or all larger.

    An append to the guard stream is taken alone, since conditions are checked against the version
    that the stream had before the statement. Appends whose callers have an answer are dropped.
    """
    batch: list[PendingAppend] = []
    events = 0
    while queue:
        pending = queue[0]
        events += len(pending.events)
        if pending.future.done():
            events -= len(pending.events)
        elif not batch or (
            pending.is_single == batch[0].is_single
            and events <= max_events
            and pending.events[0].originator_id != guard_stream
            and batch[0].events[0].originator_id != guard_stream
        ):
            batch.append(pending)
        else:
            break
        queue.popleft()
    return batch


def columns(batch: Iterable[PendingAppend]) -> Columns:
    """The batch as the array parameters of its statement."""
    events: list[Any] = [event for pending in batch for event in pending.events]
    return (
        [event.originator_id for event in events],
        [event.originator_version for event in events],
        [event.topic for event in events],
        [event.state for event in events],
    )


def condition_columns(
    batch: Iterable[PendingAppend],
) -> tuple[list[int | None], list[datetime | None]]:
    """The conditions of single-event appends as array parameters."""
    conditions = [pending.condition for pending in batch]
    return (
        [None if condition is None else condition.guard_version for condition in conditions],
        [None if condition is None else condition.before for condition in conditions],
    )


def stored_as_sent(pending: PendingAppend, stored: dict[Key, Sequence[Any]]) -> Positions | None:
    """The positions of this append's events if all of them are stored, byte for byte; else None.

    `stored` has position, topic and state by key.
    """
    rows = [stored.get(key) for key in pending.keys]
    positions = [
        row[0]
        for row, event in zip(rows, pending.events, strict=True)
        if row is not None and (row[1], row[2]) == (event.topic, event.state)
    ]
    return tuple(positions) if len(positions) == len(rows) else None
