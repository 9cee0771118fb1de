"""Migrations: apply the revisions that a database lacks, in order.

The transaction of a revision also gives the roles of the database their rights on what it creates.
"""

from collections.abc import Mapping, Sequence
from typing import Final, LiteralString

import msgspec
from psycopg import sql
from psycopg.errors import InsufficientPrivilege

from pulse.errors import PulseError
from pulse.postgres.apply_revision import (
    MIGRATION_LOCK,
    TRY_LOCK,
    MigrationInProgress,
    Plan,
    RevisionRun,
)
from pulse.postgres.grants import Grant
from pulse.postgres.limits import PostgresLimits, milliseconds
from pulse.postgres.revision import AppliedRevision, Revision
from pulse.postgres.roles import RoleNames, RoleSetup, read_role_names
from pulse.postgres.session import Connection, Connector
from pulse.postgres.sql import load_sql

_HAS_COLUMNS: Final = load_sql(__package__, "has_columns")
_SELECT_APPLIED: Final = load_sql(__package__, "select_applied_revisions")
_SELECT_TABLES_SCHEMA: Final = load_sql(__package__, "select_tables_schema")
_SET_LOCK_TIMEOUT: Final = load_sql(__package__, "set_lock_timeout")
_OF_PULSE_SCHEMA: Final = ["pulse_schema.revision"]


