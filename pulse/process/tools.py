"""The tools of the `pulse` commands: the use cases on the database, without background loops."""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Final

import msgspec
import psycopg

from pulse.application.clock_watch import ClockWatch
from pulse.application.grants import GRANTS
from pulse.application.halts import ReleaseHalts
from pulse.application.in_process import InProcessOrders
from pulse.application.origin import Origin, system_clock
from pulse.application.past import Past
from pulse.eventstore import LOG_CHANNEL, EventStore
from pulse.postgres import (
    Database,
    DatabaseUnavailable,
    Notifier,
    PostgresLimits,
    SessionUnfit,
    describe,
)
from pulse.postgres.apply_revision import MigrationInProgress
from pulse.postgres.embedded import has_data
from pulse.postgres.migrations import Migrations, SchemaNotCurrent
from pulse.postgres.revision import AppliedRevision, Revision
from pulse.postgres.roles import RoleNames
from pulse.process.background_services import BackgroundServices
from pulse.process.revisions import HEAD, REVISIONS
from pulse.process.server import open_server
from pulse.process.startup import tune_gc
from pulse.projections.audit import Audit
from pulse.projections.catch_up import catch_up_queue
from pulse.projections.order_view import OrderReader
from pulse.projections.parking import ParkedOrders
from pulse.projections.queue_history import QueueHistory
from pulse.projections.rebuild import OnProgress, Rebuild
from pulse.retry import Retry, RetryPolicy
from pulse.settings import Settings

_OBJECTS_PER_WINDOW: Final = 200_000
"""A window's objects all live until its end, so a collection during it would free nothing."""

_MAX_LOCKED_SECONDS: Final = 60.0
_RETRY: Final = RetryPolicy(first_seconds=0.5, max_seconds=1.0)


class Tools(msgspec.Struct, frozen=True):
    """The use cases of the commands. Within `appending` they can write to the log."""

    database: Database
    store: EventStore
    orders: InProcessOrders
    past: Past
    halts: ReleaseHalts
    parked: ParkedOrders
    audit: Audit
    clock_watch: ClockWatch

    @asynccontextmanager
    async def appending(self) -> AsyncIterator[None]:
        """Run the appender. On exit the processes of Pulse are notified that the log is longer.

        If this host's clock is off, events get the time of the database's clock.

        Raises:
            DatabaseUnavailable: the clock cannot be compared with the database's.
        """
        await self.clock_watch.run_once()
        appender = self.store.appender
        async with BackgroundServices() as services:
            services.on_stop(self._notify)
            services.start("appender", appender.run, request_stop=appender.drain)
            yield

    async def _notify(self) -> None:
        with suppress(DatabaseUnavailable):  # a hint: every process also polls
            await Notifier(self.database, LOG_CHANNEL).send()

    def rebuild(self, on_progress: OnProgress) -> Rebuild:
        """A rebuild of the order queue, not yet started."""
        tune_gc(_OBJECTS_PER_WINDOW)
        return Rebuild(self.database, self.orders.mapper, on_progress)


@asynccontextmanager
async def open_tools(settings: Settings, *, as_owner: bool = False) -> AsyncIterator[Tools]:
    """The tools on the settings' Postgres, whose schema must be current.

    With `as_owner` they work with an embedded server as its superuser. On other servers the role is
    that of PULSE_DATABASE_URL.

    Raises:
        DatabaseUnavailable: Postgres cannot be reached.
        SessionUnfit: this server, database or session does not meet Pulse's requirements.
        SchemaNotCurrent: the schema is not the one that this code needs, or there is no data.
    """
    _require_data(settings)
    async with open_server(settings) as server:
        conninfo = server.conninfo
        if as_owner and server.superuser_conninfo is not None:
            conninfo = server.superuser_conninfo
        database = Database(conninfo, pool_size=2, code_revision=HEAD)
        migrations = Migrations(REVISIONS)
        with _pulse_errors("the schema cannot be read"):
            fault = migrations.fault(await migrations.current(server.conninfo, database.limits))
        if fault is not None:
            raise SchemaNotCurrent(fault)
        await database.open()
        try:
            store = EventStore(
                database,
                on_commit=lambda: None,
                require_standby=settings.require_synchronous_standby,
            )
            reader = OrderReader(database, store.mapper)
            clock_watch = ClockWatch(
                database, system_clock, max_offset_seconds=settings.max_clock_offset_seconds
            )
            origin = Origin.of_this_process()
            clock = clock_watch.corrected
            orders = InProcessOrders(store, reader, clock, origin, component="cli")
            past = Past(store, reader, QueueHistory(database, store.mapper))
            halts = ReleaseHalts(store, clock, origin, component="cli")
            parked = ParkedOrders(database, store.mapper)
            audit = Audit(database)
            yield Tools(database, store, orders, past, halts, parked, audit, clock_watch)
        finally:
            await database.close()


def _require_data(settings: Settings) -> None:
    if settings.database_url is None and not has_data(settings.data_dir):
        raise SchemaNotCurrent(
            f"there is no Pulse data in {settings.data_dir.absolute()}: "
            "set PULSE_DATA_DIR or PULSE_DATABASE_URL, or start with `pulse up`"
        )


