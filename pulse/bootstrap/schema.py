"""Bringing the schema up at start: try until Postgres is there and the schema is current."""

import asyncio
from typing import Final

import psycopg
import structlog

from pulse.errors import PulseError
from pulse.postgres import Database, SessionUnfit, describe
from pulse.postgres.migrations import Migrations, MigrationUnderWay, SchemaNotCurrent

_log = structlog.get_logger(__name__)
_RETRY_SECONDS: Final = 1.0

MIGRATED_ROOMS: Final = ("pulse.eventstore", "pulse.workers", "pulse.projections")
"""The rooms that own tables, each with its revisions."""


class SchemaGate:
    """Opens when the schema is current: migrated by this process, or seen to be by another.

    `tried` is set after the first attempt, whatever came of it: from then on requests can be
    answered, with 503 where need be.
    """

    def __init__(self, database: Database, *, migrate: bool) -> None:
        self.tried = asyncio.Event()
        self.opened = False
        self.migrations = Migrations(MIGRATED_ROOMS)
        self._database = database
        self._migrate = migrate
        self._reported: str | None = None

    async def wait(self) -> None:
        """Return when the schema is current.

        Raises:
            SessionUnfit: at the first attempt, a lasting fault of server, database or session.
            SchemaNotCurrent: at the first attempt, for another reason than Postgres being away:
                no right to migrate.
        """
        try:
            while (fault := await self._attempt()) is not None:
                self._report(fault)
                self.tried.set()
                await asyncio.sleep(_RETRY_SECONDS)
            self.opened = True
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
