"""The event store: append to the log, read a stream, read the log."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, LiteralString
from uuid import UUID

import msgspec
from eventsourcing.persistence import StoredEvent

from pulse.domain import HALTS_STREAM_ID, Event, Trace, TraceContext
from pulse.errors import PulseError
from pulse.eventstore.append_spans import AppendSpans
from pulse.eventstore.appender import Appender, AppendLimits
from pulse.eventstore.batch import AppendResult
from pulse.eventstore.log_fork import SELECT_IDENTITY
from pulse.eventstore.mapper import EventMapper
from pulse.eventstore.records import AFTER_LOG, BEFORE_LOG, RecordedEvent
from pulse.postgres import BatchLoader, Connection, Database, load_sql

if TYPE_CHECKING:
    from pulse.spans import Spans

LOG_CHANNEL = "stored_events"
"""The notification channel for appends. The library uses it too, so its subscriptions wake up."""

MAX_SCANNED: Final = 10_000
"""The maximum number of events that a page scans if it is limited to some topics."""

_SELECT_STREAMS = load_sql(__package__, "select_streams")
_SELECT_FIRST_EVENTS = load_sql(__package__, "select_first_events")
_SELECT_STREAM_AFTER = load_sql(__package__, "select_stream_after")
_SELECT_ISSUED_LOG = load_sql(__package__, "select_issued_log")
_SELECT_LOG_PAGE = load_sql(__package__, "select_log_page")
_SELECT_LOG_OF_TOPIC = load_sql(__package__, "select_log_of_topic")
_SELECT_LOG_BEFORE = load_sql(__package__, "select_log_before")
_SELECT_BEGUN_BEFORE = load_sql(__package__, "select_begun_before")
_SELECT_LOG_BETWEEN = load_sql(__package__, "select_log_between")
_SELECT_STREAMS_OUTSIDE = load_sql(__package__, "select_streams_outside")
_SELECT_POSITIONS_AT = load_sql(__package__, "select_positions_at")
_SELECT_END = load_sql(__package__, "select_end")
_SELECT_WINDOW_END = load_sql(__package__, "select_window_end")
_POSITION = attrgetter("position")


class PositionBeyondLog(PulseError):
    """The log ends before this position: it is of another log, or never existed."""

    def __init__(self, after: int, end: int) -> None:
        self.after = after
        self.end = end
        super().__init__(f"position {after} is beyond the log's end, which is {end}")


class _Traced(msgspec.Struct, frozen=True):
    """The field of an event that this code reads, even of events of newer code."""

    trace: Trace


_traced = msgspec.json.Decoder(_Traced)


class LogPage(msgspec.Struct, frozen=True):
    """A page of the log; `next_after` is the last position scanned, the `after` of the next page.

    `log_id` identifies the log. `pulse log fork` changes it, after a restore to an earlier point:
    positions of another log mean nothing in this one.
    """

    log_id: UUID
    records: tuple[RecordedEvent, ...]
    next_after: int


class LogPageBefore(msgspec.Struct, frozen=True):
    """A page of the log, newest first; `next_before` is the `before` of the next page.

    None means that the log has no earlier events.
    """

    log_id: UUID
    records: tuple[RecordedEvent, ...]
    next_before: int | None


class EventStore:
    """The log. Appends go through the process's appender, reads through its connection pool.

    `require_standby` is that of the appender.
    """

    def __init__(
        self,
        database: Database,
        *,
        on_commit: Callable[[], None],
        limits: AppendLimits | None = None,
        spans: "Spans | None" = None,
        require_standby: bool = False,
    ) -> None:
        self.mapper = EventMapper()
        self._spans = spans
        self.appender = Appender(
            lambda: database.connect("appender"),
            on_commit=on_commit,
            guard_stream=HALTS_STREAM_ID,
            limits=limits,
            spans=spans,
            require_standby=require_standby,
        )
        self._database = database
        self._streams = BatchLoader(self.read_streams)

    async def append(self, event: Event) -> int:
        """Append one event and return its position; errors as `Appender.append`."""
        if self._spans is not None:
            return await self._append_traced(event, self._spans)
        (position,) = await self.append_stored((self.mapper.to_stored_event(event),))
        return position

    async def _append_traced(self, event: Event, spans: "Spans") -> int:
        stored = self.mapper.to_stored_event(event)
        appending = AppendSpans(spans, [event])
        result: AppendResult | None = None
        try:
            result = await self.appender.append((stored,), *appending.of_events)
        except Exception as error:
            result = error
            raise
        finally:
            appending.end([result])
        return result[0]

    async def append_stored(self, events: Sequence[StoredEvent]) -> tuple[int, ...]:
        """Append stored events, all or none, and return their positions."""
        return await self.appender.append(events)

    async def append_each(self, events: Sequence[Event]) -> list[AppendResult]:
        """Append events of different streams; see `Appender.append_each`."""
        stored = [self.mapper.to_stored_event(event) for event in events]
        if self._spans is None:
            return await self.appender.append_each(stored)
        appending = AppendSpans(self._spans, events)
        results: Sequence[AppendResult | None] = [None] * len(events)
        try:
            results = appended = await self.appender.append_each(stored, spans=appending.of_events)
        finally:
            appending.end(results)
        return appended

    async def confirm(self, event: RecordedEvent) -> None:
        """Return once the replicas have an event that was read; see `Appender.confirm`."""
        stored = StoredEvent(
            event.originator_id, event.originator_version, event.topic, event.state
        )
        await self.appender.confirm(stored)

    async def read_stream(self, originator_id: UUID) -> list[RecordedEvent]:
        """Read a stream, oldest event first; empty if it does not exist.

        Concurrent calls share a query.
        """
        return list(await self._streams.get(originator_id) or ())

    async def read_trace_contexts(self, originator_ids: Sequence[UUID]) -> dict[UUID, TraceContext]:
        """The W3C trace contexts in which streams began; those without one are left out."""
        rows = await self._read(_SELECT_FIRST_EVENTS, (list(originator_ids),))
        contexts: dict[UUID, TraceContext] = {}
        for originator_id, state in rows:
            with contextlib.suppress(msgspec.MsgspecError):
                context = _traced.decode(state).trace.context
                if context is not None:
                    contexts[originator_id] = context
        return contexts

    async def read_stream_after(self, originator_id: UUID, version: int) -> list[RecordedEvent]:
        """Read the events of a stream after a version, oldest first."""
        rows = await self._read(_SELECT_STREAM_AFTER, (originator_id, version))
        return [RecordedEvent.from_row(row) for row in rows]

    async def read_streams(
        self, originator_ids: Sequence[UUID]
    ) -> dict[UUID, tuple[RecordedEvent, ...]]:
        """Read several streams, each oldest event first; streams that do not exist are left out."""
        rows = await self._read(_SELECT_STREAMS, (list(originator_ids),))
        by_stream = groupby(map(RecordedEvent.from_row, rows), key=attrgetter("originator_id"))
        return {originator_id: tuple(stream) for originator_id, stream in by_stream}

    async def positions_at(self, times: Sequence[datetime]) -> list[int]:
        """For each time, the first position whose event was recorded at or after it.

        If there is no such event, it is one more than the last position. The search assumes that
        recorded times ascend with the positions, as they do unless the database's clock is set
        back.

        Raises:
            DatabaseUnavailable: the log cannot be read.
        """
        rows = await self._read(_SELECT_POSITIONS_AT, {"times": list(times)})
        return [row[0] for row in rows]

    async def read_log_page(
        self, *, after: int, limit: int, topic: str | None = None, max_scanned: int = MAX_SCANNED
    ) -> LogPage:
        """Read up to `limit` events after a position (exclusive), of one topic or of all topics.

        With a topic, at most `max_scanned` events are scanned, so an empty page may not be the
        last one. A reader that continues from `next_after` misses no event.

        Raises:
            PositionBeyondLog: the log ends before the position.
            DatabaseUnavailable: the log cannot be read.
        """
        parameters: dict[str, Any] = {"after": after, "limit": limit}
        if topic is None:
            rows = await self._read(_SELECT_LOG_PAGE, parameters)
            scanned_to, found = after, [row[1:] for row in rows]
        else:
            parameters |= {"topic": topic, "max_scanned": max_scanned}
            rows = await self._read(_SELECT_LOG_OF_TOPIC, parameters)
            scanned_to, found = rows[0][1] or after, [row[2:] for row in rows]
        log_id: UUID = rows[0][0]
        records = [RecordedEvent.from_row(row) for row in found if row[0] is not None]
        if records and (topic is None or len(records) == limit):
            scanned_to = records[-1].position
        if scanned_to == after and after > (end := await self.end()):
            raise PositionBeyondLog(after, end)
        return LogPage(log_id, tuple(records), scanned_to)

    async def read_log_before(
        self,
        *,
        before: int = AFTER_LOG,
        limit: int,
        topics: Sequence[str] | None = None,
        max_scanned: int = MAX_SCANNED,
    ) -> LogPageBefore:
        """Read up to `limit` events before a position, newest first, of these topics or of all.

        With topics, at most `max_scanned` events are scanned, so an empty page may not be the last
        one.

        Raises:
            DatabaseUnavailable: the log cannot be read.
        """
        scanned = limit if topics is None else max_scanned
        parameters = {
            "before": before,
            "limit": limit,
            "topics": None if topics is None else list(topics),
            "max_scanned": scanned,
        }
        rows = await self._read(_SELECT_LOG_BEFORE, parameters)
        log_id, events, first_position = rows[0][:3]
        records = tuple(RecordedEvent.from_row(row[3:]) for row in rows if row[3] is not None)
        next_before = first_position if events == scanned else None
        if len(records) == limit and records[-1].position > first_position:
            next_before = records[-1].position
        return LogPageBefore(log_id, records, next_before)

    async def log_id(self) -> UUID:
        """The identity of the log.

        Raises:
            DatabaseUnavailable: it cannot be read.
        """
        ((log_id, _),) = await self._read(SELECT_IDENTITY, ())
        identity: UUID = log_id
        return identity

    async def end(self) -> int:
        """The position of the last event; 0 for an empty log."""
        ((end,),) = await self._read(_SELECT_END, ())
        return int(end)

    async def _read(
        self, statement: LiteralString, parameters: Sequence[Any] | Mapping[str, Any]
    ) -> list[tuple[Any, ...]]:
        return await self._database.read(
            lambda connection: _fetch(connection, statement, parameters)
        )


async def select_issued_log(
    connection: Connection, *, after: int, limit: int
) -> list[RecordedEvent]:
    """Read the log after a position, up to the last id that its sequence has issued.

    It is for a reader that stores its position. Without this bound the reader would skip all later
    events after a row whose id is far ahead of the sequence.
    """
    return await _select_records(connection, _SELECT_ISSUED_LOG, (after, limit))


async def select_streams(
    connection: Connection, originator_ids: Sequence[UUID], *, position: int
) -> list[RecordedEvent]:
    """Read the events of some streams up to `position`, in commit order over all streams."""
    parameters = {
        "originator_ids": list(originator_ids),
        "after": position,
        "until": position,
        "position": position,
    }
    records = await _select_records(connection, _SELECT_STREAMS_OUTSIDE, parameters)
    return sorted(records, key=_POSITION)


async def select_log_between(
    connection: Connection, *, after: int, until: int
) -> list[RecordedEvent]:
    """Read the log between `after` (exclusive) and `until`, in commit order."""
    return await _select_records(connection, _SELECT_LOG_BETWEEN, (after, until))


async def select_streams_begun(
    connection: Connection, *, after: int, until: int, position: int, since: int = BEFORE_LOG
) -> list[RecordedEvent]:
    """Read the streams that begin between `after` (exclusive) and `until`, each up to `position`.

    With `since`, a stream is included if its first event after `since` is between them; it is read
    from its beginning. The events are in commit order over all streams.
    """
    within = await select_log_between(connection, after=after, until=min(until, position))
    begun = await _begun_within(connection, within, since)
    parameters = {
        "originator_ids": list(begun),
        "after": after,
        "until": until,
        "position": position,
    }
    outside = await _select_records(connection, _SELECT_STREAMS_OUTSIDE, parameters)
    records = [record for record in within if record.originator_id in begun]
    return sorted([*records, *outside], key=_POSITION) if outside else records


async def read_window_end(connection: Connection, *, after: int, events: int) -> int | None:
    """The position of the last of the first `events` events after a position; None if none."""
    rows = await _fetch(connection, _SELECT_WINDOW_END, {"after": after, "rows": events})
    return None if rows[0][0] is None else int(rows[0][0])


async def _begun_within(
    connection: Connection, records: list[RecordedEvent], since: int
) -> set[UUID]:
    """The streams of these events that have no event of a lower version after `since`.

    Only streams whose lowest version here is above 1 need an index lookup.
    """
    versions: dict[UUID, int] = {}
    for record in records:
        version = record.originator_version
        versions[record.originator_id] = min(versions.get(record.originator_id, version), version)
    later = {stream: version for stream, version in versions.items() if version > 1}
    if not later:
        return set(versions)
    parameters = {
        "originator_ids": list(later),
        "versions": list(later.values()),
        "since": since,
    }
    rows = await _fetch(connection, _SELECT_BEGUN_BEFORE, parameters)
    return versions.keys() - {row[0] for row in rows}


async def _select_records(
    connection: Connection,
    statement: LiteralString,
    parameters: Sequence[Any] | Mapping[str, Any],
) -> list[RecordedEvent]:
    """Read rows of `recorded_events()` as records."""
    return list(map(RecordedEvent.from_row, await _fetch(connection, statement, parameters)))


async def _fetch(
    connection: Connection,
    statement: LiteralString,
    parameters: Sequence[Any] | Mapping[str, Any],
) -> list[tuple[Any, ...]]:
    cursor = connection.cursor(binary=True)
    await cursor.execute(statement, parameters)
    return await cursor.fetchall()