class Migrated(msgspec.Struct, frozen=True):
    """The revision of the schema, the pending revisions, and the roles if they were set up.

    `pending` are revisions of the phase `after`. `role_statements` counts the statements that set
    up the roles.
    """

    revision: AppliedRevision
    pending: tuple[Revision, ...]
    roles: RoleNames | None = None
    role_statements: int = 0


async def migrate_once(
    settings: Settings,
    on_progress: OnProgress,
    *,
    after: bool = False,
    with_roles: bool = False,
    role_names: Mapping[str, str] | None = None,
) -> Migrated:
    """Migrate the schema and return its revision, which may be newer than this code's.

    With `after`, the revisions that follow the replacement of all processes are applied too. Waits
    while another process migrates, and up to a minute for a table that is locked.

    Then the order queue catches up with the log, since a migration may have emptied it.
    `on_progress` is called with the position reached and the log's end. With `with_roles`, and
    always on an embedded server, the roles are set up too; `role_names` are as `set_up_roles` takes
    them.

    Raises:
        DatabaseUnavailable: Postgres cannot be reached.
        SessionUnfit: this server, database or session does not meet Pulse's requirements.
        SchemaNotCurrent: Postgres refuses the migration, or the schema is too new for this code.
        MigrationBlocked: a table stays locked, or processes of older code run.
        RolesRefused: the roles cannot be set up like this.
    """
    async with open_server(settings) as server:
        owner_conninfo = server.superuser_conninfo or server.conninfo
        database = Database(server.conninfo, pool_size=2, code_revision=HEAD)
        limits = database.limits
        migrations, retry = Migrations(REVISIONS, GRANTS), Retry(_RETRY)
        roles, role_statements = None, 0
        with _pulse_errors("the schema cannot be migrated"):
            while True:
                try:
                    if with_roles or server.superuser_conninfo is not None:
                        roles, role_statements = await migrations.set_up_roles(
                            owner_conninfo,
                            limits,
                            role_names,
                            after=after,
                            max_lock_wait_seconds=_MAX_LOCKED_SECONDS,
                        )
                    else:
                        await migrations.migrate(
                            owner_conninfo,
                            limits,
                            after=after,
                            max_lock_wait_seconds=_MAX_LOCKED_SECONDS,
                        )
                except MigrationInProgress:
                    await retry.wait()
                else:
                    break
            await database.open()
            try:
                await catch_up_queue(database, on_progress, max_behind_events=0)
            finally:
                await database.close()
            applied = await migrations.current(owner_conninfo, limits)
            return Migrated(applied[-1], migrations.pending(applied), roles, role_statements)


class SchemaState(msgspec.Struct, frozen=True):
    """The revisions of a database, compared with those of this code.

    `pending` are revisions that the database lacks. `newer` are applied revisions that this code
    does not know. `refusal` says why this code can neither run on the database nor migrate it.
    """

    applied: tuple[AppliedRevision, ...]
    pending: tuple[Revision, ...]
    newer: tuple[AppliedRevision, ...]
    refusal: str | None


async def read_schema_state(settings: Settings) -> SchemaState:
    """Compare the database's revisions with this code's. Needs only the right to read them.

    Raises:
        DatabaseUnavailable: Postgres cannot be reached.
        SessionUnfit: this server, database or session does not meet Pulse's requirements.
        SchemaNotCurrent: this role may not read them, or there is no data.
    """
    _require_data(settings)
    async with open_server(settings) as server:
        migrations = Migrations(REVISIONS)
        with _pulse_errors("the schema cannot be read"):
            applied = await migrations.current(server.conninfo, PostgresLimits())
        pending, newer = migrations.pending(applied), applied[migrations.head :]
        return SchemaState(applied, pending, newer, migrations.refusal(applied))


async def migration_script(settings: Settings, *, after: bool = False) -> str:
    """The script for psql that applies the revisions; empty if there is nothing to apply.

    Raises:
        SchemaNotCurrent: the schema is unknown or too new, or there is no data.
        DatabaseUnavailable, SessionUnfit: as in `read_schema_state`.
    """
    _require_data(settings)
    async with open_server(settings) as server:
        with _pulse_errors("the schema cannot be read"):
            return await Migrations(REVISIONS, GRANTS).script(
                server.superuser_conninfo or server.conninfo, PostgresLimits(), after=after
            )


@contextmanager
def _pulse_errors(what: str) -> Iterator[None]:
    """Raise Postgres errors as Pulse's, with a message for the operator."""
    try:
        yield
    except SessionUnfit:
        raise
    except psycopg.errors.LockNotAvailable as error:
        raise DatabaseUnavailable(
            f"{what}: another session holds a lock ({describe(error)}); end its transaction"
        ) from error
    except psycopg.OperationalError as error:
        raise DatabaseUnavailable(
            f"Postgres cannot be reached: {describe(error)}; check PULSE_DATABASE_URL"
        ) from error
    except psycopg.Error as error:
        detail = f" ({error.diag.message_detail})" if error.diag.message_detail else ""
        raise SchemaNotCurrent(f"{what}: {describe(error)}{detail}") from error
