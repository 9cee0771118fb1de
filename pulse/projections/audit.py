"""The audit: compares log and queue window by window, and reports orders that differ.

The projection relies on commit order: no event becomes visible below the projected position. If
that fails (a two-phase commit that ends late, a log or queue edited by hand, a bad restore), an
order is never projected, without any error. The audit compares the whole log again and again, in
windows of bounded cost.
"""

import time
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any, Final, Literal
from uuid import UUID

import msgspec
import structlog

from pulse.domain import EVENT_TYPES, OrderCreated, ReleasesHalted, ReleasesResumed
from pulse.loop import Job
from pulse.postgres import Connection, Database, fetch, load_sql
from pulse.projections.position import PROJECTION_NAME, read_position

_log = structlog.get_logger(__name__)

WINDOW_EVENTS: Final = 10_000
MAX_FINDINGS: Final = 10_000
"""The maximum number of findings that are stored. If it is reached, run `pulse rebuild`."""

_MAX_RECHECKED: Final = 100
_PAUSE_FACTOR: Final = 50
"""The pause is this many times as long as the window took: 2 % of one connection's time."""

_MIN_PAUSE_SECONDS: Final = 0.5
_PAUSE_BETWEEN_PASSES_SECONDS: Final = 10.0
_LATER_TOPICS: Final = [
    kind.TOPIC
    for kind in EVENT_TYPES
    if kind not in {OrderCreated, ReleasesHalted, ReleasesResumed}
]

_SELECT_AUDIT_WINDOW = load_sql(__package__, "select_audit_window")
_COMPARE_WINDOW = load_sql(__package__, "compare_window")
_LOCK_AUDIT = load_sql(__package__, "lock_audit")
_ADVANCE_AUDIT = load_sql(__package__, "advance_audit")
_SELECT_AUDIT_STATE = load_sql(__package__, "select_audit_state")
_SELECT_FINDINGS = load_sql(__package__, "select_findings")
_COUNT_FINDINGS = load_sql(__package__, "count_findings")
_DELETE_FINDINGS = load_sql(__package__, "delete_findings")
_INSERT_FINDINGS = load_sql(__package__, "insert_findings")

AuditFault = Literal["MISSING", "OUTDATED", "UNLOGGED"]


class AuditFinding(msgspec.Struct, frozen=True):
    """A difference between log and queue. `position` is that of the order's creation.

    MISSING: the order was created and is neither in the queue nor parked, or lacks its row in
    pending_orders or due_orders. OUTDATED: the projection has passed an event of the order in the
    log that the queue has not applied, or the order has an outcome and is still in pending_orders.
    UNLOGGED: the queue has an order, or a later event of it, that is not in the log.
    """

    position: int
    order_id: UUID
    fault: AuditFault


class AuditedWindow(msgspec.Struct, frozen=True):
    """The findings between `after` (exclusive) and `until`, and the projected position."""

    after: int
    until: int
    projected: int
    findings: tuple[AuditFinding, ...]

    @property
    def is_last(self) -> bool:
        """Whether this window reaches the projected position."""
        return self.until >= self.projected


class AuditState(msgspec.Struct, frozen=True):
    """The background audit: its position in the current pass, and its findings by fault.

    `last_pass_seconds_ago` is None until the first pass is complete.
    """

    position: int
    last_pass_seconds_ago: float | None
    findings: dict[AuditFault, int]


