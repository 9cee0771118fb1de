"""Notices: problems of log, queue and workers that an operator should know, and what to do."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final, assert_never

import msgspec
import psycopg
import structlog

from pulse.application.known_halts import KnownHalts
from pulse.application.role_rights import RoleRights
from pulse.domain import HaltTarget
from pulse.eventstore import LogState, read_log_state
from pulse.evidence.sealer import SealFault
from pulse.evidence.state import SealHealth, read_seal_health
from pulse.loop import Job
from pulse.postgres import Connection
from pulse.projections.audit import AuditState, read_audit_state
from pulse.projections.claims import Workers, read_workers
from pulse.projections.overview import (
    MAX_EXAMINED_FOR_HEALTH,
    RECENT_SECONDS,
    Lag,
    QueueHealth,
    read_lag,
    read_queue_health,
)

_log = structlog.get_logger(__name__)

MAX_BEHIND_SECONDS: Final = 10.0
"""A projection that is further behind the log is not ready."""

MAX_WAIT_WITHOUT_WORKER_SECONDS: Final = 10.0
MAX_WAIT_SECONDS: Final = 60.0
"""An order that waits longer although workers are present needs a person."""

MAX_DUE_SECONDS: Final = 5.0
"""Slices that are due for longer although workers are present need a person."""

MANY_FAILED: Final = 5
"""This many FAILED orders within RECENT_SECONDS need a person."""


class Notice(msgspec.Struct, frozen=True):
    """A stable code, and a message that says what is wrong and what to do.

    With `needs_person` the problem is not resolved automatically, and `pulse status` exits with 1.
    """

    code: str
    message: str
    needs_person: bool


class ProcessState(msgspec.Struct, frozen=True, kw_only=True):
    """What only the process itself knows: which parts of it cannot do their work, and why.

    `projector`, `replica` (which lists are read on) and `sealer` are None if the part works or the
    process has no such part. `anchors` has a sentence for each place where checkpoints cannot be
    kept. `seals` is whether the process has a sealer.
    """

    projector: str | None = None
    replica: str | None = None
    sealer: SealFault | None = None
    anchors: Sequence[str] = ()
    seals: bool = False


class HealthSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The state of log, projection, queue and workers, read by several queries.

    `audit` and `seal` are each None if this role may not read its tables or they are locked.
    `rights` are those of the role of a process; None for a command, which may use another role.
    `process` is the state of the process that read the snapshot.
    """

    log: LogState
    lag: Lag
    queue: QueueHealth
    workers: Workers
    audit: AuditState | None
    seal: SealHealth | None
    halts: KnownHalts
    rights: RoleRights | None = None
    process: ProcessState = ProcessState()


async def read_health_snapshot(
    connection: Connection, timeout_seconds: float, halts: KnownHalts
) -> HealthSnapshot:
    """The snapshot now, with these halts. A claim is overdue after `timeout_seconds`.

    Its cost does not grow with the log or with finished orders. It grows with the pending ones,
    which are all read for their claims: about 30 ms for 100,000 on a busy machine of two cores.
    """
    # The lag is read first: read later, its position could be above the sequence's last id.
    lag = await read_lag(connection)
    return HealthSnapshot(
        log=await read_log_state(connection),
        lag=lag,
        queue=await read_queue_health(connection, [halt.target for halt in halts.in_force]),
        workers=await read_workers(connection, timeout_seconds),
        audit=await _read_audit(connection),
        seal=await _read_seal(connection),
        halts=halts,
    )


async def _read_audit(connection: Connection) -> AuditState | None:
    try:
        return await read_audit_state(connection)
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.LockNotAvailable):
        return None


async def _read_seal(connection: Connection) -> SealHealth | None:
    try:
        return await read_seal_health(connection)
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.LockNotAvailable):
        return None


def notices_of(snapshot: HealthSnapshot) -> tuple[Notice, ...]:
    """The notices for this snapshot, the most severe first."""
    return (
        *_log_notices(snapshot),
        *_role_notices(snapshot),
        *_audit_notices(snapshot),
        *_projection_notices(snapshot),
        *_order_notices(snapshot),
        *process_notices(snapshot.process),
        *_seal_notices(snapshot),
    )


