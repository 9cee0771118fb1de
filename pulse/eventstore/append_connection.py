"""The appender's dedicated connection, and the probes that test whether an append would succeed."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final, LiteralString

import msgspec
import psycopg

from pulse.errors import PulseError
from pulse.eventstore.append_state import ConnectionLost, NotConfirmed, refusal_reason
from pulse.postgres import WRONG_SESSION_ERRORS, Connection, abort_connection, describe, load_sql

LOG_LOCK: Final = 0x50554C53_45000002
"""The advisory lock that serializes appends, so that ids are in commit order."""

APPEND_EVENTS: Final = load_sql(__package__, "append_events")
_SELECT_APPEND_RIGHTS: Final = load_sql(__package__, "select_append_rights")
_TRY_APPEND: Final = load_sql(__package__, "try_append")
_WAIT_FOR_REPLICAS: Final = load_sql(__package__, "wait_for_replicas")
_SELECT_SYNCHRONOUS_STANDBYS: Final = load_sql(__package__, "select_synchronous_standbys")
_CLOSE_SECONDS: Final = 1.0

Rows = list[tuple[Any, ...]]
Fetch = Callable[[LiteralString, Sequence[Any]], Awaitable[Rows]]


class NoSynchronousStandby(psycopg.OperationalError, PulseError):
    """No standby has to confirm a commit, so an accepted order could be on one server alone."""

    def __init__(self) -> None:
        super().__init__(
            "synchronous_standby_names is empty, so an order would be on one server alone "
            "(PULSE_REQUIRE_SYNCHRONOUS_STANDBY): restore a synchronous standby"
        )


class AppendConnection:
    """One connection that readers do not share. It is abandoned if a statement gets no answer.

    With `require_standby`, appends are refused while no synchronous standby is configured.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[Connection]],
        statement_seconds: float,
        *,
        require_standby: bool = False,
    ) -> None:
        self.require_standby = require_standby
        self._connect = connect
        self._statement_seconds = statement_seconds
        self._connection: Connection | None = None
        self._warning: str | None = None
        self._abandoned: set[asyncio.Task[None]] = set()

    @property
    def is_open(self) -> bool:
        """Whether there is a connection."""
        return self._connection is not None

    async def open(self) -> None:
        """Connect.

        Raises:
            psycopg.Error: Postgres cannot be reached.
        """
        connection = await self._connect()
        connection.add_notice_handler(self._note_warning)
        self._connection = connection

    async def fetch(self, statement: LiteralString, parameters: Sequence[Any]) -> Rows:
        """Run one statement in autocommit.

        Raises:
            ConnectionLost: the statement may or may not have been executed.
            psycopg.Error: the server refused the statement; nothing was written.
        """
        connection = self._connection
        if connection is None:
            raise ConnectionLost("not connected")
        self._warning = None
        task = asyncio.ensure_future(_fetch(connection, statement, parameters))
        try:
            await asyncio.wait({task}, timeout=self._statement_seconds)
        except asyncio.CancelledError:
            self._abandon(task, connection)
            raise
        if not task.done():
            self._abandon(task, connection)
            raise ConnectionLost(f"no answer within {self._statement_seconds:g} s")
        try:
            return task.result()
        except WRONG_SESSION_ERRORS:
            await self._disconnect()  # a new connection is verified, and may reach a new primary
            raise
        except psycopg.Error as error:
            if connection.closed:
                self._connection = None
                raise ConnectionLost(describe(error)) from error
            raise

    async def check_standby(self) -> None:
        """Check that a commit waits for a standby, if that is required.

        After a reload the server reads its configuration before the next statement of a session, so
        this check sees a change at once.

        Raises:
            NoSynchronousStandby: a commit does not wait for a standby.
            ConnectionLost: there was no answer.
        """
        if self.require_standby:
            ((names,),) = await self.fetch(_SELECT_SYNCHRONOUS_STANDBYS, ())
            if not names.strip():
                raise NoSynchronousStandby

    async def confirm(self, *, found_older: bool) -> None:
        """Check, before events are reported as written, that the replicas have them.

        With `found_older` some of the events are of earlier commits. A commit whose wait for a
        replica was ended (by a cancel request, a terminated session, a crash) is visible on this
        server only, and a failover loses it. So one more commit is made: when it has waited, the
        replicas have everything before it. This is also done after a warning of the last statement:
        if a cancel request ends the wait, Postgres reports success with a warning.

        If a standby is required, one must still be configured: Postgres answers a commit that waits
        as soon as `synchronous_standby_names` is emptied.

        Raises:
            NotConfirmed: the events may be on this server alone.
        """
        try:
            if found_older or self._warning is not None:
                await self._wait_for_replicas()
            await self.check_standby()
        except (ConnectionLost, psycopg.Error) as error:
            raise NotConfirmed(describe(error)) from error

    async def _wait_for_replicas(self) -> None:
        await self.fetch(_WAIT_FOR_REPLICAS, (LOG_LOCK,))
        if self._warning is not None:  # this wait was ended as well
            raise ConnectionLost(self._warning)

    def _note_warning(self, diagnostic: psycopg.errors.Diagnostic) -> None:
        if diagnostic.severity_nonlocalized == "WARNING":
            self._warning = diagnostic.message_primary or "a warning without a message"

    async def close(self) -> None:
        """Close the connection, and wait up to 1 s for abandoned ones to close."""
        await self._disconnect()
        if self._abandoned:
            await asyncio.wait(self._abandoned, timeout=_CLOSE_SECONDS)

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    def _abandon(self, task: "asyncio.Task[Rows]", connection: Connection) -> None:
        """Close an unresponsive connection in the background, so that appends need not wait.

        The task is cancelled only after the connection is broken. Otherwise psycopg would ask the
        server to cancel the statement. That would end a commit's wait for a replica, and leave the
        commit visible on this server only, where a failover loses it.
        """
        broken = abort_connection(connection)

        async def end_and_close() -> None:
            if broken:
                await asyncio.wait({task}, timeout=_CLOSE_SECONDS)
            task.cancel()
            await asyncio.wait({task})
            if not task.cancelled():
                task.exception()  # the connection was broken
            await connection.close()

        self._connection = None
        closing = asyncio.ensure_future(end_and_close())
        self._abandoned.add(closing)
        closing.add_done_callback(self._abandoned.discard)


