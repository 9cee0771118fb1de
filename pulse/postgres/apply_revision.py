"""Applies revisions: in transactions with a short lock timeout; indexes outside transactions."""

import contextlib
from typing import Final, LiteralString

import msgspec
import structlog
from psycopg import AsyncClientCursor, Error, sql
from psycopg.errors import DeadlockDetected, LockNotAvailable

from pulse.errors import PulseError
from pulse.postgres.limits import milliseconds
from pulse.postgres.revision import Revision
from pulse.postgres.roles import RoleSetup
from pulse.postgres.session import Connection
from pulse.postgres.sql import fetch, load_sql
from pulse.retry import Retry, RetryPolicy

_log = structlog.get_logger(__name__)

MIGRATION_LOCK: Final = 0x50554C53_45000001
"""The advisory lock that lets one session migrate at a time."""

LOCK_SECONDS: Final = 0.5
"""How long a revision waits for a lock. Other statements on the table queue behind it meanwhile."""

_PAUSE_SECONDS: Final = 2.0
"""The minimum pause before a retry, in which statements that waited for the lock can run."""

_MAX_NAMED: Final = 3

_CREATE_PULSE_SCHEMA: Final = load_sql(__package__, "create_pulse_schema")
_INSERT_APPLIED: Final = load_sql(__package__, "insert_applied_revision")
_IS_INVALID_INDEX: Final = load_sql(__package__, "is_invalid_index")
_SELECT_LOCK_HOLDERS: Final = load_sql(__package__, "select_lock_holders")
_SELECT_OLDER_PROCESSES: Final = load_sql(__package__, "select_older_processes")
_SET_LOCK_TIMEOUT: Final = load_sql(__package__, "set_lock_timeout")
TRY_LOCK: Final = load_sql(__package__, "try_migration_lock")
"""Takes the migration lock for the session, if no other one has it."""


class MigrationBlocked(PulseError):
    """The schema cannot be migrated now; a later attempt may succeed."""


class MigrationInProgress(MigrationBlocked):
    """Another process is migrating the database now."""


class SchemaLocked(MigrationBlocked):
    """Other sessions hold locks that the next revision needs. The revision was not applied."""


class OlderCodeRuns(MigrationBlocked):
    """Running processes have code that is not compatible with the next revision."""


class Plan(msgspec.Struct, frozen=True):
    """What to do: create the table of revisions, record revisions applied before, apply others."""

    creates_record: bool
    unrecorded: tuple[Revision, ...]
    revisions: tuple[Revision, ...]


