"""The facts about log, queue and workers, and the notices: what a person should see and do."""

from collections.abc import Awaitable, Callable, Iterator
from typing import Final

import msgspec
import psycopg
import structlog

from pulse.eventstore import LogState, read_log_state
from pulse.loop import Job
from pulse.postgres import Connection
from pulse.projections.audit import AuditState, read_audit_state
from pulse.projections.claims import Workers, read_workers
from pulse.projections.overview import (
    LATELY_SECONDS,
    MAX_EXAMINED,
    Lag,
    QueueHealth,
    read_lag,
    read_queue_health,
)

_log = structlog.get_logger(__name__)

MAX_BEHIND_SECONDS: Final = 10.0
"""A projection further behind the log is not ready."""

MAX_WAIT_WITHOUT_WORKER_SECONDS: Final = 10.0
MAX_WAIT_SECONDS: Final = 60.0
"""An order that waits for longer although workers are present needs a person."""

MANY_FAILED: Final = 5
"""So many FAILED orders within LATELY_SECONDS need a person."""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """The state of log, projection, queue and workers at one time.

    `audit` is None where the role may not read it, or its tables are locked; `projector_fault` is
    why this process cannot continue the projection, None if it can or does not project.
    """

    log: LogState
    lag: Lag
    queue: QueueHealth
    workers: Workers
    audit: AuditState | None
    projector_fault: str | None = None


async def read_facts(connection: Connection, timeout_seconds: float) -> Facts:
    """The facts now, at a cost that does not grow with log or queue.

    A claim is overdue after `timeout_seconds`.
    """
    return Facts(
        log=await read_log_state(connection),
        lag=await read_lag(connection),
        queue=await read_queue_health(connection),
        workers=await read_workers(connection, timeout_seconds),
        audit=await _read_audit(connection),
    )


async def _read_audit(connection: Connection) -> AuditState | None:
    try:
        return await read_audit_state(connection)
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.LockNotAvailable):
        return None


class Notice(msgspec.Struct, frozen=True):
    """A stable code, and a sentence that says what is wrong and what to do.

    With `needs_person` it does not pass by itself, and `pulse status` exits with 1.
    """

    code: str
    message: str
    needs_person: bool


def notices_of(facts: Facts) -> tuple[Notice, ...]:
    """Every notice that follows from these facts, the most severe first."""
    return (
        *_of_the_log(facts),
        *_of_the_audit(facts),
        *_of_the_projection(facts),
        *_of_orders(facts),
    )


def sequence_below_position(log: LogState, position: int) -> str | None:
    """Why what is appended now would never be projected, or None if it would be."""
    if log.last_issued is None or log.last_issued >= position:
        return None
    return (
        f"the log's sequence is at {log.last_issued}, below the projected position {position}, so "
        f"that new events would never be projected: {_setval(log, position)}, then run "
        "`pulse projections audit`"
    )


def next_id_taken(log: LogState, position: int) -> str | None:
    """Why appends fail for a sequence that is behind the log, or None if they do not."""
    if not log.next_taken:
        return None
    return (
        f"the log's sequence is at {log.last_issued}, below the log's end at {log.end}, so that "
        f"new events get ids that are taken: {_setval(log, position)}"
    )


def _of_the_log(facts: Facts) -> Iterator[Notice]:
    log, position = facts.log, facts.lag.position
    below = sequence_below_position(log, position)
    if below is not None:
        yield Notice("sequence_below_position", below, needs_person=True)
    taken = next_id_taken(log, position)
    if taken is not None:
        yield Notice("sequence_below_log", taken, needs_person=True)
    elif log.first_beyond is not None:
        message = (
            f"the log has an event with id {log.first_beyond}, beyond its sequence at "
            f"{log.last_issued}, which is not projected until the sequence has passed it: "
            f"{_setval(log, position)} if the event belongs there, else have the table's owner "
            "delete it"
        )
        yield Notice("id_beyond_sequence", message, needs_person=True)
    if position > log.end:
        message = (
            f"the log ends at {log.end}, before the projected position {position}: events were "
            "deleted or the log was restored to an earlier point; restore it from a backup, or run "
            "`pulse rebuild` to make the queue what the log says"
        )
        yield Notice("log_shorter_than_position", message, needs_person=True)
    if log.last_issued is None:
        message = (
            "this role may not read the log's sequence, so ids beyond it are not noticed: "
            f"GRANT USAGE ON SEQUENCE {log.sequence}"
        )
        yield Notice("sequence_unreadable", message, needs_person=False)


def _of_the_audit(facts: Facts) -> Iterator[Notice]:
    if facts.audit is None:
        message = (
            "the tables queue_audit and queue_audit_findings cannot be read: grant this role the "
            "same rights as on order_queue, or end the session that locks them"
        )
        yield Notice("audit_unreadable", message, needs_person=False)
        return
    found = facts.audit.findings
    lacking = found.get("MISSING", 0) + found.get("OUTDATED", 0)
    if lacking:
        message = (
            f"{_orders(lacking)} of the log missing from the queue, or in it without an outcome: "
            "`pulse projections audit` names them, `pulse projections retry ORDER_ID` brings one in"
        )
        yield Notice("orders_missing", message, needs_person=True)
    unlogged = found.get("UNLOGGED", 0)
    if unlogged:
        message = (
            f"{_orders(unlogged)} in the queue with events that the log lacks: "
            "`pulse projections audit` names them; restore the log from a backup, or run "
            "`pulse rebuild` to make the queue what the log says"
        )
        yield Notice("orders_unlogged", message, needs_person=True)


