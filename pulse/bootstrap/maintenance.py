"""What a person at a terminal works with: the database, looked at and tended from one process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import psycopg

from pulse.application import InProcessOrders, Origin, system_clock
from pulse.bootstrap.schema import MIGRATED_ROOMS
from pulse.bootstrap.server import open_server
from pulse.eventstore import EventStore
from pulse.postgres import Database, DatabaseUnavailable, describe
from pulse.postgres.migrations import Migrations, SchemaNotCurrent
from pulse.projections import OnProgress, OrderReader, ParkedOrders, Rebuild
from pulse.settings import Settings


class Tools(msgspec.Struct, frozen=True):
    """The use cases without an appender: nothing here writes to the log."""

    database: Database
    orders: InProcessOrders
    parked: ParkedOrders

    def rebuild(self, on_progress: OnProgress) -> Rebuild:
        """A rebuild of the order queue, not yet begun."""
        return Rebuild(self.database, self.orders.mapper, on_progress)


@asynccontextmanager
async def open_tools(settings: Settings) -> AsyncIterator[Tools]:
    """The tools on the settings' Postgres, whose schema must be current.

    Raises:
        DatabaseUnavailable: Postgres cannot be reached.
        SchemaNotCurrent: it has another schema than this code needs.
    """
    async with open_server(settings) as server:
        database = Database(server.conninfo, pool_size=2)
        _require_current_schema(database)
        await database.open()
        try:
            store = EventStore(database, on_commit=lambda: None)
            reader = OrderReader(database, store.mapper)
            orders = InProcessOrders(store, reader, system_clock, Origin.of_this_process())
            yield Tools(database, orders, ParkedOrders(database, store.mapper))
        finally:
            await database.close()


async def migrate_once(settings: Settings) -> str:
    """Bring the schema up and return its revision, which may be a newer one than this code's.

    Raises:
        DatabaseUnavailable: Postgres cannot be reached.
        SchemaNotCurrent: it refuses the change.
    """
    async with open_server(settings) as server:
        database = Database(server.conninfo, pool_size=2)
        migrations = Migrations(MIGRATED_ROOMS)
        try:
            migrations.migrate(database.conninfo, database.limits)
            return migrations.current(database.conninfo, database.limits) or migrations.head
        except psycopg.OperationalError as error:
            raise _unreachable(error) from error
        except psycopg.Error as error:
            fault = f"the schema cannot be made current: {describe(error)}"
            raise SchemaNotCurrent(fault) from error


def _require_current_schema(database: Database) -> None:
    migrations = Migrations(MIGRATED_ROOMS)
    try:
        fault = migrations.fault(migrations.current(database.conninfo, database.limits))
    except psycopg.OperationalError as error:
        raise _unreachable(error) from error
    except psycopg.Error as error:
        raise SchemaNotCurrent(f"the schema cannot be read: {describe(error)}") from error
    if fault is not None:
        raise SchemaNotCurrent(f"{fault} with `pulse migrate`")


def _unreachable(error: Exception) -> DatabaseUnavailable:
    return DatabaseUnavailable(
        f"Postgres cannot be reached: {describe(error)}; check PULSE_DATABASE_URL"
    )
