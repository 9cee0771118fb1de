"""The invariants after every fault, once all work is done: no order lost, doubled or skipped."""

import asyncio
import secrets
import sys
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Container, Iterable, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, LiteralString
from uuid import UUID

import msgspec
import psycopg
from eventsourcing.persistence import StoredEvent

from pulse.domain import (
    HALTS_STREAM_ID,
    Order,
    OrderCancelled,
    OrderCreated,
    SlicesExpired,
    SlicesReleased,
    SlicesScheduled,
    SplittingFailed,
    TimedOut,
)
from pulse.eventstore import EventMapper
from pulse.evidence.key_file import create_key_file
from pulse.evidence.note import SigningKey
from pulse.testing import ScheduleBroken, check_schedule
from tests.faults.ledger import Known
from tests.faults.reader import LogReader
from tests.faults.settled_slices import VIEW_ROWS, Examples, SettledSlices, Stored, view_row
from tests.support.processes import ROOT, environment, url_of

_LOG: Final = f"""
SELECT originator_id, originator_version, topic, state, notification_id, recorded_at
  FROM stored_events
 WHERE topic LIKE 'pulse.%' AND originator_id <> '{HALTS_STREAM_ID}'
 ORDER BY originator_id, originator_version"""
_POSITIONS: Final = """
SELECT notification_id, originator_id, originator_version
  FROM stored_events ORDER BY notification_id"""
_END: Final = "SELECT coalesce(max(notification_id), 0) FROM stored_events"
_PROJECTED: Final = """
SELECT notification_id FROM notification_tracking WHERE application_name = 'order_queue'"""
_WORK_LEFT: Final = f"""
SELECT ({_END}),
       (SELECT count(*) FROM stored_events
         WHERE notification_id > ({_PROJECTED}) AND originator_version <= 2),
       (SELECT count(*) FROM pending_orders p WHERE NOT EXISTS (
            SELECT FROM parked_orders k WHERE k.order_id = p.order_id)),
       (SELECT count(*) FROM order_claims WHERE claimed_by IS NOT NULL)"""
"""An event of version 1 creates an order; one of version 2 is its outcome."""
_PROJECTION_LEFT: Final = f"SELECT ({_END}), ({_END}) - ({_PROJECTED})"
_DUE_LEFT: Final = f"""
SELECT ({_END}),
       (SELECT count(*) FROM stored_events
         WHERE notification_id > ({_PROJECTED}) AND recorded_at <= %(due_by)s),
       (SELECT count(*) FROM due_orders WHERE due_at <= %(due_by)s)"""
_UNSEALED: Final = """
SELECT (SELECT count(*) FROM stored_events),
       (SELECT count(*) FROM stored_events) - checkpoint_size FROM seal_state"""
_SEAL_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.05
_READ_MODEL: Final = ("order_queue", "scheduled_slices", "pending_orders", "due_orders")
_OF_RELEASERS: Final = (SlicesReleased, SlicesExpired)


class SealFiles(msgspec.Struct, frozen=True):
    """The settings with which the processes of a deployment seal its log."""

    seal_key: Path
    anchor_file: Path

    @classmethod
    def of(cls, home: Path) -> "SealFiles":
        """Anchors in this directory, and a key next to it that restored copies of a log share."""
        key = home.parent / "seal.key"
        create_key_file(key, SigningKey.generate(f"pulse.invalid/{secrets.token_hex(8)}"))
        return cls(key, home / "anchors.txt")


class Verdict(msgspec.Struct):
    """The result of the checks. `broken` describes each violation, with the first few examples.

    `lost` and `doubled` count orders and slices. `slices` says in a line what became of the slices.
    """

    orders: int = 0
    accepted: int = 0
    unknown: int = 0
    lost: int = 0
    doubled: int = 0
    skipped: int = 0
    failed: dict[str, int] = {}
    slices: str | None = None
    broken: list[str] = []


async def until_quiet(conninfo: str, *, seconds: float = 120.0) -> int:
    """Wait until every order has a projected outcome and no claim is left.

    Returns the end of the log. Slices may be due, and events that settle slices unprojected.

    Raises:
        TimeoutError: work was left; the message says how much.
    """
    return await _until_none_left(conninfo, _WORK_LEFT, {}, seconds)


