"""Schema changes: the revisions that a database lacks are applied in order, in one transaction."""

from collections.abc import Sequence
from importlib.resources import files
from typing import Final, LiteralString

import msgspec
import structlog
from psycopg import sql

from pulse.errors import PulseError
from pulse.postgres.limits import Limits
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
    """The database's schema is not one that this code may run on."""


class MigrationUnderWay(PulseError):
    """Another process is migrating at this moment."""


class Revision(msgspec.Struct, frozen=True):
    """A step of the schema, whose statements lie in the package that owns what it creates.

    Code is named by the last revision it knows. `oldest_code` is the oldest code that may run on a
    database that has this revision. `columns` (each as table.column) are what it alone creates: by
    them a database is recognised that was migrated before revisions were recorded.
    """

    number: int
    name: str
    package: str
    oldest_code: int
    columns: tuple[str, ...] = ()

    @property
    def statements(self) -> LiteralString:
        """The text of its file: a part of the program, never input."""
        file = f"{self.number:04}_{self.name}.sql"
        return files(self.package).joinpath("migrations", file).read_text(encoding="utf-8")


class AppliedRevision(msgspec.Struct, frozen=True):
    """A revision that a database has, as recorded by the code that applied it."""

    number: int
    name: str
    oldest_code: int


async def read_applied(connection: Connection) -> tuple[AppliedRevision, ...]:
    """The revisions that the database has, in order; none where it has no table of them."""
    if not await _value(connection, _HAS_COLUMNS, _OF_PULSE_SCHEMA):
        return ()
    cursor = await connection.execute(_SELECT_APPLIED)
    return tuple(AppliedRevision(*row) for row in await cursor.fetchall())


class Migrations:
    """Brings databases to the revisions that this code knows."""

    def __init__(self, revisions: Sequence[Revision]) -> None:
        self._revisions = tuple(revisions)
        self.head = self._revisions[-1].number
        if [revision.number for revision in revisions] != list(range(1, self.head + 1)):
            raise ValueError("revisions are numbered from 1 without a gap")

    async def migrate(self, conninfo: str, limits: Limits) -> None:
        """Bring the schema to this code's revision. Any number of processes may do so at once.

        Never waits for another process that migrates: call it again until it returns. Where
        nothing is to do it takes no lock, so that processes may start together. A database that
        was migrated before revisions were recorded has them recorded.

        Raises:
            psycopg.OperationalError: Postgres is away.
            SessionUnfit: this server, database or session is not what Pulse needs.
            MigrationUnderWay: another process is migrating.
            SchemaNotCurrent: the schema is newer than this code and does not admit it, or unknown.
        """
        async with await Sessions(conninfo, limits).connect("migrate") as connection:
            if self._is_done(await read_applied(connection)):
                return
            async with connection.transaction():
                await self._migrate(connection)

    async def current(self, conninfo: str, limits: Limits) -> tuple[AppliedRevision, ...]:
        """The revisions that the database has, in order.

        Raises:
            psycopg.OperationalError: Postgres is away.
            SessionUnfit: this server, database or session is not what Pulse needs.
        """
        async with await Sessions(conninfo, limits).connect("migrate") as connection:
            return await read_applied(connection)

    def fault(self, applied: Sequence[AppliedRevision]) -> str | None:
        """Why this code may not run on a database with these revisions; None if it may.

        A newer revision is fine if it admits this code. The text says what to do.
        """
        if unknown := self._unknown(applied):
            return unknown
        if len(applied) < self.head:
            at = f"is at revision {applied[-1].number}" if applied else "has no revision of Pulse's"
            return f"the schema {at}, this code needs revision {self.head}: run `pulse migrate`"
        strictest = max(applied, key=lambda revision: revision.oldest_code)
        if strictest.oldest_code > self.head:
            return (
                f"the schema has revision {strictest.number} ({strictest.name}), on which only "
                f"code of revision {strictest.oldest_code} or newer may run, and this code is of "
                f"revision {self.head}: start a newer release of Pulse"
            )
        return None

    def _unknown(self, applied: Sequence[AppliedRevision]) -> str | None:
        """The first recorded revision that is not in the one order that all code shares."""
        for number, found in enumerate(applied, 1):
            own = self._revisions[number - 1] if number <= self.head else None
            if found.number != number or (own is not None and found.name != own.name):
                expected = f"revision {number}" + (f" ({own.name})" if own is not None else "")
                return (
                    f"the schema has unknown revision {found.number} ({found.name}) where "
                    f"{expected} belongs: run the release of Pulse that made it, or restore table "
                    "pulse_schema"
                )
        return None

    def _is_done(self, applied: Sequence[AppliedRevision]) -> bool:
        """Whether there is nothing to apply; raises SchemaNotCurrent where it would not help."""
        fault = self.fault(applied)
        if fault is not None and (len(applied) >= self.head or self._unknown(applied)):
            raise SchemaNotCurrent(fault)
        return fault is None

    async def _migrate(self, connection: Connection) -> None:
        if not await _value(connection, _TRY_LOCK, MIGRATION_LOCK):
            raise MigrationUnderWay("another process is migrating this database")
        applied = await read_applied(connection)
        if self._is_done(applied):  # done since by the process that had the lock
            return
        schema = await _value(connection, _SELECT_HOME_SCHEMA, ["pulse_schema", "stored_events"])
        if not isinstance(schema, str):
            raise SchemaNotCurrent(
                "no schema of the search path exists: create one for Pulse's tables"
            )
        await connection.execute("SET LOCAL statement_timeout = 0")
        home = sql.SQL("SET LOCAL search_path = {}, pg_temp").format(sql.Identifier(schema))
        await connection.execute(home)
        done = len(applied) or await self._take_over(connection)
        _log.info("schema.migrating", current=done, target=self.head)
        for revision in self._revisions[done:]:
            await connection.execute(revision.statements)
            await _record(connection, revision)

    async def _take_over(self, connection: Connection) -> int:
        """Make the table of revisions, and record those that were applied without it: how many."""
        if not await _value(connection, _HAS_COLUMNS, _OF_PULSE_SCHEMA):
            await connection.execute(_CREATE_PULSE_SCHEMA)
        for done, revision in enumerate(self._revisions):
            if not await _value(connection, _HAS_COLUMNS, list(revision.columns)):
                return done
            await _record(connection, revision)
        return self.head


async def _value(connection: Connection, statement: LiteralString, *parameters: object) -> object:
    row = await (await connection.execute(statement, parameters)).fetchone()
    return None if row is None else row[0]


async def _record(connection: Connection, revision: Revision) -> None:
    parameters = (revision.number, revision.name, revision.oldest_code)
    await connection.execute(_INSERT_APPLIED, parameters)