def _of_the_projection(facts: Facts) -> Iterator[Notice]:
    lag = facts.lag
    if lag.behind_seconds > MAX_BEHIND_SECONDS:
        message = (
            f"the projection is {lag.behind_seconds:.0f} s behind: check that a process of Pulse "
            "runs (`pulse up`), and read its log"
        )
        yield Notice("projection_behind", message, needs_person=True)
    if facts.projector_fault is not None:
        message = f"this process cannot project, another one must: {facts.projector_fault}"
        yield Notice("projection_left_to_others", message, needs_person=False)
    if lag.parked_orders:
        message = f"{_orders(lag.parked_orders)} parked: `pulse projections status` says why"
        yield Notice("orders_parked", message, needs_person=True)


def _of_orders(facts: Facts) -> Iterator[Notice]:
    queue, workers = facts.queue, facts.workers
    yield from _waiting(facts)
    if workers.overdue_claims:
        claims = f"{workers.overdue_claims:,} claim{'' if workers.overdue_claims == 1 else 's'}"
        message = (
            f"gone workers hold {claims} older than {workers.timeout_seconds:g} s: start workers "
            "(`pulse background`) to end them"
        )
        yield Notice("claims_overdue", message, needs_person=True)
    if queue.for_newer_code:
        message = (
            f"{_orders(queue.for_newer_code)} waiting for a splitter that this code does not have, "
            f"the oldest for {queue.oldest_for_newer_code_seconds:.0f} s: start workers of the "
            "newer version"
        )
        long = queue.oldest_for_newer_code_seconds > MAX_WAIT_SECONDS
        yield Notice("orders_for_newer_code", message, needs_person=long)
    failed = sum(queue.failed_lately.values())
    if failed >= MANY_FAILED:
        reasons = ", ".join(
            f"{count:,} {reason or 'without a reason'}"
            for reason, count in sorted(queue.failed_lately.items(), key=lambda item: -item[1])
        )
        message = (
            f"{_orders(failed)} FAILED in the last {LATELY_SECONDS / 60:g} min ({reasons}): "
            "`pulse orders failed` lists them and says what to do"
        )
        yield Notice("orders_failing", message, needs_person=True)


def _waiting(facts: Facts) -> Iterator[Notice]:
    queue, workers = facts.queue, facts.workers
    if workers.present:
        if queue.oldest_waiting_seconds > MAX_WAIT_SECONDS:
            message = (
                f"{_orders(queue.waiting)} waiting, the oldest for "
                f"{queue.oldest_waiting_seconds:.0f} s, with workers present "
                f"({workers.present}): read their logs, or start more (`pulse background`)"
            )
            yield Notice("orders_wait", message, needs_person=True)
        return
    waiting = queue.waiting + workers.gone_claims
    oldest = max(queue.oldest_waiting_seconds, workers.oldest_gone_seconds)
    if waiting:
        message = (
            f"no worker is present, with {_orders(waiting)} waiting, the oldest for "
            f"{oldest:.0f} s: start workers (`pulse background`, or `pulse up`)"
        )
        yield Notice("no_worker", message, needs_person=oldest >= MAX_WAIT_WITHOUT_WORKER_SECONDS)


def _orders(count: int) -> str:
    number = f"{count:,}" + (" or more" if count == MAX_EXAMINED else "")
    return f"{number} order{'' if count == 1 else 's'}"


def _setval(log: LogState, position: int) -> str:
    """The call that moves the sequence past every id that is taken or projected."""
    return f"call setval('{log.sequence}', {max(log.end, position)}) in SQL"


class NoticeWatch(Job[tuple[Notice, ...]]):
    """Logs notices as they come and go; those that need a person as warnings."""

    name = "notices"
    poll_seconds = 5.0

    def __init__(self, read: Callable[[], Awaitable[tuple[Notice, ...]]]) -> None:
        self._read = read
        self._known: frozenset[tuple[str, bool]] = frozenset()

    async def run_once(self) -> tuple[Notice, ...]:
        """Log what has changed since the last time; returns the notices now.

        Raises:
            DatabaseUnavailable: they cannot be read.
        """
        notices = await self._read()
        for notice in notices:
            if (notice.code, notice.needs_person) not in self._known:
                log = _log.warning if notice.needs_person else _log.info
                log("notice.raised", code=notice.code, message=notice.message)
        codes = {notice.code for notice in notices}
        for code in sorted({code for code, _ in self._known} - codes):
            _log.info("notice.cleared", code=code)
        self._known = frozenset((notice.code, notice.needs_person) for notice in notices)
        return notices
