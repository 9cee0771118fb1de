"""Migrations: apply the revisions that a database lacks, in order, in one transaction.

The same transaction gives the roles of the database their rights on what it creates.
"""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Final, LiteralString

import msgspec
import structlog
from psycopg import sql
from psycopg.errors import InsufficientPrivilege

from pulse.errors import PulseError
from pulse.postgres.grants import Grant
from pulse.postgres.limits import PostgresLimits
from pulse.postgres.roles import RoleNames, RoleSetup, read_role_names
from pulse.postgres.session import Connection, Sessions
from pulse.postgres.sql import load_sql

_log = structlog.get_logger(__name__)

MIGRATION_LOCK: Final = 0x50554C53_45000001
"""The advisory lock that lets one process migrate at a time."""

_CREATE_PULSE_SCHEMA: Final = load_sql(__package__, "create_pulse_schema")
_HAS_COLUMNS: Final = load_sql(__package__, "has_columns")
_INSERT_APPLIED: Final = load_sql(__package__, "insert_applied_revision")
_SELECT_APPLIED: Final = load_sql(__package__, "select_applied_revisions")
_SELECT_HOME_SCHEMA: Final = load_sql(__package__, "select_home_schema")
_OF_PULSE_SCHEMA: Final = ["pulse_schema.revision"]
_TRY_LOCK: Final = load_sql(__package__, "try_migration_lock")


class SchemaNotCurrent(PulseError):
    """This code may not run on the database's schema."""


class MigrationUnderWay(PulseError):
    """Another process is migrating the database now."""


class Revision(msgspec.Struct, frozen=True):
    """A migration, whose statements are in the package that owns the tables.

    A version of the code is identified by the last revision it knows. `oldest_code` is the oldest
    code that may run on a database with this revision. `columns` (each as table.column) are columns
    that only this revision creates. They identify the revision of a database that was migrated
    before revisions were recorded.
    """

    number: int
    name: str
    package: str
    oldest_code: int
    columns: tuple[str, ...] = ()

    @property
    def statements(self) -> LiteralString:
        """The text of its .sql file, which is program text, not input."""
        file = f"{self.number:04}_{self.name}.sql"
        return files(self.package).joinpath("migrations", file).read_text(encoding="utf-8")


class AppliedRevision(msgspec.Struct, frozen=True):
    """A revision of a database, as recorded by the code that applied it."""

    number: int
    name: str
    oldest_code: int


async def read_applied(connection: Connection) -> tuple[AppliedRevision, ...]:
    """Read the applied revisions in order; empty if the database has no table of revisions."""
    if not await _value(connection, _HAS_COLUMNS, _OF_PULSE_SCHEMA):
        return ()
    cursor = await connection.execute(_SELECT_APPLIED)
    return tuple(AppliedRevision(*row) for row in await cursor.fetchall())


