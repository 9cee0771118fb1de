"""Verification: checks the whole log, the seal, and the order queue. It changes nothing.

It reads the log in windows. A window has the streams that begin in it, and the rows of their orders
in the queue, all from one snapshot: so orders may be placed and projected meanwhile.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import ClassVar, Final
from uuid import UUID

import msgspec
import psycopg
from psycopg import IsolationLevel

from pulse.domain import fold
from pulse.errors import PulseError
from pulse.eventstore import (
    AFTER_LOG,
    BEFORE_LOG,
    EventMapper,
    EventTooNew,
    RecordedEvent,
    read_log_state,
    read_window_end,
    select_streams,
    select_streams_begun,
)
from pulse.evidence.findings import Finding
from pulse.evidence.order_checks import CheckedStream, check_stream
from pulse.evidence.seal_checks import CheckedSeal, Trust, check_seal
from pulse.postgres import Connection, Database, DatabaseUnavailable, describe
from pulse.projections.comparison import (
    QueueRows,
    no_queue_rows,
    read_last_created,
    read_queue_rows,
)
from pulse.projections.history_comparison import HistoryComparison
from pulse.projections.parking import ParkedOrder, read_parked
from pulse.projections.position import read_position

_STREAMS_BETWEEN_YIELDS: Final = 20
"""After this many streams other tasks run, so that no transaction is idle for too long."""


class Verified(msgspec.Struct, frozen=True):
    """A verified part of the log, which ends at `position`; the whole log ends at `end`.

    `slices` counts those of schedules that were derived again.
    """

    position: int
    end: int
    events: int
    orders: int
    schedules: int
    slices: int
    findings: tuple[Finding, ...]


class NoSuchOrder(PulseError):
    """No order of the log has this id."""


class _Snapshot(msgspec.Struct, frozen=True):
    """What one transaction read: whole streams, and the queue as of the position `projected`.

    `findings` are those about the history of the queue.
    """

    until: int
    projected: int
    streams: Mapping[UUID, list[RecordedEvent]]
    rows: QueueRows
    parked: frozenset[UUID]
    findings: tuple[Finding, ...] = ()


class Verification:
    """Checks the events after the position `since`, and the orders that they belong to.

    Without `with_queue` it checks the log alone.
    """

    window_events: ClassVar[int] = 2_000

    def __init__(
        self,
        database: Database,
        mapper: EventMapper,
        *,
        since: int = BEFORE_LOG,
        with_queue: bool = True,
    ) -> None:
        self._database = database
        self._mapper = mapper
        self._since = since
        self._with_queue = with_queue
        self._history: HistoryComparison

    async def whole_log(self) -> AsyncGenerator[Verified, None]:
        """Verify up to the log's end at the time of the call, one window after the other.

        With the queue, the last part has the findings about the position of the projection and
        parked orders.

        Raises:
            DatabaseUnavailable: log or queue cannot be read.
        """
        self._history = HistoryComparison(self._mapper, since=self._since)
        async with self._connection() as connection:
            end = await self._end(connection)
            async with aclosing(self._snapshots(connection, end)) as snapshots:
                async for snapshot in snapshots:
                    yield await self._verified(snapshot, end)
            if self._with_queue:
                findings = tuple(await _findings_of_tables(connection, self._history))
                yield Verified(end, end, 0, 0, 0, 0, findings)

    async def seal(self, trust: Trust) -> AsyncGenerator[CheckedSeal, None]:
        """Check the tree of the seal, and compare the log with it.

        Raises:
            DatabaseUnavailable: log or seal cannot be read.
        """
        async with self._connection() as connection:
            async for part in check_seal(connection, trust, since=self._since):
                yield part

    async def orders(self, order_ids: Sequence[UUID]) -> AsyncIterator[Verified]:
        """Verify some orders.

        Raises:
            NoSuchOrder: the log has no event of one of them.
            DatabaseUnavailable: log or queue cannot be read.
        """
        async with self._connection() as connection:
            end = await self._end(connection)
            for order_id in order_ids:
                async with connection.transaction():
                    records = await select_streams(connection, [order_id], position=AFTER_LOG)
                    if not records:
                        raise NoSuchOrder(f"no order has the id {order_id}")
                    snapshot = await self._snapshot(connection, records, after=0, until=0)
                    parked = [p for p in await read_parked(connection) if p.order_id == order_id]
                verified = await self._verified(snapshot, end)
                findings = verified.findings + tuple(map(_parked_finding, parked))
                yield msgspec.structs.replace(verified, findings=findings)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        """A connection whose transactions each read one snapshot, without a statement timeout."""
        try:
            async with await self._database.connect("verify") as connection:
                await connection.execute("SET statement_timeout = 0")
                await connection.set_isolation_level(IsolationLevel.REPEATABLE_READ)
                await connection.set_read_only(True)
                yield connection
        except psycopg.Error as error:
            raise DatabaseUnavailable(describe(error)) from error

    async def _end(self, connection: Connection) -> int:
        return (await read_log_state(connection)).end

    async def _snapshots(self, connection: Connection, end: int) -> AsyncGenerator[_Snapshot, None]:
        """Yield the windows up to `end`, reading one window ahead."""
        reading = asyncio.ensure_future(self._read(connection, self._since, end))
        try:
            while True:
                snapshot = await reading
                if snapshot.until < end:
                    reading = asyncio.ensure_future(self._read(connection, snapshot.until, end))
                yield snapshot
                if snapshot.until >= end:
                    return
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _read(self, connection: Connection, after: int, end: int) -> _Snapshot:
        async with connection.transaction():
            last = await read_window_end(connection, after=after, events=self.window_events)
            until = end if last is None else min(last, end)
            records = await select_streams_begun(
                connection, after=after, until=until, position=AFTER_LOG, since=self._since
            )
            snapshot = await self._snapshot(connection, records, after=after, until=until)
            findings = await self._history_findings(connection, until) if self._with_queue else ()
            return msgspec.structs.replace(snapshot, findings=findings)

    async def _history_findings(self, connection: Connection, until: int) -> tuple[Finding, ...]:
        try:
            differences = await self._history.differences(connection, until)
        except EventTooNew:
            return ()  # the check of its stream names the event
        return tuple(Finding("HISTORY", difference) for difference in differences)

    async def _snapshot(
        self, connection: Connection, records: Iterable[RecordedEvent], *, after: int, until: int
    ) -> _Snapshot:
        streams: dict[UUID, list[RecordedEvent]] = defaultdict(list)
        for record in records:
            streams[record.originator_id].append(record)
        if not self._with_queue:
            return _Snapshot(until, BEFORE_LOG, streams, no_queue_rows(), frozenset())
        return _Snapshot(
            until=until,
            projected=await read_position(connection),
            streams=streams,
            rows=await read_queue_rows(connection, list(streams), after=after, until=until),
            parked=frozenset(order.order_id for order in await read_parked(connection)),
        )

    async def _verified(self, snapshot: _Snapshot, end: int) -> Verified:
        findings = list(snapshot.findings)
        orders = schedules = slices = events = 0
        for number, (stream_id, records) in enumerate(snapshot.streams.items(), 1):
            checked = check_stream(self._mapper, records)
            findings += checked.findings
            findings += _queue_findings(snapshot, stream_id, records, checked)
            events += len(records)
            orders += checked.order is not None
            schedules += checked.slices is not None
            slices += checked.slices or 0
            if number % _STREAMS_BETWEEN_YIELDS == 0:
                await asyncio.sleep(0)
        findings += [
            Finding(difference.part, difference.detail, position, order_id)
            for order_id, position, difference in snapshot.rows.rest()
        ]
        return Verified(
            position=snapshot.until,
            end=end,
            events=events,
            orders=orders,
            schedules=schedules,
            slices=slices,
            findings=tuple(findings),
        )


def _queue_findings(
    snapshot: _Snapshot, stream_id: UUID, records: Sequence[RecordedEvent], checked: CheckedStream
) -> list[Finding]:
    """How the order's rows differ from the log, as far as it was projected."""
    created = min(records, key=lambda record: record.originator_version)
    applied = tuple(placed for placed in checked.events if placed[0] <= snapshot.projected)
    order = checked.order
    if order is not None and len(applied) < len(checked.events):
        is_prefix = applied == checked.events[: len(applied)]
        order = fold(event for _, event in applied) if is_prefix else None
    if order is None or stream_id in snapshot.parked:
        snapshot.rows.drop(stream_id, created.position)
        return []
    return [
        Finding(difference.part, difference.detail, created.position, stream_id)
        for difference in snapshot.rows.differences(order, applied, created.recorded_at)
    ]


