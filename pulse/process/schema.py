"""The checks at the start of a process: of Postgres, the schema, the log, and the order queue."""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import Final

import psycopg
import structlog

from pulse.application.grants import GRANTS
from pulse.application.notices import next_id_taken, sequence_below_position
from pulse.application.role_rights import read_role_rights
from pulse.errors import PulseError
from pulse.eventstore import EventTooNew, read_log_faults, read_log_state
from pulse.loop import Job
from pulse.postgres import Connection, Database, DatabaseUnavailable, SessionUnfit, describe
from pulse.postgres.apply_revision import MigrationBlocked
from pulse.postgres.migrations import Migrations, SchemaNotCurrent, read_applied
from pulse.postgres.revision import AppliedRevision
from pulse.process.revisions import REVISIONS
from pulse.projections.catch_up import catch_up_queue
from pulse.projections.position import read_position
from pulse.retry import Retry, RetryPolicy

_log = structlog.get_logger(__name__)
_RETRY: Final = RetryPolicy(first_seconds=0.5, max_seconds=2.0)
_REPORT_SECONDS: Final = 5.0


class LogUnfit(PulseError):
    """Orders appended to this database could be lost or never projected, so Pulse refuses it."""


class RoleUnfit(PulseError):
    """This process's role lacks rights that every process needs."""


class SchemaGate(Job[None]):
    """Decides whether this process may work on the database: at the start, then every 2 s.

    `wait` migrates or checks the schema, checks the log, and lets a queue that is far behind catch
    up. After that the gate runs as a job that checks again, since a newer release may migrate the
    schema. `fault` says why this process may not work now; None if it may. `attempted` is set after
    the first attempt, successful or not, or when the queue begins to catch up. From then on
    requests are answered, with 503 while there is a `fault`. With the `superuser_conninfo` of an
    embedded server, migrating also sets up the roles.
    """

    name = "schema"
    poll_seconds = 2.0

    def __init__(
        self, database: Database, *, migrate: bool, superuser_conninfo: str | None = None
    ) -> None:
        self.attempted = asyncio.Event()
        self.fault: str | None = "the schema has not been checked yet"
        self._database = database
        self._migrations = Migrations(REVISIONS, GRANTS)
        self._migrate = migrate
        self._superuser_conninfo = superuser_conninfo
        self._unfit: str | None = None
        self._report_at = float("-inf")

    def fault_at(self, applied: Sequence[AppliedRevision]) -> str | None:
        """Why this process may not work at these revisions of the schema; None if it may.

        A fault of the log counts only until the start is done. After that readiness reports it with
        the checks `append` and `projection`.
        """
        return self._migrations.fault(applied) or self._unfit

    def require(self) -> None:
        """Return if this process may work on the database.

        Raises:
            DatabaseUnavailable: it may not; the message is `fault`.
        """
        if self.fault is not None:
            raise DatabaseUnavailable(self.fault)

    async def run_once(self) -> None:
        """Check the schema and the log's sequence again.

        Raises:
            DatabaseUnavailable: they cannot be read now; `fault` is unchanged.
        """
        applied = await self._database.read(read_applied)
        sequence_fault = await self._database.read(_read_sequence_fault)
        self.fault = self._migrations.fault(applied) or sequence_fault

    async def wait(self) -> None:
        """Return when this process may work on the database; retry while the fault is transient.

        Raises:
            SessionUnfit: the first attempt found a permanent fault of server, database or session.
            SchemaNotCurrent: the first attempt found a schema that cannot be used: it is too new,
                or this role may not migrate.
            LogUnfit: the first attempt found a log that must not be appended to.
            RoleUnfit: the first attempt found that this role may not read log or queue.
        """
        retry, reported = Retry(_RETRY), None
        try:
            while (fault := await self._attempt()) is not None:
                self.fault = fault
                if fault != reported:
                    consequence = "orders are answered 503, and the start is retried"
                    _log.warning("postgres.not_ready", reason=fault, consequence=consequence)
                reported = fault
                self.attempted.set()
                await retry.wait()
            self.fault = None
        finally:
            self.attempted.set()
        if reported is not None:
            _log.info("postgres.ready")

    async def _attempt(self) -> str | None:
        """Why the start must be retried, None if it is done; raises if the process must exit."""
        try:
            fault = await self._migrate_or_check()
            if fault is None:
                async with await self._database.connect("start") as connection:
                    await _require_safe_log(connection)
                with contextlib.suppress(EventTooNew):  # processes with newer code project it
                    await catch_up_queue(self._database, self._report_catch_up)
            self._unfit = None
        except (psycopg.Error, PulseError) as error:
            reason, is_transient = _classify(error)
            if isinstance(error, LogUnfit):
                self._unfit = reason
            if is_transient or self.attempted.is_set():
                return reason
            if isinstance(error, SessionUnfit | LogUnfit | RoleUnfit):
                raise
            raise SchemaNotCurrent(f"the schema cannot be migrated: {error}") from error
        return fault

    def _report_catch_up(self, position: int, end: int) -> None:
        """Set `fault` to the progress, so that requests are answered 503 meanwhile."""
        progress = f"position {position:,} of {end:,}"
        self.fault = f"the order queue is catching up with the log: {progress}"
        self.attempted.set()
        now = time.monotonic()
        if now >= self._report_at:
            self._report_at = now + _REPORT_SECONDS
            _log.info("queue.catching_up", position=position, end=end)

    async def _migrate_or_check(self) -> str | None:
        conninfo, limits = self._database.conninfo, self._database.limits
        if self._migrate and self._superuser_conninfo is not None:
            await self._migrations.set_up_roles(self._superuser_conninfo, limits)
            return None
        if self._migrate:
            await self._migrations.migrate(conninfo, limits)
            return None
        return self._migrations.fault(await self._migrations.current(conninfo, limits))


async def _require_safe_log(connection: Connection) -> None:
    """Refuse a database in which the projection could skip an accepted order (decision 14).

    Raises:
        LogUnfit: lock, sequence and insert do not happen on one server in one commit phase, or the
            sequence is below the log's end or below the projected position.
        RoleUnfit: this role may not read log or queue.
    """
    if faults := list(await read_log_faults(connection)):
        raise LogUnfit(
            f"this database is not safe for Pulse's log: {'; '.join(faults)}; a log needs its own "
            "database on an ordinary Postgres server, see docs/decisions/0014"
        )
    try:
        fault = await _read_sequence_fault(connection)
    except psycopg.errors.InsufficientPrivilege as error:
        rights = await read_role_rights(connection)
        raise RoleUnfit(rights.missing_text or describe(error)) from error
    if fault is not None:
        raise LogUnfit(fault)


async def _read_sequence_fault(connection: Connection) -> str | None:
    """Why an order appended now would fail or never be projected; None if neither is the case."""
    position = await read_position(connection)  # first: the sequence is never below it
    log = await read_log_state(connection)
    return sequence_below_position(log, position) or next_id_taken(log, position)


def _classify(error: Exception) -> tuple[str, bool]:
    """The reason for operators, and whether the error is transient."""
    match error:
        case SessionUnfit():
            return str(error), not error.is_permanent
        case psycopg.errors.LockNotAvailable():
            reason = "the log is locked, so it cannot be checked"
            return f"{reason}: {describe(error)}", True
        case psycopg.OperationalError():
            return f"Postgres cannot be reached: {describe(error)}", True
        case DatabaseUnavailable():
            return str(error), True
        case _:
            return str(error), isinstance(error, MigrationBlocked)