class Audit(Job[AuditedWindow | None]):
    """Compares log and queue, at most `window_events` events at a time."""

    name = "audit"
    poll_seconds = 0.5

    def __init__(self, database: Database, *, window_events: int = WINDOW_EVENTS) -> None:
        self._database = database
        self._window_events = window_events

    async def run_once(self) -> AuditedWindow | None:
        """Compare the next window, store its findings, and schedule the window after it.

        Returns None if no window is due or another process is auditing.

        Raises:
            DatabaseUnavailable: nothing was changed, unless the connection was lost at the commit.
        """
        started = time.perf_counter()
        async with self._database.connection() as connection, connection.transaction():
            rows = await fetch(connection, _LOCK_AUDIT, (PROJECTION_NAME,))
            if not rows:
                return None
            window = await self._next_window(connection, rows[0][0])
            await _store_findings(connection, window)
            await _recheck(connection, window.projected)
            pause = max(_MIN_PAUSE_SECONDS, _PAUSE_FACTOR * (time.perf_counter() - started))
            parameters = {
                "position": 0 if window.is_last else window.until,
                "pause_seconds": _PAUSE_BETWEEN_PASSES_SECONDS if window.is_last else pause,
                "ended": window.is_last,
                "projection": PROJECTION_NAME,
            }
            await connection.execute(_ADVANCE_AUDIT, parameters, prepare=True)
        return window

    async def newest_windows(self, *, max_seconds: float) -> AsyncIterator[AuditedWindow]:
        """Compare backwards from the projected position for `max_seconds`. Changes nothing.

        Raises:
            DatabaseUnavailable: log or queue cannot be read.
        """
        deadline = time.monotonic() + max_seconds
        until = projected = await self._database.read(read_position)
        while until > 0 and time.monotonic() < deadline:
            after = max(0, until - self._window_events)
            findings = await self._read(after, until, projected)
            yield AuditedWindow(after, until, projected, findings)
            until = after

    async def confirmed(self, positions: Iterable[int]) -> list[AuditFinding]:
        """Compare again at these positions, skipping those not projected yet.

        Raises:
            DatabaseUnavailable: log or queue cannot be read.
        """
        projected = await self._database.read(read_position)
        found: list[AuditFinding] = []
        for position in sorted(set(positions)):
            if position <= projected:
                found += await self._read(position - 1, position, projected)
        return found

    async def kept_findings(self, limit: int) -> list[AuditFinding]:
        """The unresolved findings of the background audit, oldest position first.

        Raises:
            DatabaseUnavailable: they cannot be read.
        """
        return list(await self._database.read(lambda c: _stored_findings(c, limit)))

    async def _read(self, after: int, until: int, projected: int) -> tuple[AuditFinding, ...]:
        return await self._database.read(
            lambda connection: _compare(connection, after, until, projected)
        )

    async def _next_window(self, connection: Connection, after: int) -> AuditedWindow:
        until, projected = await read_window(connection, after, self._window_events)
        findings = await _compare(connection, after, until, projected) if until > after else ()
        return AuditedWindow(after, until, projected, findings)


async def read_window(connection: Connection, after: int, rows: int) -> tuple[int, int]:
    """The end of a window of at most `rows` events and `rows` orders; the projected position."""
    parameters = {"after": after, "rows": rows, "projection": PROJECTION_NAME}
    found = await fetch(connection, _SELECT_AUDIT_WINDOW, parameters)
    return (found[0][0], found[0][1]) if found else (0, 0)


async def read_audit_state(connection: Connection) -> AuditState:
    """Read the state of the background audit."""
    rows = await fetch(connection, _SELECT_AUDIT_STATE, (PROJECTION_NAME,))
    position, seconds_ago = rows[0] if rows else (0, None)
    return AuditState(position, seconds_ago, dict(await fetch(connection, _COUNT_FINDINGS)))


async def _compare(
    connection: Connection, after: int, until: int, projected: int
) -> tuple[AuditFinding, ...]:
    parameters = {
        "after": after,
        "until": until,
        "projected": projected,
        "created": OrderCreated.TOPIC,
        "later_topics": _LATER_TOPICS,
    }
    return _findings(await fetch(connection, _COMPARE_WINDOW, parameters, prepare=False))


async def _stored_findings(connection: Connection, limit: int) -> tuple[AuditFinding, ...]:
    return _findings(await fetch(connection, _SELECT_FINDINGS, (limit,)))


async def _store_findings(connection: Connection, window: AuditedWindow) -> None:
    known = _findings(await fetch(connection, _DELETE_FINDINGS, (window.after, window.until)))
    if window.findings:
        columns = zip(*map(msgspec.structs.astuple, window.findings), strict=True)
        await connection.execute(_INSERT_FINDINGS, (*map(list, columns), MAX_FINDINGS))
    new = [finding for finding in window.findings if finding not in known]
    if new:
        _log.warning(
            "audit.queue_differs_from_log",
            orders=len(new),
            first=[f"{finding.fault} {finding.order_id}" for finding in new[:3]],
            remedy="run `pulse status`, which names them",
        )


async def _recheck(connection: Connection, projected: int) -> None:
    """Delete the oldest findings that have been resolved, by a retry or a rebuild."""
    for finding in await _stored_findings(connection, _MAX_RECHECKED):
        after, until = finding.position - 1, finding.position
        if finding not in await _compare(connection, after, until, projected):
            await connection.execute(_DELETE_FINDINGS, (after, until))


def _findings(rows: Sequence[Sequence[Any]]) -> tuple[AuditFinding, ...]:
    return tuple(dict.fromkeys(AuditFinding(*row) for row in rows))
