"""The facts behind notices, readiness and `pulse status`, each read from its owner."""

import msgspec
import psycopg

from pulse.eventstore import LogState, read_log_state
from pulse.postgres import Connection
from pulse.projections.audit import AuditState, read_audit_state
from pulse.projections.claims import Workers, read_workers
from pulse.projections.overview import Lag, QueueHealth, read_lag, read_queue_health


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
