"""What a person at a terminal works with: the database, looked at and tended from one process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import msgspec
import psycopg

from pulse.application import InProcessOrders, Origin, ScheduleVerification, system_clock
from pulse.eventstore import EventStore
from pulse.postgres import Database, DatabaseUnavailable, SessionUnfit, describe
from pulse.postgres.embedded import EmbeddedServer
from pulse.postgres.migrations import Migrations, MigrationUnderWay, SchemaNotCurrent
from pulse.postgres.revisions import AppliedRevision
from pulse.process.revisions import REVISIONS
from pulse.process.server import open_server
from pulse.process.startup import tune_gc
from pulse.projections import Audit, OnProgress, OrderReader, ParkedOrders, Rebuild
from pulse.settings import Settings

_LOOK_AGAIN_SECONDS: Final = 0.5


class Tools(msgspec.Struct, frozen=True):
    """The use cases without an appender: nothing here writes to the log."""

    database: Database
    store: EventStore
    orders: InProcessOrders
    parked: ParkedOrders
    audit: Audit

    def rebuild(self, on_progress: OnProgress) -> Rebuild:
        """A rebuild of the order queue, not yet begun."""
        tune_gc()
        return Rebuild(self.database, self.orders.mapper, on_progress)

    def verification(self) -> ScheduleVerification:
        """The proof of the stored schedules, not yet begun."""
        tune_gc()
        return ScheduleVerification(self.store)


@asynccontextmanager
async def open_tools(settings: Settings) -> AsyncIterator[Tools]:
    """The tools on the settings' Postgres, whose schema must be current.

    Raises:
        DatabaseUnavailable: Postgres cannot be reached.
        SessionUnfit: this server, database or session is not what Pulse needs.
        SchemaNotCurrent: it has another schema than this code needs, or there is no data at all.
    """
    if settings.database_url is None and not EmbeddedServer.has_data(settings.data_dir):
        raise SchemaNotCurrent(
            f"there is no data of Pulse in {settings.data_dir.absolute()}: "
            "set PULSE_DATA_DIR or PULSE_DATABASE_URL, or start with `pulse up`"
        )
    async with open_server(settings) as server:
        database = Database(server.conninfo, pool_size=2)
        _require_current_schema(database)
        await database.open()
        try:
            store = EventStore(database, on_commit=lambda: None)
            reader = OrderReader(database, store.mapper)
            orders = InProcessOrders(store, reader, system_clock, Origin.of_this_process())
            parked = ParkedOrders(database, store.mapper)
            yield Tools(database, store, orders, parked, Audit(database))
        finally:
            await database.close()


async def migrate_once(settings: Settings) -> AppliedRevision:
    """Bring the schema up and return its revision, which may be a newer one than this code's.

    Raises:
        DatabaseUnavailable: Postgres cannot be reached.
        SessionUnfit: this server, database or session is not what Pulse needs.
        SchemaNotCurrent: it refuses the change, or is newer and does not admit this code.
    """
    async with open_server(settings) as server:
        database = Database(server.conninfo, pool_size=2)
        migrations = Migrations(REVISIONS)
        try:
            await _migrate(migrations, database)
            applied = migrations.current(database.conninfo, database.limits)
        except SessionUnfit:
            raise
        except psycopg.OperationalError as error:
            raise _unreachable(error) from error
        except psycopg.Error as error:
            fault = f"the schema cannot be made current: {describe(error)}"
            raise SchemaNotCurrent(fault) from error
        return applied[-1]


async def _migrate(migrations: Migrations, database: Database) -> None:
    """Migrate, waiting for whoever is at it before."""
    while True:
        try:
            await asyncio.to_thread(migrations.migrate, database.conninfo, database.limits)
        except MigrationUnderWay:
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)
        else:
            return


def _require_current_schema(database: Database) -> None:
    migrations = Migrations(REVISIONS)
    try:
        fault = migrations.fault(migrations.current(database.conninfo, database.limits))
    except SessionUnfit:
        raise
    except psycopg.OperationalError as error:
        raise _unreachable(error) from error
    except psycopg.Error as error:
        raise SchemaNotCurrent(f"the schema cannot be read: {describe(error)}") from error
    if fault is not None:
        raise SchemaNotCurrent(fault)


def _unreachable(error: Exception) -> DatabaseUnavailable:
    return DatabaseUnavailable(
        f"Postgres cannot be reached: {describe(error)}; check PULSE_DATABASE_URL"
    )