PROCESS_NOTICES: Final = {
    "projection_left_to_others": False,
    "replica_unused": True,
    "seal_key_unusable": True,
    "seal_key_differs": True,
    "seal_diverged": True,
    "anchors_failing": True,
}
"""The codes of `process_notices`, and whether each needs a person."""


def process_notices(state: ProcessState) -> Iterator[Notice]:
    """The notices about one process, which other processes do not know."""
    messages: dict[str, str] = {}
    if state.projector is not None:
        messages["projection_left_to_others"] = (
            "this process cannot run the projection, so another process must run it: "
            f"{state.projector}"
        )
    if state.replica is not None:
        messages["replica_unused"] = (
            "lists are read on the primary, since the replica cannot be used: "
            f"{state.replica}; check the server of PULSE_READ_DATABASE_URL"
        )
    if state.sealer is not None:
        messages[state.sealer.code] = state.sealer.message
    if state.anchors:
        messages["anchors_failing"] = (
            f"checkpoints are not kept outside the database: {'; '.join(state.anchors)}"
        )
    for code, message in messages.items():
        yield Notice(code, message, needs_person=PROCESS_NOTICES[code])


def sequence_below_position(log: LogState, position: int) -> str | None:
    """Why new events would never be projected, or None if they would."""
    if log.last_issued is None or log.last_issued >= position:
        return None
    return (
        f"the log's sequence is at {log.last_issued}, below the projected position {position}, so "
        f"new events would never be projected: {_setval(log, position)}, then run `pulse verify`"
    )


def next_id_taken(log: LogState, position: int) -> str | None:
    """Why appends fail because the sequence is behind the log, or None if they do not."""
    if not log.next_taken:
        return None
    return (
        f"the log's sequence is at {log.last_issued}, below the log's end at {log.end}, so "
        f"new events get ids that are taken: {_setval(log, position)}"
    )


def _log_notices(snapshot: HealthSnapshot) -> Iterator[Notice]:
    log, position = snapshot.log, snapshot.lag.position
    below = sequence_below_position(log, position)
    if below is not None:
        yield Notice("sequence_below_position", below, needs_person=True)
    taken = next_id_taken(log, position)
    if taken is not None:
        yield Notice("sequence_below_log", taken, needs_person=True)
    elif log.first_beyond is not None:
        message = (
            f"the log has an event with id {log.first_beyond}, beyond its sequence at "
            f"{log.last_issued}; it is not projected until the sequence has passed it: "
            f"{_setval(log, position)} if the event belongs in the log, otherwise the table's "
            "owner deletes it, with the trigger stored_events_append_only disabled"
        )
        yield Notice("id_beyond_sequence", message, needs_person=True)
    if position > log.end:
        message = (
            f"the log ends at {log.end}, before the projected position {position}: events were "
            "deleted or the log was restored to an earlier point; after a restore run `pulse log "
            "fork`, otherwise restore the log from a backup; or run `pulse rebuild` to rebuild the "
            "queue from the log as it is"
        )
        yield Notice("log_shorter_than_position", message, needs_person=True)
    if log.last_issued is None:
        message = (
            "this role may not read the log's sequence, so ids beyond it are not detected: "
            f"GRANT USAGE ON SEQUENCE {log.sequence}"
        )
        yield Notice("sequence_unreadable", message, needs_person=False)


def _role_notices(snapshot: HealthSnapshot) -> Iterator[Notice]:
    rights = snapshot.rights
    if rights is None:
        return
    if rights.missing_text is not None:
        yield Notice("rights_missing", rights.missing_text, needs_person=True)
    if rights.beyond_append:
        message = (
            f"this process's database role {' and '.join(rights.beyond_append)}, so it could "
            "change the log: connect processes with a role that has only the rights of the "
            "runtime (`pulse migrate --roles`)"
        )
        yield Notice("log_not_protected", message, needs_person=False)


