"""What the commands of a terminal work with: the database, without an appender or loops."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import msgspec
import psycopg

from pulse.application.in_process import InProcessOrders
from pulse.application.origin import Origin, system_clock
from pulse.eventstore import EventStore
from pulse.postgres import Database, DatabaseUnavailable, SessionUnfit, describe
from pulse.postgres.embedded import has_data
from pulse.postgres.migrations import (
    AppliedRevision,
    Migrations,
    MigrationUnderWay,
    SchemaNotCurrent,
)
from pulse.process.revisions import REVISIONS
from pulse.process.server import open_server
from pulse.process.startup import tune_gc
from pulse.projections.audit import Audit
from pulse.projections.make_queue import make_queue
from pulse.projections.order_view import OrderReader
from pulse.projections.parking import ParkedOrders
from pulse.projections.rebuild import OnProgress, Rebuild
from pulse.retry import Retry, RetryPolicy
from pulse.settings import Settings

_OBJECTS_OF_A_WINDOW: Final = 200_000
"""A collection in the middle of a window finds nothing: all of it lives until its end."""

_RETRY: Final = RetryPolicy(first_seconds=0.5, max_seconds=1.0)


class Tools(msgspec.Struct, frozen=True):
    """The use cases without an appender: nothing here writes to the log."""

    database: Database
    store: EventStore
    orders: InProcessOrders
    parked: ParkedOrders
    audit: Audit

    def rebuild(self, on_progress: OnProgress) -> Rebuild:
        """A rebuild of the order queue, not yet begun."""
        tune_gc(_OBJECTS_OF_A_WINDOW)
        return Rebuild(self.database, self.orders.mapper, on_progress)


@asynccontextmanager
async def open_tools(settings: Settings) -> AsyncIterator[Tools]:
    """The tools on the settings' Postgres, whose schema must be current.

    Raises:
        DatabaseUnavailable: Postgres cannot be reached.
        SessionUnfit: this server, database or session is not what Pulse needs.
        SchemaNotCurrent: it has another schema than this code needs, or there is no data at all.
    """
    if settings.database_url is None and not has_data(settings.data_dir):
        raise SchemaNotCurrent(
            f"there is no data of Pulse in {settings.data_dir.absolute()}: "
            "set PULSE_DATA_DIR or PULSE_DATABASE_URL, or start with `pulse up`"
        )
    async with open_server(settings) as conninfo:
        database = Database(conninfo, pool_size=2)
        migrations = Migrations(REVISIONS)
        with _errors_for_people("the schema cannot be read"):
            fault = migrations.fault(await migrations.current(conninfo, database.limits))
        if fault is not None:
            raise SchemaNotCurrent(fault)
        await database.open()
        try:
            store = EventStore(database, on_commit=lambda: None)
            reader = OrderReader(database, store.mapper)
            orders = InProcessOrders(store, reader, system_clock, Origin.of_this_process())
            parked = ParkedOrders(database, store.mapper)
            yield Tools(database, store, orders, parked, Audit(database))
        finally:
            await database.close()


async def migrate_once(settings: Settings, on_progress: OnProgress) -> AppliedRevision:
    """Bring the schema up and return its revision, which may be a newer one than this code's.

    Where that leaves the order queue empty, it is made from the log; `on_progress` is called with
    the position reached and the log's end.

    Raises:
        DatabaseUnavailable: Postgres cannot be reached.
        SessionUnfit: this server, database or session is not what Pulse needs.
        SchemaNotCurrent: it refuses the change, or is newer and does not admit this code.
    """
    async with open_server(settings) as conninfo:
        database = Database(conninfo, pool_size=2)
        limits = database.limits
        migrations, retry = Migrations(REVISIONS), Retry(_RETRY)
        with _errors_for_people("the schema cannot be made current"):
            while True:
                try:
                    await migrations.migrate(conninfo, limits)
                except MigrationUnderWay:
                    await retry.wait()
                else:
                    break
            await database.open()
            try:
                await make_queue(database, on_progress, max_behind_events=0)
            finally:
                await database.close()
            return (await migrations.current(conninfo, limits))[-1]


@contextmanager
def _errors_for_people(what: str) -> Iterator[None]:
    try:
        yield
    except SessionUnfit:
        raise
    except psycopg.OperationalError as error:
        raise DatabaseUnavailable(
            f"Postgres cannot be reached: {describe(error)}; check PULSE_DATABASE_URL"
        ) from error
    except psycopg.Error as error:
        detail = f" ({error.diag.message_detail})" if error.diag.message_detail else ""
        raise SchemaNotCurrent(f"{what}: {describe(error)}{detail}") from error
