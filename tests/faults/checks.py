"""What must be true after every fault and quiet: nothing lost, nothing doubled, nothing skipped."""

import asyncio
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import msgspec
import psycopg
from eventsourcing.persistence import StoredEvent

from pulse.domain import Event, OrderCreated, SlicesScheduled, SplittingFailed, TimedOut
from pulse.eventstore import EventMapper
from pulse.testing import ScheduleBroken, check_schedule
from tests.faults.ledger import Known
from tests.faults.reader import LogReader, Place
from tests.support.processes import ROOT, environment, url_of

Stored = dict[int, tuple[UUID, int, Event]]
"""The log: order, version and event by position."""

_LOG: Final = """
SELECT notification_id, originator_id, originator_version, topic, state
  FROM stored_events WHERE topic LIKE 'pulse.%' ORDER BY notification_id"""
_PLACES: Final = """
SELECT notification_id, originator_id::text, originator_version FROM stored_events"""
_READ_MODEL: Final = (
    "SELECT q::text FROM order_queue q ORDER BY order_id",
    "SELECT s::text FROM order_slices s ORDER BY order_id, sequence_number",
)
_MOST_NAMED: Final = 5


class Verdict(msgspec.Struct):
    """What the checks found; `broken` names each broken promise, the first few by name."""

    orders: int = 0
    accepted: int = 0
    unknown: int = 0
    lost: int = 0
    doubled: int = 0
    skipped: int = 0
    failed: dict[str, int] = {}
    broken: list[str] = []


async def until_quiet(conninfo: str, *, seconds: float = 120.0) -> int:
    """Wait until every order has its outcome, projected, and no claim is left; the log's end.

    Raises:
        TimeoutError: it never came; the message says what was left.
    """
    left: Any = None
    try:
        async with asyncio.timeout(seconds):
            while True:
                try:
                    left = await _left_to_do(conninfo)
                    if not any(left[1:]):
                        return int(left[0])
                except psycopg.OperationalError as error:
                    left = error
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise TimeoutError(
            f"not quiet after {seconds:g} s: (end, behind, pending, claims) = {left}"
        ) from None


