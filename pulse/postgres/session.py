"""Sessions: every connection is set up by statements and verified; one that fails is closed.

Statements, because poolers refuse or drop what libpq sends as `options`, and because a role or a
database may have settings of its own.
"""

import asyncio
import contextlib
import os
import re
import socket
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final, LiteralString

import psycopg
from psycopg import AsyncClientCursor, AsyncConnection
from psycopg.conninfo import make_conninfo
from psycopg.rows import TupleRow

from pulse.database_url import settings_of_options
from pulse.errors import PulseError
from pulse.postgres.limits import Limits, bounded_conninfo, session_settings
from pulse.postgres.sql import load_sql

Connection = AsyncConnection[TupleRow]

OLDEST_SERVER_VERSION: Final = 150_000
CONNECTION_KWARGS: Final[dict[str, Any]] = {"autocommit": True, "prepare_threshold": 1}

_PROBE_ROUNDS: Final = 5
_PROBE_SECONDS: Final = 1.0
_SET_SESSION: Final = load_sql(__package__, "set_session")
_READ_SESSION: Final = load_sql(__package__, "read_session")
_DISCARD_SESSION: Final = load_sql(__package__, "discard_session")
_SELECT_BACKEND_PID: Final = load_sql(__package__, "select_backend_pid")
_NO_CONVERSION: Final = re.compile(r"conversion between UTF8 and (\w+) is not supported")
_UNKNOWN_TO_SOME_VERSIONS: Final = frozenset(("transaction_timeout",))
_EXPECTED: Final = {
    "transaction_isolation": "read committed",
    "session_replication_role": "origin",
}
"""What Pulse does not set, because another value is no accident."""
_READ_ONLY: Final = ("default_transaction_read_only", "transaction_read_only")
_FACTS: Final = (
    *("server_version_num", "server_version", "server_encoding"),
    *_READ_ONLY,
    *_EXPECTED,
)


class SessionUnfit(psycopg.OperationalError, PulseError):
    """A session does not meet Pulse's requirements; the message says why and what to do.

    If `is_permanent`, a person has to change something. Otherwise the fault is transient: a
    database that is temporarily read-only, a standby that may be promoted.
    """

    def __init__(self, fault: str, *, is_permanent: bool = True) -> None:
        super().__init__(fault)
        self.is_permanent = is_permanent


WRONG_SESSION_ERRORS: Final[tuple[type[psycopg.Error], ...]] = (
    SessionUnfit,
    psycopg.errors.ReadOnlySqlTransaction,
    psycopg.errors.InsufficientPrivilege,  # its role may have been set when it began
    psycopg.errors.InvalidSqlStatementName,  # what this connection has prepared is gone
    psycopg.errors.ProtocolViolation,  # another client has prepared something else by that name
    psycopg.errors.DuplicatePreparedStatement,  # what another client has prepared is there
)
"""Errors that show a session other than the one that was verified: close the connection."""