async def until_settled(
    conninfo: str, *, due_by: datetime | None = None, seconds: float = 120.0
) -> datetime:
    """Wait until every slice that is due by this moment (by default now) is settled.

    Returns the moment, which is by the database's clock. Slices that become due later may be left.

    Raises:
        TimeoutError: slices were left; the message says how many.
    """
    if due_by is None:
        ((due_by,),) = await _fetch(conninfo, "SELECT clock_timestamp()")
    await _until_none_left(conninfo, _DUE_LEFT, {"due_by": due_by}, seconds)
    return due_by


async def until_projected(conninfo: str, *, seconds: float = 120.0) -> int:
    """Wait until the log is projected; returns its end. Nothing may be appended meanwhile.

    Raises:
        TimeoutError: this took longer.
    """
    return await _until_none_left(conninfo, _PROJECTION_LEFT, {}, seconds)


async def _until_none_left(
    conninfo: str, statement: LiteralString, parameters: dict[str, Any], seconds: float
) -> int:
    """Repeat the statement until all columns but the first are 0; returns the first."""
    left: Any = None
    try:
        async with asyncio.timeout(seconds):
            while True:
                try:
                    (left,) = await _fetch(conninfo, statement, parameters)
                    if not any(left[1:]):
                        return int(left[0])
                except psycopg.OperationalError as error:
                    left = error
                await asyncio.sleep(_POLL_SECONDS)
    except TimeoutError:
        columns = "end, unprojected events, pending or due orders, claims"
        raise TimeoutError(f"work left after {seconds:g} s: ({columns}) = {left}") from None


async def _fetch(
    conninfo: str, statement: LiteralString, parameters: dict[str, Any] | None = None
) -> list[tuple[Any, ...]]:
    async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as connection:
        return await (await connection.execute(statement, parameters)).fetchall()


async def check_all(
    conninfo: str,
    ledger: Mapping[tuple[str, str], Known],
    readers: Sequence[LogReader] = (),
    *,
    settled_at: datetime,
    seal: SealFiles,
    may_fail: Iterable[str] = (),
    findings: Mapping[str, int | None] | None = None,
    rebuild: bool = True,
) -> Verdict:
    """Compare ledger, log, seal, read model and readers. Call it when nothing is appended any more.

    `settled_at` is the result of `until_settled`. `may_fail`: the failure reasons that the case
    allows. Any other FAILED order is a violation. `findings`: how many findings of each fault
    `pulse verify` must have, None for any number.
    """
    verdict = Verdict(orders=len(ledger))
    verifying = asyncio.create_task(_check_verified(conninfo, seal, findings or {}, verdict))
    slices = SettledSlices(settled_at)
    await _check_log(conninfo, ledger, slices, verdict, frozenset(may_fail))
    _report_slices(slices, verdict)
    for number, reader in enumerate(readers, 1):
        await _check_reader(conninfo, number, reader, verdict)
    await verifying
    if rebuild:
        await _check_rebuilt(conninfo, verdict)
    return verdict


async def _check_log(
    conninfo: str,
    ledger: Mapping[tuple[str, str], Known],
    slices: SettledSlices,
    verdict: Verdict,
    may_fail: frozenset[str],
) -> None:
    """Reads one stream at a time, because the log of an hour does not fit into memory."""
    by_id = {known.order_id: known for known in ledger.values()}
    seen: set[tuple[str, str]] = set()
    found = _Violations()
    async for order_id, stream, row in _with_views(conninfo):
        _check_stream(order_id, stream, found)
        order = slices.add(stream)
        if order is not None and row != view_row(order, stream[-1].position):
            expected = view_row(order, stream[-1].position)
            found.views.add(f"{order_id}: {row}, its events say {expected}")
        if order_id in by_id:
            _check_cancels(by_id[order_id], order, found)
        for event in (stored.event for stored in stream):
            if isinstance(event, OrderCreated):
                name = event.key_scope, event.order_unique_key
                if name in seen:
                    found.doubled.add(event.order_unique_key)
                seen.add(name)
                _check_creation(event, by_id.get(order_id) or ledger.get(name), found)
    _check_accepted(ledger, seen, verdict, found)
    verdict.lost = found.lost.count
    verdict.doubled = found.doubled.count + found.outcomes.count
    verdict.failed = dict(found.failed)
    _report(verdict, "orders accepted but not stored", found.lost)
    _report(verdict, "orders stored twice", found.doubled)
    _report(verdict, "orders answered or stored wrongly", found.mismatches)
    _report(verdict, "streams with gaps", found.gaps)
    _report(verdict, "streams with events that cannot follow each other", found.outcomes)
    _report(verdict, "schedules that break a rule", found.schedules)
    _report(verdict, "orders whose view differs from their events", found.views)
    _report(verdict, "cancels answered wrongly", found.cancels)
    _report(verdict, "orders FAILED", _examples_of(
        f"{reason} ({count})" for reason, count in found.failed.items() if reason not in may_fail
    ))  # fmt: skip