async def _left_to_do(conninfo: str) -> tuple[int, int, int, int]:
    async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as connection:
        cursor = await connection.execute(
            """SELECT l.position, l.position - t.notification_id,
                      (SELECT count(*) FROM order_queue q WHERE state = 'PENDING' AND NOT EXISTS (
                           SELECT FROM parked_orders p WHERE p.order_id = q.order_id)),
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
    """Hold ledger, log, read model and readers against each other, after `until_quiet`.

    `may_fail` are the reasons for which an order may be FAILED here; any other is a broken promise.
    """
    log = await _read_log(conninfo)
    verdict = Verdict(orders=len(ledger))
    _check_ledger(ledger, log, verdict)
    _check_streams(log, verdict, frozenset(may_fail))
    _check_readers(readers, await _read_places(conninfo), verdict)
    if rebuild:
        await _check_rebuilt(conninfo, verdict)
    return verdict


async def _read_log(conninfo: str) -> Stored:
    mapper = EventMapper()
    async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as connection:
        cursor = connection.cursor(binary=True)
        rows = await (await cursor.execute(_LOG)).fetchall()
    log: Stored = {}
    for position, order_id, version, topic, state in rows:
        event: Any = mapper.to_domain_event(StoredEvent(order_id, version, topic, bytes(state)))
        log[position] = (order_id, version, event)
    return log


async def _read_places(conninfo: str) -> dict[int, Place]:
    """Where every event stands, foreign ones too."""
    async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as connection:
        rows = await (await connection.execute(_PLACES)).fetchall()
    return {position: (order_id, version) for position, order_id, version in rows}


def _check_ledger(ledger: Mapping[tuple[str, str], Known], log: Stored, verdict: Verdict) -> None:
    """Every accepted order is stored as it was sent; every unknown one 0 or 1 times."""
    created = [event for _, _, event in log.values() if isinstance(event, OrderCreated)]
    by_key: dict[tuple[str, str], list[OrderCreated]] = defaultdict(list)
    for event in created:
        by_key[event.key_scope, event.order_unique_key].append(event)
    lost, false = [], []
    for name, known in ledger.items():
        stored = by_key.get(name, [])
        verdict.accepted += known.accepted_as is not None
        verdict.unknown += known.accepted_as is None
        if known.accepted_as is not None and not stored:
            lost.append(known.key)
        if known.accepted_as is not None and known.accepted_as != known.order_id:
            false.append(f"{known.key} was answered with another id")
        false += [f"{known.key} is stored otherwise" for event in stored if not _same(event, known)]
    doubled = [key for (_, key), events in by_key.items() if len(events) > 1]
    verdict.lost, verdict.doubled = len(lost), verdict.doubled + len(doubled)
    _tell(verdict, "accepted and not stored", lost)
    _tell(verdict, "stored twice", doubled)
    _tell(verdict, "answered or stored falsely", false)


def _same(event: OrderCreated, known: Known) -> bool:
    sent = known.request
    split = sent["split_config"]
    return event.originator_id == known.order_id and (
        event.instrument, event.side, event.total_quantity,
        event.num_splits, event.duration_minutes, event.randomize,
    ) == (
        sent["instrument"], sent["side"], sent["total_quantity"],
        split["num_splits"], split["duration_minutes"], split["randomize"],
    )  # fmt: skip


def _check_streams(log: Stored, verdict: Verdict, may_fail: frozenset[str]) -> None:
    """Versions 1..n; one OrderCreated, at most one outcome; every schedule keeps every rule."""
    streams: dict[UUID, list[tuple[int, Event]]] = defaultdict(list)
    for order_id, version, event in log.values():
        streams[order_id].append((version, event))
    gaps, outcomes, schedules = [], [], []
    failed: Counter[str] = Counter()
    for order_id, stream in streams.items():
        if [version for version, _ in stream] != list(range(1, len(stream) + 1)):
            gaps.append(f"{order_id} {[version for version, _ in stream]}")
        events = [event for _, event in stream]
        kinds = [isinstance(event, OrderCreated) for event in events]
        if kinds.count(True) != 1 or kinds.count(False) > 1 or not kinds[0]:
            outcomes.append(f"{order_id} {[type(event).__name__ for event in events]}")
            continue
        for event in events[1:]:
            if isinstance(event, SlicesScheduled):
                schedules += _broken_schedule(events[0], event)
            elif isinstance(event, SplittingFailed):
                failed[event.reason] += 1
            elif isinstance(event, TimedOut):
                failed["TIMED_OUT"] += 1
    verdict.failed = dict(failed)
    verdict.doubled += len(outcomes)
    _tell(verdict, "streams with gaps", gaps)
    _tell(verdict, "streams without one creation and at most one outcome", outcomes)
    _tell(verdict, "schedules that break a rule", schedules)
    _tell(verdict, "orders FAILED", [
        f"{reason} ({count})" for reason, count in failed.items() if reason not in may_fail
    ])  # fmt: skip


def _broken_schedule(created: Event, scheduled: SlicesScheduled) -> list[str]:
    assert isinstance(created, OrderCreated)
    try:
        check_schedule(created, scheduled.slices)
    except ScheduleBroken as error:
        return [f"{created.originator_id}: {error}"]
    return []


def _check_readers(
    readers: Sequence[LogReader], stored: Mapping[int, Place], verdict: Verdict
) -> None:
    """Every reader saw every event once, in order."""
    for number, reader in enumerate(readers, 1):
        missed = [str(position) for position in stored if position not in reader.seen]
        invented = [str(at) for at, place in reader.seen.items() if stored.get(at) != place]
        verdict.skipped += len(missed)
        _tell(verdict, f"positions that reader {number} did not see", missed)
        _tell(verdict, f"positions that reader {number} saw and the log has not", invented)
        _tell(verdict, f"wrong answers to reader {number}", reader.wrong)


async def _check_rebuilt(conninfo: str, verdict: Verdict) -> None:
    """The live read model is what the log alone makes of it."""
    live = await _read_model(conninfo)
    rebuilding = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pulse.cli", "rebuild",
        cwd=ROOT,
        env=environment({"database_url": url_of(conninfo)}),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await rebuilding.communicate()
    if rebuilding.returncode != 0:
        verdict.broken.append(f"pulse rebuild: {said.decode(errors='replace')[-500:]}")
        return
    rebuilt = await _read_model(conninfo)
    _tell(verdict, "rows of the live view that a rebuild makes otherwise", sorted(live ^ rebuilt))


async def _read_model(conninfo: str) -> set[str]:
    found: set[str] = set()
    async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as connection:
        for statement in _READ_MODEL:
            rows = await (await connection.execute(statement)).fetchall()
            found.update(row[0] for row in rows)
    return found


def _tell(verdict: Verdict, what: str, names: Sequence[str]) -> None:
    if names:
        more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
        verdict.broken.append(f"{len(names)} {what}: {', '.join(names[:_MOST_NAMED])}{more}")
