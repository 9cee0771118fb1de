"""The library's recorders over Pulse's appender: synchronous and thread-safe."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from eventsourcing.persistence import (
    AggregateRecorder,
    ApplicationRecorder,
    Notification,
    ProgrammingError,
    StoredEvent,
)

from pulse.eventstore.library.engine import Engine
from pulse.eventstore.library.rows import as_uuid, notification_of
from pulse.eventstore.library.subscription import FollowLimits, LogFollower, PulseSubscription
from pulse.eventstore.library.tables import Table, statement

_LEAST, _MOST = -(2**63), 2**63 - 1


class PulseAggregateRecorder(AggregateRecorder):
    """Streams in a table. Appends of several threads share commits; none is ever repeated.

    An error tells what became of the append: IntegrityError and ProgrammingError, nothing was
    written; OperationalError, nothing was or it is not known (its cause is AppendOutcomeUnknown).
    """

    def __init__(self, engine: Engine, table: Table) -> None:
        self.table = table
        self._engine = engine
        self._oldest_first = statement("select_events", stored_events=table)
        self._newest_first = statement("select_events_newest_first", stored_events=table)
        self._start()

    def _start(self) -> None:
        statements = self.table.append_statements.without_positions()
        self._writer = self._engine.writer(statements, channel=None)

    def insert_events(
        self,
        stored_events: Sequence[StoredEvent],
        **_: Any,  # noqa: ANN401 - the library's signature
    ) -> Sequence[int] | None:
        """Append these events, all or none; always None, as the library has it."""
        self._append(stored_events)
        return None

    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        """One stream between versions `gt` (exclusive) and `lte` (inclusive)."""
        rows = self._engine.read(
            self._newest_first if desc else self._oldest_first,
            (
                as_uuid(originator_id),
                _LEAST if gt is None else gt,
                _MOST if lte is None else lte,
                limit,
            ),
        )
        return [StoredEvent(*row) for row in rows]

    def _append(self, stored_events: Sequence[StoredEvent]) -> list[int]:
        for event in stored_events:
            as_uuid(event.originator_id)
        return list(self._engine.append(self._writer, stored_events))


class PulseApplicationRecorder(PulseAggregateRecorder, ApplicationRecorder):
    """A log: ids are in the order of commits, so who reads on from the last one misses nothing."""

    follow_limits = FollowLimits()

    def _start(self) -> None:
        table = self.table
        self._all_topics = statement("select_notifications", stored_events=table)
        self._some_topics = statement("select_notifications_of_topics", stored_events=table)
        self._max_id = statement("select_max_notification_id", stored_events=table)
        self._writer = self._engine.writer(table.append_statements, channel=table.channel)

    def insert_events(
        self,
        stored_events: Sequence[StoredEvent],
        **_: Any,  # noqa: ANN401 - the library's signature
    ) -> Sequence[int] | None:
        """Append these events, all or none, and return their ids in order; None for no events."""
        return self._append(stored_events) if stored_events else None

    def select_notifications(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> Sequence[Notification]:
        """At most `limit` events of the log from `start` to `stop` (inclusive), of these topics."""
        after = _LEAST if start is None else start - 1 if inclusive_of_start else start
        until = _MOST if stop is None else stop
        if topics:
            parameters = (after, until, _list_of_topics(topics), limit)
            rows = self._engine.read(self._some_topics, parameters)
        else:
            rows = self._engine.read(self._all_topics, (after, until, limit))
        return [notification_of(row) for row in rows]

    def max_notification_id(self) -> int | None:
        """The position of the log's last event; None while it is empty."""
        last: int | None = self._engine.read(self._max_id, ())[0][0]
        return last

    def subscribe(self, gt: int | None = None, topics: Sequence[str] = ()) -> PulseSubscription:
        """Every event after `gt` of these topics, those to come included; blocks at the end."""
        if topics:
            topics = _list_of_topics(topics)
        follower = LogFollower(self._engine.database, self.table, topics, self.follow_limits)
        return PulseSubscription(self, self._engine, follower, gt)


def _list_of_topics(topics: Sequence[str]) -> list[str]:
    if isinstance(topics, str):
        raise ProgrammingError(f"topics must be a sequence of strings: {topics!r}")
    return list(topics)