def _check_creation(event: OrderCreated, known: Known | None, found: "_Violations") -> None:
    if known is not None and not _same(event, known):
        found.mismatches.add(f"{known.key} is stored with other data")


def _check_accepted(
    ledger: Mapping[tuple[str, str], Known],
    seen: Container[tuple[str, str]],
    verdict: Verdict,
    found: "_Violations",
) -> None:
    """Every accepted order is stored, under the id of the answer."""
    for known in ledger.values():
        verdict.accepted += known.accepted_as is not None
        verdict.unknown += known.accepted_as is None
        if known.accepted_as is not None and (known.scope, known.key) not in seen:
            found.lost.add(known.key)
        if known.accepted_as is not None and known.accepted_as != known.order_id:
            found.mismatches.add(f"{known.key} was answered with another id")


def _report_slices(slices: SettledSlices, verdict: Verdict) -> None:
    verdict.lost += slices.lost.count
    verdict.doubled += slices.twice.count
    verdict.slices = slices.summary
    for what, examples in slices.violations.items():
        _report(verdict, what, examples)


def _check_cancels(known: Known, order: Order | None, found: "_Violations") -> None:
    """200: nothing is left and nothing follows. 409: nothing was left, and no cancel is stored."""
    for answer in known.cancels:
        if order is None:
            found.cancels.add(f"{known.key}: {answer.status} for an order without a legal stream")
            continue
        expected = (order.version, order.quantities, order.cancelled)
        answered = (answer.version, answer.quantities, True)
        if answer.status != HTTPStatus.OK:
            answered = (order.version, answer.quantities, False)
        if answered != expected or order.quantities.remaining:
            found.cancels.add(f"{known.key}: {answer}, its events say {expected}")


async def _rows(conninfo: str, statement: LiteralString) -> AsyncGenerator[tuple[Any, ...], None]:
    """The rows of a statement, fetched 5,000 at a time."""
    async with (
        await psycopg.AsyncConnection.connect(conninfo) as connection,
        connection.cursor(name="faults", binary=True) as cursor,
    ):
        cursor.itersize = 5000
        await cursor.execute(statement)
        async for row in cursor:
            yield row


async def _streams(conninfo: str) -> AsyncIterator[tuple[UUID, list[Stored]]]:
    mapper = EventMapper()
    current: UUID | None = None
    stream: list[Stored] = []
    async for order_id, version, topic, state, position, recorded_at in _rows(conninfo, _LOG):
        if order_id != current:
            if current is not None:
                yield current, stream
            current, stream = order_id, []
        event: Any = mapper.to_domain_event(StoredEvent(order_id, version, topic, bytes(state)))
        stream.append(Stored(position, version, recorded_at, event))
    if current is not None:
        yield current, stream


async def _with_views(
    conninfo: str,
) -> AsyncIterator[tuple[UUID, list[Stored], tuple[Any, ...] | None]]:
    """Each stream with the order's row of VIEW_ROWS, None if there is none; both are sorted."""
    async with aclosing(_rows(conninfo, VIEW_ROWS)) as rows:
        row = await anext(rows, None)
        async for order_id, stream in _streams(conninfo):
            while row is not None and row[0] < order_id:
                row = await anext(rows, None)
            yield order_id, stream, row if row is not None and row[0] == order_id else None


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