class Sessions:
    """How sessions to one database are made: all alike, and in the same schema."""

    def __init__(self, conninfo: str, limits: Limits) -> None:
        self._conninfo = conninfo
        self._limits = limits
        self._schema: str | None = None

    async def connect(self, role: str) -> Connection:
        """A connection in autocommit whose session is prepared and verified.

        Raises:
            psycopg.OperationalError: Postgres is away, or gave no answer within the connect time.
            SessionUnfit: the session cannot be made what Pulse needs.
        """
        conninfo = bounded_conninfo(self._conninfo, role, self._limits)
        try:
            connection = await AsyncConnection.connect(conninfo, **CONNECTION_KWARGS)
        except psycopg.OperationalError as error:
            if found := _NO_CONVERSION.search(str(error)):
                raise _wrong_encoding(found[1]) from error
            raise
        await self.prepare(connection)
        return connection

    async def prepare(self, connection: Connection) -> None:
        """Set what Pulse needs and verify what is in force; a connection that fails is closed.

        A pooler gives its clients keys of its own instead of the server's process id. Behind one,
        it is first made sure that the session is this client's alone, so that no setting reaches
        others.

        Raises:
            psycopg.OperationalError: Postgres is away, or gave no answer within the connect time.
            SessionUnfit: the session cannot be made what Pulse needs.
        """
        try:
            with _deadline(connection, self._limits.connect_seconds):
                if await _backend_pid(connection) != connection.info.backend_pid:
                    await _refuse_shared_session(connection, self._conninfo)
                    await _run(connection, _DISCARD_SESSION)  # what an earlier client left behind
                    await _set_options(connection)
                refusal = "a session setting that Pulse needs: let Pulse's role set it"
                await _set(connection, session_settings(self._limits), refusal)
                await self.verify(connection)
        except BaseException:
            await connection.close()
            raise

    async def verify(self, connection: Connection, *, leave_out: Collection[str] = ()) -> None:
        """Verify what is in force, except the settings left out.

        Raises:
            SessionUnfit: the session is not as Pulse needs it.
        """
        settings = session_settings(self._limits)
        found: dict[str, Any] = dict(await _run(connection, _READ_SESSION, ([*settings, *_FACTS],)))
        require_fit(found, {name: settings[name] for name in settings if name not in leave_out})
        schema = found["current_schema"]
        self._schema = self._schema or schema
        if schema != self._schema:
            raise SessionUnfit(
                f"search_path now leads to the schema {schema}, and this process works in "
                f"{self._schema}: restore it, or restart Pulse if this is intended"
            )


def require_fit(found: Mapping[str, Any], needed: Mapping[str, str]) -> None:
    """Refuse what is in force where it is not what Pulse needs.

    Raises:
        SessionUnfit: it names what is at fault and what to do.
    """
    _require_server(found)
    _require_names(found)
    for name, value in _EXPECTED.items():
        if found[name] != value:
            raise SessionUnfit(
                f"the session setting {name} is {found[name]!r} where Pulse needs {value!r}: "
                "change it for role and database"
            )
    for name, value in needed.items():
        if not _is_in_force(name, value, found):
            raise SessionUnfit(
                f"the session setting {name} is {found.get(name)!r} where Pulse needs {value!r}, "
                "although Pulse has set it: check the pooler or proxy between Pulse and Postgres"
            )


def _require_server(found: Mapping[str, Any]) -> None:
    if int(found["server_version_num"]) < OLDEST_SERVER_VERSION:
        raise SessionUnfit(
            f"Pulse needs Postgres {OLDEST_SERVER_VERSION // 10_000} or newer, this server is "
            f"{found['server_version']}: move the database to a newer one"
        )
    if found["server_encoding"] != "UTF8":
        raise _wrong_encoding(found["server_encoding"])
    if found["in_recovery"] == "true":
        raise SessionUnfit(
            "this server is a standby (in recovery) and takes no writes: promote it, or name the "
            "primary in PULSE_DATABASE_URL",
            is_permanent=False,
        )
    for name in _READ_ONLY:
        if found[name] != "off":
            raise SessionUnfit(
                f"the database is read-only ({name} is {found[name]}): check whether its disk "
                "is full, and turn that off for database, role and server",
                is_permanent=False,
            )


def _require_names(found: Mapping[str, Any]) -> None:
    if not found["current_schema"]:
        raise SessionUnfit(
            "search_path names no existing schema that this role may use: create the schema, or "
            "change search_path for role and database"
        )
    schemas = (found["schemas"] or "").split(",")
    if next(name for name in schemas if not name.startswith("pg_temp")) != "pg_catalog":
        raise SessionUnfit(
            "search_path puts other schemas before pg_catalog, whose functions Pulse calls: leave "
            "pg_catalog out of it"
        )


def _is_in_force(name: str, value: str, found: Mapping[str, Any]) -> bool:
    if name not in found:
        return name in _UNKNOWN_TO_SOME_VERSIONS
    # of a local socket, and where the system has no such option, they are 0
    return found[name] == value or (name.startswith("tcp_") and found[name] == "0")