async def _fetch(
    connection: Connection, statement: LiteralString, parameters: Sequence[Any]
) -> Rows:
    cursor = connection.cursor(binary=True)
    await cursor.execute(statement, parameters, prepare=True)
    return await cursor.fetchall() if cursor.description else []


async def append_nothing(fetch: Fetch) -> None:
    """Probe the lock, a read-write transaction and the privileges of an append. Takes no id.

    Raises what an append would raise.
    """
    await fetch(APPEND_EVENTS, (LOG_LOCK, None, [], [], [], [], [], []))
    ((may_take_ids, sequence, may_confirm, confirm, role),) = await fetch(_SELECT_APPEND_RIGHTS, ())
    if not may_take_ids:
        raise psycopg.errors.InsufficientPrivilege(
            f"role {role} may not use the log's sequence: GRANT USAGE ON SEQUENCE {sequence}"
        )
    if not may_confirm:
        raise psycopg.errors.InsufficientPrivilege(
            f"role {role} may not write the WAL messages by which Pulse waits for replicas: "
            f"GRANT EXECUTE ON FUNCTION {confirm}"
        )


async def append_and_roll_back(fetch: Fetch) -> None:
    """As `append_nothing`, plus an append that is rolled back, which takes an id and disk space.

    It also detects a full disk and a synchronous replica that does not confirm. Raises what an
    append would raise.
    """
    await append_nothing(fetch)
    await fetch(_TRY_APPEND, ())


class AppendFault(msgspec.Struct, frozen=True):
    """Why an append fails. With `lacks_privilege`, this role lacks a privilege."""

    reason: str
    lacks_privilege: bool


async def probe_append(connection: Connection) -> AppendFault | None:
    """Why an append on this connection would fail now; None if it would succeed."""
    try:
        await append_nothing(partial(_fetch, connection))
    except psycopg.Error as error:
        is_privilege = isinstance(error, psycopg.errors.InsufficientPrivilege)
        return AppendFault(refusal_reason(error), lacks_privilege=is_privilege)
    return None