def _check_stream(order_id: UUID, stream: Sequence[Stored], found: "_Violations") -> None:
    """Versions are 1..n; one OrderCreated, at most one outcome; each schedule keeps the rules.

    The outcome is the second event. Only after SlicesScheduled do other events follow. A cancel is
    the last event.
    """
    versions = [stored.version for stored in stream]
    if versions != list(range(1, len(stream) + 1)):
        found.gaps.add(f"{order_id} {versions}")
    events = [stored.event for stored in stream]
    legal = (
        isinstance(events[0], OrderCreated)
        and not any(isinstance(e, (OrderCreated, *_OF_RELEASERS)) for e in events[1:2])
        and all(isinstance(e, (OrderCancelled, *_OF_RELEASERS)) for e in events[2:])
        and (len(events) <= 2 or isinstance(events[1], SlicesScheduled))
        and not any(isinstance(e, OrderCancelled) for e in events[:-1])
    )
    if not legal:
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


def _broken_schedule(created: Any, scheduled: SlicesScheduled) -> list[str]:
    try:
        check_schedule(created, scheduled.slices)
    except ScheduleBroken as error:
        return [f"{created.originator_id}: {error}"]
    return []


async def _check_reader(conninfo: str, number: int, reader: LogReader, verdict: Verdict) -> None:
    """The reader saw every stored event once, in order."""
    missed, extra = Examples(), Examples()
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
    _report(verdict, f"wrong answers to reader {number}", _examples_of(reader.wrong))


async def _check_verified(
    conninfo: str, seal: SealFiles, expected: Mapping[str, int | None], verdict: Verdict
) -> None:
    """Every event is sealed, and `pulse verify` with the anchors finds only what is expected."""
    try:
        events = await _until_none_left(conninfo, _UNSEALED, {}, _SEAL_SECONDS)
    except TimeoutError as error:
        verdict.broken.append(f"the seal: {error}")
        return
    verifying = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pulse.cli", "verify", "--json",
        cwd=ROOT,
        env=environment({"database_url": url_of(conninfo), **msgspec.structs.asdict(seal)}),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, errors = await verifying.communicate()
    if verifying.returncode not in {0, 1} or not output:
        verdict.broken.append(f"pulse verify: {errors.decode(errors='replace')[-500:]}")
        return
    found = msgspec.json.decode(output)
    if found["signer"] is None or not found["anchors"] or found["sealed"] != events:
        sealed = f"{found['sealed']} of {events} events, {found['anchors']} anchors"
        verdict.broken.append(f"pulse verify compared the seal with {sealed}")
    faults: dict[str, int] = found["faults"]
    for fault in sorted(faults.keys() | expected.keys()):
        count, wanted = faults.get(fault, 0), expected.get(fault, 0)
        if wanted not in {None, count}:
            examples = [each for each in found["findings"] if each["fault"] == fault][:3]
            verdict.broken.append(f"pulse verify has {count} {fault}, not {wanted}: {examples}")


async def _check_rebuilt(conninfo: str, verdict: Verdict) -> None:
    """The live read model is equal to one rebuilt from the log."""
    async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as connection:
        for table in _READ_MODEL:
            await connection.execute(f"CREATE UNLOGGED TABLE live_{table} AS TABLE {table}")
        rebuilding = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "pulse.cli", "rebuild", "--unverified",
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
            different = _examples_of(str(row) for row in await cursor.fetchall())
            _report(verdict, "read model rows that differ after a rebuild", different)
            await connection.execute(f"DROP TABLE live_{table}")


def _examples_of(names: Iterable[str]) -> Examples:
    found = Examples()
    for name in names:
        found.add(name)
    return found


class _Violations:
    """The violations found in a log."""

    def __init__(self) -> None:
        self.lost, self.doubled, self.mismatches = Examples(), Examples(), Examples()
        self.gaps, self.outcomes, self.schedules = Examples(), Examples(), Examples()
        self.views, self.cancels = Examples(), Examples()
        self.failed: Counter[str] = Counter()


def _report(verdict: Verdict, what: str, names: Examples) -> None:
    if names.count:
        left = names.count - len(names.first)
        more = f" and {left} more" if left else ""
        verdict.broken.append(f"{names.count} {what}: {', '.join(names.first)}{more}")