async def _findings_of_tables(connection: Connection, history: HistoryComparison) -> list[Finding]:
    """Findings about rows beyond the log's end, about the position, and about parked orders."""
    async with connection.transaction():
        log = await read_log_state(connection)
        projected = await read_position(connection)
        last_created = await read_last_created(connection)
        parked = await read_parked(connection)
        beyond = await read_queue_rows(connection, [], after=max(log.end, 0), until=AFTER_LOG)
        ahead = await history.differences_ahead(connection)
    findings = [
        Finding(difference.part, difference.detail, position, order_id)
        for order_id, position, difference in beyond.rest()
    ]
    findings += [Finding("HISTORY", difference) for difference in ahead]
    if projected > log.end:
        findings.append(
            _position_finding(
                f"the projection is at position {projected}, the log ends at {log.end}"
            )
        )
    if log.first_beyond is not None:
        detail = f"has an event with id {log.first_beyond}, which its sequence has not issued"
        findings.append(Finding("VERSIONS", f"stored_events {detail}", log.first_beyond))
    if last_created > projected:
        findings.append(
            _position_finding(
                f"the projection is at position {projected}, but order_queue has an order created "
                f"at {last_created}"
            )
        )
    return findings + [_parked_finding(order) for order in parked]


def _position_finding(detail: str) -> Finding:
    return Finding("POSITION", f"notification_tracking: {detail}")


def _parked_finding(order: ParkedOrder) -> Finding:
    return Finding("PARKED", order.reason, order.position, order.order_id)