def _audit_notices(snapshot: HealthSnapshot) -> Iterator[Notice]:
    if snapshot.audit is None:
        message = (
            "the tables queue_audit and queue_audit_findings cannot be read: grant this role the "
            "same rights as on order_queue, or end the session that locks them"
        )
        yield Notice("audit_unreadable", message, needs_person=False)
        return
    found = snapshot.audit.findings
    lacking = found.get("MISSING", 0) + found.get("OUTDATED", 0)
    if lacking:
        message = (
            f"{_orders(lacking)} of the log missing from the queue, or outdated there: "
            "`pulse status` names them, `pulse projections retry --all` repairs them"
        )
        yield Notice("orders_missing", message, needs_person=True)
    unlogged = found.get("UNLOGGED", 0)
    if unlogged:
        message = (
            f"{_orders(unlogged)} in the queue with events that are not in the log: "
            "`pulse status` names them; restore the log from a backup, or run "
            "`pulse rebuild` to rebuild the queue from the log"
        )
        yield Notice("orders_unlogged", message, needs_person=True)


def _projection_notices(snapshot: HealthSnapshot) -> Iterator[Notice]:
    lag = snapshot.lag
    if lag.behind_seconds > MAX_BEHIND_SECONDS:
        message = (
            f"the projection is {lag.behind_seconds:.0f} s behind: check that a Pulse process "
            "is running (`pulse up`), and read its log"
        )
        yield Notice("projection_behind", message, needs_person=True)
    if lag.parked_orders:
        message = f"{_orders(lag.parked_orders)} parked: `pulse projections status` says why"
        yield Notice("orders_parked", message, needs_person=True)