def _wrong_encoding(encoding: str) -> SessionUnfit:
    return SessionUnfit(
        f"the database's encoding is {encoding} and Pulse needs UTF8: create a database with "
        "ENCODING 'UTF8' and TEMPLATE template0, and name it in PULSE_DATABASE_URL"
    )


async def _refuse_shared_session(connection: Connection, conninfo: str) -> None:
    """Refuse a pooler that gives a client another server connection for each transaction.

    There two clients that run statements in turn meet on one server connection, or one client
    changes between several. Where sessions are held, each client keeps its own; and should the
    pooler have none left for the second client, the first one is answered while the second waits.
    """
    same = connection.info
    second = await AsyncConnection.connect(
        make_conninfo(
            conninfo,
            host=same.host or None,
            hostaddr=same.hostaddr or None,
            port=same.port,
            client_encoding="UTF8",
            application_name="pulse:probe",
            connect_timeout=2,
        ),
        autocommit=True,
    )
    own: set[int] = set()
    others: set[int] = set()
    try:
        for _ in range(_PROBE_ROUNDS):
            own |= {await _backend_pid(connection), await _backend_pid(connection)}
            with _deadline(second, _PROBE_SECONDS):
                others.add(await _backend_pid(second))
    except psycopg.OperationalError:
        await _backend_pid(connection)  # raises if it was this one that failed
    finally:
        await second.close()
    if len(own) > 1 or own & others:
        raise SessionUnfit(
            "a connection pooler in transaction or statement mode is between Pulse and Postgres, "
            "and Pulse needs sessions of its own: set pool_mode = session there, or connect "
            "to Postgres directly"
        )


async def _set_options(connection: Connection) -> None:
    """Set what libpq's `options` say, which a pooler may be configured to drop."""
    refusal = "a setting in the options of PULSE_DATABASE_URL or PGOPTIONS"
    try:
        options = settings_of_options(connection.info.get_parameters().get("options", ""))
    except ValueError:
        raise SessionUnfit(f"Postgres refuses {refusal}") from None
    await _set(connection, options, refusal)


async def _set(connection: Connection, settings: Mapping[str, str], refusal: str) -> None:
    try:
        await _run(connection, _SET_SESSION, (list(settings), list(settings.values())))
    except psycopg.OperationalError:
        raise
    except psycopg.Error as error:
        raise SessionUnfit(f"Postgres refuses {refusal}") from error


async def _backend_pid(connection: Connection) -> int:
    [(pid,)] = await _run(connection, _SELECT_BACKEND_PID)
    return int(pid)


async def _run(
    connection: Connection, statement: LiteralString, parameters: Sequence[Any] = ()
) -> list[TupleRow]:
    cursor = AsyncClientCursor(connection)  # its simple queries leave nothing prepared behind
    await cursor.execute(statement, parameters)
    return await cursor.fetchall() if cursor.description else []


@contextlib.contextmanager
def _deadline(connection: Connection, seconds: float) -> Iterator[None]:
    """End the connection when the time is up, so that whatever waits for it fails.

    A pooler lets a client wait for minutes for a server connection. libpq has no bound of its own
    once it is connected, and a cancelled statement waits for the server's answer.
    """
    with socket.socket(fileno=os.dup(connection.fileno())) as own:
        passed = asyncio.Event()

        def end() -> None:
            passed.set()
            with contextlib.suppress(OSError):
                own.shutdown(socket.SHUT_RDWR)

        timer = asyncio.get_running_loop().call_later(seconds, end)
        try:
            yield
        except psycopg.OperationalError as error:
            if not passed.is_set():
                raise
            raise psycopg.OperationalError(
                f"connected, but no answer within {seconds:g} s: Postgres is overloaded, or a "
                "pooler has no server connection left (raise its default_pool_size)"
            ) from error
        finally:
            timer.cancel()
