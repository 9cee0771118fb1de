"""The start: try until Postgres is there, the schema is current and the log fit to append to."""

import asyncio
from collections.abc import Sequence
from typing import Final

import psycopg
import structlog

from pulse.application import LogUnfit, read_sequence_fault, require_fit_log
from pulse.errors import PulseError
from pulse.postgres import Database, DatabaseUnavailable, SessionUnfit, describe
from pulse.postgres.migrations import Migrations, MigrationUnderWay, SchemaNotCurrent
from pulse.postgres.revisions import AppliedRevision, read_applied
from pulse.process.revisions import REVISIONS
from pulse.retry import Retry, RetryPolicy

_log = structlog.get_logger(__name__)
_RETRY: Final = RetryPolicy(first_seconds=0.5, max_seconds=2.0)
CHECK_SECONDS: Final = 2.0
"""How often a running process checks the schema."""


class SchemaGate:
    """Opens when this code may run on the schema, migrated by any process, and the log is fit.

    `tried` is set after the first attempt, whatever came of it: from then on requests can be
    answered, with 503 where need be. `fault` says why this process may not work now; None if it
    may. Run `run_once` periodically after that: a newer release may have migrated.
    """

    def __init__(self, database: Database, *, migrate: bool) -> None:
        self.tried = asyncio.Event()
        self.opened = False
        self.fault: str | None = "the schema has not been checked yet"
        self.migrations = Migrations(REVISIONS)
        self._database = database
        self._migrate = migrate
        self._reported: str | None = None
        self._unfit: str | None = None

    def fault_at(self, applied: Sequence[AppliedRevision]) -> str | None:
        """Why this process serves no orders at these revisions of the schema, None if it may."""
        return self.migrations.fault(applied) or self._unfit

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
        self._unfit = await self._database.read(read_sequence_fault)
        self.fault = self.fault_at(applied)

    async def wait(self) -> None:
        """Return when this code may run on the schema and the log is fit.

        Raises:
            SessionUnfit: at the first attempt, a lasting fault of server, database or session.
            SchemaNotCurrent: at the first attempt, for another reason than Postgres being away:
                no right to migrate, a schema that is too new.
            LogUnfit: at the first attempt, a log that must not be appended to.
        """
        retry = Retry(_RETRY)
        try:
            while (fault := await self._attempt()) is not None:
                self.fault = fault
                self._report(fault)
                self.tried.set()
                await retry.wait()
            self.opened, self.fault = True, None
        finally:
            self.tried.set()
        if self._reported is not None:
            _log.info("postgres.ready")

    async def _attempt(self) -> str | None:
        try:
            return await asyncio.to_thread(self._migrate_or_look) or await self._unfit_log()
        except SessionUnfit as error:
            if error.lasting and not self.tried.is_set():
                raise
            return str(error)
        except psycopg.errors.LockNotAvailable as error:
            return f"the log is locked, so it is not known whether it is fit: {describe(error)}"
        except psycopg.OperationalError as error:
            return f"Postgres cannot be reached: {describe(error)}"
        except MigrationUnderWay as error:
            return str(error)
        except LogUnfit:
            raise
        except (psycopg.Error, PulseError) as error:
            if self.tried.is_set():
                return str(error)
            raise SchemaNotCurrent(f"the schema cannot be made current: {error}") from error

    async def _unfit_log(self) -> str | None:
        async with await self._database.connect("start") as connection:
            try:
                await require_fit_log(connection)
            except LogUnfit as error:
                self._unfit = str(error)
                if not self.tried.is_set():
                    raise
            else:
                self._unfit = None
        return self._unfit

    def _migrate_or_look(self) -> str | None:
        conninfo, limits = self._database.conninfo, self._database.limits
        if self._migrate:
            self.migrations.migrate(conninfo, limits)
            return None
        return self.migrations.fault(self.migrations.current(conninfo, limits))

    def _report(self, fault: str) -> None:
        if fault != self._reported:
            _log.warning(
                "postgres.not_ready",
                reason=fault,
                meanwhile="orders are answered 503",
            )
        self._reported = fault
