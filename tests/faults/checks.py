"""The invariants after every fault, once all work is done: no order lost, doubled or skipped."""

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any, Final, LiteralString
from uuid import UUID

import msgspec
import psycopg
from eventsourcing.persistence import StoredEvent

from pulse.domain import Event, OrderCreated, SlicesScheduled, SplittingFailed, TimedOut
from pulse.eventstore import EventMapper
from pulse.testing import ScheduleBroken, check_schedule
from tests.faults.ledger import Known
from tests.faults.reader import LogReader
from tests.support.processes import ROOT, environment, url_of

Stream = list[tuple[int, Event]]
"""One order's events with their versions."""

_LOG: Final = """
SELECT originator_id, originator_version, topic, state
  FROM stored_events WHERE topic LIKE 'pulse.%' ORDER BY originator_id, originator_version"""
_POSITIONS: Final = """
SELECT notification_id, originator_id, originator_version
  FROM stored_events ORDER BY notification_id"""
_READ_MODEL: Final = ("order_queue", "scheduled_slices", "pending_orders")
_MAX_EXAMPLES: Final = 5


class Verdict(msgspec.Struct):
    """The result of the checks. `broken` describes each violation, with the first few examples."""

    orders: int = 0
    accepted: int = 0
    unknown: int = 0
    lost: int = 0
    doubled: int = 0
    skipped: int = 0
    failed: dict[str, int] = {}
    broken: list[str] = []


async def until_quiet(conninfo: str, *, seconds: float = 120.0) -> int:
    """Wait until every order has a projected outcome and no claim is left; the end of the log.

    Raises:
        TimeoutError: work was left; the message says how much.
    """
    left: Any = None
    try:
        async with asyncio.timeout(seconds):
            while True:
                try:
                    left = await _work_left(conninfo)
                    if not any(left[1:]):
                        return int(left[0])
                except psycopg.OperationalError as error:
                    left = error
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise TimeoutError(
            f"work left after {seconds:g} s: (end, behind, pending, claims) = {left}"
        ) from None


async def _work_left(conninfo: str) -> tuple[int, int, int, int]:
    async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as connection:
        cursor = await connection.execute(
            """SELECT l.position, l.position - t.notification_id,
                      (SELECT count(*) FROM pending_orders p WHERE NOT EXISTS (
                           SELECT FROM parked_orders k WHERE k.order_id = p.order_id)),
                      (SELECT count(*) FROM order_claims WHERE claimed_by IS NOT NULL)
                 FROM notification_tracking t,
                      (SELECT coalesce(max(notification_id), 0) AS position FROM stored_events) l
                WHERE t.application_name = 'order_queue'"""
        )
        row = await cursor.fetchone()
        return row or (0, 0, 0, 0)


async def check_all(
    conninfo: str,
    ledger: Mapping[tuple[str, str], Known],
    readers: Sequence[LogReader] = (),
    *,
    may_fail: Iterable[str] = (),
    rebuild: bool = True,
) -> Verdict:
    """Compare ledger, log, read model and readers. Call it after `until_quiet`.

    `may_fail`: the failure reasons that the case allows. Any other FAILED order is a violation.
    """
    verdict = Verdict(orders=len(ledger))
    await _check_log(conninfo, ledger, verdict, frozenset(may_fail))
    for number, reader in enumerate(readers, 1):
        await _check_reader(conninfo, number, reader, verdict)
    if rebuild:
        await _check_rebuilt(conninfo, verdict)
    return verdict


async def _check_log(
    conninfo: str,
    ledger: Mapping[tuple[str, str], Known],
    verdict: Verdict,
    may_fail: frozenset[str],
) -> None:
    """Reads one stream at a time, because the log of an hour does not fit into memory."""
    by_id = {known.order_id: known for known in ledger.values()}
    seen: set[tuple[str, str]] = set()
    found = _Violations()
    async for order_id, stream in _streams(conninfo):
        events = [event for _, event in stream]
        _check_stream(order_id, stream, found)
        for event in events:
            if isinstance(event, OrderCreated):
                name = event.key_scope, event.order_unique_key
                if name in seen:
                    found.doubled.add(event.order_unique_key)
                seen.add(name)
                known = by_id.get(order_id) or ledger.get(name)
                if known is not None and not _same(event, known):
                    found.mismatches.add(f"{known.key} is stored with other data")
    for known in ledger.values():
        verdict.accepted += known.accepted_as is not None
        verdict.unknown += known.accepted_as is None
        if known.accepted_as is not None and (known.scope, known.key) not in seen:
            found.lost.add(known.key)
        if known.accepted_as is not None and known.accepted_as != known.order_id:
            found.mismatches.add(f"{known.key} was answered with another id")
    verdict.lost = found.lost.count
    verdict.doubled = found.doubled.count + found.outcomes.count
    verdict.failed = dict(found.failed)
    _report(verdict, "orders accepted but not stored", found.lost)
    _report(verdict, "orders stored twice", found.doubled)
    _report(verdict, "orders answered or stored wrongly", found.mismatches)
    _report(verdict, "streams with gaps", found.gaps)
    _report(verdict, "streams without one creation and at most one outcome", found.outcomes)
    _report(verdict, "schedules that break a rule", found.schedules)
    _report(verdict, "orders FAILED", _Examples.of(
        f"{reason} ({count})" for reason, count in found.failed.items() if reason not in may_fail
    ))  # fmt: skip


