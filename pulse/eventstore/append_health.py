"""Whether an append would be written now: the outcome of the last append, or of a probe."""

import asyncio
from collections.abc import Callable
from typing import Final, LiteralString

import msgspec
import psycopg

from pulse.eventstore.append_connection import AppendConnection, ConnectionLost, Rows
from pulse.eventstore.append_statements import PULSE_LOG
from pulse.postgres import Connection, describe, load_sql

FRESH_SECONDS: Final = 1.0
"""The last append or probe answers for this long; so a probe runs at most once a second."""

MAX_PROBE_SECONDS: Final = 2.0
"""No answer within this is a fault: an order would wait as long."""

_SELECT_APPEND_RIGHTS: Final = load_sql(__package__, "select_append_rights")
_TRY_APPEND: Final = load_sql(__package__, "try_append")
_ID_INDEX_SUFFIX: Final = "notification_id_idx"
_OF_THE_EVENT: Final = (psycopg.DataError, psycopg.IntegrityError)
"""Faults of the event that was to be appended, not of the append path."""


class IdTaken(Exception):
    """The sequence of the log gave out an id that is in the log already: nothing was written."""

    def __init__(self) -> None:
        super().__init__("the log's sequence is behind the log and gives out ids that are taken")


class AppendHealth:
    """The state of the append path to Pulse's own log.

    The appender reports each success and failure. `fault` asks for a probe where neither is fresh;
    the appender runs it between two batches, on its own connection. The probe appends no event: it
    takes the lock, a read-write transaction and the rights that an append takes, and no id. After a
    failure it tries an append that is rolled back, so that a full disk or a replica that does not
    confirm is not taken for well.
    """

    def __init__(self, connection: AppendConnection, ask: Callable[[], None]) -> None:
        self._connection = connection
        self._ask = ask
        self._failure: str | None = None
        self._append_failed = False
        self._known_at = float("-inf")
        self._asked: asyncio.Future[None] | None = None

    def succeeded(self) -> None:
        """Note that an append was carried out just now."""
        self._append_failed = False
        self._note(None)

    def failed(self, error: Exception) -> None:
        """Note that an append failed just now, unless the event itself was at fault."""
        if not isinstance(error, _OF_THE_EVENT):
            self._append_failed = True
            self._note(reason_of(error))

    async def fault(self) -> str | None:
        """Why an append would fail now, within MAX_PROBE_SECONDS; None if it would be written."""
        loop = asyncio.get_running_loop()
        if self._connection.away is None and loop.time() - self._known_at > FRESH_SECONDS:
            if self._asked is None:
                self._asked = loop.create_future()
                self._ask()
            done, _ = await asyncio.wait({self._asked}, timeout=MAX_PROBE_SECONDS)
            if not done and self._connection.away is None:
                return f"the log took no append within {MAX_PROBE_SECONDS:g} s"
        if self._connection.away is not None:
            return f"the appender has no connection: {self._connection.away}"
        return self._failure

    async def probe_if_asked(self) -> None:
        """Probe for the callers that wait in `fault`; the appender calls it between two batches."""
        if self._asked is None:
            return
        try:
            await self._probe_once_more_if_cut_off()
        except (ConnectionLost, psycopg.Error) as error:
            self._note(reason_of(error))
        else:
            self.succeeded()
        finally:
            asked, self._asked = self._asked, None
            asked.set_result(None)

    def _note(self, failure: str | None) -> None:
        self._failure = failure
        self._known_at = asyncio.get_running_loop().time()

    async def _probe_once_more_if_cut_off(self) -> None:
        """A connection that ended while it was idle is replaced, as it is for an append."""
        try:
            await self._probe()
        except ConnectionLost:
            await self._connection.ensure()
            await self._probe()

    async def _probe(self) -> None:
        if self._append_failed:
            await self._fetch(_TRY_APPEND)
            return
        nothing: tuple[object, ...] = ([], [], [], [], PULSE_LOG.lock)
        await self._connection.fetch(PULSE_LOG.append, nothing)
        ((may_take_ids, sequence, role),) = await self._fetch(_SELECT_APPEND_RIGHTS)
        if not may_take_ids:
            raise psycopg.errors.InsufficientPrivilege(_no_right_to_ids(sequence, role))

    async def _fetch(self, statement: LiteralString) -> Rows:
        return await self._connection.fetch(statement, ())


class AppendFault(msgspec.Struct, frozen=True):
    """Why an append fails; with `for_want_of_rights` it may succeed under another role."""

    reason: str
    for_want_of_rights: bool


async def probe_append(connection: Connection) -> AppendFault | None:
    """Why an append on this connection would fail now; None if it would be written.

    Appends nothing and takes no id.
    """
    try:
        await connection.execute(PULSE_LOG.append, ([], [], [], [], PULSE_LOG.lock))
        cursor = await connection.execute(_SELECT_APPEND_RIGHTS)
        row = await cursor.fetchone()
    except psycopg.Error as error:
        of_role = isinstance(error, psycopg.errors.InsufficientPrivilege)
        return AppendFault(reason_of(error), for_want_of_rights=of_role)
    if row is None or row[0]:
        return None
    return AppendFault(_no_right_to_ids(row[1], row[2]), for_want_of_rights=True)


def _no_right_to_ids(sequence: str, role: str) -> str:
    return f"role {role} may take no id for an event: GRANT USAGE ON SEQUENCE {sequence}"


def reason_of(error: Exception) -> str:
    """Why Postgres refuses appends, as readiness says it."""
    if isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
        return "the database is read-only: a standby, or default_transaction_read_only is on"
    if is_id_taken(error):
        return str(IdTaken())
    return describe(error)


def is_id_taken(error: Exception) -> bool:
    """Whether an insert failed for its id, not for its version in the stream."""
    return isinstance(error, psycopg.errors.UniqueViolation) and (
        error.diag.constraint_name or ""
    ).endswith(_ID_INDEX_SUFFIX)