class SchemaNotCurrent(PulseError):
    """This code may not run on the database's schema."""


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
        self.needed = max(one.number for one in self._revisions if one.phase == "before")
        """The last revision without which this code does not run."""
        if [revision.number for revision in revisions] != list(range(1, self.head + 1)):
            raise ValueError("revisions are numbered from 1 without a gap")

    async def migrate(
        self,
        conninfo: str,
        limits: PostgresLimits,
        *,
        after: bool = False,
        max_lock_wait_seconds: float = 10.0,
    ) -> None:
        """Migrate the schema to what this code needs; with `after`, to all that it knows.

        Concurrent calls are safe. Takes no lock if there is nothing to do, so that processes may
        start at the same time. Records the revisions of a database that was migrated before
        revisions were recorded. Revisions are applied in order, so a revision of the phase `after`
        is also applied if a later one of the phase `before` must be. A new database gets all.

        Raises:
            psycopg.OperationalError: Postgres cannot be reached.
            SessionUnfit: this server, database or session does not meet Pulse's requirements.
            MigrationInProgress: another process is migrating; this call does not wait for it.
            SchemaLocked: other sessions held the locks of a revision for `max_lock_wait_seconds`.
            OlderCodeRuns: a revision of the phase `after` waits for older processes to stop.
            SchemaNotCurrent: the schema is unknown, or too new for this code, or this role may not
                change it.
        """
        async with await self._connect(conninfo, limits) as connection:
            if self._is_current(await _read_applied(connection), after=after):
                return
            schema = await self._lock(connection)
            await self._apply(
                connection, schema, after=after, max_lock_wait_seconds=max_lock_wait_seconds
            )

    async def set_up_roles(
        self,
        conninfo: str,
        limits: PostgresLimits,
        names: Mapping[str, str] | None = None,
        *,
        after: bool = False,
        max_lock_wait_seconds: float = 10.0,
    ) -> tuple[RoleNames, int]:
        """Migrate and set up the roles; returns the roles and the number of statements executed.

        `names` has names by role (owner, runtime, reader). A role without one keeps the name that
        was set up before, or has the default name. Takes no lock if there is nothing to do.

        Raises:
            RolesRefused: the roles cannot be set up like this.
            StatementsNeeded: this role may not execute some of the statements; nothing was changed.
            psycopg.OperationalError: as in `migrate`. Its other errors are raised too.
        """
        async with await self._connect(conninfo, limits) as connection:
            is_current = self._is_current(await _read_applied(connection), after=after)
            stored = await read_role_names(connection) or RoleNames()
            setup = RoleSetup(msgspec.structs.replace(stored, **(names or {})), self._grants)
            if is_current:
                schema = await _set_search_path(connection)
                async with connection.transaction():
                    if await setup.is_complete(connection, schema):
                        return setup.names, 0
            schema = await self._lock(connection)
            async with connection.transaction():
                await setup.require_permitted(connection, schema)
            await self._apply(
                connection, schema, after=after, max_lock_wait_seconds=max_lock_wait_seconds
            )
            await connection.execute(_SET_LOCK_TIMEOUT, (milliseconds(limits.lock_seconds),))
            async with connection.transaction():
                return setup.names, await setup.run(connection, schema)

    async def current(self, conninfo: str, limits: PostgresLimits) -> tuple[AppliedRevision, ...]:
        """Connect and read the applied revisions, in order.

        Raises:
            psycopg.OperationalError: Postgres cannot be reached.
            SessionUnfit: this server, database or session does not meet Pulse's requirements.
            SchemaNotCurrent: this role may not read them.
        """
        async with await self._connect(conninfo, limits) as connection:
            return await _read_applied(connection)

    async def script(self, conninfo: str, limits: PostgresLimits, *, after: bool = False) -> str:
        """The script for psql that does what `migrate` would do now. Changes nothing.

        Empty if there is nothing to do. Each of its transactions also gives the roles their rights
        on new objects, so a script that stops leaves no object without rights. The script takes the
        migration lock.

        Raises:
            psycopg.OperationalError, SchemaNotCurrent: as in `migrate`.
        """
        async with await self._connect(conninfo, limits) as connection:
            applied = await _read_applied(connection)
            if self._is_current(applied, after=after):
                return ""
            schema = await _set_search_path(connection)
            plan = await self._plan(connection, applied, after=after)
            names = await read_role_names(connection)
            setup = None if names is None else RoleSetup(names, self._grants)
            return await RevisionRun(connection, schema, plan, setup).script()

    def fault(self, applied: Sequence[AppliedRevision]) -> str | None:
        """Why this code may not run on a database with these revisions; None if it may.

        A newer revision is allowed if its `oldest_code` is not newer than this code. The message
        says what to do.
        """
        if refusal := self.refusal(applied):
            return refusal
        if len(applied) < self.needed:
            at = f"is at revision {applied[-1].number}" if applied else "has no Pulse revision"
            return f"the schema {at}, this code needs revision {self.needed}: run `pulse migrate`"
        return None

    def refusal(self, applied: Sequence[AppliedRevision]) -> str | None:
        """Why this code can neither run on such a database nor migrate it; None if it can.

        The reason is a revision that is unknown, or not compatible with this code.
        """
        return self._unknown(applied) or self._too_new(applied)

    def pending(self, applied: Sequence[AppliedRevision]) -> tuple[Revision, ...]:
        """The revisions that this code knows and the database lacks, of both phases, in order."""
        return self._revisions[len(applied) :]

    def _too_new(self, applied: Sequence[AppliedRevision]) -> str | None:
        """The message for the revision that needs the newest code, if this code is older."""
        strictest = max(applied, key=lambda revision: revision.oldest_code, default=None)
        if strictest is not None and strictest.oldest_code > self.head:
            return (
                f"the schema has {strictest}, which needs code "
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
                    f"the schema has unknown {found} instead of "
                    f"{expected}: run the release of Pulse that applied it, or restore table "
                    "pulse_schema"
                )
        return None

    def _is_current(self, applied: Sequence[AppliedRevision], *, after: bool) -> bool:
        """Whether there is nothing to apply; raises SchemaNotCurrent if migrating cannot help."""
        if (fault := self.refusal(applied)) is not None:
            raise SchemaNotCurrent(fault)
        return len(applied) >= (self.head if after else self.needed)

    async def _connect(self, conninfo: str, limits: PostgresLimits) -> Connection:
        return await Connector(conninfo, limits, code_revision=self.head).connect("migrate")

    async def _lock(self, connection: Connection) -> str:
        """Take the migration lock until the session ends; returns the schema of Pulse's tables."""
        if not await _value(connection, TRY_LOCK, MIGRATION_LOCK):
            raise MigrationInProgress("another process is migrating this database")
        return await _set_search_path(connection)

    async def _plan(
        self, connection: Connection, applied: Sequence[AppliedRevision], *, after: bool
    ) -> Plan:
        has_record = bool(await _value(connection, _HAS_COLUMNS, _OF_PULSE_SCHEMA))
        unrecorded: list[Revision] = []
        for revision in () if applied else self._revisions:
            if not await _value(connection, _HAS_COLUMNS, list(revision.columns)):
                break
            unrecorded.append(revision)
        done = len(applied) or len(unrecorded)
        last = self.head if after or done == 0 else self.needed
        return Plan(not has_record, tuple(unrecorded), self._revisions[done:last])

    async def _apply(
        self, connection: Connection, schema: str, *, after: bool, max_lock_wait_seconds: float
    ) -> None:
        """Apply the pending revisions, each in a transaction that also grants the rights."""
        applied = await read_applied(connection)
        if self._is_current(applied, after=after):  # another process has migrated meanwhile
            return
        await connection.execute("SET statement_timeout = 0")
        roles = await read_role_names(connection)
        setup = None if roles is None else RoleSetup(roles, self._grants)
        plan = await self._plan(connection, applied, after=after)
        try:
            await RevisionRun(connection, schema, plan, setup).apply(
                max_lock_wait_seconds=max_lock_wait_seconds
            )
        except InsufficientPrivilege as error:
            owner = f"a member of {roles.owner}" if roles else "the role that owns the tables"
            refusal = f"role {connection.info.user} may not change the schema"
            raise SchemaNotCurrent(
                f"{refusal} ({error.diag.message_primary}): run `pulse migrate` with the URL of "
                f"{owner}"
            ) from error


async def _read_applied(connection: Connection) -> tuple[AppliedRevision, ...]:
    try:
        return await read_applied(connection)
    except InsufficientPrivilege as error:
        role = sql.Identifier(connection.info.user).as_string(connection)
        raise SchemaNotCurrent(
            f"role {connection.info.user} has no rights on Pulse's tables "
            f"({error.diag.message_primary}): GRANT pulse_runtime TO {role} (use the name of the "
            "runtime role, if it has another one here); `pulse migrate --roles` creates that role"
        ) from error


async def _set_search_path(connection: Connection) -> str:
    """Set the session's search path to the schema of Pulse's tables; returns its name."""
    schema = await _value(connection, _SELECT_TABLES_SCHEMA, ["pulse_schema", "stored_events"])
    if not isinstance(schema, str):
        raise SchemaNotCurrent("no schema of the search path exists: create one for Pulse's tables")
    search_path = sql.SQL("SET search_path = {}, pg_temp").format(sql.Identifier(schema))
    await connection.execute(search_path)
    return schema


async def _value(connection: Connection, statement: LiteralString, *parameters: object) -> object:
    row = await (await connection.execute(statement, parameters)).fetchone()
    return None if row is None else row[0]
