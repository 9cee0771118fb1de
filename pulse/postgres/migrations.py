"""Schema changes: the revisions that a database lacks are applied in order, in one transaction."""

from collections.abc import Sequence
from typing import Final

import psycopg
import structlog
from psycopg import sql
from psycopg.rows import TupleRow

from pulse.errors import PulseError
from pulse.postgres.limits import Limits
from pulse.postgres.revisions import AppliedRevision, Revision, fault_of_schema, is_behind
from pulse.postgres.session import connect_blocking
from pulse.postgres.sql import load_sql

_log = structlog.get_logger(__name__)

MIGRATION_LOCK: Final = 0x50554C53_45000001
"""The advisory lock that lets one process migrate at a time."""

_CREATE_PULSE_SCHEMA = load_sql(__package__, "create_pulse_schema")
_HAS_COLUMNS = load_sql(__package__, "has_columns")
_INSERT_APPLIED = load_sql(__package__, "insert_applied_revision")
_SELECT_APPLIED = load_sql(__package__, "select_applied_revisions")
_SELECT_SCHEMA_OF_TABLE = load_sql(__package__, "select_schema_of_table")

_Connection = psycopg.Connection[TupleRow]


class SchemaNotCurrent(PulseError):
    """The database's schema is not one that this code may run on."""


class MigrationUnderWay(PulseError):
    """Another process is migrating at this moment."""


class Migrations:
    """Brings databases to the revisions that this code knows.

    Blocking: call it in a thread.
    """

    def __init__(self, revisions: Sequence[Revision]) -> None:
        self._revisions = tuple(revisions)
        self.head = self._revisions[-1].number
        if [revision.number for revision in revisions] != list(range(1, self.head + 1)):
            raise ValueError("revisions are numbered from 1 without a gap")

    def migrate(self, conninfo: str, limits: Limits) -> None:
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
        with connect_blocking(conninfo, "migrate", limits) as connection:
            if self._is_done(_applied(connection)):
                return
            with connection.transaction():
                self._migrate(connection)

    def current(self, conninfo: str, limits: Limits) -> tuple[AppliedRevision, ...]:
        """The revisions that the database has, in order.

        Raises:
            psycopg.OperationalError: Postgres is away.
            SessionUnfit: this server, database or session is not what Pulse needs.
        """
        with connect_blocking(conninfo, "migrate", limits) as connection:
            return _applied(connection)

    def fault(self, applied: Sequence[AppliedRevision]) -> str | None:
        """Why this code may not run on a database with these revisions; None if it may."""
        return fault_of_schema(self._revisions, applied)

    def _is_done(self, applied: Sequence[AppliedRevision]) -> bool:
        """Whether there is nothing to apply.

        Raises:
            SchemaNotCurrent: applying revisions would not help.
        """
        fault = self.fault(applied)
        if fault is not None and not is_behind(self._revisions, applied):
            raise SchemaNotCurrent(fault)
        return fault is None

    def _migrate(self, connection: _Connection) -> None:
        row = connection.execute(
            "SELECT pg_try_advisory_xact_lock(%s)", (MIGRATION_LOCK,)
        ).fetchone()
        if row is None or not row[0]:
            raise MigrationUnderWay("another process is migrating this database")
        applied = _applied(connection)
        if self._is_done(applied):  # done since by the process that had the lock
            return
        connection.execute("SET LOCAL statement_timeout = 0")
        schema = _home(connection)
        connection.execute(sql.SQL("SET LOCAL search_path = {}, pg_temp").format(schema))
        done = len(applied) or self._take_over(connection)
        _log.info("schema.migrating", current=done, target=self.head)
        for revision in self._revisions[done:]:
            connection.execute(revision.statements)
            _record(connection, revision)

    def _take_over(self, connection: _Connection) -> int:
        """Make the table of revisions, and record those that were applied without it: how many."""
        if _schema_of(connection, "pulse_schema") is None:
            connection.execute(_CREATE_PULSE_SCHEMA)
        for done, revision in enumerate(self._revisions):
            row = connection.execute(_HAS_COLUMNS, (list(revision.columns),)).fetchone()
            if row is None or not row[0]:
                return done
            _record(connection, revision)
        return self.head


def _applied(connection: _Connection) -> tuple[AppliedRevision, ...]:
    if _schema_of(connection, "pulse_schema") is None:
        return ()
    return tuple(AppliedRevision(*row) for row in connection.execute(_SELECT_APPLIED))


def _home(connection: _Connection) -> sql.Identifier:
    """The schema that Pulse's tables are in, or are to be in."""
    for table in ("pulse_schema", "stored_events"):
        schema = _schema_of(connection, table)
        if schema is not None:
            return sql.Identifier(schema)
    row = connection.execute("SELECT pg_catalog.current_schema()").fetchone()
    if row is None or row[0] is None:
        raise SchemaNotCurrent("no schema of the search path exists: create one for Pulse's tables")
    return sql.Identifier(row[0])


def _schema_of(connection: _Connection, table: str) -> str | None:
    row = connection.execute(_SELECT_SCHEMA_OF_TABLE, (table,)).fetchone()
    return None if row is None else str(row[0])


def _record(connection: _Connection, revision: Revision) -> None:
    parameters = (revision.number, revision.name, revision.oldest_code)
    connection.execute(_INSERT_APPLIED, parameters)
