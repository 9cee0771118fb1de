"""The facts behind notices, readiness and `pulse status`, each read from its owner."""

from collections.abc import Awaitable, Callable

import msgspec
import psycopg

from pulse.eventstore import LogState, read_log_state
from pulse.postgres import Connection
from pulse.projections import (
    AuditState,
    Lag,
    QueueHealth,
    read_audit_state,
    read_queue_health,
    select_lag,
)


class WorkersSeen(msgspec.Struct, frozen=True):
    """Workers of all processes: how many are present, and what gone ones still hold.

    `gone_claims` is how many orders gone workers hold, the oldest for `oldest_gone_seconds` since
    its first claim; `overdue_claims` of them for longer than `timeout_seconds`.
    """

    present: int
    gone_claims: int
    oldest_gone_seconds: float
    overdue_claims: int
    timeout_seconds: float


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """The state of log, projection, queue and workers at one time.

    `audit` is None where the role may not read it, or its tables are locked; `projector_fault` is
    why this process cannot continue the projection, None if it can or does not project.
    """

    log: LogState
    lag: Lag
    queue: QueueHealth
    workers: WorkersSeen
    audit: AuditState | None
    projector_fault: str | None = None


ReadWorkers = Callable[[Connection], Awaitable[WorkersSeen]]


async def read_facts(connection: Connection, read_workers: ReadWorkers) -> Facts:
    """The facts now, at a cost that does not grow with log or queue."""
    return Facts(
        log=await read_log_state(connection),
        lag=await select_lag(connection),
        queue=await read_queue_health(connection),
        workers=await read_workers(connection),
        audit=await _read_audit(connection),
    )


async def _read_audit(connection: Connection) -> AuditState | None:
    try:
        return await read_audit_state(connection)
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.LockNotAvailable):
        return None