def _order_notices(snapshot: HealthSnapshot) -> Iterator[Notice]:
    queue, workers = snapshot.queue, snapshot.workers
    yield from _waiting_notices(snapshot)
    yield from _release_notices(snapshot)
    if overdue := workers.overdue_orphaned_claims:
        claims = f"{overdue:,} claim{'' if overdue == 1 else 's'}"
        message = (
            f"workers that are gone hold {claims} older than {workers.timeout_seconds:g} s: "
            "start workers (`pulse background`) to time them out"
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
    failed = sum(queue.failed_recently.values())
    if failed >= MANY_FAILED:
        reasons = ", ".join(
            f"{count:,} {reason or 'without a reason'}"
            for reason, count in sorted(queue.failed_recently.items(), key=lambda item: -item[1])
        )
        message = (
            f"{_orders(failed)} FAILED in the last {RECENT_SECONDS / 60:g} min ({reasons}): "
            "`pulse orders failed` lists them and says what to do"
        )
        yield Notice("orders_failing", message, needs_person=True)


def _waiting_notices(snapshot: HealthSnapshot) -> Iterator[Notice]:
    queue, workers = snapshot.queue, snapshot.workers
    if workers.present:
        if queue.oldest_waiting_seconds > MAX_WAIT_SECONDS:
            message = (
                f"{_orders(queue.waiting)} waiting, the oldest for "
                f"{queue.oldest_waiting_seconds:.0f} s, with workers present "
                f"({workers.present}): read their logs, or start more (`pulse background`)"
            )
            yield Notice("orders_wait", message, needs_person=True)
        return
    waiting = queue.waiting + workers.orphaned_claims
    oldest = max(queue.oldest_waiting_seconds, workers.oldest_orphaned_seconds)
    if waiting:
        message = (
            f"no worker is present, with {_orders(waiting)} waiting, the oldest for "
            f"{oldest:.0f} s: start workers (`pulse background`, or `pulse up`)"
        )
        yield Notice("no_worker", message, needs_person=oldest >= MAX_WAIT_WITHOUT_WORKER_SECONDS)


def _release_notices(snapshot: HealthSnapshot) -> Iterator[Notice]:
    queue, workers = snapshot.queue, snapshot.workers
    yield from _halt_notices(snapshot)
    if not queue.due:
        return
    seconds = queue.oldest_due_seconds
    due = f"{_orders(queue.due)} with slices to release, the first due for {seconds:.0f} s"
    if not workers.present:
        message = (
            f"no releaser is present, and there {'is' if queue.due == 1 else 'are'} {due}: start "
            "workers (`pulse background`, or `pulse up`); slices that are too late then expire"
        )
        needs_person = seconds >= MAX_WAIT_WITHOUT_WORKER_SECONDS
        yield Notice("no_releaser", message, needs_person=needs_person)
    elif seconds > MAX_DUE_SECONDS:
        unhalted = queue.oldest_unhalted_due_seconds
        needs_person = unhalted > MAX_DUE_SECONDS
        remedy = "read their logs, or accept fewer orders"
        if not needs_person:
            remedy = "slices that a halt covers are not released, and expire when they are too late"
        elif snapshot.halts.in_force:
            remedy = f"no halt covers slices that have been due for {unhalted:.0f} s: {remedy}"
        message = (
            f"there {'is' if queue.due == 1 else 'are'} {due}, with workers present "
            f"({workers.present}): {remedy}"
        )
        yield Notice("releases_late", message, needs_person=needs_person)


def _halt_notices(snapshot: HealthSnapshot) -> Iterator[Notice]:
    if snapshot.halts.fault is not None:
        message = (
            "the halts cannot be read, so no slice is released: start processes of the newest "
            f"version, or restore the log from a backup; {snapshot.halts.fault}"
        )
        yield Notice("halts_unreadable", message, needs_person=True)
    if snapshot.halts.in_force:
        count = len(snapshot.halts.in_force)
        message = (
            f"releases are halted by {count} halt{'' if count == 1 else 's'}: `pulse halts` lists "
            "them, `pulse resume HALT_ID` lifts one"
        )
        yield Notice("releases_halted", message, needs_person=False)


def _seal_notices(snapshot: HealthSnapshot) -> Iterator[Notice]:
    seal = snapshot.seal
    if seal is None:
        message = (
            "the tables of the seal, seal_*, cannot be read: grant this role the right to read "
            "them, or end the session that locks them"
        )
        yield Notice("seal_unreadable", message, needs_person=False)
        return
    if seal.verifier_key is None:
        # A process that seals has just started, or has the notice seal_key_unusable.
        if not snapshot.process.seals:
            message = (
                "the log is not sealed, so a change to it can go unnoticed: make a key with `pulse "
                "key new` and set PULSE_SEAL_KEY"
            )
            yield Notice("not_sealed", message, needs_person=False)
        return
    if not seal.last_event_in_log:
        message = (
            f"the last sealed event, at position {seal.position}, is not in the log: events were "
            "deleted or the log was restored to an earlier point; after a restore run `pulse log "
            "fork`, otherwise restore the log from a backup"
        )
        yield Notice("sealed_events_missing", message, needs_person=True)
    elif seal.behind_seconds > MAX_BEHIND_SECONDS:
        message = (
            f"the seal is {seal.behind_seconds:.0f} s behind the log, at position {seal.position} "
            f"of {snapshot.log.end}"
        )
        idle = seal.idle_seconds is None or seal.idle_seconds > MAX_BEHIND_SECONDS
        if idle:
            message += (
                ", and no process is sealing: start one with the key in PULSE_SEAL_KEY, and read "
                "its log"
            )
        yield Notice("seal_behind", message, needs_person=idle)


def target_text(target: HaltTarget) -> str:
    """What is halted, as text."""
    match target.scope:
        case "ALL":
            return "everything"
        case "INSTRUMENT":
            return f"{target.instrument}"
        case "CALLER":
            return f"orders of {target.placed_by}"
        case _:
            assert_never(target.scope)


def _orders(count: int) -> str:
    number = f"{count:,}" + (" or more" if count == MAX_EXAMINED_FOR_HEALTH else "")
    return f"{number} order{'' if count == 1 else 's'}"


def _setval(log: LogState, position: int) -> str:
    """The SQL call that moves the sequence past every id that is taken or projected."""
    return f"call setval('{log.sequence}', {max(log.end, position)}) in SQL"


class NoticeWatch(Job[tuple[Notice, ...]]):
    """Logs notices when they are raised, as warnings if they need a person, and when cleared."""

    name = "notices"
    poll_seconds = 5.0

    def __init__(self, read: Callable[[], Awaitable[tuple[Notice, ...]]]) -> None:
        self._read = read
        self._known: frozenset[tuple[str, bool]] = frozenset()

    async def run_once(self) -> tuple[Notice, ...]:
        """Log the changes since the last call and return the current notices.

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