async def _rows(conninfo: str, statement: LiteralString) -> AsyncIterator[tuple[Any, ...]]:
    """The rows of a statement, fetched 5,000 at a time."""
    async with (
        await psycopg.AsyncConnection.connect(conninfo) as connection,
        connection.cursor(name="faults", binary=True) as cursor,
    ):
        cursor.itersize = 5000
        await cursor.execute(statement)
        async for row in cursor:
            yield row


async def _streams(conninfo: str) -> AsyncIterator[tuple[UUID, Stream]]:
    mapper = EventMapper()
    current: UUID | None = None
    stream: Stream = []
    async for order_id, version, topic, state in _rows(conninfo, _LOG):
        if order_id != current:
            if current is not None:
                yield current, stream
            current, stream = order_id, []
        event: Any = mapper.to_domain_event(StoredEvent(order_id, version, topic, bytes(state)))
        stream.append((version, event))
    if current is not None:
        yield current, stream


def _same(event: OrderCreated, known: Known) -> bool:
    sent: dict[str, Any] = msgspec.json.decode(known.request)
    split = sent["split_config"]
    return event.originator_id == known.order_id and (
        event.instrument, event.side, event.total_quantity,
        event.num_splits, event.duration_minutes, event.randomize,
    ) == (
        sent["instrument"], sent["side"], sent["total_quantity"],
        split["num_splits"], split["duration_minutes"], split["randomize"],
    )  # fmt: skip


def _check_stream(order_id: UUID, stream: Stream, found: "_Violations") -> None:
    """Versions are 1..n; one OrderCreated, at most one outcome; each schedule keeps the rules."""
    if [version for version, _ in stream] != list(range(1, len(stream) + 1)):
        found.gaps.add(f"{order_id} {[version for version, _ in stream]}")
    events = [event for _, event in stream]
    kinds = [isinstance(event, OrderCreated) for event in events]
    if kinds.count(True) != 1 or kinds.count(False) > 1 or not kinds[0]:
        found.outcomes.add(f"{order_id} {[type(event).__name__ for event in events]}")
        return
    for event in events[1:]:
        if isinstance(event, SlicesScheduled):
            for broken in _broken_schedule(events[0], event):
                found.schedules.add(broken)
        elif isinstance(event, SplittingFailed):
            found.failed[event.reason] += 1
        elif isinstance(event, TimedOut):
            found.failed["TIMED_OUT"] += 1


def _broken_schedule(created: Event, scheduled: SlicesScheduled) -> list[str]:
    assert isinstance(created, OrderCreated)
    try:
        check_schedule(created, scheduled.slices)
    except ScheduleBroken as error:
        return [f"{created.originator_id}: {error}"]
    return []


async def _check_reader(conninfo: str, number: int, reader: LogReader, verdict: Verdict) -> None:
    """The reader saw every stored event once, in order."""
    missed, extra = _Examples(), _Examples()
    seen = iter(reader.seen)
    seen_event = next(seen, None)
    async for stored in _rows(conninfo, _POSITIONS):
        while seen_event is not None and seen_event[0] < stored[0]:
            extra.add(str(seen_event[0]))
            seen_event = next(seen, None)
        if seen_event is None or seen_event[0] > stored[0]:
            missed.add(str(stored[0]))
            continue
        if seen_event != stored:
            extra.add(str(seen_event[0]))
        seen_event = next(seen, None)
    while seen_event is not None:
        extra.add(str(seen_event[0]))
        seen_event = next(seen, None)
    verdict.skipped += missed.count
    _report(verdict, f"positions missed by reader {number}", missed)
    _report(verdict, f"positions seen by reader {number} but not in the log", extra)
    _report(verdict, f"wrong answers to reader {number}", _Examples.of(reader.wrong))


async def _check_rebuilt(conninfo: str, verdict: Verdict) -> None:
    """The live read model is equal to one rebuilt from the log."""
    async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as connection:
        for table in _READ_MODEL:
            await connection.execute(f"CREATE UNLOGGED TABLE live_{table} AS TABLE {table}")
        rebuilding = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "pulse.cli", "rebuild",
            cwd=ROOT,
            env=environment({"database_url": url_of(conninfo)}),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        output, _ = await rebuilding.communicate()
        if rebuilding.returncode != 0:
            verdict.broken.append(f"pulse rebuild: {output.decode(errors='replace')[-500:]}")
        for table in _READ_MODEL:
            cursor = await connection.execute(
                f"(TABLE live_{table} EXCEPT TABLE {table}) UNION ALL"
                f" (TABLE {table} EXCEPT TABLE live_{table})"
            )
            different = _Examples.of(str(row) for row in await cursor.fetchall())
            _report(verdict, "read model rows that differ after a rebuild", different)
            await connection.execute(f"DROP TABLE live_{table}")


class _Examples:
    """A count, with the first few examples."""

    def __init__(self) -> None:
        self.count = 0
        self.first: list[str] = []

    @classmethod
    def of(cls, names: Iterable[str]) -> "_Examples":
        found = cls()
        for name in names:
            found.add(name)
        return found

    def add(self, name: str) -> None:
        self.count += 1
        if len(self.first) < _MAX_EXAMPLES:
            self.first.append(name)


class _Violations:
    """The violations found in a log."""

    def __init__(self) -> None:
        self.lost, self.doubled, self.mismatches = _Examples(), _Examples(), _Examples()
        self.gaps, self.outcomes, self.schedules = _Examples(), _Examples(), _Examples()
        self.failed: Counter[str] = Counter()


def _report(verdict: Verdict, what: str, names: _Examples) -> None:
    if names.count:
        left = names.count - len(names.first)
        more = f" and {left} more" if left else ""
        verdict.broken.append(f"{names.count} {what}: {', '.join(names.first)}{more}")