class Migrations:
    """Applies and checks the revisions that this code knows."""

    def __init__(self, revisions: Sequence[Revision], grants: Sequence[Grant] = ()) -> None:
        self._revisions = tuple(revisions)
        self._grants = tuple(grants)
        self.head = self._revisions[-1].number
        if [revision.number for revision in revisions] != list(range(1, self.head + 1)):
            raise ValueError("revisions are numbered from 1 without a gap")

    async def migrate(self, conninfo: str, limits: PostgresLimits) -> None:
        """Migrate the schema to this code's revision. Concurrent calls are safe.

        Does not wait while another process migrates: retry until it returns. Takes no lock if there
        is nothing to do, so that processes may start at the same time. Records the revisions of a
        database that was migrated before revisions were recorded.

        Raises:
            psycopg.OperationalError: Postgres cannot be reached.
            SessionUnfit: this server, database or session does not meet Pulse's requirements.
            MigrationUnderWay: another process is migrating.
            SchemaNotCurrent: the schema is unknown, or too new for this code, or this role may not
                change it.
        """
        async with await Sessions(conninfo, limits).connect("migrate") as connection:
            if self._is_current(await _read_applied(connection)):
                return
            async with connection.transaction():
                await self._migrate(connection)

    async def set_up_roles(
        self,
        conninfo: str,
        limits: PostgresLimits,
        names: Mapping[str, str] | None = None,
    ) -> tuple[RoleNames, int]:
        """Migrate, and set up the roles; returns them and the number of statements that it needed.

        `names` has names by role (owner, runtime, reader). A role without one keeps the name that
        was set up before, or has the default name. Takes no lock if there is nothing to do.

        Raises:
            RolesRefused: the roles cannot be set up like this.
            StatementsNeeded: this role may not execute some of the statements; nothing was changed.
            psycopg.OperationalError: as `migrate` does, and so are the other errors.
        """
        async with await Sessions(conninfo, limits).connect("migrate") as connection:
            is_current = self._is_current(await _read_applied(connection))
            stored = await read_role_names(connection) or RoleNames()
            setup = RoleSetup(msgspec.structs.replace(stored, **(names or {})), self._grants)
            if is_current:
                async with connection.transaction():
                    if await setup.is_complete(connection, await _enter_home(connection)):
                        return setup.names, 0
            async with connection.transaction():
                await self._migrate(connection)
                return setup.names, await setup.run(connection, await _enter_home(connection))

    async def current(self, conninfo: str, limits: PostgresLimits) -> tuple[AppliedRevision, ...]:
        """Connect and read the applied revisions, in order.

        Raises:
            psycopg.OperationalError: Postgres cannot be reached.
            SessionUnfit: this server, database or session does not meet Pulse's requirements.
            SchemaNotCurrent: this role may not read them.
        """
        async with await Sessions(conninfo, limits).connect("migrate") as connection:
            return await _read_applied(connection)

    def fault(self, applied: Sequence[AppliedRevision]) -> str | None:
        """Why this code may not run on a database with these revisions; None if it may.

        A newer revision is allowed if its `oldest_code` is. The message says what to do.
        """
        if unknown := self._unknown(applied):
            return unknown
        if len(applied) < self.head:
            at = f"is at revision {applied[-1].number}" if applied else "has no Pulse revision"
            return f"the schema {at}, this code needs revision {self.head}: run `pulse migrate`"
        strictest = max(applied, key=lambda revision: revision.oldest_code)
        if strictest.oldest_code > self.head:
            return (
                f"the schema has revision {strictest.number} ({strictest.name}), which needs code "
                f"of revision {strictest.oldest_code} or newer; this code has revision "
                f"{self.head}: start a newer release of Pulse"
            )
        return None

    def _unknown(self, applied: Sequence[AppliedRevision]) -> str | None:
        """The message for the first recorded revision that is out of order or has another name."""
        for number, found in enumerate(applied, 1):
            own = self._revisions[number - 1] if number <= self.head else None
            if found.number != number or (own is not None and found.name != own.name):
                expected = f"revision {number}" + (f" ({own.name})" if own is not None else "")
                return (
                    f"the schema has unknown revision {found.number} ({found.name}) instead of "
                    f"{expected}: run the release of Pulse that applied it, or restore table "
                    "pulse_schema"
                )
        return None

    def _is_current(self, applied: Sequence[AppliedRevision]) -> bool:
        """Whether there is nothing to apply; raises SchemaNotCurrent if migrating cannot help."""
        fault = self.fault(applied)
        if fault is not None and (len(applied) >= self.head or self._unknown(applied)):
            raise SchemaNotCurrent(fault)
        return fault is None

    async def _migrate(self, connection: Connection) -> None:
        if not await _value(connection, _TRY_LOCK, MIGRATION_LOCK):
            raise MigrationUnderWay("another process is migrating this database")
        applied = await read_applied(connection)
        if self._is_current(applied):  # another process has migrated meanwhile
            return
        schema = await _enter_home(connection)
        await connection.execute("SET LOCAL statement_timeout = 0")
        roles = await read_role_names(connection)
        try:
            done = len(applied) or await self._record_unrecorded(connection)
            _log.info("schema.migrating", current=done, target=self.head)
            for revision in self._revisions[done:]:
                await connection.execute(revision.statements)
                await _record(connection, revision)
            if roles is not None:
                await RoleSetup(roles, self._grants).grant(connection, schema)
        except InsufficientPrivilege as error:
            owner = f"a member of {roles.owner}" if roles else "the role that owns the tables"
            refusal = f"role {connection.info.user} may not change the schema"
            raise SchemaNotCurrent(
                f"{refusal} ({error.diag.message_primary}): run `pulse migrate` with the URL of "
                f"{owner}"
            ) from error

    async def _record_unrecorded(self, connection: Connection) -> int:
        """Create the table of revisions; record those applied without it. Returns how many."""
        if not await _value(connection, _HAS_COLUMNS, _OF_PULSE_SCHEMA):
            await connection.execute(_CREATE_PULSE_SCHEMA)
        for done, revision in enumerate(self._revisions):
            if not await _value(connection, _HAS_COLUMNS, list(revision.columns)):
                return done
            await _record(connection, revision)
        return self.head


async def _read_applied(connection: Connection) -> tuple[AppliedRevision, ...]:
    try:
        return await read_applied(connection)
    except InsufficientPrivilege as error:
        role = sql.Identifier(connection.info.user).as_string(connection)
        raise SchemaNotCurrent(
            f"role {connection.info.user} has no rights on Pulse's tables "
            f"({error.diag.message_primary}): GRANT pulse_runtime TO {role}, or the runtime role "
            "of this database if it has another name; `pulse migrate --roles` creates it"
        ) from error


async def _enter_home(connection: Connection) -> str:
    """Set the search path to the schema of Pulse's tables until the transaction ends; its name."""
    schema = await _value(connection, _SELECT_HOME_SCHEMA, ["pulse_schema", "stored_events"])
    if not isinstance(schema, str):
        raise SchemaNotCurrent("no schema of the search path exists: create one for Pulse's tables")
    home = sql.SQL("SET LOCAL search_path = {}, pg_temp").format(sql.Identifier(schema))
    await connection.execute(home)
    return schema


async def _value(connection: Connection, statement: LiteralString, *parameters: object) -> object:
    row = await (await connection.execute(statement, parameters)).fetchone()
    return None if row is None else row[0]


async def _record(connection: Connection, revision: Revision) -> None:
    parameters = (revision.number, revision.name, revision.oldest_code)
    await connection.execute(_INSERT_APPLIED, parameters)
