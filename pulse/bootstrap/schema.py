"""Bringing the schema up at start: try until Postgres is there and the schema is current."""

import asyncio
from typing import Final

import psycopg
import structlog

from pulse.bootstrap.revisions import REVISIONS
from pulse.errors import PulseError
from pulse.postgres import Database, DatabaseUnavailable, SessionUnfit, describe
from pulse.postgres.migrations import Migrations, MigrationUnderWay, SchemaNotCurrent
from pulse.postgres.revisions import read_applied

_log = structlog.get_logger(__name__)
_RETRY_SECONDS: Final = 1.0
CHECK_SECONDS: Final = 2.0
"""How often a running process checks the schema."""


class SchemaGate:
    """Opens when this code may run on the schema: migrated by this process, or by another.

    `tried` is set after the first attempt, whatever came of it: from then on requests can be
    answered, with 503 where need be. `fault` says why this process may not work now; None if it
    may. Run `run_once` now and then after that: a newer release may have migrated.
    """

    def __init__(self, database: Database, *, migrate: bool) -> None:
        self.tried = asyncio.Event()
        self.opened = False
        self.fault: str | None = "the schema has not been checked yet"
        self.migrations = Migrations(REVISIONS)
        self._database = database
        self._migrate = migrate
        self._reported: str | None = None

    def require(self) -> None:
        """Do nothing if this process may work on the database.

        Raises:
            DatabaseUnavailable: it may not; nothing was done.
        """
        if self.fault is not None:
            raise DatabaseUnavailable(self.fault)

    async def run_once(self) -> None:
        """Check the schema again.

        Raises:
            DatabaseUnavailable: it cannot be checked now; `fault` is as it was.
        """
        self.fault = self.migrations.fault(await self._database.read(read_applied))

    async def wait(self) -> None:
        """Return when this code may run on the schema.

        Raises:
            SessionUnfit: at the first attempt, a lasting fault of server, database or session.
            SchemaNotCurrent: at the first attempt, for another reason than Postgres being away:
                no right to migrate, a schema that is too new.
        """
        try:
            while (fault := await self._attempt()) is not None:
                self.fault = fault
                self._report(fault)
                self.tried.set()
                await asyncio.sleep(_RETRY_SECONDS)
            self.opened, self.fault = True, None
        finally:
            self.tried.set()
        if self._reported is not None:
            _log.info("postgres.ready")

    async def _attempt(self) -> str | None:
        try:
            return await asyncio.to_thread(self._migrate_or_look)
        except SessionUnfit as error:
            if error.lasting and not self.tried.is_set():
                raise
            return str(error)
        except psycopg.OperationalError as error:
            return f"Postgres cannot be reached: {describe(error)}"
        except MigrationUnderWay as error:
            return str(error)
        except (psycopg.Error, PulseError) as error:
            if self.tried.is_set():
                return str(error)
            raise SchemaNotCurrent(f"the schema cannot be made current: {error}") from error

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
                retry_seconds=_RETRY_SECONDS,
                meanwhile="orders are answered 503",
            )
        self._reported = fault