class RevisionRun(msgspec.Struct, frozen=True):
    """Applies the revisions of a plan to tables in `schema`, or renders them as a script.

    The connection is in autocommit mode and has no statement timeout. Its search path begins with
    `schema`. `setup` gives existing roles their rights on what a revision creates.
    """

    connection: Connection
    schema: str
    plan: Plan
    setup: RoleSetup | None

    async def apply(self, *, max_lock_wait_seconds: float) -> None:
        """Apply the revisions in order. An applied one stays, even if the next one fails.

        Raises:
            SchemaLocked: for `max_lock_wait_seconds` other sessions held locks that a revision
                needs.
            OlderCodeRuns: a revision of the phase `after` is not compatible with running processes.
        """
        _log.info("schema.migrating", revisions=[one.number for one in self.plan.revisions])
        policy = RetryPolicy(
            first_seconds=_PAUSE_SECONDS,
            max_seconds=2 * _PAUSE_SECONDS,
            deadline_seconds=max_lock_wait_seconds,
        )
        for revision in self.plan.revisions:
            retry = Retry(policy)
            while (blocked := await self._try(revision)) is not None:
                _log.warning("schema.locked", reason=str(blocked))
                if not await retry.wait(at_least_seconds=_PAUSE_SECONDS):
                    raise blocked

    async def script(self) -> str:
        """The script for psql that does the same. This call changes nothing."""
        search_path = sql.SQL("SET search_path = {}, pg_temp;").format(sql.Identifier(self.schema))
        parts = [
            "\\set ON_ERROR_STOP on",
            search_path.as_string(self.connection),
            "SET statement_timeout = 0;",
            _raise_if(
                f"NOT (\n{self._bound(TRY_LOCK, MIGRATION_LOCK)}\n)",
                "another session is migrating this database",
            ),
        ]
        grant: list[str] = []
        if self.setup is not None and (
            rights := await self.setup.statements(self.connection, self.schema)
        ):
            parts += [
                "",
                "-- Sets the owner and the rights of the new objects that were created so far",
                "CREATE PROCEDURE pg_temp.set_rights() LANGUAGE plpgsql AS $pulse$ BEGIN",
                *rights,
                "END $pulse$;",
            ]
            grant = ["CALL pg_temp.set_rights();"]
        for revision in self.plan.revisions:
            parts += ["", f"-- {revision}, {revision.phase} the processes are replaced"]
            if revision.phase == "after":
                parts.append(self._refuse_older_code(revision))
            if revision.index is not None:
                parts.append(_lock_timeout(0))
                if await self._is_invalid(revision.index):
                    parts.append(f"{self._drop_index(revision.index)};")
                parts.append(revision.statements.rstrip())
            parts += [_lock_timeout(LOCK_SECONDS), "BEGIN;", *self._statements(revision)]
            parts += [*grant, "COMMIT;"]
        return "\n".join((*parts, ""))

    async def _try(self, revision: Revision) -> SchemaLocked | None:
        """Apply the revision; returns what blocks it, after its transaction has ended."""
        if revision.phase == "after":
            await self._require_newer_code(revision)
        try:
            if revision.index is not None:
                await self._build_index(revision, revision.index)
            await self.connection.execute(_SET_LOCK_TIMEOUT, (milliseconds(LOCK_SECONDS),))
            async with self.connection.transaction():
                for statement in self._statements(revision):
                    await self.connection.execute(statement.encode(), prepare=False)
                if self.setup is not None:
                    await self.setup.grant(self.connection, self.schema)
        except (LockNotAvailable, DeadlockDetected):
            holders = await fetch(self.connection, _SELECT_LOCK_HOLDERS, (self.schema, _MAX_NAMED))
            named = "; ".join(name for (name,) in holders)
            held = "hold" if named else "held until now"
            remedy = f"end their transactions ({named})" if named else "run it again"
            return SchemaLocked(
                f"{revision} needs a lock that other sessions {held}, so it was not applied: "
                f"{remedy}"
            )
        return None

    async def _require_newer_code(self, revision: Revision) -> None:
        found = await fetch(self.connection, _SELECT_OLDER_PROCESSES, (revision.oldest_code,))
        if found:
            raise OlderCodeRuns(
                f"{revision} needs code of revision {revision.oldest_code} or newer in every "
                f"process, and older code uses this database: stop {', '.join(p for (p,) in found)}"
            )

    def _refuse_older_code(self, revision: Revision) -> str:
        """The statement that ends the script where `_require_newer_code` raises."""
        older = self._bound(_SELECT_OLDER_PROCESSES, revision.oldest_code)
        refusal = f"{revision} needs newer code in every process: stop the older ones"
        return _raise_if(f"EXISTS (\n{older}\n)", refusal)

    async def _build_index(self, revision: Revision, index: str) -> None:
        """Build the index without blocking writes. Waits for open transactions without a limit.

        An invalid index, which an interrupted build leaves, is dropped. So is one whose build fails
        here: it would slow down writes, and a unique one would refuse them.
        """
        await self.connection.execute(_SET_LOCK_TIMEOUT, ("0",))
        if await self._is_invalid(index):
            await self.connection.execute(self._drop_index(index).encode())
        try:
            await self.connection.execute(revision.statements, prepare=False)
        except Error:
            with contextlib.suppress(Error):
                if await self._is_invalid(index):
                    await self.connection.execute(self._drop_index(index).encode())
            raise

    async def _is_invalid(self, index: str) -> bool:
        ((is_invalid,),) = await fetch(self.connection, _IS_INVALID_INDEX, (index,))
        return bool(is_invalid)

    def _drop_index(self, index: str) -> str:
        drop = sql.SQL("DROP INDEX CONCURRENTLY IF EXISTS {}").format(sql.Identifier(index))
        return drop.as_string(self.connection)

    def _statements(self, revision: Revision) -> list[str]:
        """The statements of the revision's transaction, each with its semicolon."""
        statements: list[str] = []
        if revision == self.plan.revisions[0]:
            if self.plan.creates_record:
                statements.append(_CREATE_PULSE_SCHEMA.rstrip())
            statements += map(self._record, self.plan.unrecorded)
        if revision.index is None:
            statements.append(revision.statements.rstrip())
        return [*statements, self._record(revision)]

    def _record(self, revision: Revision) -> str:
        found = (revision.number, revision.name, revision.oldest_code)
        return f"{self._bound(_INSERT_APPLIED, *found).rstrip()};"

    def _bound(self, statement: LiteralString, *parameters: object) -> str:
        return AsyncClientCursor(self.connection).mogrify(statement, parameters).rstrip()


def _raise_if(condition: str, refusal: str) -> str:
    return (
        f"DO $pulse$ BEGIN\nIF {condition} THEN\nRAISE EXCEPTION '{refusal}';\nEND IF; END $pulse$;"
    )


def _lock_timeout(seconds: float) -> str:
    return f"SET lock_timeout = {milliseconds(seconds)};"
