"""The start: try until Postgres is there, the schema current, the log fit and the queue made."""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import Final

import psycopg
import structlog

from pulse.application.notices import next_id_taken, sequence_below_position
from pulse.errors import PulseError
from pulse.eventstore import EventTooNew, read_log_faults, read_log_state
from pulse.loop import Job
from pulse.postgres import Connection, Database, DatabaseUnavailable, SessionUnfit, describe
from pulse.postgres.migrations import (
    AppliedRevision,
    Migrations,
    MigrationUnderWay,
    SchemaNotCurrent,
    read_applied,
)
from pulse.process.revisions import REVISIONS
from pulse.projections.make_queue import make_queue
from pulse.projections.position import read_position
from pulse.retry import Retry, RetryPolicy

_log = structlog.get_logger(__name__)
_RETRY: Final = RetryPolicy(first_seconds=0.5, max_seconds=2.0)
_REPORT_SECONDS: Final = 5.0


class LogUnfit(PulseError):
    """Orders appended to this database could be lost or never projected: it must not be served."""


class SchemaGate(Job[None]):
    """Opens when this code may run on the schema, migrated by any process, and the log is fit.

    `tried` is set after the first attempt, whatever came of it: from then on requests can be
    answered, with 503 where need be. `fault` says why this process may not work now; None if it
    may. After that it is a job: a newer release may have migrated.
    """

    name = "schema"
    poll_seconds = 2.0

    def __init__(self, database: Database, *, migrate: bool) -> None:
        self.tried = asyncio.Event()
        self.fault: str | None = "the schema has not been checked yet"
        self._database = database
        self._migrations = Migrations(REVISIONS)
        self._migrate = migrate
        self._unfit: str | None = None
        self._report_at = float("-inf")

    def fault_at(self, applied: Sequence[AppliedRevision]) -> str | None:
        """Why this process serves no orders at these revisions of the schema, None if it may."""
        return self._migrations.fault(applied) or self._unfit

    def require(self) -> None:
        """Return if this process may work on the database.

        Raises:
            DatabaseUnavailable: it may not.
        """
        if self.fault is not None:
            raise DatabaseUnavailable(self.fault)

    async def run_once(self) -> None:
        """Check the schema, and the sequence of the log, again.

        Raises:
            DatabaseUnavailable: they cannot be checked now; `fault` is as it was.
        """
        applied = await self._database.read(read_applied)
        self._unfit = await self._database.read(_read_sequence_fault)
        self.fault = self.fault_at(applied)

    async def wait(self) -> None:
        """Return when this code may run on the schema and the log is fit.

        Raises:
            SessionUnfit: at the first attempt, a lasting fault of server, database or session.
            SchemaNotCurrent: at the first attempt, for another reason than Postgres being away:
                no right to migrate, a schema that is too new.
            LogUnfit: at the first attempt, a log that must not be appended to.
        """
        retry, reported = Retry(_RETRY), None
        try:
            while (fault := await self._attempt()) is not None:
                self.fault = fault
                if fault != reported:
                    meanwhile = "orders are answered 503, and Postgres is tried again and again"
                    _log.warning("postgres.not_ready", reason=fault, meanwhile=meanwhile)
                reported = fault
                self.tried.set()
                await retry.wait()
            self.fault = None
        finally:
            self.tried.set()
        if reported is not None:
            _log.info("postgres.ready")

    async def _attempt(self) -> str | None:
        """Why the start has to wait; raises what a process must not start with."""
        try:
            fault = await self._migrate_or_check()
            if fault is None:
                async with await self._database.connect("start") as connection:
                    await _require_fit_log(connection)
                with contextlib.suppress(EventTooNew):  # the projection leaves it to newer code
                    await make_queue(self._database, self._report_queue)
            self._unfit = None
        except (psycopg.Error, PulseError) as error:
            reason, may_pass = _judge(error)
            if isinstance(error, LogUnfit):
                self._unfit = reason
            if may_pass or self.tried.is_set():
                return reason
            if isinstance(error, SessionUnfit | LogUnfit):
                raise
            raise SchemaNotCurrent(f"the schema cannot be made current: {error}") from error
        return fault

    def _report_queue(self, position: int, end: int) -> None:
        """The queue is being made; requests are answered meanwhile, with 503."""
        made = f"{position:,} of {end:,} positions are done"
        self.fault = f"the order queue is being made from the log: {made}"
        self.tried.set()
        now = time.monotonic()
        if now >= self._report_at:
            self._report_at = now + _REPORT_SECONDS
            _log.info("queue.being_made", position=position, end=end)

    async def _migrate_or_check(self) -> str | None:
        conninfo, limits = self._database.conninfo, self._database.limits
        if self._migrate:
            await self._migrations.migrate(conninfo, limits)
            return None
        return self._migrations.fault(await self._migrations.current(conninfo, limits))


async def _require_fit_log(connection: Connection) -> None:
    """Refuse a database on which an accepted order could be passed over (decision 14).

    Raises:
        LogUnfit: lock, sequence and insert are not on one server in one phase, or the sequence is
            below the log's end or below the projected position.
    """
    if faults := list(await read_log_faults(connection)):
        raise LogUnfit(
            f"this database is not fit for Pulse's log: {'; '.join(faults)}; one log needs one "
            "ordinary Postgres database of its own, see docs/decisions/0014"
        )
    if fault := await _read_sequence_fault(connection):
        raise LogUnfit(fault)


async def _read_sequence_fault(connection: Connection) -> str | None:
    """Why an order appended now would fail or never be projected; None if neither."""
    log, position = await read_log_state(connection), await read_position(connection)
    return sequence_below_position(log, position) or next_id_taken(log, position)


def _judge(error: Exception) -> tuple[str, bool]:
    """What the error says, and whether it may pass while the process waits."""
    match error:
        case SessionUnfit():
            return str(error), not error.lasting
        case psycopg.errors.LockNotAvailable():
            reason = "the log is locked, so it is not known whether it is fit"
            return f"{reason}: {describe(error)}", True
        case psycopg.OperationalError():
            return f"Postgres cannot be reached: {describe(error)}", True
        case DatabaseUnavailable():
            return str(error), True
        case _:
            return str(error), isinstance(error, MigrationUnderWay)
